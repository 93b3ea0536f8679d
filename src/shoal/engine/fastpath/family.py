"""IPv4 and IPv6 each have a table of their own: the same rules in other words."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import NamedTuple


class Family(NamedTuple):
    """``errors``: the packets that speak of a flow without being of it. ``sysctls``: (to forward, not to) -> values."""

    version: int
    ip: str
    number: int
    errors: str
    sysctls: tuple[tuple[str, str, str], ...]
    """(name below net/, value while there is something to forward, value otherwise)."""
    silent: str = ""
    """What forwarding on one interface would say to clients, and is not to."""

    @property
    def address(self) -> str:
        """The type of an address in a set."""
        return "ipv4_addr" if self.version == 4 else "ipv6_addr"

    @property
    def table(self) -> str:
        return f"{self.ip} shoal_fast"


STRICT = (
    ("netfilter/nf_conntrack_tcp_loose", "0", "0"),
    ("netfilter/nf_conntrack_tcp_be_liberal", "1", "1"),
)
"""A TCP packet of no known connection begins none: its sender gets a reset, and no server a stranger's data. Windows are
not judged: what the kernel held for wrong would come out of the wrong side of the NAT."""
IPV4 = Family(
    4,
    "ip",
    socket.AF_INET,
    "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    (
        ("ipv4/ip_forward", "1", "0"),
        ("ipv4/conf/all/send_redirects", "0", "0"),
        ("ipv4/conf/{interface}/send_redirects", "0", "0"),
        *STRICT,
    ),
)
IPV6 = Family(
    6,
    "ip6",
    socket.AF_INET6,
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
    (("ipv6/conf/all/forwarding", "1", "0"), *STRICT),
    "icmpv6 type nd-redirect drop",
)
FAMILIES = (IPV4, IPV6)


def own_address6(interface: str) -> str:
    """The engine's own global IPv6 address: not one of a single host, as VIPs are; "" if there is none."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        digits, _, prefix, scope, _, name = line.split()
        if name == interface and scope == "00" and prefix != "80":
            return str(ipaddress.IPv6Address(bytes.fromhex(digits)))
    return ""


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address of a data network; None for a text that is none, or has a scope, which may be any text."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else found
