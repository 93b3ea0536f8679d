"""What the controller keeps in the store beside intent: engines, placements, requests. One key each.

``/engine/<uuid>``, ``/placement/<group uuid>/<vip id>``, ``/request/<group uuid>/<request id>``,
``/rebalance/<group uuid>``, ``/upgrade/<group uuid>``, ``/floor/<vip id>``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from shoal.placement.model import Decision, Placement, Request

ENGINES = "/engine/"
PLACEMENTS = "/placement/"
REQUESTS = "/request/"
REBALANCES = "/rebalance/"
UPGRADES = "/upgrade/"
FLOORS = "/floor/"
RANK = "/rank"
DECISIONS_MAX = 8
"""Decisions kept per VIP: enough for one failover and its repair."""


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's life as far as it must survive a controller: made, first seen."""

    id: str
    name: str
    rank: int
    group: str
    host: str = ""
    avoid_hosts: tuple[str, ...] = ()
    """Any other one is better: they run engines of the VIP it is made for."""
    address: str = ""
    mac: str = ""
    created: bool = False
    """The cloud made it."""
    seen: bool = False
    """It has connected once."""
    created_at: float = 0.0
    made_in_s: float = 0.0
    """From the wish for it to its first contact; 0 = not known."""
    idle_since: float | None = None
    why: str = ""
    certificate: str = ""
    """Fingerprint of the one it may show; "" = any of ours in its name."""
    migrate_state: str = ""


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and when it was made."""

    at: float
    decision: Decision


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """An operation on a VIP, under way while ``state`` is empty (reference: elastic-ha 3.6)."""

    action: str
    """SCALE_OUT, SCALE_IN, MIGRATE_SCALEOUT, INITIAL_PLACEMENT, SE_REMOVED ..."""
    started_at: float
    request: str = ""
    """The operator's request; "" = the controller's own doing."""
    engine: str = ""
    """The one that joined or left, as far as there was one from the start."""
    state: str = ""
    """SCALEOUT_SUCCESS, SCALEIN_SUCCESS, MIGRATE_SUCCESS, SCALEOUT_ROLLBACK, SCALEIN_ERROR, MIGRATE_ERROR ..."""
    reason: str = ""
    ended_at: float = 0.0
    requested: int = 0
    assigned: int = 0


class VipRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A VIP's placement as last planned, with why."""

    id: str
    group: str
    placements: tuple[Placement, ...] = ()
    generation: int = 0
    succession: tuple[str, ...] = ()
    list_version: int = 0
    in_force: tuple[str, ...] = ()
    """The succession that was armed when this one was made, and rules until this one is armed."""
    in_force_version: int = 0
    """Its list version; 0 = none was."""
    user_factor: int = 0
    requested: int = 0
    scale_state: str = "SCALEOUT_AWAITING_SE_ASSIGNMENT"
    scale_reason: str = ""
    awaiting_since: float | None = None
    changed_at: float = 0.0
    elsewhere: bool = False
    """It was served before, by another group for all that is known, and has been nowhere in this one yet."""
    scaling: Scaling | None = None
    """The operation under way, or the last one."""
    last_scaling: Scaling | None = None
    """The one before it."""
    decisions: tuple[Noted, ...] = ()
    """Newest last, at most `DECISIONS_MAX`."""


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """Of a VIP that had a placement and has none now: where a next one goes on counting. Engines that could not be
    reached since may still go by the old one, and must not be the ones who know the newer."""

    vip: str
    generation: int
    list_version: int


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    request: Request
    user: str


class RebalanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The last change auto-rebalance made in a group: the next one is at least an interval away, whichever controller
    makes it."""

    group: str
    at: float
    vip: str
    request: str
    what: str
    why: str


class UpgradeStep(StrEnum):
    """What is done about an engine, in the words of a status."""

    EMPTY = "is being emptied"
    START = "is being started anew"
    FILL = "gets its share again"


class UpgradeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The engines of a group are started anew one after another, see `shoal.controller.upgrade`.

    ``engine``: whose turn it is ("" = nobody's yet), with the ``enable_state`` it had before and the ``incarnation`` it
    had when it was empty. ``suspended``: why it does not go on ("" = it does)."""

    group: str
    user: str
    at: float
    waiting: tuple[str, ...]
    done: tuple[str, ...] = ()
    engine: str = ""
    step: UpgradeStep = UpgradeStep.EMPTY
    enable_state: str = "SE_STATE_ENABLED"
    incarnation: str = ""
    suspended: str = ""


_Record = TypeVar("_Record", bound=msgspec.Struct)


def encode(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)


def decode(data: bytes, kind: type[_Record]) -> _Record:
    return msgspec.json.decode(data, type=kind)


def engine_key(engine: str) -> str:
    return f"{ENGINES}{engine}"


def placement_key(group: str, vip: str) -> str:
    return f"{PLACEMENTS}{group}/{vip}"


def request_key(group: str, request: str) -> str:
    return f"{REQUESTS}{group}/{request}"


def rebalance_key(group: str) -> str:
    return f"{REBALANCES}{group}"


def upgrade_key(group: str) -> str:
    return f"{UPGRADES}{group}"


def floor_key(vip: str) -> str:
    return f"{FLOORS}{vip}"
