"""IPv4 and IPv6 beside each other in nftables: each has sets, maps and chains of its own, as types of keys differ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Family(NamedTuple):
    """``suffix`` ends the names of its sets, maps and chains; the rest are nft's words.

    ``errors``: packets that speak of a connection without being of it; ``udp``: UDP's packets; ``fragment``: packets whose
    ports are not all there.
    """

    suffix: str
    ip: str
    address: str
    errors: str
    udp: str
    fragment: str

    def flow(self, protocol: str) -> str:
        """What names a connection, or a flow of datagrams."""
        return f"{self.ip} saddr . {protocol} sport . {self.ip} daddr . {protocol} dport"


IPV4 = Family(
    "",
    "ip",
    "ipv4_addr",
    "ip protocol icmp icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    "ip protocol udp",
    "ip frag-off & 0x3fff != 0",
)
IPV6 = Family(
    "6",
    "ip6",
    "ipv6_addr",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
    "meta l4proto udp",
    "exthdr frag exists",
)
FAMILIES = (IPV4, IPV6)


def family_of(address: str) -> Family:
    return IPV6 if ":" in address else IPV4


def of(name: str, address: str) -> str:
    """The set, map or chain of that name for an address."""
    return name + family_of(address).suffix


def parted(name: str, addresses: Iterable[str]) -> dict[str, list[str]]:
    """Addresses by the set they belong to; every family is there."""
    found: dict[str, list[str]] = {name + family.suffix: [] for family in FAMILIES}
    for address in addresses:
        found[of(name, address)].append(address)
    return found
