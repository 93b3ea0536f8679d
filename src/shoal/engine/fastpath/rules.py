"""The plans as nftables rules: chains of one table, and its counters. Pure.

Only flows of fast paths are tracked; all else of the engine's (what HAProxy has above all) passes conntrack by. A flow's
mark names its server: rules, counters and deletion all go by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from shoal.wire.policy import Rule

from .family import IPV4, Family
from .gate import each, gate, joined, rate, refusal
from .plan import FLOWS_MAX, KEEPS_CLIENT, OURS, Gated, Paced, Plan, Target

SEED = 0x5EED
"""Not that of the spreading over engines: an engine's share of one hash would be a part of the servers by the other."""
BEFORE = 10
"""What is in front of HAProxy comes before it is decided what is tracked."""
MBIT_MAX = 100_000
"""More than a network gives, and about what the kernel can count in."""
BURST_BYTES_MAX = 10**9
BURST_SHARE = 10
"""Of a second's octets; at least what the kernel hands on as one packet, several times."""
BURST_BYTES_MIN = 262_144
CLOSING_S = {
    "syn_sent": 30,
    "syn_recv": 30,
    "fin_wait": 60,
    "close_wait": 60,
    "last_ack": 30,
    "time_wait": 10,
    "close": 5,
}
"""How long TCP is remembered without a packet before and after it is established. Linux' own two minutes of ``time_wait``
would let 540 connections a second go to one server: each holds one of the 64,512 ports that there are."""


class Ruleset(msgspec.Struct, frozen=True):
    """``chains``: name -> (hook, rules); without a hook it is called by another. ``counters``: names. ``timeouts``:
    (protocol, seconds that flows may be idle). ``sets`` and ``limits``: name -> what it is. ``forwards``: packets go on
    to other machines."""

    chains: dict[str, tuple[str, str]]
    counters: frozenset[str]
    timeouts: frozenset[tuple[str, int]]
    sets: Mapping[str, str] = {}
    limits: Mapping[str, str] = {}
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
        name = _digest(plan.service, plan.protocol)
        before, more = _gate(plan.rules, plan.protocol, family, name, plan.flows_max)
        chains |= before
        sets |= more
        for idle_s in sorted({ports.idle_s for ports in plan.ports}):
            chains[_chain(plan, idle_s)] = "", _choose(plan, idle_s, family.ip, before)
    for one in targets.values():
        if bounds := _bounds(one):
            chains[_cap(one)] = "", _lines(bounds)
    for protocol in protocols:
        chains[f"give_{protocol}"] = "", _give([t for t in targets.values() if t.protocol == protocol], family.ip)
    chains["raw_in"] = "type filter hook prerouting priority raw", _lines(_tracked_in(plans, protocols, family))
    chains["raw_out"] = "type filter hook output priority raw", _lines(_tracked_out(plans, protocols, family))
    closed = _lines(
        f"ct state new {family.ip} daddr . {protocol} dport {{ {sockets} }} {refusal(protocol)}"
        for protocol in protocols
        if (sockets := _sockets(plan for plan in plans if plan.protocol == protocol and not plan.taking))
    )
    if closed:  # a hook costs every packet something, without rules too
        chains["closed"] = "type filter hook prerouting priority mangle", closed
    chains["arriving"] = (
        "type nat hook prerouting priority dstnat",
        _lines(
            f"{family.ip} daddr . {protocol} dport vmap {{ {ways} }}"
            for protocol in protocols
            if (ways := _dispatch(plan for plan in open_ if plan.protocol == protocol))
        ),
    )
    chains["leaving"] = (
        "type nat hook postrouting priority srcnat",
        _lines([*_sources(plans), *_own(address, beside or {})]),
    )
    chains["passing"] = (
        "type filter hook forward priority filter; policy drop",
        _lines([*_throughput(plans)])
        + _lines(
            f"ct direction {way} counter name ct mark map {{ {_counters(prefix, targets)} }} accept"
            for way, prefix in (("original", "in"), ("reply", "out"))
        ),
    )
    counters = frozenset(counter(prefix, mark) for mark in targets for prefix in ("new", "in", "out"))
    timeouts = frozenset((plan.protocol, ports.idle_s) for plan in plans for ports in plan.ports)
    limits = {_rate(plan): _mbit(plan.mbit_max) for plan in plans if plan.mbit_max}
    return Ruleset(chains, counters, timeouts, sets, limits, forwards=True)


def counter(prefix: str, mark: int) -> str:
    """``new`` (its packets are flows), ``in`` or ``out``, of the server with this mark."""
    return f"{prefix}_{mark:08x}"


def timeout(protocol: str, idle_s: int) -> str:
    return f"{protocol}_{idle_s}"


def timeout_policy(protocol: str, idle_s: int) -> str:
    """How long the kernel remembers a flow in each of its states."""
    states = {**CLOSING_S, "established": idle_s} if protocol == "tcp" else {"unreplied": idle_s, "replied": idle_s}
    return ", ".join(f"{state} : {seconds}" for state, seconds in states.items())


def _digest(*words: str) -> str:
    return hashlib.blake2b("\0".join(words).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _chain(plan: Plan, idle_s: int) -> str:
    return f"s_{_digest(plan.service, plan.protocol)}_{idle_s}"


def _cap(target: Target) -> str:
    return f"n_{target.mark:08x}"


def _bounds(target: Target) -> list[str]:
    """Of new connections to a server."""
    found = [f"ct count over {target.flows_max} {refusal(target.protocol)}"] if target.flows_max else []
    return found + ([f"{rate(target.rate)} {refusal(target.protocol)}"] if target.rate is not None else [])


def _gates(gated: Iterable[Gated], family: Family) -> Ruleset:
    """What is in front of HAProxy."""
    chains: dict[str, tuple[str, str]] = {}
    sets: dict[str, str] = {}
    ways = []
    for one in gated:
        name = _digest(one.service, "proxied")
        before, more = _gate(one.rules, "tcp", family, name)
        sets |= more
        chains |= before
        chains[f"p_{name}"] = "", refusal("tcp") if one.shut else _lines(f"jump {chain}" for chain in before)
        ways += [f"{address} . {_range(first, last)} : goto p_{name}" for address, first, last in one.ports]
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
        line, more = each(one.rate, key, f"{family.address} . inet_service", f"q_{_digest(one.service, one.pool)}")
        lines.append(f"{key} {{ {places} }} {line} {refusal('tcp')}")
        sets |= more
    if not lines:
        return gates
    met = f"meta skuid {int(proxy)} tcp flags & (fin | syn | rst | ack) == syn jump pacing"
    hook = "type filter hook output priority filter"
    chains = {**gates.chains, "pacing": ("", _lines(lines)), "connecting": (hook, met)}
    return msgspec.structs.replace(gates, chains=chains, sets={**gates.sets, **sets})


def _places(servers: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, str]]:
    """(address, ports), none of them twice."""
    ports: dict[str, set[tuple[int, int]]] = {}
    for address, first, last in servers:
        ports.setdefault(address, set()).add((first, last))
    return ((address, text) for address, found in ports.items() for text in joined(found))


def _gate(
    rules: Sequence[Rule], protocol: str, family: Family, name: str, flows_max: int = 0
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """The chains that a connection goes through, in their order, and their sets."""
    made = gate(rules, protocol, family, f"c_{name}")
    cap = [f"ct count over {min(flows_max, FLOWS_MAX)} {refusal(protocol)}"] if flows_max else []
    chains = {f"g_{name}": made.connection, f"a_{name}": (*made.admission, *cap)}
    return {chain: ("", _lines(lines)) for chain, lines in chains.items() if lines}, made.sets


def _rate(plan: Plan) -> str:
    return f"r_{_digest(plan.service, plan.protocol, str(plan.mbit_max))}"


def _mbit(most: int) -> str:
    octets = min(most, MBIT_MAX) * 125_000
    return f"rate over {octets} bytes/second burst {min(max(octets // BURST_SHARE, BURST_BYTES_MIN), BURST_BYTES_MAX)} bytes;"


def _throughput(plans: Iterable[Plan]) -> Iterable[str]:
    limited = ", ".join(f'{t.mark:#x} : "{_rate(plan)}"' for plan in plans if plan.mbit_max for t in plan.targets)
    if limited:
        yield f"limit name ct mark map {{ {limited} }} drop\n        "


def _lines(rules: Iterable[str]) -> str:
    return "\n        ".join(rules)


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


def _sockets(plans: Iterable[Plan]) -> str:
    return ", ".join(f"{p.address} . {_range(p.first, p.last)}" for plan in plans for p in plan.ports)


def _servers(plans: Iterable[Plan]) -> str:
    """Ranges of several services may overlap, and a kernel set takes none that do."""
    found = (
        (one.address, *ports)
        for plan in plans
        for one in plan.targets
        for ports in ([(one.port, one.port)] if one.port else [(p.first, p.last) for p in plan.ports])
    )
    return ", ".join(f"{address} . {text}" for address, text in _places(found))


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


def _dispatch(plans: Iterable[Plan]) -> str:
    return ", ".join(
        f"{p.address} . {_range(p.first, p.last)} : goto {_chain(plan, p.idle_s)}" for plan in plans for p in plan.ports
    )


def _range(first: int, last: int) -> str:
    return f"{first}-{last}" if last > first else str(first)


def _choose(plan: Plan, idle_s: int, ip: str, before: Iterable[str]) -> str:
    size = len(plan.shares)
    client = f"{ip} saddr & {plan.mask}" if plan.mask else f"{ip} saddr"
    way = {
        "turns": f"numgen inc mod {size}",
        "random": f"numgen random mod {size}",
        "saddr": f"jhash {client} mod {size} seed {SEED:#x}",
        "saddr and port": f"jhash {ip} saddr . {plan.protocol} sport mod {size} seed {SEED:#x}",
    }[plan.choice]
    chosen = f"{way} map {{ {_runs(plan.shares)} }}" if len(set(plan.shares)) > 1 else f"{plan.shares[0]:#x}"
    lines = [f"jump {chain}" for chain in before]
    lines += [
        f'ct timeout set "{timeout(plan.protocol, idle_s)}"',
        f"ct mark set {chosen}",
        f"goto give_{plan.protocol}",
    ]
    return _lines(lines)


def _runs(shares: Sequence[int]) -> str:
    """Equal neighbours in one element."""
    texts, at = [], 0
    for mark, run in groupby(shares):
        size = len(list(run))
        texts.append(f"{_range(at, at + size - 1)} : {mark:#x}")
        at += size
    return ", ".join(texts)


def _give(targets: Sequence[Target], ip: str) -> str:
    new = ", ".join(f'{t.mark:#x} : "{counter("new", t.mark)}"' for t in targets)
    caps = ", ".join(f"{t.mark:#x} : jump {_cap(t)}" for t in targets if _bounds(t))
    lines = [f"ct mark vmap {{ {caps} }}"] if caps else []
    protocol = targets[0].protocol
    lines.append(f"counter name ct mark map {{ {new} }}")
    for to in (
        ", ".join(f"{t.mark:#x} : {t.address} . {t.port}" for t in targets if t.port),
        ", ".join(f"{t.mark:#x} : {t.address}" for t in targets if not t.port),
    ):
        if to:
            lines.append(f"meta l4proto {protocol} dnat {ip} to ct mark map {{ {to} }}")
    return _lines(lines)


def _counters(prefix: str, marks: Iterable[int]) -> str:
    return ", ".join(f'{mark:#x} : "{counter(prefix, mark)}"' for mark in marks)
