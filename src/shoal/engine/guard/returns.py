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

import msgspec

from shoal.engine.guard.nft import Nft
from shoal.ownership.events import Mode
from shoal.ownership.state import State

log = logging.getLogger("shoal.guard.returns")

TABLE = "netdev shoal_returns"
SIOCGIFADDR, SIOCGIFNETMASK = 0x8915, 0x891B


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
        self._network = network(interface)
        self._wanted: bool | None = None
        self._gateway = ""
        self._macs: dict[str, str] = {}
        self._there: Ways | None = None
        self._epoch = -1
        # A guard that was killed left its table, for good reason; but nothing is held before it is claimed again.
        nft.tries(f"flush set {TABLE} held".encode())

    def want(self, wanted: bool, gateway: str, macs: Mapping[str, str]) -> None:
        """``macs``: the other engines', by id. Counts with the next `follow`."""
        if (wanted, gateway) != (self._wanted, self._gateway):
            self._nft.run(f"add table {TABLE}\ndelete table {TABLE}".encode())
            self._there = None
        self._wanted, self._gateway = wanted, gateway
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
            head = table(self._interface, self._network, self._gateway) if before is None else ""
            self._nft.run((head + _changes(before or NONE, ways)).encode() or b" ")
            self._there = ways

    def _ways(self, state: State, before: Ways) -> Ways:
        held: set[str] = set()
        primaries: dict[str, str] = {}
        vips: set[str] = set()
        for view in state.vips.values():
            addresses = [a for a in view.vip.addresses if ":" not in a]
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


def table(interface: str, network: str, gateway: str) -> str:
    """``network``: where clients are reached directly; all others by the gateway, if there is one."""
    beyond = f'fwd ip to {ipaddress.ip_address(gateway)} device "{interface}"' if gateway else "drop"
    return f"""
table {TABLE} {{
  set vips {{ type ipv4_addr; }}
  set held {{ type ipv4_addr; }}
  set peers {{ type ether_addr; }}
  map primaries {{ type ipv4_addr : ether_addr; }}
  chain hand_over {{
    ip saddr @held accept
    ether daddr set ip saddr map @primaries accept
    drop
  }}
  chain hand_on {{
    ip daddr {network} fwd ip to ip daddr device "{interface}"
    {beyond}
  }}
  chain egress {{
    type filter hook egress device "{interface}" priority 10; policy accept;
    ip saddr @vips goto hand_over
  }}
  chain ingress {{
    type filter hook ingress device "{interface}" priority -10; policy accept;
    ip saddr @held ether saddr @peers goto hand_on
  }}
}}
"""


def _changes(before: Ways, after: Ways) -> str:
    text = ""
    for name in ("vips", "peers", "held"):
        text += _set(name, getattr(before, name), getattr(after, name))
    return text + _set("primaries", _pairs(before.primaries), _pairs(after.primaries))


def _pairs(primaries: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{address} : {mac}" for address, mac in primaries.items())


def _set(name: str, before: Iterable[str], after: Iterable[str]) -> str:
    text = ""
    if gone := sorted(set(before) - set(after)):
        text += f"delete element {TABLE} {name} {{ {', '.join(gone)} }}\n"
    if new := sorted(set(after) - set(before)):
        text += f"add element {TABLE} {name} {{ {', '.join(new)} }}\n"
    return text


def network(interface: str) -> str:
    """The IPv4 network the interface is in. Raises OSError if it has no address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        request = struct.pack("256s", interface.encode()[:15])
        address, mask = (
            socket.inet_ntoa(fcntl.ioctl(asker, which, request)[20:24]) for which in (SIOCGIFADDR, SIOCGIFNETMASK)
        )
    return str(ipaddress.ip_network(f"{address}/{mask}", strict=False))
