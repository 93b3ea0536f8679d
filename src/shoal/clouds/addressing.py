"""Names and addresses of one Shoal on a machine, derived from its data directory. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shoal.errors import Invalid, Problem

SUBNETS = ipaddress.ip_network("100.64.0.0/10")
"""Shared address space (RFC 6598): unlikely to be in use beside Shoal."""
PREFIX_LENGTH = 20
VIP_PREFIX_LENGTHS = {4: (8, 30), 6: (16, 126)}
SUBNETS_COUNT = 2 ** (PREFIX_LENGTH - SUBNETS.prefixlen)
UNIQUE_LOCAL = ipaddress.ip_network("fd00::/8")
"""RFC 4193: 40 bits of one's own choice, then 16 of the subnet."""
PREFIX_LENGTH6 = 64
VIP_PREFIX_LENGTH6 = 112

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Addressing(msgspec.Struct, frozen=True, kw_only=True):
    """``id``: eight hex digits; ``subnet``: the fabric's /20, lower half nodes, upper half VIPs by default; ``subnet6``:
    its /64, whose first 65,536 addresses are nodes' and whose next are VIPs' by default."""

    id: str
    subnet: str
    vip_network: str
    subnet6: str
    vip_network6: str

    @classmethod
    def of(cls, data_dir: Path, vip_networks: Sequence[str] = (), shift: int = 0) -> Addressing:
        """``vip_networks``: at most one of each family. ``shift`` picks other subnets when the first are taken.

        Raises Invalid for a network that is none.
        """
        digest = hashlib.blake2b(str(data_dir.resolve()).encode(), digest_size=8).digest()
        index = (int.from_bytes(digest, "big") + shift) % SUBNETS_COUNT
        start = int(SUBNETS.network_address) + index * 2 ** (32 - PREFIX_LENGTH)
        subnet = ipaddress.IPv4Network((start, PREFIX_LENGTH))
        own = int(UNIQUE_LOCAL.network_address) + (int.from_bytes(digest[3:8], "big") << 80) + (shift << 64)
        subnet6 = ipaddress.IPv6Network((own, PREFIX_LENGTH6))
        vips6 = ipaddress.IPv6Network((own + 2 ** (128 - VIP_PREFIX_LENGTH6), VIP_PREFIX_LENGTH6))
        given = _parsed(vip_networks)
        return cls(
            id=digest[:4].hex(),
            subnet=str(subnet),
            vip_network=str(given.get(4, list(subnet.subnets())[1])),
            subnet6=str(subnet6),
            vip_network6=str(given.get(6, vips6)),
        )

    @property
    def networks(self) -> tuple[Network, Network]:
        """The fabric's own, of both families."""
        return self.network, self.network6

    @property
    def vip_networks(self) -> tuple[Network, Network]:
        return ipaddress.IPv4Network(self.vip_network), ipaddress.IPv6Network(self.vip_network6)

    @property
    def nodes(self) -> tuple[Network, Network]:
        """Where the addresses of nodes are: no VIP may be among them."""
        return next(self.network.subnets()), ipaddress.IPv6Network((self.network6.network_address, VIP_PREFIX_LENGTH6))

    @property
    def network6(self) -> ipaddress.IPv6Network:
        return ipaddress.IPv6Network(self.subnet6)

    @property
    def network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.subnet)

    @property
    def gateway(self) -> str:
        """The host's own address on the fabric; the controller listens there."""
        return str(self.network.network_address + 1)

    @property
    def prober(self) -> str:
        """From here VIPs are probed."""
        return str(self.network.network_address + 2)

    @property
    def fabric(self) -> str:
        return f"shoal-{self.id}-fabric"

    @property
    def host_link(self) -> str:
        """The one interface the host sees."""
        return f"sh{self.id}"

    @property
    def prefix(self) -> str:
        return f"shoal-{self.id}-"

    def namespace(self, node: str) -> str:
        return f"{self.prefix}{node}"

    def node_address(self, index: int) -> str:
        """Address of node ``index`` (0..): from .16 on, in the lower half."""
        if not 0 <= index < self.network.num_addresses // 2 - 32:
            raise ValueError(f"node {index} has no address")
        return str(self.network.network_address + 16 + index)

    def address6(self, address: str) -> str:
        """The IPv6 address of the node (or gateway) that has this IPv4 address."""
        offset = int(ipaddress.IPv4Address(address)) - int(self.network.network_address)
        return str(self.network6.network_address + offset)

    @staticmethod
    def mac(address: str) -> str:
        """A locally administered MAC from the address."""
        number = int(ipaddress.IPv4Address(address))
        return ":".join(f"{byte:02x}" for byte in (0x02, 0x5A, *number.to_bytes(4, "big")))


def _parsed(texts: Sequence[str]) -> dict[int, Network]:
    """By IP version."""
    found: dict[int, Network] = {}
    for text in texts:
        network = _network(text)
        if network.version in found:
            why = f"there is one of IPv{network.version} already: {found[network.version]}"
            hint = "Give one IPv4 and one IPv6 network at most."
            raise Invalid([Problem(path="--vip-network", value=text, why=why, hint=hint)])
        found[network.version] = network
    return found


def _network(text: str) -> Network:
    hint = "Give a network such as 10.9.0.0/24 or fd00:9::/112."
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise Invalid([Problem(path="--vip-network", value=text, why=str(error), hint=hint)]) from None
    shortest, longest = VIP_PREFIX_LENGTHS[network.version]
    first = network.network_address
    why = ""
    if network.is_multicast or network.is_loopback or network.is_link_local or first.packed[0] == 0:
        why = "its addresses can't be those of services"
    elif not shortest <= network.prefixlen <= longest:
        why = f"its prefix must be from /{shortest} to /{longest}"
    if why:
        raise Invalid([Problem(path="--vip-network", value=text, why=why, hint=hint)])
    return network
