"""The messages between controller and engine, over mutual TLS: 4-byte big-endian length, then one msgpack message.

The engine connects outward to any controller node and says `Hello`; the controller answers `Welcome`, then a `State`
whenever the desired state changes. `shoal.wire.channel` carries them.
"""

from __future__ import annotations

import msgspec

from shoal.wire.capture import Captured, CaptureMore, CaptureStart, CaptureStop
from shoal.wire.client_logs import ClientLogs
from shoal.wire.counters import Counters
from shoal.wire.desired import Manifest
from shoal.wire.preflight import Probe, Probed
from shoal.wire.recorded import Recall, Recorded

WIRE_VERSION = 2
FRAME_BYTES_MAX = 64 * 1024 * 1024


class Claim(msgspec.Struct, frozen=True, order=True):
    """An assertion to own a VIP. Claims compare lexicographically; the higher one wins. ``rank`` makes them unequal."""

    generation: int
    count: int
    rank: int


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A VIP this engine answers for, and by which claim."""

    vip: str
    claim: Claim


# --- engine to controller ---


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First message. ``root`` is the desired state that this agent has put into effect ("" if none), ``kept`` the one that it
    began with: an earlier agent's, from the disk; ``incarnation`` changes at each start."""

    wire_version: int
    engine: str
    software: str
    incarnation: str
    address: str
    mac: str
    root: str
    kept: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    """(id, hash) of the parts it has, in force or not, so that only the others are sent."""
    owned: tuple[Owned, ...] = ()
    recorder: bool = False
    """It answers `Recall`."""
    captures: bool = False
    """It can capture packets: an older agent would take the request for garbage."""
    probes: bool = False
    """It answers `Probe`."""
    shares: dict[str, dict[str, int]] = {}
    """The last `Shares` it was told: a controller that has just started goes on from there."""


class Join(msgspec.Struct, frozen=True, kw_only=True, tag="join"):
    """First and only message of an engine that has a join token and no certificate yet. ``request``: PEM of a certificate
    request (PKCS #10) for a key that nobody else has."""

    wire_version: int
    engine: str
    request: bytes


class Fetch(msgspec.Struct, frozen=True, tag="fetch"):
    """Send me these parts."""

    ids: tuple[str, ...]


class PartProblem(msgspec.Struct, frozen=True):
    """A part the engine could not put into effect; the others are served all the same."""

    part: str
    why: str


class Applied(msgspec.Struct, frozen=True, kw_only=True, tag="applied"):
    """The engine runs ``root``. ``how``: the dearest way that was needed: none, map (a list in HAProxy's memory), runtime
    (commands), certificate (HAProxy's certificate store), reload, start."""

    root: str
    how: str
    took_ms: float
    problems: tuple[PartProblem, ...] = ()
    notes: tuple[PartProblem, ...] = ()
    """Parts that are served, but not quite as asked for."""
    turn: int = 0
    """That of the `State` it is: a root alone may have been sent before, with another one between. 0 = not known."""


class Ownership(msgspec.Struct, frozen=True, kw_only=True, tag="ownership"):
    """This engine took or gave up a VIP. ``from_engine`` is who had it before, as far as known.

    ``detected_ms``: from the last sign of life of the former owner to the decision (0 for a planned move).
    """

    vip: str
    owner: bool
    claim: Claim
    why: str
    from_engine: str = ""
    detected_ms: float = 0.0
    at: float = 0.0
    """Seconds since the epoch."""


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """One pool server as the engine's HAProxy sees it. ``state``: up, down, drain, maint, unknown."""

    service: str
    pool: str
    server: str
    state: str
    check: str = ""
    """The last check's result, e.g. ``L4CON Connection refused``."""
    connections: int = 0
    sessions_total: int = 0
    errors_total: int = 0


class ServiceStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one virtual service on this engine, since its HAProxy started."""

    service: str
    connections: int = 0
    connections_total: int = 0
    requests_total: int = 0
    errors_total: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class PeerState(msgspec.Struct, frozen=True, kw_only=True):
    engine: str
    alive: bool
    heard_ms_ago: float
    session: bool


class BgpPeerState(msgspec.Struct, frozen=True, kw_only=True):
    """A router as the engine's BGP speaker sees it. ``state`` as BIRD calls it (``Established``), ``since`` in seconds
    of the epoch, ``why``: its last error."""

    vrf: str
    address: str
    state: str
    routes: int = 0
    """That the router was told of."""
    bfd: str = ""
    """The BFD session's state, "" without one."""
    why: str = ""


class GatewayState(msgspec.Struct, frozen=True, kw_only=True):
    """A next hop that the engine watches. ``why``: what is wrong, "" while it answers."""

    address: str
    why: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """Sent at least every `STATUS_INTERVAL_S`, and at once when a server's state changes. Doubles as heartbeat."""

    root: str
    haproxy: bool
    link: bool
    owned: tuple[Owned, ...] = ()
    servers: tuple[ServerState, ...] = ()
    services: tuple[ServiceStats, ...] = ()
    peers: tuple[PeerState, ...] = ()
    cpu_percent: float = 0.0
    memory_mb: float = 0.0
    drained: tuple[str, ...] = ()
    """VIP ids this engine drains and has no connection left for."""
    bgp: tuple[BgpPeerState, ...] = ()
    gateways: tuple[GatewayState, ...] = ()
    """Those that were judged already."""
    partial: bool = False
    """``servers`` and ``services`` are left out: they are as in the last status that had them."""


STATUS_INTERVAL_S = 1.0


class Leaving(msgspec.Struct, frozen=True, tag="leaving"):
    """A clean goodbye: the agent stops on purpose."""

    why: str


# --- controller to engine ---


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """The answer to `Join`: PEM of the engine's certificate."""

    certificate: bytes


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    wire_version: int
    controller: str
    client_logs: bool = False
    """It takes `ClientLogs`: an older controller would take them for garbage."""


class State(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """The desired state. ``inline`` carries the encoded parts the controller knows the engine lacks: (id, bytes)."""

    manifest: Manifest
    inline: tuple[tuple[str, bytes], ...] = ()
    turn: int = 0
    """Grows with each that this controller sends."""


class Parts(msgspec.Struct, frozen=True, tag="parts"):
    """The answer to `Fetch`. A part that is gone meanwhile is left out; a newer `State` is on its way."""

    parts: tuple[tuple[str, bytes], ...]


EQUAL_SHARE = 1000


class Shares(msgspec.Struct, frozen=True, tag="shares"):
    """How much of a VIP's new LOAD_AWARE flows each engine should get: VIP id -> engine -> thousandths of an equal share.

    All of the VIPs that matter to the engine; who is not named gets an equal share. It is no part of the desired state:
    no claim, plan, acknowledgement or configuration depends on it, and whoever misses it serves all the same.
    """

    vips: dict[str, dict[str, int]]


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """The controller won't talk (unknown engine, wire version). The engine keeps serving and tries again later."""

    why: str


FromEngine = (
    Hello | Join | Fetch | Applied | Ownership | Status | Counters | ClientLogs | Recorded | Captured | Probed | Leaving
)
FromController = (
    Welcome | Joined | State | Parts | Shares | Recall | Probe | Rejected | CaptureStart | CaptureMore | CaptureStop
)
