"""BIRD's configuration: whom to speak with, and which VIPs each peer may hear of. Pure.

A VIP is announced while it is allowed here and its route is in the guard's table (`shoal.engine.guard.routes`): the
first changes with what is configured, the second with what lives.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from shoal.engine.guard.routes import TABLE
from shoal.wire.desired import Bgp, BgpPeer, Communities, Vip

CONNECT_DELAY_S = 1
ERROR_WAIT_S = (1, 5)
"""BIRD's own 60 to 300 s would leave a router that came back without routes for minutes."""
SCAN_S = 10
"""The kernel tells of each route at once; this is for words that were lost."""
ANY_DISTANCE = 64
UNSAFE = frozenset('"\n\r\0')
"""What a text of BIRD's can't hold."""


class Place:
    """Where the engine is. ``network``: its address and prefix; ``address6``: "" if it has none. ``beside``: its addresses in
    other networks, as ``10.0.0.2/24``."""

    def __init__(self, address: str, prefix_length: int, address6: str, beside: Iterable[str] = ()) -> None:
        self.address, self.address6 = address, address6
        self.network = ipaddress.ip_interface(f"{address}/{prefix_length or 32}").network
        self._beside = tuple(map(ipaddress.ip_interface, beside))

    def local(self, peer: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
        for own in self._beside:
            if peer in own.network:
                return str(own.ip)
        return self.address if peer.version == 4 else self.address6

    def is_near(self, peer: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        if any(peer in own.network for own in self._beside):
            return True
        return peer in self.network if peer.version == 4 else True


def name_of(bgp: int, peer: int) -> str:
    """BIRD's name of a session: by the place of its VRF and of the peer in it."""
    return f"peer{bgp}_{peer}"


def sessions(bgps: Sequence[Bgp], place: Place) -> dict[str, tuple[Bgp, BgpPeer]]:
    """By BIRD's name: the sessions that this engine can have. Without IPv6 here there are none with IPv6 routers."""
    return {
        name_of(i, j): (bgp, peer)
        for i, bgp in enumerate(bgps)
        for j, peer in enumerate(bgp.peers)
        if place.local(ipaddress.ip_address(peer.address))
    }


def config(bgps: Sequence[Bgp], vips: Iterable[Vip], place: Place) -> str:
    """The whole file. Raises ValueError for a text that BIRD's configuration can't hold."""
    routed = [vip for vip in vips if vip.route is not None]
    parts = [
        "log stderr all;",
        f"router id {place.address};",
        "timeformat log iso long ms;",
        "protocol device { }",
        *(_kernel(version) for version in (4, 6)),
        "protocol bfd { }",
    ]
    for name, (bgp, peer) in sessions(bgps, place).items():
        parts.append(_filter(name, bgp, peer, routed))
        parts.append(_session(name, bgp, peer, place))
    return "\n".join(parts) + "\n"


def _kernel(version: int) -> str:
    return f"""ipv{version} table drawn{version};
protocol kernel kernel{version} {{
  ipv{version} {{ table drawn{version}; import all; export none; }};
  learn;
  kernel table {TABLE};
  scan time {SCAN_S};
}}"""


def _session(name: str, bgp: Bgp, peer: BgpPeer, place: Place) -> str:
    address = ipaddress.ip_address(peer.address)
    own = peer.local_as == peer.remote_as
    distance = f"multihop {peer.multihop}" if peer.multihop else "direct"
    if own and not peer.multihop and not place.is_near(address):
        distance = f"multihop {ANY_DISTANCE}"
    lines = [
        f"local {place.local(address)} as {peer.local_as};",
        f"neighbor {address} as {peer.remote_as};",
        f"{distance};",
        f"hold time {peer.hold_s};",
        *([f"keepalive time {peer.keepalive_s};"] if peer.keepalive_s else []),
        f"connect retry time {peer.connect_s};",
        f"connect delay time {min(CONNECT_DELAY_S, peer.connect_s)};",
        "error wait time {}, {};".format(*ERROR_WAIT_S),
    ]
    if peer.secret:
        lines.append(f"password {_text(peer.secret)};")
    if peer.bfd:
        timers = f"min tx interval {bgp.bfd_tx_ms} ms; min rx interval {bgp.bfd_rx_ms} ms; multiplier {bgp.bfd_misses};"
        lines.append(f"bfd {{ {timers} }};")
    of = address.version
    lines.append(
        f"ipv{of} {{ table drawn{of}; import none; export filter to_{name}; next hop self; }};",
    )
    return f"protocol bgp {name} {{\n  " + "\n  ".join(lines) + "\n}"


def _filter(name: str, bgp: Bgp, peer: BgpPeer, vips: Iterable[Vip]) -> str:
    version = ipaddress.ip_address(peer.address).version
    told = [
        str(address)
        for vip in vips
        if peer.advertise and _told(bgp, peer, vip)
        for address in map(ipaddress.ip_address, _announced(vip))
        if address.version == version
    ]
    if not told:
        return f"filter to_{name} {{ reject; }}"
    length = 32 if version == 4 else 128
    lines = [f"if !(net ~ [ {', '.join(f'{address}/{length}' for address in sorted(told))} ]) then reject;"]
    lines += _communities(bgp, version)
    if bgp.local_preference and peer.local_as == peer.remote_as:
        lines.append(f"bgp_local_pref = {bgp.local_preference};")
    lines += [f"bgp_path.prepend({peer.local_as});"] * bgp.prepend
    lines.append("accept;")
    return f"filter to_{name} {{\n  " + "\n  ".join(lines) + "\n}"


def _told(bgp: Bgp, peer: BgpPeer, vip: Vip) -> bool:
    route = vip.route
    return route is not None and route.vrf == bgp.id and (not route.labels or peer.label in route.labels)


def _announced(vip: Vip) -> tuple[str, ...]:
    route = vip.route
    return ((*vip.addresses, *route.sources) if route.own else route.sources) if route is not None else ()


def _communities(bgp: Bgp, version: int) -> list[str]:
    def added(communities: Iterable[tuple[int, int]]) -> str:
        return " ".join(f"bgp_community.add(({high},{low}));" for high, low in communities)

    lines, otherwise = [], ""
    for some in bgp.by_address:
        if _version(some) == version:
            lines.append(f"{otherwise}if net.ip ~ [ {some.first}..{some.last} ] then {{ {added(some.communities)} }}")
            otherwise = "else "
    if bgp.communities:
        lines.append(f"{otherwise}{{ {added(bgp.communities)} }}" if lines else added(bgp.communities))
    return lines


def _version(some: Communities) -> int:
    return ipaddress.ip_address(some.first).version


def _text(text: str) -> str:
    if not UNSAFE.isdisjoint(text):
        raise ValueError("it has a quotation mark, a line break or a zero, which BIRD's configuration can't hold")
    return f'"{text}"'
