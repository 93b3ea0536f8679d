"""What placement reads and what it answers: frozen values, nothing else. Times are seconds since the epoch.

The unit of placement is the VIP: all virtual services that share one live on the same engines
(reference: elastic-ha 3.4). A VIP takes one slot per enabled virtual service on each engine it is placed on.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class EngineState(StrEnum):
    CREATING = "creating"
    UP = "up"
    SUSPECT = "suspect"
    """Out of the controller's sight together with so many others that the fault may be the controller's own. It keeps
    what it holds and counts as before; it gets nothing new."""
    DOWN = "down"


class Role(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


class PlacementState(StrEnum):
    WAITING = "waiting"  # for an engine that is being created
    ASSIGNED = "assigned"  # the engine was told and has not acknowledged yet
    READY = "ready"  # the engine serves it
    DRAINING = "draining"  # leaving: keeps its connections until `vs_scalein_timeout`


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a ServiceEngineGroup that placement acts on, under their own names."""

    id: str
    name: str
    ha_mode: str = "HA_MODE_SHARED"
    algo: str = "PLACEMENT_ALGO_PACKED"
    buffer_se: int = 1
    max_se: int = 10
    min_se: int = 1
    max_vs_per_se: int = 10
    per_app: bool = False
    """``max_vs_per_se`` is 2 for that reason, whatever it is set to."""
    min_scaleout_per_vs: int = 1
    max_scaleout_per_vs: int = 4
    vs_host_redundancy: bool = True
    se_deprovision_delay_s: float = 7200.0
    """0 = never delete an idle engine."""
    vs_scaleout_timeout_s: float = 600.0
    """An engine that is to join for an operation and is not ready so long after it was told, won't be. 0 = no limit."""
    vs_scalein_timeout_s: float = 30.0
    vs_scalein_timeout_for_upgrade_s: float = 30.0
    upgrading: str = ""
    """The engine that is emptied now because it is being upgraded; "" = none."""
    can_create: bool = True
    """The cloud has write access."""
    create_retry_at: float = 0.0
    """No creation before this time (back-off after a failed one)."""
    networks_made: tuple[str, ...] = ()
    """In which an engine that is made will be by VLANs."""
    ever_used: bool = False
    """A VIP was placed here once (an unused group has no engines)."""
    vs_switchover_timeout_s: float = 300.0
    """Legacy groups: a standby that is not ready to be active by then won't be."""
    distribute_load: bool = False
    """Legacy groups: each VIP is active on the engine that its tag names; else all are active on one."""
    auto_redistribute: bool = False
    """Legacy groups: what a takeover has moved goes back to its side by itself."""

    def drain_s(self, engine: str) -> float:
        """How long connections to an engine that leaves a VIP may last."""
        return self.vs_scalein_timeout_for_upgrade_s if engine == self.upgrading else self.vs_scalein_timeout_s

    @property
    def drain_s_least(self) -> float:
        """The least that `drain_s` comes to for any engine."""
        least = self.vs_scalein_timeout_s
        return min(least, self.vs_scalein_timeout_for_upgrade_s) if self.upgrading else least


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    rank: int
    """Order of creation, unique for ever."""
    host: str
    state: EngineState
    enable_state: str = "SE_STATE_ENABLED"
    """What the operator has set; ``NO_GATEWAY`` if that is enabled and it has lost a gateway that others reach."""
    lost_gateway: str = ""
    idle_since: float | None = None
    """Since when it has held no placement; None while it holds one."""
    down_since: float | None = None
    migrate_state: str = ""
    """Of disabling: STARTED, FINISHED, FINISHED_WITH_FAILURE."""
    home: str = ""
    """The engines' own network, as ``10.0.0.0/20``; "" = not known."""
    vlans: tuple[str, ...] = ()
    """Other networks that it is in, each by a VLAN."""

    @property
    def networks(self) -> tuple[str, ...]:
        return (self.home, *self.vlans) if self.home else self.vlans


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """One VIP on one engine."""

    engine: str
    role: Role
    state: PlacementState
    since: float
    """When it entered ``state``."""
    request: str = ""
    """The operator's request that brought it (or, when DRAINING, that sends it away), if any."""
    drained: bool = False
    """For DRAINING: the engine says no connection is left."""


class Need(msgspec.Struct, frozen=True):
    """A network that an engine must be in to serve a VIP: one of its ``subnets`` is enough."""

    name: str
    subnets: tuple[str, ...]


class Vip(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """``<vsvip uuid>/<vip_id>``"""
    name: str
    slots: int
    created: float
    enabled: bool = True
    user_factor: int = 0
    """+1 per manual scale out, -1 per manual scale in."""
    placements: tuple[Placement, ...] = ()
    generation: int = 0
    """Grows with each change of owner."""
    succession: tuple[str, ...] = ()
    list_version: int = 0
    """Grows with each change of ``succession`` or of the members."""
    claimant: str = ""
    """The engine that reported to own it last, if it still does: an unplanned takeover is adopted, not undone."""
    awaiting_since: float | None = None
    armed: bool = True
    """Every engine of ``succession`` runs the present list, so that they take over by themselves."""
    requested: int = 0
    """How many engines it was to have by the last plan; 0 = never planned."""
    blocked: str = ""
    """Why it must not be placed anywhere yet: its address may still be answered for by an engine that had it for another
    VIP. It keeps the placements it has."""
    tag: str = "ACTIVE_STANDBY_SE_1"
    """Legacy groups that distribute their load: which engine of the pair it is to be active on."""
    addresses: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    """Networks that it, or its servers, are to be reached by (``placement_networks``); see `reach.needs`."""


class RequestKind(StrEnum):
    SCALE_OUT = "scaleout"
    SCALE_IN = "scalein"
    MIGRATE = "migrate"
    SWITCHOVER = "switchover"
    RETRY = "retryplacement"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's operation on a VIP. It stays until a plan reports it done or failed."""

    id: str
    kind: RequestKind
    vip: str
    at: float
    to_engine: str = ""
    to_new: bool = False
    to_host: str = ""
    from_engine: str = ""
    scalein_primary: bool = False


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast placements may be made anew in a storm (many engines lost at once)."""

    moves: int
    """So many now."""
    next_at: float
    """When there may be more."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One group, whole, as of store revision ``revision``. Tuples are in stable order (engines by rank, VIPs by
    creation then id); `plan` does not depend on it."""

    revision: int
    group: Group
    engines: tuple[Engine, ...] = ()
    vips: tuple[Vip, ...] = ()
    requests: tuple[Request, ...] = ()
    pace: Pace | None = None
    """None = no storm: as fast as it goes."""


# --- the answer ---


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """``rule`` is a stable word (no_room, host_in_use, disabled, down, holds_vip, draining ...), ``detail`` has the numbers."""

    engine: str
    rule: str
    detail: str
    load: int = 0


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An eligible engine and what it was ranked by: (idle first, slots used, rank)."""

    engine: str
    load: int
    capacity: int
    idle: bool


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Every engine of the group, judged for one VIP at one moment: those that can take it, best first, and the rule
    that excludes each other one."""

    candidates: tuple[Candidate, ...] = ()
    rejections: tuple[Rejection, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Why one thing was done (or could not be). The shell, API, console and event log print this same record.

    It is compact, whatever the size of the group: `explain.records` makes the `Judgement` it came from anew, out of
    the snapshot, and `remedy.remedies` finds what would help where nothing could be done.
    """

    vip: str
    what: str
    """place, wait, unplace, promote, drain, create_engine, retire_engine, none ..."""
    engine: str = ""
    why: str
    """One human sentence."""
    runner_up: str = ""
    """The best engine that could have taken the VIP instead; "" = none (or no engine was looked for)."""
    eligible: int = 0
    """How many engines could take it."""
    excluded: tuple[tuple[str, int], ...] = ()
    """(rule, how many engines it excluded), by rule. Empty when no engine was looked for."""
    revision: int = 0
    """The snapshot's it was made from."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A decision in full. ``judged`` is None when no engine was looked for (a promotion, a drain ...)."""

    decision: Decision
    judged: Judgement | None = None


class NewEngine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine to create. ``id`` is a placeholder (``new-1``...) that `VipPlan` placements refer to; the controller
    replaces it by the real id in the same commit."""

    id: str
    host: str = ""
    why: str
    avoid_hosts: tuple[str, ...] = ()
    """Hosts that already run an engine of the VIP it is made for: any other one is better (host redundancy)."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event to raise, by its standard name (``VS_AWAITING_SE``, ``VS_SE_HA_COMPROMISED`` ...)."""

    name: str
    vip: str = ""
    engine: str = ""
    detail: str = ""


class VipPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a VIP stands after the plan (all of it, not a difference)."""

    id: str
    placements: tuple[Placement, ...]
    generation: int
    succession: tuple[str, ...]
    list_version: int
    user_factor: int
    requested: int
    """How many engines it should have: min_scaleout_per_vs + user factor, bounded."""
    scale_state: str
    """``SCALEOUT_SUCCESS``, ``SCALEOUT_AWAITING_SE_ASSIGNMENT``, ``SCALEOUT_CREATING_SE``, ``SCALEOUT_RESOURCES`` ..."""
    scale_reason: str = ""
    awaiting_since: float | None = None


class RequestResult(msgspec.Struct, frozen=True, kw_only=True):
    request: str
    ok: bool
    message: str


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    """The N+M arithmetic in slots: ``free >= needed`` is the promise."""

    slots: int
    used: int
    free: int
    needed: int

    @property
    def kept(self) -> bool:
        return self.free >= self.needed


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, with reasons. Deterministic: the same snapshot and now give the same plan byte for byte."""

    group: str
    revision: int
    vips: tuple[VipPlan, ...]
    """Only the VIPs whose state changes, in the snapshot's order."""
    new_engines: tuple[NewEngine, ...] = ()
    retire_engines: tuple[str, ...] = ()
    engines_disabled: tuple[tuple[str, str], ...] = ()
    """(engine, migrate state) of engines whose disabling progressed: STARTED, FINISHED, FINISHED_WITH_FAILURE."""
    decisions: tuple[Decision, ...] = ()
    events: tuple[Event, ...] = ()
    results: tuple[RequestResult, ...] = ()
    buffer: Buffer
    moves: int = 0
    """Placements made anew that count against `Snapshot.pace`."""
    held: tuple[str, ...] = ()
    """VIPs that are to be placed anew and wait for their turn."""
    wake_at: float | None = None
    """When to plan again even if nothing changes (drain ends, retry, deprovision)."""
    sentence: str = ""
    """What this plan does and why, for a person."""

    @property
    def empty(self) -> bool:
        return not (self.vips or self.new_engines or self.retire_engines or self.results or self.engines_disabled)
