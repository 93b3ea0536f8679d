"""The working copy that the steps of a plan change: who holds what, what is left, what was decided."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .model import (
    Candidate,
    Decision,
    Engine,
    EngineState,
    Event,
    Judgement,
    NewEngine,
    Placement,
    PlacementState,
    Record,
    Request,
    RequestKind,
    RequestResult,
    Role,
    Snapshot,
    Vip,
)

ACTIVE = (PlacementState.WAITING, PlacementState.ASSIGNED, PlacementState.READY)
SERVING = (PlacementState.ASSIGNED, PlacementState.READY)
ENABLED = "SE_STATE_ENABLED"
FOR_PLACEMENT = "SE_STATE_DISABLED_FOR_PLACEMENT"
FORCE = "SE_STATE_DISABLED_FORCE"
LEAVING_STATES = ("SE_STATE_DISABLED", FORCE)


class Work(msgspec.Struct, kw_only=True):
    """One VIP as it will stand."""

    vip: Vip
    placements: list[Placement]
    generation: int
    user_factor: int
    requested: int
    succession: tuple[str, ...] = ()
    takeover: bool = False
    """Its owner has just died and an armed successor lives: it takes over by itself, and is adopted then."""
    shortfall: str = ""
    """Why it has fewer engines than requested."""
    held: bool = False
    """To be placed anew, when its turn comes (`Pace`)."""
    lost: int = 0
    """Placements that went with their engine since the last plan."""
    lost_primary: bool = False
    broken: dict[str, str] = {}
    """Request -> why the placement it brought is gone."""
    joining: str = ""
    """The engine a migrate brings in: an extra until the VIP has moved to it."""

    @property
    def active(self) -> list[Placement]:
        return [p for p in self.placements if p.state in ACTIVE]

    @property
    def serving(self) -> list[Placement]:
        return [p for p in self.placements if p.state in SERVING]

    @property
    def ready(self) -> list[Placement]:
        return [p for p in self.placements if p.state is PlacementState.READY]

    @property
    def primary(self) -> Placement | None:
        primaries = (p for p in self.placements if p.role is Role.PRIMARY and p.state in ACTIVE)
        return next(primaries, None)

    def on(self, engine: str) -> Placement | None:
        return next((p for p in self.placements if p.engine == engine), None)


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """Where a VIP could go: as much as a choice needs, and a decision keeps."""

    best: Candidate | None = None
    """The eligible engine that ranks first."""
    second: Candidate | None = None
    same_host: Candidate | None = None
    """The best of those that only share a host with another engine of the VIP."""
    eligible: int = 0
    excluded: tuple[tuple[str, int], ...] = ()
    """(rule, engines), by rule."""
    judged: Judgement | None = None
    """Only for the VIP that is `Board.watched`."""


class Board:
    """All of a snapshot, in stable order whatever order it came in."""

    def __init__(self, snapshot: Snapshot, now: float, watched: str | None = None) -> None:
        """``watched``: the VIP ("" = the group) whose decisions are wanted in full, in `records`."""
        self.snapshot = snapshot
        self.watched = watched
        self.records: list[Record] = []
        self.group = snapshot.group
        self.now = now
        self.engines: dict[str, Engine] = {e.id: e for e in sorted(snapshot.engines, key=lambda e: (e.rank, e.id))}
        self.works: dict[str, Work] = {
            vip.id: Work(
                vip=vip,
                placements=list(vip.placements),
                generation=vip.generation,
                user_factor=vip.user_factor,
                requested=vip.requested,
            )
            for vip in sorted(snapshot.vips, key=lambda v: (v.created, v.id))
        }
        self.suspects: dict[str, None] = dict.fromkeys(
            engine.id for engine in self.engines.values() if engine.state is EngineState.SUSPECT
        )
        self.moves = 0
        """Placements made anew, as far as they are paced."""
        self.usable_ids: dict[str, None] = dict.fromkeys(engine.id for engine in self.usable())
        """Engines that may get placements, by rank; what a plan can't change."""
        self.load: dict[str, int] = dict.fromkeys(self.engines, 0)
        for work in self.works.values():
            for placement in work.placements:
                self.load[placement.engine] = self.load.get(placement.engine, 0) + work.vip.slots
        self.new: list[NewEngine] = []
        self.decisions: list[Decision] = []
        self.events: list[Event] = []
        self.results: list[RequestResult] = []
        self.migrate_states: list[tuple[str, str]] = []
        self.open: dict[str, Request] = {r.id: r for r in sorted(snapshot.requests, key=lambda r: (r.at, r.id))}
        """Requests without an answer yet."""
        self.retrying = any(r.kind is RequestKind.RETRY for r in snapshot.requests)

    # --- engines ---

    def up(self) -> list[Engine]:
        return [e for e in self.engines.values() if e.state is EngineState.UP]

    def is_up(self, engine: str) -> bool:
        found = self.engines.get(engine)
        return found is not None and found.state is EngineState.UP

    def creating(self) -> list[str]:
        """Engines on their way: being made already, or wanted by this plan."""
        made = [e.id for e in self.engines.values() if e.state is EngineState.CREATING]
        return made + [engine.id for engine in self.new]

    def name(self, engine: str) -> str:
        found = self.engines.get(engine)
        if found is not None:
            return found.name
        return "a new engine" if any(wanted.id == engine for wanted in self.new) else engine

    def host(self, engine: str) -> str:
        found = self.engines.get(engine)
        return found.host if found else ""

    def leaving(self, engine: str) -> bool:
        """The administrator wants everything off it; in grace only while all engines are in sight."""
        found = self.engines.get(engine)
        if found is None or found.enable_state not in LEAVING_STATES:
            return False
        return not self.suspects or found.enable_state == FORCE

    def usable(self) -> list[Engine]:
        """Engines that may get placements."""
        return [e for e in self.up() if e.enable_state == ENABLED]

    def reckoned(self) -> list[Engine]:
        """Engines whose slots count: those that may get placements, and those that could but for being out of sight."""
        seen = (EngineState.UP, EngineState.SUSPECT) if self.suspects else (EngineState.UP,)
        return [e for e in self.engines.values() if e.state in seen and e.enable_state == ENABLED]

    def out_of_sight(self, work: Work) -> bool:
        """Whether any engine that has the VIP, or would take it over, is suspect: then it is left as it is."""
        if not self.suspects:
            return False
        return any(p.engine in self.suspects for p in work.placements) or any(
            engine in self.suspects for engine in work.vip.succession
        )

    def free(self, engine: str) -> int:
        return self.group.max_vs_per_se - self.load.get(engine, 0)

    @property
    def count(self) -> int:
        """Engines that count against max_se: up (disabled too), suspect and on their way; failed ones don't."""
        return len(self.up()) + len(self.suspects) + len(self.creating())

    def create_refusal(self) -> str:
        """Why no engine can be made; "" if one can."""
        group = self.group
        if not group.can_create:
            return "the cloud gives no write access"
        if self.count >= group.max_se:
            return f"max_se {group.max_se} is reached"
        if self.now < group.create_retry_at and not self.retrying:
            return "the last creation failed and the next try is not due yet"
        return ""

    def create(self, why: str, host: str = "", avoid: Iterable[str] = ()) -> str:
        """Want an engine; returns its placeholder."""
        id = f"new-{len(self.new) + 1}"
        self.new.append(NewEngine(id=id, host=host, why=why, avoid_hosts=tuple(sorted(avoid))))
        self.load[id] = 0
        self.decide("", "create_engine", why, engine=id)
        return id

    # --- placements ---

    def put(self, work: Work, engine: str, *, request: str = "", state: PlacementState | None = None) -> None:
        """Place the VIP on an engine; the first one is the primary."""
        up = self.is_up(engine)
        role = Role.SECONDARY if work.primary else Role.PRIMARY
        state = state or (PlacementState.ASSIGNED if up else PlacementState.WAITING)
        work.placements.append(Placement(engine=engine, role=role, state=state, since=self.now, request=request))
        self.load[engine] = self.load.get(engine, 0) + work.vip.slots

    def may_move(self, work: Work) -> bool:
        """Whether a VIP that was placed before may be placed anew now; if not, it waits for its turn."""
        pace = self.snapshot.pace
        if pace is None or not work.vip.generation or self.moves < pace.moves:
            return True
        work.held = True
        work.shortfall = "waits for its turn: many engines were lost at once, so moves are paced (moves_per_minute_max)"
        return False

    def moved(self, work: Work) -> None:
        """It has been placed anew."""
        if self.snapshot.pace is not None and work.vip.generation:
            self.moves += 1

    def drop(self, work: Work, placement: Placement) -> None:
        work.placements.remove(placement)
        self.load[placement.engine] -= work.vip.slots

    def change(self, work: Work, engine: str, **fields: object) -> None:
        """Change the VIP's placement on ``engine``."""
        index = next(i for i, p in enumerate(work.placements) if p.engine == engine)
        work.placements[index] = msgspec.structs.replace(work.placements[index], **fields)

    def drain(self, work: Work, engine: str, request: str = "") -> None:
        """Let the VIP's placement on ``engine`` leave: in peace if it serves, at once if it never did."""
        held = work.on(engine)
        if held is None:
            return
        if held.state is PlacementState.WAITING:
            self.drop(work, held)
            return
        self.change(
            work,
            engine,
            state=PlacementState.DRAINING,
            role=Role.SECONDARY,
            since=self.now,
            drained=False,
            request=request or held.request,
        )

    def promote(self, work: Work, engine: str) -> None:
        """Make the VIP's placement on ``engine`` its primary (a new generation)."""
        for index, placement in enumerate(work.placements):
            role = Role.PRIMARY if placement.engine == engine else Role.SECONDARY
            if placement.role is not role:
                work.placements[index] = msgspec.structs.replace(placement, role=role)

    def decide(self, vip: str, what: str, why: str, *, engine: str = "", field: Field | None = None) -> None:
        """Note a decision. ``field``: what was looked at for it."""
        ranked = [c.engine for c in (field.best, field.second) if c is not None] if field else []
        decision = Decision(
            vip=vip,
            what=what,
            why=why,
            engine=engine,
            runner_up=next((other for other in ranked if other != engine), ""),
            eligible=field.eligible if field else 0,
            excluded=field.excluded if field else (),
            revision=self.snapshot.revision,
        )
        self.decisions.append(decision)
        if vip == self.watched:
            self.records.append(Record(decision=decision, judged=field.judged if field else None))

    def tell(self, name: str, detail: str, *, vip: str = "", engine: str = "") -> None:
        self.events.append(Event(name=name, vip=vip, engine=engine, detail=detail))

    def answer(self, request: Request, ok: bool, message: str) -> None:
        """Close a request."""
        self.open.pop(request.id, None)
        self.results.append(RequestResult(request=request.id, ok=ok, message=message))

    def hosts_of(self, work: Work, besides: Iterable[str] = ()) -> set[str]:
        skip = set(besides)
        return {host for p in work.active if p.engine not in skip and (host := self.host(p.engine))}
