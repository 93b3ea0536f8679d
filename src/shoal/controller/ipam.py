"""Addresses for VIPs from configured networks (``auto_allocate_ip``)."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from shoal.errors import Refused

SCAN_MAX = 70_000
"""Free addresses of a range looked at, none of which can be given away, before it counts as full."""
TYPES: dict[int, type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]] = {
    4: ipaddress.IPv4Address,
    6: ipaddress.IPv6Address,
}

Document = Mapping[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
FOR_ENGINES, FOR_VIPS = "STATIC_IPS_FOR_SE", "STATIC_IPS_FOR_VIP"
"""Types of ranges; those of a third one are for both."""
SUBNETS = {4: "subnet", 6: "subnet6"}
"""Where a reference to a network names one of its subnets."""
FIELDS = {4: "ip_address", 6: "ip6_address"}
"""Of a VIP: where its address of each version of IP is."""


def subnets(network: Document, version: int) -> Iterator[Network]:
    """The subnets of one version of IP that are configured on a network."""
    return (subnet for _, subnet in _configured(network, version))


def _configured(network: Document, version: int) -> Iterator[tuple[Document, Network]]:
    for document in network.get("configured_subnets", ()):
        subnet = prefix(document["prefix"])
        if subnet.version == version:
            yield document, subnet


def prefix(value: Document) -> Network:
    """Of an IpAddrPrefix."""
    return ipaddress.ip_network(f"{value['ip_addr']['addr']}/{value['mask']}", strict=False)


def pools(network: Document, version: int, only: Network | None = None) -> Iterator[tuple[int, int]]:
    """(first, last) of the ranges that VIPs may come from: static ranges, else whole subnets without their edges.
    ``only``: of this subnet."""
    for document, subnet in _configured(network, version):
        if only not in (None, subnet):
            continue
        typed = [one for one in document.get("static_ip_ranges") or () if "range" in one]
        ranges = [one["range"] for one in typed if one.get("type") != FOR_ENGINES]
        if not typed:
            ranges = list(document.get("static_ranges") or ())
        for one in ranges:
            yield _ends(one)
        if not typed and not ranges:
            yield int(subnet.network_address) + 1, int(subnet.broadcast_address) - 1


def engine_pools(networks: Iterable[Document], subnet: Network) -> Iterator[tuple[int, int]]:
    """(first, last) of the ranges of a subnet that engines may have their own addresses from, in any of the networks."""
    for network in networks:
        for document, configured in _configured(network, subnet.version):
            for one in document.get("static_ip_ranges") or () if configured == subnet else ():
                if "range" in one and one.get("type") != FOR_VIPS:
                    yield _ends(one["range"])


def _ends(one: Document) -> tuple[int, int]:
    return int(ipaddress.ip_address(one["begin"]["addr"])), int(ipaddress.ip_address(one["end"]["addr"]))


def addresses_of(vsvip: Document) -> list[str]:
    """Of both versions of IP, as they are stored: one spelling each."""
    return [vip[field]["addr"] for vip in vsvip.get("vip", ()) for field in FIELDS.values() if field in vip]


def allocate(
    network: Document,
    free: Callable[[int, int, int], Iterable[int]],
    version: int,
    only: Network | None = None,
    *,
    beside: Container[int] = (),
    kept: Container[int] = (),
) -> str:
    """The lowest free address of a version of IP; ``free(version, first, last)`` are those of a range that nobody has,
    ``beside`` others that are taken, ``kept`` those freed and not to be given away yet. Raises Refused when there is none,
    with how many there are."""
    kind = TYPES[version]
    freed = 0
    looked = 0
    for first, last in pools(network, version, only):
        looked += last - first + 1
        for number in itertools.islice(free(version, first, last), SCAN_MAX):
            if number in kept:
                freed += 1
            elif number not in beside:
                return str(kind(number))
    where = f"Network {network.get('name')}" + (f", subnet {only}," if only else "")
    if not looked:
        raise Refused(
            f"{where} has no IPv{version} subnet with addresses for VIPs.", hint="Add one to its configured_subnets."
        )
    if freed:
        raise Refused(
            f"{where} has no free IPv{version} address: of {looked}, {freed} were freed and engines that had them have "
            "not confirmed it yet.",
            hint="Try again when they have, or give the network another subnet.",
        )
    raise Refused(
        f"{where} has no free IPv{version} address ({looked} in all, all in use).",
        hint="Delete an unused VsVip, or give the network another subnet.",
    )
