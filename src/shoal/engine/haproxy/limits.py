"""Rate limits of requests, as HAProxy's counters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from shoal.wire.policy import LIMITS_MAX, Limit

from .escape import argument, word

TABLE_ENTRIES_MAX = 100_000
"""Of one table: some 10 MB when all are there."""
FAILURES = "txn.failures"
ASKED = "txn.asked"
ERRORS, FAILED, REQUESTS = "http_err_rate", "http_fail_rate", "http_req_rate"
"""HAProxy's names: answers of 4xx, of 5xx, and requests."""
ALL_ERRORS, ALL_FAILED, ALL_REQUESTS = "http_err_cnt", "http_fail_cnt", "http_req_cnt"
"""The same since the client is known."""
KNOWN_AFTER = 20
"""Requests. Well-behaved is then of whose requests at most one in `WELL` failed, ill-behaved of whose more than one in `ILL`."""
WELL, ILL = 10, 2
ILL_SHARE = 4
"""The part of a limit that the ill-behaved have."""
KNOWN_S = 600
"""Who is silent for so long is a stranger again."""


class _Counter(msgspec.Struct):
    """One of HAProxy's: it counts by ``key``, in a table of its own. ``shared``: of all requests."""

    name: str
    table: str
    key: str
    kind: str
    shared: bool
    periods: dict[str, int]
    """What is counted, and in how many seconds; 0 = as long as it is known."""


class Counters:
    """Of one virtual service. Limits on all requests that count by the same thing share a counter."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._counters: list[_Counter] = []

    def lines(self, limit: Limit, conditions: Sequence[str], refused: Iterable[str]) -> list[str] | None:
        """``refused``: what follows ``http-request`` for what is over. None where no counter is left."""
        key, kind = _key(limit)
        wanted = dict.fromkeys((ERRORS, FAILED) if limit.failed else (REQUESTS,), max(1, int(limit.period_s)))
        if limit.strangers:
            wanted |= dict.fromkeys((ALL_ERRORS, ALL_FAILED, ALL_REQUESTS), 0)
        counter = next((one for one in self._counters if not conditions and _takes(one, key, wanted)), None)
        lines = []
        if counter is None:
            number = len(self._counters)
            if number == LIMITS_MAX:
                return None
            table = f"limit_{word(self._service)}_{number}"
            counter = _Counter(f"sc{number}", table, key, kind, not conditions, {})
            self._counters.append(counter)
            lines.append(f"http-request track-{counter.name} {key} table {table}{_if(conditions)}")
        counter.periods |= wanted
        most = int(limit.count) + max(0, int(limit.burst))
        refused = tuple(refused)
        if limit.strangers:
            lines += _history(counter)
            strange = _strangers(f"{counter.name}_{REQUESTS}({counter.table})", most)
            return lines + [f"http-request {text}{_if([*conditions, one])}" for one in strange for text in refused]
        found = f"{counter.name}_{REQUESTS}({counter.table})"
        if limit.failed:
            lines.append(f"http-request set-var({FAILURES}) {counter.name}_{FAILED}({counter.table})")
            found = f"{counter.name}_{ERRORS}({counter.table}),add({FAILURES})"
        over = f"{{ {found} gt {most} }}"
        return lines + [f"http-request {text}{_if([*conditions, over])}" for text in refused]

    def tables(self) -> Iterator[str]:
        """Sections of their own."""
        for one in self._counters:
            stored = ",".join(f"{name}({period}s)" if period else name for name, period in one.periods.items())
            known_s = KNOWN_S if 0 in one.periods.values() else 0
            yield (
                f"backend {one.table}\n    stick-table type {one.kind} size {TABLE_ENTRIES_MAX}"
                f" expire {max(2 * max(one.periods.values()), known_s)}s store {stored}\n"
            )


def _history(counter: _Counter) -> Iterator[str]:
    """How many were asked for so far, and how many of them failed."""
    yield f"http-request set-var({ASKED}) {counter.name}_{ALL_REQUESTS}({counter.table})"
    yield f"http-request set-var({FAILURES}) {counter.name}_{ALL_FAILED}({counter.table})"
    yield f"http-request set-var({FAILURES}) {counter.name}_{ALL_ERRORS}({counter.table}),add({FAILURES})"


def _strangers(rate: str, most: int) -> Iterator[str]:
    """Conditions: of who is not known, who is not known to behave well, and who is known to behave ill."""
    known = f"{{ var({ASKED}) -m int ge {KNOWN_AFTER} }}"
    ill = f"{{ var({FAILURES}),mul({ILL}),sub({ASKED}) -m int gt 0 }}"
    yield f"{{ {rate} gt {most} }} !{known}"
    yield f"{{ {rate} gt {most} }} {{ var({FAILURES}),mul({WELL}),sub({ASKED}) -m int gt 0 }}"
    yield f"{{ {rate} gt {max(1, most // ILL_SHARE)} }} {known} {ill}"


def _takes(counter: _Counter, key: str, wanted: dict[str, int]) -> bool:
    same = all(counter.periods.get(name, period) == period for name, period in wanted.items())
    return counter.shared and counter.key == key and same


def _key(limit: Limit) -> tuple[str, str]:
    """(what is counted by, its type in a table)"""
    if limit.header or limit.cookie:
        found = f"req.fhdr({argument(limit.header)})" if limit.header else f"req.cook({argument(limit.cookie)})"
        return found, "string len 128"
    return {
        (True, False): ("src", "ipv6"),
        (False, True): ("path", "string len 128"),
        (True, True): ("base32+src", "binary len 20"),
        (False, False): ("int(1)", "integer"),
    }[limit.by_client, limit.by_path]


def _if(conditions: Sequence[str]) -> str:
    return f" if {' '.join(conditions)}" if conditions else ""
