"""Rules on connections (`shoal.wire.policy`, the phases ``connection`` and ``admission``) as nftables rules that see
each new one once. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from shoal.wire import policy
from shoal.wire.policy import Allow, Close, Drop, Limit, Rule, Test

from .family import Family

CLIENTS_MAX = 65_536
"""Or servers, whose connections are counted at a time, for one limit; beyond it those that come are not limited."""
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
RATE_MAX = 10**9
PHASES = (policy.CONNECTION, policy.ADMISSION)
BURST_MAX = 2**31
EXCESS, FRACTION, PUNISHED_S = 2, 10, 60
"""Who exceeds a limit that ``punishes`` so many times over gets that part of it, until he has not for so long."""


class Ungated(ValueError):
    """Says which rule can't be."""


class Gate(msgspec.Struct, frozen=True):
    """Who comes through the lines of ``connection``, or is let through by a ``return`` among them, comes to those of
    ``admission``. ``sets``: name -> what it is."""

    connection: tuple[str, ...] = ()
    admission: tuple[str, ...] = ()
    sets: dict[str, str] = {}


def gate(rules: Iterable[Rule], protocol: str, family: Family, name: str) -> Gate:
    """``name`` begins the names of sets. The lines of each phase are for a chain of their own. Raises Ungated."""
    found: dict[str, list[str]] = {policy.CONNECTION: [], policy.ADMISSION: []}
    sets: dict[str, str] = {}
    for rule in rules:
        if rule.phase not in found:
            continue
        lines = found[rule.phase]
        conditions = [_condition(test, rule, protocol, family) for test in rule.tests]
        if None in conditions:
            continue
        when = " ".join(text for text in conditions if text)
        for action in rule.actions:
            if isinstance(action, Limit):
                verdict = _verdict(action.then, protocol)
                if not verdict:
                    continue
                if action.punishes and action.by_client:
                    punishing, more = _punishing(action, family, f"{name}_{len(sets)}")
                    sets |= more
                    lines += (f"{when} {line} {verdict}".strip() for line in punishing)
                line, more = _limit(action, family, f"{name}_{len(sets)}")
                sets |= more
                lines.append(f"{when} {line} {verdict}".strip())
            elif isinstance(action, Allow | Close | Drop):
                lines.append(f"{when} {_verdict(action, protocol)}".strip())
            else:
                raise Ungated(f"{type(action).__name__} is no action on a connection.")
    return Gate(tuple(found[policy.CONNECTION]), tuple(found[policy.ADMISSION]), sets)


def set_of(lists: Sequence[str]) -> str:
    """The name of the set that has the networks of these lists: whoever puts the rules into the kernel adds it."""
    return f"l_{hashlib.blake2b(' '.join(lists).encode(errors='surrogatepass'), digest_size=8).hexdigest()}"


def limits(rules: Iterable[Rule]) -> bool:
    """Whether any connection is counted."""
    return any(isinstance(action, Limit) for rule in rules if rule.phase in PHASES for action in rule.actions)


def refusal(protocol: str) -> str:
    """The client is told."""
    return "reject with tcp reset" if protocol == "tcp" else "reject"


def _verdict(action: object, protocol: str) -> str:
    match action:
        case Allow():
            return "return"
        case Drop():
            return "drop"
        case Close():
            return refusal(protocol)
    return ""


def _condition(test: Test, rule: Rule, protocol: str, family: Family) -> str | None:
    """ "" always holds, None never."""
    try:
        if test.of == "client" and test.lists:
            return f"{family.ip} saddr {'!= ' if test.negated else ''}@{set_of(test.lists)}"
        if test.of == "client":
            found, what = _networks(test.values, family), f"{family.ip} saddr"
        elif test.of in ("client_port", "port"):
            found, what = _ports(test.values), f"{protocol} {'sport' if test.of == 'client_port' else 'dport'}"
        else:
            raise Ungated(f"The rule {rule.name[:60]!r} asks of a connection what only a request tells.")
    except ValueError as error:
        raise Ungated(f"The rule {rule.name[:60]!r}: {error}") from None
    if not found:
        return "" if test.negated else None
    return f"{what} {'!= ' if test.negated else ''}{{ {', '.join(found)} }}"


def _networks(values: Sequence[str], family: Family) -> list[str]:
    if any("%" in value for value in values):
        raise ValueError("an address with a scope is none of the data network")
    networks = [ipaddress.ip_network(value, strict=False) for value in values]
    four = [one for one in networks if isinstance(one, ipaddress.IPv4Network)]
    six = [one for one in networks if isinstance(one, ipaddress.IPv6Network)]
    mine = ipaddress.collapse_addresses(four) if family.version == 4 else ipaddress.collapse_addresses(six)
    return [str(one) for one in mine]


def _ports(values: Sequence[str]) -> list[str]:
    """``80`` and ``8000:8010``."""
    return joined(_range(value) for value in values)


def joined(ranges: Iterable[tuple[int, int]]) -> list[str]:
    """Where they touch: a kernel set takes no overlapping ranges."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return [f"{first}-{last}" if last > first else str(first) for first, last in found]


def _range(value: str) -> tuple[int, int]:
    first, _, last = value.partition(":")
    bounds = int(first), int(last or first)
    if not 0 <= bounds[0] <= bounds[1] <= 65535:
        raise ValueError(f"{value[:40]!r} is no port, nor a range of them")
    return bounds


def _punishing(limit: Limit, family: Family, name: str) -> tuple[list[str], dict[str, str]]:
    """Lines for those that are punished, and for those that begin to be; and their sets."""
    share = msgspec.structs.replace(limit, count=max(1, int(limit.count) // FRACTION), burst=0)
    slow, sets = _limit(share, family, f"{name}_slow")
    much = msgspec.structs.replace(limit, count=limit.count * EXCESS, burst=limit.burst * EXCESS)
    excess, more = _limit(much, family, f"{name}_much")
    kind = "ipv4_addr" if family.version == 4 else "ipv6_addr"
    punished = {f"{name}_punished": f"type {kind}; flags dynamic,timeout; size {CLIENTS_MAX};"}
    client = f"{family.ip} saddr"
    held = f"update @{name}_punished {{ {client} timeout {PUNISHED_S}s }}"
    return [f"{client} @{name}_punished {slow}", f"{excess} {held}"], {**sets, **more, **punished}


def _limit(limit: Limit, family: Family, name: str) -> tuple[str, dict[str, str]]:
    if not limit.by_client:
        return rate(limit), {}
    return each(limit, f"{family.ip} saddr", family.address, name)


def rate(limit: Limit) -> str:
    """A bucket of tokens: ``count`` + ``burst`` connections at once, and ``count`` in each period."""
    count, period = min(max(1, int(limit.count)), RATE_MAX), max(1, int(limit.period_s))
    return f"limit rate over {_rate(count, period)} burst {min(count + max(0, int(limit.burst)), BURST_MAX)} packets"


def each(limit: Limit, key: str, type: str, name: str) -> tuple[str, dict[str, str]]:
    """A bucket for each ``key`` of this ``type``."""
    text = rate(limit)
    name += f"_{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"  # elements keep the rate they came with
    made = f"type {type}; flags dynamic,timeout; size {CLIENTS_MAX};"
    return f"add @{name} {{ {key} timeout {2 * max(1, int(limit.period_s))}s {text} }}", {name: made}


def _rate(count: int, period: int) -> str:
    """In the smallest unit that has it exactly, else as near as by weeks."""
    for unit, seconds in UNITS.items():
        if count * seconds % period == 0:
            return f"{count * seconds // period}/{unit}"
    return f"{max(1, count * UNITS['week'] // period)}/week"
