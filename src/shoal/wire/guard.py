"""The messages between an engine's agent and its guard (the small process that owns the VIPs), on a Unix socket.

One msgspec JSON message a line. The guard is the server; it goes on when the agent dies.
"""

from __future__ import annotations

import msgspec

from shoal.wire.desired import Peer, Settings, Timing, Vip
from shoal.wire.messages import Owned, Ownership, PeerState, Shares


class GuardStart(msgspec.Struct, frozen=True, kw_only=True):
    """The guard's configuration file (``guard.json``), written by the agent before it starts the guard."""

    engine: str
    rank: int
    directory: str
    """Claims and the socket live here: ``claims.json``, ``guard.sock``."""
    interface: str
    address: str
    haproxy_socket: str
    """Unix socket of an HAProxy listener that answers any HTTP request with 200 while HAProxy works."""
    flows_max: int = 262_144
    """Connections a spreading owner remembers the engine of; beyond it new ones go by their bucket."""
    agent_command: tuple[str, ...] = ()
    """Starts the agent again when it has died; empty = nobody watches it."""
    recorder: str = ""
    """The folder of its flight recorder's file; "" = ``directory``."""


PortRange = tuple[int, int]
"""First and last."""


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """How new flows of a VIP are shared over its engines where that is not by load: ports whose clients stay on one
    engine whatever its load, found by the client's address alone, or by its port too. Ranges of one list don't touch."""

    vip: str
    by_source: tuple[PortRange, ...] = ()
    by_source_and_port: tuple[PortRange, ...] = ()


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A VLAN interface of the engine's; VIPs in one of its networks (``10.0.0.0/24``) belong there."""

    name: str
    networks: tuple[str, ...]


class Desired(msgspec.Struct, frozen=True, kw_only=True, tag="desired"):
    """Agent to guard: all that matters for ownership. Sent only after HAProxy serves the VIPs named here."""

    timing: Timing
    peers: tuple[Peer, ...]
    vips: tuple[Vip, ...]
    slots_max: int
    gateway: str = ""
    heartbeat_key: bytes = b""
    """Signs what guards say to one another; messages signed otherwise are dropped."""
    idle_s: int = 600
    """How long a spread flow lives without a packet: longer than any service here lets a client be silent."""
    turn: str = ""
    """Told back in `Report.told` when it has been done."""
    datagrams_idle_s: int = 10
    """The same for UDP."""
    return_through_primary: bool = False
    announce_every_s: int = 0
    sharing: tuple[Sharing, ...] = ()
    """Of VIPs with flows that are not shared by load."""
    carried: tuple[str, ...] = ()
    """VIPs with TCP that the kernel carries."""
    segments: tuple[Segment, ...] = ()

    @classmethod
    def of(
        cls,
        settings: Settings,
        vips: tuple[Vip, ...],
        sharing: tuple[Sharing, ...] = (),
        *,
        idle_s: int = 600,
        datagrams_idle_s: int = 10,
        carried: tuple[str, ...] = (),
        segments: tuple[Segment, ...] = (),
    ) -> Desired:
        return cls(
            timing=settings.timing,
            peers=settings.peers,
            vips=tuple(_with_sources(vip) for vip in vips),
            slots_max=settings.slots_max,
            gateway=settings.gateway,
            heartbeat_key=settings.heartbeat_key,
            datagrams_idle_s=datagrams_idle_s,
            sharing=sharing,
            carried=carried,
            segments=segments,
            idle_s=idle_s,
            return_through_primary=settings.return_through_primary,
            announce_every_s=settings.announce_every_s,
        )


NOTHING = Desired(timing=Timing(), peers=(), vips=(), slots_max=0)
"""Of an engine that is told of nothing at all, as one that is being deleted: it answers for no address any more."""


class Unready(msgspec.Struct, frozen=True, tag="unready"):
    """Agent to guard: VIPs that nothing behind is up of. Their routes are withdrawn; all else stays as it is."""

    vips: tuple[str, ...]


def _with_sources(vip: Vip) -> Vip:
    """To own one is to own the other."""
    return msgspec.structs.replace(vip, addresses=vip.owned) if vip.sources else vip


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """Guard to agent: when it connects, after each `Desired` and on each change."""

    owned: tuple[Owned, ...]
    peers: tuple[PeerState, ...]
    link: bool
    haproxy: bool
    isolated: bool = False
    alive_members: dict[str, tuple[str, ...]] = {}
    """VIP id -> the engines it spreads over now (for the VIPs it owns)."""
    told: str = ""
    """``turn`` of the last `Desired` that was done."""


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """Guard to agent, once a second while all else is as in its last `Report`."""

    peers: tuple[PeerState, ...]


class Changed(msgspec.Struct, frozen=True, kw_only=True, tag="changed"):
    """Guard to agent, at once: a VIP was taken or given up."""

    ownership: Ownership


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Agent to guard: resign every VIP (peers take over without waiting), then end."""


FromGuard = Report | Heard | Changed
ToGuard = Desired | Shares | Unready | Stop
