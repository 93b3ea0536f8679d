"""Servers that answer clients themselves (direct server return), as nftables rules. Pure.

A packet is handed on where it comes in, before the engine's own IP sees it: as it is, to the server's MAC. Answers do not
come by here, so conntrack could not follow; a flow's server is kept in a map instead (`kept`), and chosen by a hash that all
engines share: whoever gets the next packet of a flow that he does not know chooses the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from shoal.engine.guard import family as spreading
from shoal.engine.guard.nft import ASKED

from .family import Family
from .kept import CLOSING, flows_map
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
    throughput_limits,
)
from .plan import Plan, Target
from .rules import Ruleset

FLOWS_MAX = 262_144
"""Of one protocol, and version of IP, that are kept. More are served, and follow the hash when servers come or go."""
SYN_S, FIN_S = 30, 20
"""How long a TCP connection is kept after a first packet until the second comes, and after its client has closed it."""
ERRORS_PER_S = 200
"""Packets that speak of a flow (an MTU that is too large somewhere): each of a VIP's servers gets them."""
AFTER_THE_GUARD = 10
"""The guard's own rules hand on what is another engine's."""
FLOW = {4: spreading.IPV4.flow, 6: spreading.IPV6.flow}
"""Version of IP -> what names a flow of a protocol, as `shoal.engine.guard.flow_rules` has it, too."""


def ruleset(plans: Iterable[Plan], family: Family, interfaces: Mapping[str, int]) -> Ruleset:
    """``interfaces``: where clients' packets come in, and the kernel's number of each. Raises `gate.Ungated`."""
    plans = [plan for plan in plans if plan.targets]
    chains: dict[str, tuple[str, str]] = {}
    sets: dict[str, str] = {}
    kept: set[tuple[str, int]] = set()
    protocols = [one for one in ("tcp", "udp") if any(plan.protocol == one for plan in plans)]
    for plan in plans:
        before, more = gate_chains(plan.rules, plan.protocol, family, digest(plan.service, plan.protocol))
        chains |= before
        sets |= more
        for idle_s in sorted({ports.idle_s for ports in plan.ports}):
            chains[chain_of(plan, idle_s)] = "", body(_serve(plan, idle_s, family, tuple(before)))
            kept |= {(plan.protocol, seconds) for seconds in (idle_s, 0)}
            if plan.protocol == "tcp":
                kept |= {("tcp", SYN_S), ("tcp", FIN_S)}
        for one in plan.targets:
            chains[_to(one)] = "", body(_send(one, plan, family))
            if bound := bounds(one):
                chains[cap_of(one)] = "", body(bound)
    for protocol in protocols:
        mine = [plan for plan in plans if plan.protocol == protocol]
        targets = [one for plan in mine for one in plan.targets]
        for idle_s in {ports.idle_s for plan in mine for ports in plan.ports}:
            chains[_known(protocol, idle_s)] = "", body(_go_on(targets, protocol, idle_s, family))
        if protocol == "tcp":
            chains["over_tcp"] = "", body(_over(family))
            chains["closing_tcp"] = "", body(_closing(targets, family))
    ways = body(
        f"meta pkttype host {family.ip} daddr . {protocol} dport vmap {{ {dispatch(plans, protocol)} }}"
        for protocol in protocols
    )
    for interface in interfaces if plans else ():
        hook = f'type filter hook ingress device "{interface}" priority {AFTER_THE_GUARD}'
        chains[f"in_{digest(interface)}"] = hook, ways
    if family.version == 4:
        kept = set()
    chains |= {_keeper(*one): ("", "") for one in kept}
    marks = {one.mark for plan in plans for one in plan.targets}
    return Ruleset(
        chains,
        frozenset(counter(prefix, mark) for mark in marks for prefix in ("new", "in")),
        frozenset(),
        sets,
        throughput_limits(plans),
        maps={flows_map(protocol): _map(family) for protocol in protocols},
        keeping={_keeper(*one): (flows_map(one[0]), one[1]) for one in kept},
        interfaces=dict(interfaces) if plans else {},
    )


def errors_added(rules: Ruleset, plans: Iterable[Plan], family: Family) -> Ruleset:
    """With those that hand packets that speak of a flow to all that may have it: what they quote is theirs to look at.
    ``rules``: the IP family's."""
    servers: dict[str, dict[str, None]] = {}
    for plan in plans:
        for ports in plan.ports if plan.direct else ():
            servers.setdefault(ports.address, {}).update(dict.fromkeys(one.address for one in plan.targets))
    found = body(
        f"{family.errors} {family.ip} daddr {address} limit rate {ERRORS_PER_S}/second {' '.join(f'dup to {one}' for one in found)}"
        for address, found in servers.items()
        if found
    )
    if not found:
        return rules
    chain = "type filter hook prerouting priority mangle", found
    return msgspec.structs.replace(rules, chains={**rules.chains, "errors": chain})


def _known(protocol: str, idle_s: int) -> str:
    return f"known_{protocol}_{idle_s}"


def _to(target: Target) -> str:
    return f"to_{target.mark:08x}"


def _keeper(protocol: str, seconds: int) -> str:
    """IPv6's chain of the one rule that `_keep` is for IPv4."""
    return f"keep_{protocol}_{seconds}" if seconds else f"forget_{protocol}"


def _map(family: Family) -> str:
    socket = f"{family.address} . inet_service"
    return f"type {socket} . {socket} : mark; flags dynamic,timeout; size {FLOWS_MAX};"


def _keep(protocol: str, seconds: int, family: Family) -> str:
    """Keep the flow with the server that the mark says for so long; 0 = forget it."""
    if family.version == 6:
        return f"jump {_keeper(protocol, seconds)}"
    flow, flows = FLOW[family.version](protocol), flows_map(protocol)
    if not seconds:
        return f"delete @{flows} {{ {flow} : meta mark }}"
    return f"update @{flows} {{ {flow} timeout {seconds}s : meta mark }}"


def _on(targets: Iterable[Target]) -> str:
    """To the server that the mark says; the rules go on if there is no such server."""
    ways = dict.fromkeys(f"{one.mark:#x} : goto {_to(one)}" for one in targets)
    return f"meta mark vmap {{ {', '.join(ways)} }}"


def _serve(plan: Plan, idle_s: int, family: Family, before: Sequence[str]) -> Iterator[str]:
    """From the first rule on a client's packet to the choice of its server."""
    protocol = plan.protocol
    if protocol == "tcp":
        yield from (f"tcp flags & (syn | ack) == syn jump {chain}" for chain in before)
    known = f"{FLOW[family.version](protocol)} map @{flows_map(protocol)}"
    yield f"meta mark set {known} jump {_known(protocol, idle_s)}"
    yield f"meta mark {ASKED:#x} drop"  # another engine may know whose it is
    if not plan.taking:
        return  # who is not known is refused by the engine's own IP
    if protocol == "udp":
        yield from (f"jump {chain}" for chain in before)
    yield _keep(protocol, 0, family)
    yield f"meta mark set {chosen(plan, family.ip)}"
    if capped := caps(plan.taking):
        yield f"{'tcp flags & (syn | ack) == syn ' if protocol == 'tcp' else ''}meta mark vmap {{ {capped} }}"
    yield _keep(protocol, SYN_S if protocol == "tcp" else idle_s, family)
    yield f"counter name meta mark map {{ {by_mark('new', (one.mark for one in plan.taking))} }}"
    yield _on(plan.taking)


def _go_on(targets: Sequence[Target], protocol: str, idle_s: int, family: Family) -> Iterator[str]:
    if protocol == "tcp":
        yield f"meta mark & {CLOSING:#x} != 0 goto closing_tcp"
    yield _keep(protocol, idle_s, family)
    yield _on(targets)


def _closing(targets: Sequence[Target], family: Family) -> Iterator[str]:
    yield "tcp flags & (syn | ack) == syn return"  # another connection, from the same port
    yield _keep("tcp", FIN_S, family)
    yield _open_again()
    yield _on(targets)


def _over(family: Family) -> Iterator[str]:
    yield f"meta mark set meta mark | {CLOSING:#x}"
    yield _keep("tcp", 0, family)
    yield _keep("tcp", FIN_S, family)
    yield _open_again()


def _open_again() -> str:
    return f"meta mark set meta mark & {CLOSING ^ 0xFFFFFFFF:#x}"


def _send(one: Target, plan: Plan, family: Family) -> Iterator[str]:
    if plan.mbit_max:
        yield f'limit name "{limit_name(plan)}" drop'
    yield f'counter name "{counter("in", one.mark)}"'
    if plan.protocol == "tcp":
        yield "tcp flags & (fin | rst) != 0 jump over_tcp"
    yield f'fwd {family.ip} to {one.address} device "{one.interface}"'
