"""What should happen, as the controller says (``serviceengine/<uuid>/forecast``). Pure."""

from __future__ import annotations

import msgspec

KINDS = ("kill", "freeze", "cut", "switchover")
WATCHED = ("http", "tls", "tcp")
"""What can be watched."""
CLAIM_MS = 20
"""The address is probed so long before it is claimed (docs/failover.md)."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    uuid: str
    host: str
    mac: str
    state: str
    connected: bool
    enabled: bool


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    serviceengine: str
    state: str


class Service(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    uuid: str


class Port(msgspec.Struct, frozen=True):
    """``speaks``: http, tls, tcp ..."""

    port: int
    speaks: str


class Vip(msgspec.Struct, frozen=True, kw_only=True):
    """One that the engine serves. ``taker``: who takes over when it fails, "" = nobody, or the engine is no owner."""

    vip: str
    address: str
    ports: tuple[Port, ...]
    virtualservices: tuple[Service, ...]
    requested: int
    placements: tuple[Placement, ...]
    succession: tuple[str, ...]
    armed: bool
    answers: str
    taker: str

    @property
    def owner(self) -> str:
        return self.succession[0] if self.succession else ""

    @property
    def probed(self) -> Port | None:
        """Where it is watched; None if nowhere."""
        return next((port for port in self.ports if port.speaks in WATCHED), None)

    @property
    def label(self) -> str:
        return f"{self.address} ({', '.join(service.name for service in self.virtualservices)})"

    @property
    def target(self) -> str:
        """Where a switchover brings it: the first successor that does not serve it yet."""
        holds = {placement.serviceengine for placement in self.placements}
        return next((engine for engine in self.succession if engine not in holds), "")


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    free: int
    needed: int
    kept: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """See `shoal.placement.whatif`; VIPs by address and names."""

    sentence: str
    interrupted: tuple[str, ...]
    waiting: tuple[str, ...]
    down: tuple[str, ...]
    reduced: tuple[str, ...]
    exposed: tuple[str, ...]
    moves: int
    engines_made: int
    buffer: Buffer


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    detection_ms: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    serviceengine: str
    uuid: str
    group: str
    failure_detection: Detection
    serviceengines: tuple[Engine, ...]
    requests: int
    unsettled: tuple[str, ...]
    vips: tuple[Vip, ...]
    outcome: Outcome
    moves_by: str = "migrate"
    """The operation that moves a VIP by plan: in a legacy pair it is ``switchover``."""

    @property
    def engine(self) -> Engine:
        return next(engine for engine in self.serviceengines if engine.uuid == self.uuid)

    def concerned(self, kind: str, service: str) -> list[Vip]:
        """VIPs that a drill is about: all of the engine's, but a switchover of one virtual service is about its own
        (``service`` is its uuid, "" = the engine is drilled)."""
        enabled = [vip for vip in self.vips if vip.virtualservices]
        if kind != "switchover":
            return enabled
        owned = [vip for vip in enabled if vip.owner == self.serviceengine]
        return [vip for vip in owned if not service or any(s.uuid == service for s in vip.virtualservices)]

    def whole(self) -> bool:
        """Nothing is down, being made, or on the move in the group."""
        up = all(engine.state == "up" and engine.connected for engine in self.serviceengines)
        return up and not self.unsettled and not self.requests

    def taker(self, vip: Vip, kind: str) -> str:
        """Who should answer for the VIP afterwards."""
        if vip.owner != self.serviceengine:
            return vip.owner
        return vip.target if kind == "switchover" else vip.taker

    def outage_ms(self, kind: str) -> float:
        """How long the VIP should not answer: a dead process is noticed at once, silence after the missed heartbeats."""
        return {"kill": CLAIM_MS, "switchover": 0.0}.get(kind, self.failure_detection.detection_ms + CLAIM_MS)
