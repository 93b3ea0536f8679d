"""Networks that a VIP needs its engines to be in: those it names, and a VLAN that its address is in.

A VLAN counts where an engine of the group has it: the others would answer for its VIPs where no client asks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache

from .model import Need, Vip

PARSED_MAX = 4096

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(PARSED_MAX)
def _parsed(network: str) -> Network:
    return ipaddress.ip_network(network, strict=False)


def overlap(one: str, other: str) -> bool:
    """Of networks as ``10.0.0.0/24``, or single addresses."""
    first, second = _parsed(one), _parsed(other)
    return first.version == second.version and first.overlaps(second)


def needs(vip: Vip, vlans: Collection[str]) -> tuple[Need, ...]:
    """``vlans``: the networks that engines of the group are in by a VLAN. Costs nothing where there are neither."""
    if not vlans:
        return vip.needs
    named = {subnet for need in vip.needs for subnet in need.subnets}
    found = sorted(vlan for vlan in vlans if vlan not in named and any(overlap(vlan, a) for a in vip.addresses))
    return (*vip.needs, *(Need(name=vlan, subnets=(vlan,)) for vlan in found))


def lacking(wanted: Iterable[Need], networks: Collection[str]) -> str:
    """The name of the first network that is needed and not among those; "" if none is."""
    for need in wanted:
        if not any(overlap(subnet, network) for subnet in need.subnets for network in networks):
            return need.name
    return ""
