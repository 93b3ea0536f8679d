"""Replies by way of the primary (``se_tunnel_mode`` 1), for networks in which one address must speak from one MAC.

A secondary's kernel hands every packet that leaves from a VIP to the primary's MAC; the primary's hands it on to the
client's next hop, from its own MAC. The table exists only where it is wanted. A secondary that knows no primary is silent:
the client's TCP sends again.
"""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from shoal.engine.guard.family import FAMILIES, IPV4, IPV6, Family, parted
from shoal.engine.guard.nft import NEIGHBOUR_DISCOVERY, Nft, set_batch
from shoal.ownership.events import Mode
from shoal.ownership.state import State

log = logging.getLogger("shoal.guard.returns")

TABLE = "netdev shoal_returns"
SIOCGIFADDR, SIOCGIFNETMASK = 0x8915, 0x891B
IF_INET6, IPV6_ROUTE = Path("/proc/net/if_inet6"), Path("/proc/net/ipv6_route")


class Ways(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the kernel. ``held``: addresses this engine is the primary of; ``primaries``: address -> the MAC of
    another one that is."""

    vips: frozenset[str] = frozenset()
    peers: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    primaries: dict[str, str] = {}


NONE = Ways()


class Returns:
    """``want`` says between whom; `follow` keeps up with who owns what."""

    def __init__(self, nft: Nft, interface: str) -> None:
        self._nft = nft
        self._interface = interface
        self._wanted: bool | None = None
        self._gateway = ""
        self._macs: dict[str, str] = {}
        self._direct: frozenset[str] = frozenset()
        self._there: Ways | None = None
        self._epoch = -1
        # A guard that was killed left its table, for good reason; but nothing is held before it is claimed again.
        nft.tries(f"flush set {TABLE} held\nflush set {TABLE} held6".encode())

    def want(self, wanted: bool, gateway: str, macs: Mapping[str, str], direct: frozenset[str] = frozenset()) -> None:
        """``macs``: the other engines', by id; ``direct``: addresses whose replies go straight all the same. Counts with the
        next `follow`."""
        if (wanted, gateway) != (self._wanted, self._gateway):
            self._nft.run(f"add table {TABLE}\ndelete table {TABLE}".encode())
            self._there = None
        self._wanted, self._gateway, self._direct = wanted, gateway, direct
        self._macs = {engine: mac.lower() for engine, mac in macs.items() if mac}
        self._epoch = -1

    def follow(self, state: State) -> None:
        """Before the effects of a step are carried out. Costs nothing while nobody takes or gives up a VIP."""
        if not self._wanted or state.epoch == self._epoch:
            return
        self._epoch = state.epoch
        before = self._there
        ways = self._ways(state, before or NONE)
        if ways != before:
            head = "" if before is not None else table(self._interface, self._reaches())
            self._nft.run((head + _changes(before or NONE, ways)).encode() or b" ")
            self._there = ways

    def _reaches(self) -> dict[Family, Reach]:
        return {IPV4: reach4(self._interface, self._gateway), IPV6: reach6(self._interface)}

    def _ways(self, state: State, before: Ways) -> Ways:
        held: set[str] = set()
        primaries: dict[str, str] = {}
        vips: set[str] = set()
        for view in state.vips.values():
            if view.vip.ecmp:
                continue  # each engine speaks for itself
            addresses = [address for address in view.vip.addresses if address not in self._direct]
            vips.update(addresses)
            for address in addresses:
                if view.mode is Mode.HELD:
                    held.add(address)
                    continue
                mac = self._macs.get(view.holder, before.primaries.get(address, ""))  # until the next one is known
                if mac:
                    primaries[address] = mac
        return Ways(
            vips=frozenset(vips), peers=frozenset(self._macs.values()), held=frozenset(held), primaries=primaries
        )


class Reach(msgspec.Struct, frozen=True):
    """Where clients of one family are reached directly, and by which gateway all others are, if there is one."""

    networks: tuple[str, ...]
    gateway: str = ""


def table(interface: str, reaches: Mapping[Family, Reach]) -> str:
    return (
        f"table {TABLE} {{\n  set peers {{ type ether_addr; }}\n"
        + "".join(_of_family(family, interface, reaches.get(family, Reach(()))) for family in FAMILIES)
        + f"""
  chain egress {{
    type filter hook egress device "{interface}" priority 10; policy accept;
    ip saddr @vips goto hand_over
    ip6 saddr @vips6 goto hand_over6
  }}
  chain ingress {{
    type filter hook ingress device "{interface}" priority -10; policy accept;
    ip saddr @held ether saddr @peers goto hand_on
    ip6 saddr @held6 ether saddr @peers goto hand_on6
  }}
}}
"""
    )


def _of_family(family: Family, interface: str, reach: Reach) -> str:
    of, ip = family.suffix, family.ip
    near = "".join(
        f'{ip} daddr {network} fwd {ip} to {ip} daddr device "{interface}"\n    ' for network in reach.networks
    )
    beyond = f'fwd {ip} to {reach.gateway} device "{interface}"' if reach.gateway else "drop"
    discovery = f"{NEIGHBOUR_DISCOVERY} accept" if family is IPV6 else ""
    return f"""
  set vips{of} {{ type {family.address}; }}
  set held{of} {{ type {family.address}; }}
  map primaries{of} {{ type {family.address} : ether_addr; }}
  chain hand_over{of} {{
    {discovery}
    {ip} saddr @held{of} accept
    ether daddr set {ip} saddr map @primaries{of} accept
    drop
  }}
  chain hand_on{of} {{
    {near}{beyond}
  }}
"""


def _changes(before: Ways, after: Ways) -> str:
    text = set_batch("peers", before.peers, after.peers, TABLE)
    for name in ("vips", "held"):
        old, new = parted(name, getattr(before, name)), parted(name, getattr(after, name))
        text += "".join(set_batch(of_family, old[of_family], new[of_family], TABLE) for of_family in new)
    old, new = parted("primaries", before.primaries), parted("primaries", after.primaries)
    for name in new:
        text += set_batch(name, _pairs(before, old[name]), _pairs(after, new[name]), TABLE)
    return text


def _pairs(ways: Ways, addresses: Iterable[str]) -> list[str]:
    return [f"{address} : {ways.primaries[address]}" for address in addresses]


def reach4(interface: str, gateway: str) -> Reach:
    """The IPv4 network the interface is in. Raises OSError if it has no address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        request = struct.pack("256s", interface.encode()[:15])
        address, mask = (
            socket.inet_ntoa(fcntl.ioctl(asker, which, request)[20:24]) for which in (SIOCGIFADDR, SIOCGIFNETMASK)
        )
    return Reach((str(ipaddress.ip_network(f"{address}/{mask}", strict=False)),), gateway)


def reach6(interface: str) -> Reach:
    """The interface's IPv6 networks and its default route, from proc(5); none where the kernel has no IPv6."""
    try:
        addresses = [line.split() for line in IF_INET6.read_text().splitlines()]
        routes = [line.split() for line in IPV6_ROUTE.read_text().splitlines()]
    except OSError:
        return Reach(())
    found = {
        ipaddress.IPv6Network((int(digits, 16), int(length, 16)), strict=False)
        for digits, _, length, _, _, name in addresses
        if name == interface and int(length, 16) < 128
    }
    gateways = [
        str(ipaddress.IPv6Address(int(via, 16)))
        for target, length, _, _, via, *_, name in routes
        if name == interface and int(target, 16) == int(length, 16) == 0 and int(via, 16)
    ]
    return Reach(tuple(map(str, sorted(found))), next(iter(gateways), ""))
