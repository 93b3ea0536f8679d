"""Static routes in the engine's kernel: those of its VRFs, known by their mark; what others put there is not touched."""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable, Iterator

from shoal.engine.guard.netlink import RTA_DST, RouteTable, attribute, attributes
from shoal.wire.desired import Routes, StaticRoute

log = logging.getLogger("shoal.static_routes")

METRIC = 0x5B
"""A route of the kernel's own to the same prefix goes first."""
RTN_UNICAST = 1
RT_TABLE_MAIN = 254
RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH = 4, 5, 6, 9
UNREACHABLE = (101, 113)  # ENETUNREACH, EHOSTUNREACH
HOP_HEAD = struct.Struct("=HBBi")
"""rtnexthop: length, flags, hops, interface."""

Hop = tuple[str, int]
"""(address, interface's index; 0 = whichever it is reached by)."""


class StaticRoutes:
    """`apply` says which there should be. Takes some 30 µs for each change, and for a look at what is there."""

    def __init__(self) -> None:
        self._table: _Table | None = None
        self._there: dict[str, tuple[Hop, ...]] = {}
        """Prefix -> hops, of ours."""

    def apply(self, wanted: Iterable[Routes]) -> dict[str, str]:
        """Exactly these. By part id, why not all of them are in force: those that can be are. Never raises."""
        parts = tuple(wanted)
        if not parts and not self._there and (self._table is not None or not self._begin()):
            return {}
        problems: dict[str, list[str]] = {f"routes/{part.id}": [] for part in parts}
        hops: dict[str, tuple[Hop, ...]] = {}
        of: dict[str, Routes] = {}
        for vrf, route in ((one, route) for one in parts for route in one.routes):
            told = problems[f"routes/{vrf.id}"]
            other = of.setdefault(route.prefix, vrf)
            if other is not vrf:
                why = f"VRF {other.name} has one to {route.prefix}, too, and an engine has one table of routes"
                told.append(f"route {route.id}: {why}")
                continue
            try:
                hops[route.prefix] = (*hops.get(route.prefix, ()), (route.next_hop, _index(route)))
            except OSError:
                told.append(f"route {route.id}: this engine has no interface {route.interface}")
        for prefix, why in self._follow(hops).items():
            problems[f"routes/{of[prefix].id}"].append(why)
        return {part: f"{'; '.join(whys)}." for part, whys in problems.items() if whys}

    def _begin(self) -> bool:
        """Whether an earlier agent has left any."""
        self._table = _Table()
        try:
            self._there = self._table.routes()
        except OSError as error:
            log.error("static routes can't be read: %s", error)
        return bool(self._there)

    def _follow(self, wanted: dict[str, tuple[Hop, ...]]) -> dict[str, str]:
        """By prefix, what went wrong."""
        table = self._table = self._table or _Table()
        found: dict[str, str] = {}
        try:
            self._there = table.routes()  # some may have gone with their interface
        except OSError as error:
            log.error("static routes can't be read: %s", error)
        for prefix in sorted(self._there.keys() - wanted.keys()):
            try:
                table.remove(prefix)
            except OSError as error:
                log.error("the route to %s can't be removed: %s", prefix, error)
        for prefix, hops in wanted.items():
            if _same(self._there.get(prefix, ()), hops):
                continue
            try:
                table.put(prefix, hops)
            except OSError as error:
                by = " and ".join(address for address, _ in hops)
                unreached = "no interface of this engine is in a network with it" if len(hops) == 1 else str(error)
                why = unreached if error.errno in UNREACHABLE else error.strerror
                found[prefix] = f"{prefix} can't be reached by {by}: {why}"
        return found


def _same(there: tuple[Hop, ...], wanted: tuple[Hop, ...]) -> bool:
    """The kernel always says which interface it is."""
    if len(there) != len(wanted):
        return False
    pairs = zip(sorted(there), sorted(wanted), strict=True)
    return all(a == b and index in (0, known) for (a, known), (b, index) in pairs)


def _index(route: StaticRoute) -> int:
    return socket.if_nametoindex(route.interface) if route.interface else 0


class _Table(RouteTable):
    """Raises OSError."""

    protocol = 0x5B

    def put(self, prefix: str, hops: tuple[Hop, ...]) -> None:
        self._replace(self._route(prefix) + _ways(hops))

    def remove(self, prefix: str) -> None:
        """One that is not there is fine."""
        self._delete(self._route(prefix))

    def routes(self) -> dict[str, tuple[Hop, ...]]:
        found: dict[str, tuple[Hop, ...]] = {}
        for head, values in self._ours():
            family, length, table = head[0], head[1], head[4]
            if table == RT_TABLE_MAIN:
                none = bytes(4 if family == socket.AF_INET else 16)
                prefix = f"{socket.inet_ntop(family, values.get(RTA_DST, none))}/{length}"
                found[prefix] = (*found.get(prefix, ()), *_hops(family, values))
        return found

    def _route(self, prefix: str) -> bytes:
        network = ipaddress.ip_network(prefix)
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        head = self._head(family, network.prefixlen, RT_TABLE_MAIN, RTN_UNICAST)
        head += attribute(RTA_DST, network.network_address.packed) if network.prefixlen else b""
        return head + attribute(RTA_PRIORITY, struct.pack("=I", METRIC))


def _ways(hops: tuple[Hop, ...]) -> bytes:
    if len(hops) == 1:
        ((address, index),) = hops
        way = attribute(RTA_GATEWAY, ipaddress.ip_address(address).packed)
        return way + (attribute(RTA_OIF, struct.pack("=i", index)) if index else b"")
    each = ((attribute(RTA_GATEWAY, ipaddress.ip_address(address).packed), index) for address, index in hops)
    return attribute(
        RTA_MULTIPATH, b"".join(HOP_HEAD.pack(HOP_HEAD.size + len(way), 0, 0, index) + way for way, index in each)
    )


def _hops(family: int, values: dict[int, bytes]) -> Iterator[Hop]:
    if RTA_GATEWAY in values:
        index = struct.unpack("=i", values[RTA_OIF])[0] if RTA_OIF in values else 0
        yield socket.inet_ntop(family, values[RTA_GATEWAY]), index
    data, at = values.get(RTA_MULTIPATH, b""), 0
    while at + HOP_HEAD.size <= len(data):
        length, _, _, index = HOP_HEAD.unpack_from(data, at)
        if length < HOP_HEAD.size:
            return
        way = attributes(data[at + HOP_HEAD.size : at + length])
        if RTA_GATEWAY in way:
            yield socket.inet_ntop(family, way[RTA_GATEWAY]), index
        at += (length + 3) & ~3
