"""The plans as nftables rules: chains of one table, and its counters. Pure.

Only flows of fast paths are tracked; all else of the engine's (what HAProxy has above all) passes conntrack by. A flow's
mark names its server: rules, counters and deletion all go by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from .family import IPV4, Family
from .gate import each, joined, refusal
from .parts import (
    body,
    bounds,
    by_mark,
    cap_of,
    caps,
    chain_of,
    chosen,
    counter,
    digest,
    dispatch,
    gate_chains,
    limit_name,
    port_range,
    throughput_limits,
)
from .plan import FLOWS_MAX, KEEPS_CLIENT, OURS, Gated, Paced, Plan, Target

BEFORE = 10
"""What is in front of HAProxy comes before it is decided what is tracked."""
CLOSING_S = {
    "syn_sent": 30,
    "syn_recv": 30,
    "fin_wait": 60,
    "close_wait": 60,
    "last_ack": 30,
    "time_wait": 10,
    "close": 5,
}
"""How long TCP is remembered without a packet before and after it is established."""
WAITS_S = 70
"""In TIME_WAIT. A server that has closed waits 60 s, and some more by its timer: a SYN from the same port of the engine's, of another
client with other timestamps, would not be taken but answered by an ACK, and the client would lose a second or more."""
WAITS_PER_S, WAITS_BURST = 600, 3_000
"""To one server, from each address it sees: new connections that wait so long. They hold 45,000 of the 64,512 ports at most."""
OWN_WAIT_PER_S, OWN_WAIT_BURST = 250, 2_000
"""And of HAProxy's own to the same server, if it has any: 19,500 ports."""
OWN_IDLE_S = 432_000
"""As the kernel has it: HAProxy says when its connections end."""
ALL_WAIT_PER_S, ALL_WAIT_BURST = 1_800, 18_000
"""Of the engine: they hold 144,000 entries of conntrack at most."""
HASTE_S = 2
"""Those beyond, in TIME_WAIT: a port that may be too early is better than none."""


class Timeouts(NamedTuple):
    """``idle_s``: of UDP's flows and established connections; ``waits_s``: in TIME_WAIT."""

    protocol: str
    idle_s: int
    waits_s: int = 0

    @property
    def name(self) -> str:
        return "_".join(map(str, filter(None, self)))

    @property
    def policy(self) -> str:
        """How long the kernel remembers a flow in each of its states."""
        states = {"unreplied": self.idle_s, "replied": self.idle_s}
        if self.protocol == "tcp":
            states = {**CLOSING_S, "time_wait": self.waits_s, "established": self.idle_s}
        return ", ".join(f"{state} : {seconds}" for state, seconds in states.items())


OWN = Timeouts("tcp", OWN_IDLE_S, HASTE_S), Timeouts("tcp", OWN_IDLE_S, WAITS_S)


class Ruleset(msgspec.Struct, frozen=True):
    """``chains``: name -> (hook, rules); without a hook it is called by another. ``counters``: names. ``sets``, ``maps`` and
    ``limits``: name -> what it is. ``keeping``: chain -> (map, seconds), whose one rule `shoal.engine.guard.flow_rules` makes.
    ``interfaces``: name -> the kernel's number, which rules mean. ``forwards``: packets go on to other machines."""

    chains: dict[str, tuple[str, str]]
    counters: frozenset[str]
    timeouts: frozenset[Timeouts]
    sets: Mapping[str, str] = {}
    limits: Mapping[str, str] = {}
    maps: Mapping[str, str] = {}
    keeping: Mapping[str, tuple[str, int]] = {}
    interfaces: Mapping[str, int] = {}
    forwards: bool = False


def ruleset(
    plans: Iterable[Plan],
    address: str,
    family: Family = IPV4,
    gated: Iterable[Gated] = (),
    paced: Iterable[Paced] = (),
    proxy: int = 0,
    beside: Mapping[str, str] | None = None,
) -> Ruleset:
    """``address``: the engine's own, which servers see as their client; ``beside``: interface -> the one that those see who
    are reached there; ``proxy``: the user that HAProxy runs as. Raises `gate.Ungated`."""
    plans = [plan for plan in plans if plan.targets]
    gates = _paced(_gates(gated, family), paced, family, proxy)
    if not plans:
        return gates
    open_ = [plan for plan in plans if plan.taking]
    targets = {target.mark: target for plan in plans for target in plan.targets}
    protocols = [one for one in ("tcp", "udp") if any(plan.protocol == one for plan in plans)]
    chains: dict[str, tuple[str, str]] = dict(gates.chains)
    sets: dict[str, str] = dict(gates.sets)
    for plan in open_:
        name = digest(plan.service, plan.protocol)
        cap = [f"ct count over {min(plan.flows_max, FLOWS_MAX)} {refusal(plan.protocol)}"] if plan.flows_max else []
        before, more = gate_chains(plan.rules, plan.protocol, family, name, cap)
        chains |= before
        sets |= more
        for idle_s in sorted({ports.idle_s for ports in plan.ports}):
            chains[chain_of(plan, idle_s)] = "", _choose(plan, idle_s, family.ip, before)
    for one in targets.values():
        if bound := bounds(one):
            chains[cap_of(one)] = "", body(bound)
    for protocol in protocols:
        chains[f"give_{protocol}"] = "", _give([t for t in targets.values() if t.protocol == protocol], family.ip)
    shared = [plan for plan in plans if _shares_ports(plan)]
    if shared:
        chains["own"] = "type filter hook output priority mangle", body(_own_waiting(shared, family))
    chains["raw_in"] = "type filter hook prerouting priority raw", body(_tracked_in(plans, protocols, family))
    chains["raw_out"] = "type filter hook output priority raw", body(_tracked_out(plans, protocols, family))
    closed = body(
        f"ct state new {family.ip} daddr . {protocol} dport {{ {sockets} }} {refusal(protocol)}"
        for protocol in protocols
        if (sockets := _sockets(plan for plan in plans if plan.protocol == protocol and not plan.taking))
    )
    if closed:  # a hook costs every packet something, without rules too
        chains["closed"] = "type filter hook prerouting priority mangle", closed
    chains["arriving"] = (
        "type nat hook prerouting priority dstnat",
        body(
            f"{family.ip} daddr . {protocol} dport vmap {{ {ways} }}"
            for protocol in protocols
            if (ways := dispatch(open_, protocol))
        ),
    )
    chains["leaving"] = (
        "type nat hook postrouting priority srcnat",
        body([*_sources(plans), *_own(address, beside or {})]),
    )
    chains["passing"] = (
        "type filter hook forward priority filter; policy drop",
        body(
            [
                *_throughput(plans),
                *(
                    f"ct direction {way} counter name ct mark map {{ {by_mark(prefix, targets)} }} accept"
                    for way, prefix in (("original", "in"), ("reply", "out"))
                ),
            ]
        ),
    )
    counters = frozenset(counter(prefix, mark) for mark in targets for prefix in ("new", "in", "out"))
    timeouts = frozenset(one for plan in plans for ports in plan.ports for one in _timeouts(plan, ports.idle_s))
    limits = throughput_limits(plans)
    for plan in shared:
        seen = max(1, len(plan.sources))
        waits = _at_most(WAITS_PER_S * seen, WAITS_BURST * seen)
        limits |= {_waiting(plan, one): waits for one in plan.taking}
    if shared:
        timeouts |= {*OWN}
        limits["waiting"] = _at_most(ALL_WAIT_PER_S, ALL_WAIT_BURST)
        own = _at_most(OWN_WAIT_PER_S, OWN_WAIT_BURST)
        limits |= {_own_limit(*one): own for one in _server_sockets(shared)}
    return Ruleset(chains, counters, timeouts, sets, limits, forwards=True)


def _shares_ports(plan: Plan) -> bool:
    """Whether the connections of all clients come to servers from the same few addresses."""
    return plan.protocol == "tcp" and not any(one.mark & KEEPS_CLIENT for one in plan.targets)


def _timeouts(plan: Plan, idle_s: int) -> tuple[Timeouts, ...]:
    """Of its flows; the last are usual, the others for those that exceed the limits."""
    if _shares_ports(plan):
        return Timeouts("tcp", idle_s, HASTE_S), Timeouts("tcp", idle_s, WAITS_S)
    return (Timeouts(plan.protocol, idle_s, CLOSING_S["time_wait"] if plan.protocol == "tcp" else 0),)


def _waiting(plan: Plan, one: Target) -> str:
    """The limit of those to this server, from these addresses, that wait long: several services may have both."""
    return f"w_{digest(one.address, str(_ports(plan, one)), *plan.sources)}"


def _at_most(per_s: int, burst: int) -> str:
    return f"rate over {per_s}/second burst {burst} packets;"


def _gates(gated: Iterable[Gated], family: Family) -> Ruleset:
    """What is in front of HAProxy."""
    chains: dict[str, tuple[str, str]] = {}
    sets: dict[str, str] = {}
    ways = []
    for one in gated:
        name = digest(one.service, "proxied")
        before, more = gate_chains(one.rules, "tcp", family, name)
        sets |= more
        chains |= before
        chains[f"p_{name}"] = "", refusal("tcp") if one.shut else body(f"jump {chain}" for chain in before)
        ways += [f"{address} . {port_range(first, last)} : goto p_{name}" for address, first, last in one.ports]
    if ways:
        hook = f"type filter hook prerouting priority raw - {BEFORE}"
        met = f"tcp flags & (fin | syn | rst | ack) == syn {family.ip} daddr . tcp dport vmap {{ {', '.join(ways)} }}"
        chains["proxied"] = hook, met
    return Ruleset(chains, frozenset(), frozenset(), sets)


def _paced(gates: Ruleset, paced: Iterable[Paced], family: Family, proxy: int) -> Ruleset:
    """And what is behind HAProxy: each server has a bucket of its own in each pool that limits it."""
    lines, sets = list[str](), dict[str, str]()
    for one in paced:
        places = ", ".join(f"{address} . {text}" for address, text in _places(one.servers))
        key = f"{family.ip} daddr . tcp dport"
        line, more = each(one.rate, key, f"{family.address} . inet_service", f"q_{digest(one.service, one.pool)}")
        lines.append(f"{key} {{ {places} }} {line} {refusal('tcp')}")
        sets |= more
    if not lines:
        return gates
    met = f"meta skuid {int(proxy)} tcp flags & (fin | syn | rst | ack) == syn jump pacing"
    hook = "type filter hook output priority filter"
    chains = {**gates.chains, "pacing": ("", body(lines)), "connecting": (hook, met)}
    return msgspec.structs.replace(gates, chains=chains, sets={**gates.sets, **sets})


def _places(servers: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, str]]:
    """(address, ports), none of them twice."""
    ports: dict[str, set[tuple[int, int]]] = {}
    for address, first, last in servers:
        ports.setdefault(address, set()).add((first, last))
    return ((address, text) for address, found in ports.items() for text in joined(found))


def _tracked_in(plans: Sequence[Plan], protocols: Sequence[str], family: Family) -> Iterable[str]:
    for protocol in protocols:
        mine = [plan for plan in plans if plan.protocol == protocol]
        yield f"{family.ip} daddr . {protocol} dport {{ {_sockets(mine)} }} accept"
        yield f"{family.ip} saddr . {protocol} sport {{ {_servers(mine)} }} accept"
    yield f"{family.errors} accept"
    yield "notrack"


def _tracked_out(plans: Sequence[Plan], protocols: Sequence[str], family: Family) -> Iterable[str]:
    """The engine's own connections to the same servers are tracked too: no two may leave with one port."""
    if family.silent:
        yield family.silent
    for protocol in protocols:
        sockets = _servers(plan for plan in plans if plan.protocol == protocol)
        yield f"{family.ip} daddr . {protocol} dport {{ {sockets} }} accept"
    yield "notrack"


def _throughput(plans: Iterable[Plan]) -> Iterable[str]:
    limited = ", ".join(f'{t.mark:#x} : "{limit_name(plan)}"' for plan in plans if plan.mbit_max for t in plan.targets)
    if limited:
        yield f"limit name ct mark map {{ {limited} }} drop"


def _sockets(plans: Iterable[Plan]) -> str:
    return ", ".join(f"{p.address} . {port_range(p.first, p.last)}" for plan in plans for p in plan.ports)


def _servers(plans: Iterable[Plan]) -> str:
    return ", ".join(f"{address} . {text}" for address, text in _server_sockets(plans))


def _server_sockets(plans: Iterable[Plan]) -> Iterator[tuple[str, str]]:
    """Ranges of several services may overlap, and a kernel set takes none that do."""
    return _places((one.address, *ports) for plan in plans for one in plan.targets for ports in _ports(plan, one))


def _ports(plan: Plan, one: Target) -> list[tuple[int, int]]:
    """First and last of those that the server is reached at."""
    return [(one.port, one.port)] if one.port else [(p.first, p.last) for p in plan.ports]


def _own_limit(address: str, ports: str) -> str:
    return f"o_{digest(address, ports)}"


def _own_waiting(plans: Sequence[Plan], family: Family) -> Iterator[str]:
    """How long HAProxy's own connections to the same servers are remembered: theirs are the same ports."""
    socket = f"{family.ip} daddr . tcp dport"
    new = f"ct state new {socket} {{ {_servers(plans)} }}"
    limits = ", ".join(
        f'{address} . {ports} : "{_own_limit(address, ports)}"' for address, ports in _server_sockets(plans)
    )
    hasty, usual = (f'ct timeout set "{one.name}" accept' for one in OWN)
    yield f"{new} limit name {socket} map {{ {limits} }} {hasty}"
    yield f'{new} limit name "waiting" {hasty}'
    yield f"{new} {usual}"


def _sources(plans: Iterable[Plan]) -> Iterable[str]:
    for plan in plans:
        if plan.sources:
            marks = ", ".join(f"{target.mark:#x}" for target in plan.targets)
            pool = ", ".join(f"{number} : {source}" for number, source in enumerate(plan.sources))
            yield f"ct mark {{ {marks} }} snat to numgen inc mod {len(plan.sources)} map {{ {pool} }}"


def _own(address: str, beside: Mapping[str, str]) -> Iterable[str]:
    mine = f"ct mark & {OURS | KEEPS_CLIENT:#x} == {OURS:#x}"
    for interface, there in beside.items():
        yield f'oifname "{interface}" {mine} snat to {there}'
    yield f"{mine} snat to {address}"


def _choose(plan: Plan, idle_s: int, ip: str, before: Iterable[str]) -> str:
    found = [f"jump {chain}" for chain in before]
    found.append(f"ct mark set {chosen(plan, ip)}")
    give, (*hasty, usual) = f"goto give_{plan.protocol}", _timeouts(plan, idle_s)
    for times in hasty:
        waiting = ", ".join(f'{one.mark:#x} : "{_waiting(plan, one)}"' for one in plan.taking)
        limits = (f"limit name ct mark map {{ {waiting} }}", 'limit name "waiting"')
        found += (f'{limit} ct timeout set "{times.name}" {give}' for limit in limits)
    found += [f'ct timeout set "{usual.name}"', give]
    return body(found)


def _give(targets: Sequence[Target], ip: str) -> str:
    lines = [f"ct mark vmap {{ {capped} }}"] if (capped := caps(targets)) else []
    protocol = targets[0].protocol
    lines.append(f"counter name ct mark map {{ {by_mark('new', (t.mark for t in targets))} }}")
    for to in (
        ", ".join(f"{t.mark:#x} : {t.address} . {t.port}" for t in targets if t.port),
        ", ".join(f"{t.mark:#x} : {t.address}" for t in targets if not t.port),
    ):
        if to:
            lines.append(f"meta l4proto {protocol} dnat {ip} to ct mark map {{ {to} }}")
    return body(lines)
