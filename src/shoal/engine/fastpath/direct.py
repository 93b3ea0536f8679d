"""Servers that answer clients themselves (direct server return), as nftables rules. Pure.

A packet is handed on where it comes in, before the engine's own IP sees it: as it is, to the server's MAC, or through a
tunnel to it. Answers do not come by here, so conntrack could not follow; a flow's server is kept in a map instead, and
chosen by a hash that all engines share: whoever gets the next packet of a flow that he does not know chooses the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from .family import Family
from .gate import rate, refusal
from .parts import (
    body,
    by_mark,
    cap_of,
    chain_of,
    chosen,
    counter,
    digest,
    dispatch,
    gate_chains,
    limit_name,
    mbit,
    throughput,
)
from .plan import KEEPS_CLIENT, Plan, Target
from .rules import Ruleset

CLOSING = KEEPS_CLIENT
"""Set in what is kept of a TCP connection whose client has said that it is over. These servers always see their client."""
FLOWS_MAX = 262_144
"""Of one protocol, and version of IP, that are kept. More are served, and follow the hash when servers come or go."""
SYN_S, FIN_S = 30, 20
"""How long a TCP connection is kept after a first packet until the second comes, and after its client has closed it."""
ERRORS_PER_S = 200
"""Packets that speak of a flow (an MTU that is too large somewhere): each of a VIP's servers gets them."""
NETDEV = 5
"""NFPROTO_NETDEV."""
AFTER_THE_GUARD = 10
"""The guard's own rules hand on what is another engine's."""


def table(family: Family) -> str:
    return f"netdev shoal_direct{'' if family.version == 4 else family.version}"


def flows_map(protocol: str) -> str:
    return f"flows_{protocol}"


def ruleset(plans: Iterable[Plan], family: Family, interfaces: Sequence[str]) -> Ruleset:
    """``interfaces``: where clients' packets come in. Raises `gate.Ungated`."""
    plans = [plan for plan in plans if plan.targets]
    if not plans:
        return Ruleset({}, frozenset(), frozenset())
    chains: dict[str, tuple[str, str]] = {}
    sets: dict[str, str] = {}
    keeping: dict[str, tuple[str, int]] = {}
    protocols = [one for one in ("tcp", "udp") if any(plan.protocol == one for plan in plans)]
    for plan in plans:
        before, more = gate_chains(plan.rules, plan.protocol, family, digest(plan.service, plan.protocol))
        chains |= before
        sets |= more
        for idle_s in sorted({ports.idle_s for ports in plan.ports}):
            chains[chain_of(plan, idle_s)] = "", body(_serve(plan, idle_s, family, tuple(before)))
            for seconds in (idle_s, SYN_S) if plan.protocol == "tcp" else (idle_s,):
                keeping[_keep(plan.protocol, seconds)] = flows_map(plan.protocol), seconds
        for one in plan.targets:
            if one.rate is not None:
                chains[cap_of(one)] = "", f"{rate(one.rate)} {refusal(one.protocol)}"
    for protocol in protocols:
        mine = [plan for plan in plans if plan.protocol == protocol]
        targets = list({one.mark: one for plan in mine for one in plan.targets}.values())
        for idle_s in {ports.idle_s for plan in mine for ports in plan.ports}:
            chains[_known(protocol, idle_s)] = "", body(_go_on(targets, protocol, idle_s))
        if protocol == "tcp":
            keeping[_keep(protocol, FIN_S)] = flows_map(protocol), FIN_S
            chains["over_tcp"] = "", body(_over())
            chains["closing_tcp"] = "", body(_closing())
        keeping[_forget(protocol)] = flows_map(protocol), 0
        chains[f"send_{protocol}"] = "", body(_send(mine, targets, protocol, family))
    chains |= {name: ("", _kept(name, *what, family)) for name, what in keeping.items()}
    ways = body(
        f"meta pkttype host {family.ip} daddr . {protocol} dport vmap {{ {dispatch(plans, protocol)} }}"
        for protocol in protocols
    )
    for interface in dict.fromkeys(interfaces):
        chains[f"in_{digest(interface)}"] = (
            f'type filter hook ingress device "{interface}" priority {AFTER_THE_GUARD}',
            ways,
        )
    marks = {one.mark for plan in plans for one in plan.targets}
    return Ruleset(
        chains,
        frozenset(counter(prefix, mark) for mark in marks for prefix in ("new", "in")),
        frozenset(),
        sets,
        {limit_name(plan): mbit(plan.mbit_max) for plan in plans if plan.mbit_max},
        maps={flows_map(protocol): _map(family) for protocol in protocols},
        keeping=keeping if family.version == 6 else {},
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


def _keep(protocol: str, seconds: int) -> str:
    return f"keep_{protocol}_{seconds}"


def _forget(protocol: str) -> str:
    return f"forget_{protocol}"


def _flow(protocol: str, family: Family) -> str:
    return f"{family.ip} saddr . {protocol} sport . {family.ip} daddr . {protocol} dport"


def _map(family: Family) -> str:
    socket = f"{family.address} . inet_service"
    return f"type {socket} . {socket} : mark; flags dynamic,timeout; size {FLOWS_MAX};"


def _kept(chain: str, flows: str, seconds: int, family: Family) -> str:
    """IPv6's rule is made by `shoal.engine.guard.flow_rules`."""
    if family.version == 6:
        return ""
    flow = _flow(flows.removeprefix("flows_"), family)
    return (
        f"update @{flows} {{ {flow} timeout {seconds}s : meta mark }}"
        if seconds
        else f"delete @{flows} {{ {flow} : meta mark }}"
    )


def _serve(plan: Plan, idle_s: int, family: Family, before: Sequence[str]) -> Iterator[str]:
    """From the first rule on a client's packet to the choice of its server."""
    protocol = plan.protocol
    if protocol == "tcp":
        yield from (f"tcp flags & (syn | ack) == syn jump {chain}" for chain in before)
    known = f"{_flow(protocol, family)} map @{flows_map(protocol)}"
    yield f"meta mark set {known} jump {_known(protocol, idle_s)}"
    if not plan.taking:
        return  # who is not known is refused by the engine's own IP
    if protocol == "udp":
        yield from (f"jump {chain}" for chain in before)
    yield f"jump {_forget(protocol)}"
    yield f"meta mark set {chosen(plan, family.ip)}"
    if caps := ", ".join(f"{one.mark:#x} : jump {cap_of(one)}" for one in plan.taking if one.rate is not None):
        yield f"{'tcp flags & (syn | ack) == syn ' if protocol == 'tcp' else ''}meta mark vmap {{ {caps} }}"
    yield f"jump {_keep(protocol, SYN_S if protocol == 'tcp' else idle_s)}"
    yield f"counter name meta mark map {{ {by_mark('new', (one.mark for one in plan.taking))} }}"
    yield f"goto send_{protocol}"


def _go_on(targets: Iterable[Target], protocol: str, idle_s: int) -> Iterator[str]:
    if protocol == "tcp":
        yield f"meta mark & {CLOSING:#x} != 0 goto closing_tcp"
    yield f"meta mark != {{ {', '.join(f'{one.mark:#x}' for one in targets)} }} return"
    yield f"jump {_keep(protocol, idle_s)}"
    yield f"goto send_{protocol}"


def _over() -> Iterator[str]:
    yield f"meta mark set meta mark | {CLOSING:#x}"
    yield f"jump {_forget('tcp')}"
    yield f"jump {_keep('tcp', FIN_S)}"
    yield from _open_again()


def _closing() -> Iterator[str]:
    yield f"jump {_keep('tcp', FIN_S)}"
    yield from _open_again()
    yield "goto send_tcp"


def _open_again() -> Iterator[str]:
    yield f"meta mark set meta mark & {CLOSING ^ 0xFFFFFFFF:#x}"


def _send(plans: Sequence[Plan], targets: Sequence[Target], protocol: str, family: Family) -> Iterator[str]:
    if limited := throughput(plans, "meta mark"):
        yield limited
    yield f"counter name meta mark map {{ {by_mark('in', (one.mark for one in targets))} }}"
    if protocol == "tcp":
        yield "tcp flags & (fin | rst) != 0 jump over_tcp"
    to = ", ".join(f"{one.mark:#x} : {one.address}" for one in targets)
    by = ", ".join(f'{one.mark:#x} : "{one.interface}"' for one in targets)
    yield f"fwd {family.ip} to meta mark map {{ {to} }} device meta mark map {{ {by} }}"
