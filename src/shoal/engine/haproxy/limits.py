"""Rate limits of requests, as HAProxy's counters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from shoal.wire.policy import LIMITS_MAX, Limit

from .escape import argument, word

TABLE_ENTRIES_MAX = 100_000
"""Of one table: some 10 MB when all are there."""
FAILURES = "txn.failures"
ERRORS, FAILED, REQUESTS = "http_err_rate", "http_fail_rate", "http_req_rate"
"""HAProxy's names: answers of 4xx, of 5xx, and requests."""


class _Counter(msgspec.Struct):
    """One of HAProxy's: it counts by ``key``, in a table of its own. ``shared``: of all requests."""

    name: str
    table: str
    key: str
    kind: str
    shared: bool
    periods: dict[str, int]


class Counters:
    """Of one virtual service. Limits on all requests that count by the same thing share a counter."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._counters: list[_Counter] = []

    def lines(self, limit: Limit, conditions: Sequence[str], refused: Iterable[str]) -> list[str] | None:
        """``refused``: what follows ``http-request`` for what is over. None where no counter is left."""
        key, kind = _key(limit)
        wanted = dict.fromkeys((ERRORS, FAILED) if limit.failed else (REQUESTS,), max(1, int(limit.period_s)))
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
        found = f"{counter.name}_{REQUESTS}({counter.table})"
        if limit.failed:
            lines.append(f"http-request set-var({FAILURES}) {counter.name}_{FAILED}({counter.table})")
            found = f"{counter.name}_{ERRORS}({counter.table}),add({FAILURES})"
        over = f"{{ {found} gt {most} }}"
        return lines + [f"http-request {text}{_if([*conditions, over])}" for text in refused]

    def tables(self) -> Iterator[str]:
        """Sections of their own."""
        for one in self._counters:
            stored = ",".join(f"{name}({period}s)" for name, period in one.periods.items())
            yield (
                f"backend {one.table}\n    stick-table type {one.kind} size {TABLE_ENTRIES_MAX}"
                f" expire {2 * max(one.periods.values())}s store {stored}\n"
            )


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
