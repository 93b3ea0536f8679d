"""Addresses for VIPs from configured networks (``auto_allocate_ip``)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shoal.errors import Refused

SCAN_MAX = 70_000
"""Addresses looked at before a network counts as full."""


def subnets(network: Mapping[str, Any]) -> Iterator[ipaddress.IPv4Network]:
    """The IPv4 subnets configured on a network."""
    for subnet in network.get("configured_subnets", ()):
        found = _subnet(subnet)
        if isinstance(found, ipaddress.IPv4Network):
            yield found


def _subnet(subnet: Mapping[str, Any]) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(f"{subnet['prefix']['ip_addr']['addr']}/{subnet['prefix']['mask']}", strict=False)


def pools(network: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """(first, last) of the ranges that VIPs may come from: static ranges, else whole subnets without their edges."""
    for subnet in network.get("configured_subnets", ()):
        ranges = [r["range"] for r in subnet.get("static_ip_ranges", ()) if "range" in r] or subnet.get(
            "static_ranges", ()
        )
        for one in ranges:
            yield int(ipaddress.ip_address(one["begin"]["addr"])), int(ipaddress.ip_address(one["end"]["addr"]))
        if not ranges:
            net = _subnet(subnet)
            yield int(net.network_address) + 1, int(net.broadcast_address) - 1


def allocate(network: Mapping[str, Any], used: Iterable[str]) -> str:
    """The lowest free address. Raises Refused when none is left, with how many are in use."""
    taken = {int(ipaddress.ip_address(address)) for address in used}
    looked = 0
    for first, last in pools(network):
        for number in range(first, last + 1):
            looked += 1
            if number not in taken:
                return str(ipaddress.ip_address(number))
            if looked > SCAN_MAX:
                break
    raise Refused(
        f"Network {network.get('name')} has no free address ({looked} looked at, all in use).",
        hint="Delete an unused VsVip, or give the network another subnet.",
    )
