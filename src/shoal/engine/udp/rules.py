"""The plans as nftables rules: chains of one table, and its counters. Pure.

Only flows of UDP services are tracked; all else of the engine's (HAProxy's TCP above all) passes conntrack by. A flow's
mark names its server: rules, counters and deletion all go by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from .family import IPV4, Family
from .plan import OURS, Plan, Target

SEED = 0x5EED
"""Not that of the spreading over engines: an engine's share of one hash would be a part of the servers by the other."""


class Ruleset(msgspec.Struct, frozen=True):
    """``chains``: name -> (hook, rules); without a hook it is called by another. ``counters``: names. ``timeouts``:
    seconds that flows may be idle."""

    chains: dict[str, tuple[str, str]]
    counters: frozenset[str]
    timeouts: frozenset[int]


def ruleset(plans: Iterable[Plan], address: str, family: Family = IPV4) -> Ruleset:
    """``address``: the engine's own, which servers see as their client."""
    ip = family.ip
    plans = [plan for plan in plans if plan.targets]
    open_ = [plan for plan in plans if plan.taking]
    closed = [plan for plan in plans if not plan.taking]
    targets = {target.mark: target for plan in plans for target in plan.targets}
    sockets = ", ".join(dict.fromkeys(f"{t.address} . {t.port}" for t in targets.values()))
    chains: dict[str, tuple[str, str]] = {}
    if not plans:
        return Ruleset({}, frozenset(), frozenset())
    for plan in open_:
        for idle_s in sorted({ports.idle_s for ports in plan.ports}):
            chains[_chain(plan, idle_s)] = "", _choose(plan, idle_s, ip)
    chains["give"] = "", _give(targets.values(), ip)
    chains["raw_in"] = (
        "type filter hook prerouting priority raw",
        f"""{ip} daddr . udp dport {{ {_sockets(plans)} }} accept
        {ip} saddr . udp sport {{ {sockets} }} accept
        {family.errors} accept
        notrack""",
    )
    chains["raw_out"] = (
        "type filter hook output priority raw",
        f"{family.silent}\n        {ip} daddr . udp dport {{ {sockets} }} accept\n        notrack",
    )
    chains["closed"] = (
        "type filter hook prerouting priority mangle",
        f"ct state new {ip} daddr . udp dport {{ {_sockets(closed)} }} reject" if closed else "",
    )
    chains["arriving"] = (
        "type nat hook prerouting priority dstnat",
        f"{ip} daddr . udp dport vmap {{ {_dispatch(open_)} }}" if open_ else "",
    )
    chains["leaving"] = (
        "type nat hook postrouting priority srcnat",
        f"ct mark & {OURS:#x} == {OURS:#x} snat to {address}",
    )
    chains["passing"] = (
        "type filter hook forward priority filter; policy drop",
        "\n        ".join(
            f"ct direction {way} counter name ct mark map {{ {_counters(prefix, targets)} }} accept"
            for way, prefix in (("original", "in"), ("reply", "out"))
        ),
    )
    counters = frozenset(counter(prefix, mark) for mark in targets for prefix in ("new", "in", "out"))
    return Ruleset(chains, counters, frozenset(ports.idle_s for plan in plans for ports in plan.ports))


def counter(prefix: str, mark: int) -> str:
    """``new`` (its packets are flows), ``in`` or ``out``, of the server with this mark."""
    return f"{prefix}_{mark:08x}"


def timeout(idle_s: int) -> str:
    return f"idle_{idle_s}"


def _chain(plan: Plan, idle_s: int) -> str:
    digest = hashlib.blake2b(plan.service.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"s_{digest}_{idle_s}"


def _sockets(plans: Iterable[Plan]) -> str:
    return ", ".join(f"{p.address} . {_range(p.first, p.last)}" for plan in plans for p in plan.ports)


def _dispatch(plans: Iterable[Plan]) -> str:
    return ", ".join(
        f"{p.address} . {_range(p.first, p.last)} : goto {_chain(plan, p.idle_s)}" for plan in plans for p in plan.ports
    )


def _range(first: int, last: int) -> str:
    return f"{first}-{last}" if last > first else str(first)


def _choose(plan: Plan, idle_s: int, ip: str) -> str:
    size = len(plan.shares)
    way = {
        "turns": f"numgen inc mod {size}",
        "random": f"numgen random mod {size}",
        "saddr": f"jhash {ip} saddr mod {size} seed {SEED:#x}",
        "saddr and port": f"jhash {ip} saddr . udp sport mod {size} seed {SEED:#x}",
    }[plan.choice]
    chosen = f"{way} map {{ {_runs(plan.shares)} }}" if len(set(plan.shares)) > 1 else f"{plan.shares[0]:#x}"
    return f'ct timeout set "{timeout(idle_s)}"\n        ct mark set {chosen}\n        goto give'


def _runs(shares: Sequence[int]) -> str:
    """Equal neighbours in one element."""
    texts, at = [], 0
    for mark, run in groupby(shares):
        size = len(list(run))
        texts.append(f"{_range(at, at + size - 1)} : {mark:#x}")
        at += size
    return ", ".join(texts)


def _give(targets: Iterable[Target], ip: str) -> str:
    targets = list(targets)
    new = ", ".join(f'{t.mark:#x} : "{counter("new", t.mark)}"' for t in targets)
    to = ", ".join(f"{t.mark:#x} : {t.address} . {t.port}" for t in targets)
    return f"counter name ct mark map {{ {new} }}\n        meta l4proto udp dnat {ip} to ct mark map {{ {to} }}"


def _counters(prefix: str, marks: Iterable[int]) -> str:
    return ", ".join(f'{mark:#x} : "{counter(prefix, mark)}"' for mark in marks)
