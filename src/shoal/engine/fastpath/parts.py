"""What the rules of both ways of carrying are made of, by NAT (`rules`) and direct (`direct`). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import groupby

from shoal.wire.policy import Rule

from .family import Family
from .gate import gate, rate, refusal
from .plan import Plan, Target

SEED = 0x5EED
"""Not that of the spreading over engines: an engine's share of one hash would be a part of the servers by the other."""
MBIT_MAX = 100_000
"""More than a network gives, and about what the kernel can count in."""
BURST_BYTES_MAX = 10**9
BURST_SHARE = 10
"""Of a second's octets; at least what the kernel hands on as one packet, several times."""
BURST_BYTES_MIN = 262_144


def counter(prefix: str, mark: int) -> str:
    """``new`` (its packets are flows), ``in`` or ``out``, of the server with this mark."""
    return f"{prefix}_{mark:08x}"


def digest(*words: str) -> str:
    return hashlib.blake2b("\0".join(words).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def body(rules: Iterable[str]) -> str:
    """Of a chain."""
    return "\n        ".join(rules)


def port_range(first: int, last: int) -> str:
    return f"{first}-{last}" if last > first else str(first)


def chain_of(plan: Plan, idle_s: int) -> str:
    """The chain that chooses a server."""
    return f"s_{digest(plan.service, plan.protocol)}_{idle_s}"


def dispatch(plans: Iterable[Plan], protocol: str) -> str:
    """The elements of a map: a service's socket -> its chain."""
    return ", ".join(
        f"{p.address} . {port_range(p.first, p.last)} : goto {chain_of(plan, p.idle_s)}"
        for plan in plans
        if plan.protocol == protocol
        for p in plan.ports
    )


def bounds(target: Target) -> list[str]:
    """Of new connections to a server."""
    found = [f"ct count over {target.flows_max} {refusal(target.protocol)}"] if target.flows_max else []
    return found + ([f"{rate(target.rate)} {refusal(target.protocol)}"] if target.rate is not None else [])


def caps(targets: Iterable[Target]) -> str:
    """The elements of a map: a server that has bounds -> its chain."""
    return ", ".join(f"{one.mark:#x} : jump {cap_of(one)}" for one in targets if bounds(one))


def cap_of(target: Target) -> str:
    """The chain that keeps a server below its limits."""
    return f"n_{target.mark:08x}"


def gate_chains(
    rules: Sequence[Rule], protocol: str, family: Family, name: str, more: Sequence[str] = ()
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """The chains that a connection goes through, in their order, and their sets. ``more``: lines after all others."""
    made = gate(rules, protocol, family, f"c_{name}")
    chains = {f"g_{name}": made.connection, f"a_{name}": (*made.admission, *more)}
    return {chain: ("", body(found)) for chain, found in chains.items() if found}, made.sets


def limit_name(plan: Plan) -> str:
    """Of the limit that keeps the service below its ``mbit_max``."""
    return f"r_{digest(plan.service, plan.protocol, str(plan.mbit_max))}"


def throughput_limits(plans: Iterable[Plan]) -> dict[str, str]:
    return {limit_name(plan): _mbit(plan.mbit_max) for plan in plans if plan.mbit_max}


def _mbit(most: int) -> str:
    octets = min(most, MBIT_MAX) * 125_000
    return f"rate over {octets} bytes/second burst {min(max(octets // BURST_SHARE, BURST_BYTES_MIN), BURST_BYTES_MAX)} bytes;"


def chosen(plan: Plan, ip: str) -> str:
    """The mark of the server of a new flow."""
    size = len(plan.shares)
    client = f"{ip} saddr & {plan.mask}" if plan.mask else f"{ip} saddr"
    way = {
        "turns": f"numgen inc mod {size}",
        "random": f"numgen random mod {size}",
        "saddr": f"jhash {client} mod {size} seed {SEED:#x}",
        "saddr and port": f"jhash {ip} saddr . {plan.protocol} sport mod {size} seed {SEED:#x}",
    }[plan.choice]
    return f"{way} map {{ {_runs(plan.shares)} }}" if len(set(plan.shares)) > 1 else f"{plan.shares[0]:#x}"


def _runs(shares: Sequence[int]) -> str:
    """Equal neighbours in one element."""
    texts, at = [], 0
    for mark, run in groupby(shares):
        size = len(list(run))
        texts.append(f"{port_range(at, at + size - 1)} : {mark:#x}")
        at += size
    return ", ".join(texts)


def by_mark(prefix: str, marks: Iterable[int]) -> str:
    """The elements of a map: mark -> its counter."""
    return ", ".join(f'{mark:#x} : "{counter(prefix, mark)}"' for mark in marks)
