"""Names and addresses of one Shoal on a machine, derived from its data directory. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path

import msgspec

from shoal.errors import Invalid, Problem

SUBNETS = ipaddress.ip_network("100.64.0.0/10")
"""Shared address space (RFC 6598): unlikely to be in use beside Shoal."""
PREFIX_LENGTH = 20
VIP_PREFIX_LENGTH_MIN, VIP_PREFIX_LENGTH_MAX = 8, 30
SUBNETS_COUNT = 2 ** (PREFIX_LENGTH - SUBNETS.prefixlen)


class Addressing(msgspec.Struct, frozen=True, kw_only=True):
    """``id``: eight hex digits; ``subnet``: the fabric's /20, lower half nodes, upper half VIPs by default."""

    id: str
    subnet: str
    vip_network: str

    @classmethod
    def of(cls, data_dir: Path, vip_network: str | None = None, shift: int = 0) -> Addressing:
        """``shift`` picks another subnet when the first is taken. Raises Invalid for a network that is none."""
        digest = hashlib.blake2b(str(data_dir.resolve()).encode(), digest_size=8).digest()
        index = (int.from_bytes(digest, "big") + shift) % SUBNETS_COUNT
        start = int(SUBNETS.network_address) + index * 2 ** (32 - PREFIX_LENGTH)
        subnet = ipaddress.ip_network((start, PREFIX_LENGTH))
        vips = _parsed(vip_network) if vip_network else list(subnet.subnets())[1]
        return cls(id=digest[:4].hex(), subnet=str(subnet), vip_network=str(vips))

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

    @staticmethod
    def mac(address: str) -> str:
        """A locally administered MAC from the address."""
        number = int(ipaddress.IPv4Address(address))
        return ":".join(f"{byte:02x}" for byte in (0x02, 0x5A, *number.to_bytes(4, "big")))


def _parsed(text: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        problem = Problem(path="--vip-network", value=text, why=str(error), hint="Give a network such as 10.9.0.0/24.")
        raise Invalid([problem]) from None
    why = ""
    if network.is_multicast or network.is_loopback or network.is_link_local or network.network_address.packed[0] == 0:
        why = "its addresses can't be those of services"
    elif network.prefixlen < VIP_PREFIX_LENGTH_MIN or network.prefixlen > VIP_PREFIX_LENGTH_MAX:
        why = f"its prefix must be from /{VIP_PREFIX_LENGTH_MIN} to /{VIP_PREFIX_LENGTH_MAX}"
    if why:
        raise Invalid([Problem(path="--vip-network", value=text, why=why, hint="Give a network such as 10.9.0.0/24.")])
    return network
