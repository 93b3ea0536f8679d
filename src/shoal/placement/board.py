"""The working copy that the steps of a plan change: who holds what, what is left, what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from . import reach
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
from .standing import ACTIVE as ACTIVE
from .standing import ENABLED as ENABLED
from .standing import FOR_PLACEMENT as FOR_PLACEMENT
from .standing import FORCE as FORCE
from .standing import LEAVING_STATES as LEAVING_STATES
from .standing import Standing, turn

SERVING = (PlacementState.ASSIGNED, PlacementState.READY)
AFTER_ALL = 1 << 40
"""Ranks of engines that a plan wants: after those that are there."""


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
    same: bool = False
    """The plan leaves it as it was."""

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


class Deal(msgspec.Struct, frozen=True):
    """The succession of all VIPs of one owner; see `succession`."""

    works: tuple[Work, ...]
    needs: Mapping[str, int]
    """Engine -> free slots that it counts on."""
    complete: bool
    """Nothing is left to wish: no room that comes free elsewhere would change it."""


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
    """A group and the VIPs in question, in stable order whatever order they came in. `close` gives the standing back."""

    def __init__(
        self, group: Snapshot | Standing, now: float, watched: str | None = None, vips: Iterable[str] | None = None
    ) -> None:
        """``watched``: the VIP ("" = the group) whose decisions are wanted in full, in `records`. ``vips``: those in
        question; None = all."""
        self.standing = group if isinstance(group, Standing) else Standing(group)
        standing = self.standing
        self.watched = watched
        self.records: list[Record] = []
        self.group = standing.group
        self.now = now
        self.engines = standing.engines
        asked = standing.vips.values() if vips is None else (standing.vips[vip] for vip in vips)
        self.works: dict[str, Work] = {vip.id: _work(vip) for vip in sorted(asked, key=turn)}
        """The VIPs in question: those that may have to change. Nothing is to be done for any other."""
        self.others: dict[str, Work] = {}
        """VIPs of which only the succession is looked at."""
        self.load = standing.load
        self.new: list[NewEngine] = []
        self.decisions: list[Decision] = []
        self.events: list[Event] = []
        self.results: list[RequestResult] = []
        self.migrate_states: list[tuple[str, str]] = []
        self.open: dict[str, Request] = {r.id: r for r in standing.requests}
        """Requests without an answer yet."""
        self.suspects = standing.suspects
        self.moves = 0
        """Placements made anew, as far as they are paced."""
        self.loads_before: dict[str, int] = {}
        """Of engines whose load the plan changes."""
        self.deals: dict[str, Deal] = {}
        """By owner."""
        self._counted: dict[str, int] = {}
        """Engine -> slots that successions of this plan count on, beyond those before."""
        self.refused: dict[object, tuple[Field, str]] = {}
        """What VIPs have in common that can go nowhere, as long as no room changes: what was looked at, and why."""
        self._names: dict[str, None] = {}

    @property
    def touched(self) -> bool:
        """Rooms are not what they were before the plan."""
        return bool(self.loads_before or self._counted)

    def close(self) -> None:
        """Leave the standing as it was before the plan."""
        for engine, slots in self._counted.items():
            self.standing.count_on(engine, -slots)
        for engine, load in self.loads_before.items():
            self.standing.set_load(engine, load)
        for wanted in self.new:
            self.standing.arriving.drop(wanted.id)
            self.load.pop(wanted.id, None)

    def other(self, vip: str) -> Work:
        """A VIP that is not in question, to look at its succession."""
        found = self.others.get(vip)
        if found is None:
            found = self.others[vip] = _work(self.standing.vips[vip])
        return found

    # --- engines ---

    def is_up(self, engine: str) -> bool:
        found = self.engines.get(engine)
        return found is not None and found.state is EngineState.UP

    @property
    def up_count(self) -> int:
        return self.standing.states[EngineState.UP]

    @property
    def usable_count(self) -> int:
        """Engines that may get placements."""
        return len(self.standing.roomy)

    @property
    def reckoned_count(self) -> int:
        """Engines whose slots count: those that may get placements, and those that could but for being out of sight."""
        return self.usable_count + sum(self.engines[e].enable_state == ENABLED for e in self.suspects)

    def reckoned(self) -> list[Engine]:
        """The same, by rank."""
        suspects = [e for e in self.suspects if self.engines[e].enable_state == ENABLED]
        return [e for e in self.engines.values() if e.id in self.standing.roomy or e.id in suspects]

    def up(self) -> list[Engine]:
        return [e for e in self.engines.values() if e.state is EngineState.UP]

    def usable(self) -> list[Engine]:
        """Engines that may get placements, by rank. Takes a look at each engine, like `up` and `creating`."""
        return [e for e in self.engines.values() if e.id in self.standing.roomy]

    def creating(self) -> list[str]:
        """Engines on their way: being made already, or wanted by this plan."""
        made = [e.id for e in self.engines.values() if e.state is EngineState.CREATING]
        return made + [engine.id for engine in self.new]

    def opening(self) -> list[str]:
        """Those of them that may get placements when they are there."""
        return [e for e in self.creating() if e not in self.engines or self.engines[e].enable_state == ENABLED]

    @property
    def creating_count(self) -> int:
        """Engines on their way: being made already, or wanted by this plan."""
        return self.standing.states[EngineState.CREATING] + len(self.new)

    def name(self, engine: str) -> str:
        found = self.engines.get(engine)
        if found is not None:
            return found.name
        return "a new engine" if engine in self._names else engine

    def host(self, engine: str) -> str:
        found = self.engines.get(engine)
        return found.host if found else ""

    def lacks(self, work: Work, engine: str) -> str:
        """The name of a network that the VIP needs and the engine is not in; "" if it is in all. One that is still to be
        made will be in the engines' own network, and in `Group.networks_made`."""
        wanted = self.standing.needs(work.vip)
        if not wanted:
            return ""
        found = self.engines.get(engine)
        if found is not None and found.home:
            return reach.lacking(wanted, found.networks)
        own = found.vlans if found is not None else ()
        return reach.lacking(wanted, (*self._homes(), *self.group.networks_made, *own))

    def _homes(self) -> tuple[str, ...]:
        return next(((engine.home,) for engine in self.engines.values() if engine.home), ())

    def networks(self, work: Work) -> str:
        """The networks that the VIP needs, in words."""
        return " and ".join(need.name for need in self.standing.needs(work.vip))

    def made_lacks(self, work: Work) -> str:
        """Why one that is made could not serve the VIP; "" if it could."""
        name = self.lacks(work, "")
        return f"one that is made has no interface in {name}" if name else ""

    def leaving(self, engine: str) -> bool:
        """The administrator wants everything off it; in grace only while all engines are in sight."""
        found = self.engines.get(engine)
        if found is None or found.enable_state not in LEAVING_STATES:
            return False
        return not self.suspects or found.enable_state == FORCE

    def staying(self, work: Work) -> list[Placement]:
        """Its placements but those that are about to leave, and the extra one of a migrate."""
        return [p for p in work.active if not self.leaving(p.engine) and p.engine != work.joining]

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
        return self.up_count + len(self.suspects) + self.creating_count

    def count_on(self, engine: str, slots: int) -> None:
        """A succession begins to count on the engine."""
        self.standing.count_on(engine, slots)
        self._counted[engine] = self._counted.get(engine, 0) + slots

    def retries(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Work]]:
        """Those that this plan answers: that of a VIP which waits for a takeover is answered later."""
        for request in requests:
            work = self.works.get(request.vip) if request.kind is RequestKind.RETRY else None
            if work is not None and not work.takeover:
                yield request, work

    @property
    def retrying(self) -> bool:
        """An operator asks to try at once what failed. One that this plan does not answer excuses nothing, or each failure would be
        followed by the next try in the same moment."""
        return any(True for _ in self.retries(self.standing.requests))

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
        self._names[id] = None
        self.refused.clear()
        self.load[id] = 0
        self.standing.arriving.put(id, AFTER_ALL + len(self.new), 0)
        self.decide("", "create_engine", why, engine=id)
        return id

    # --- placements ---

    def put(self, work: Work, engine: str, *, request: str = "", state: PlacementState | None = None) -> None:
        """Place the VIP on an engine; the first one is the primary."""
        up = self.is_up(engine)
        role = Role.SECONDARY if work.primary else Role.PRIMARY
        state = state or (PlacementState.ASSIGNED if up else PlacementState.WAITING)
        work.placements.append(Placement(engine=engine, role=role, state=state, since=self.now, request=request))
        self._occupy(engine, work.vip.slots)

    def barred(self, work: Work) -> bool:
        """It must not be placed yet (`Vip.blocked`), and is on no engine."""
        if not work.vip.blocked or work.placements:
            return False
        work.shortfall = work.vip.blocked
        return True

    def may_move(self, work: Work) -> bool:
        """Whether a VIP that was placed before may be placed anew now; if not, it waits for its turn."""
        pace = self.standing.pace
        if pace is None or not work.vip.generation or self.moves < pace.moves:
            return True
        work.held = True
        work.shortfall = "waits for its turn: many engines were lost at once, so moves are paced (moves_per_minute_max)"
        return False

    def moved(self, work: Work) -> None:
        """It has been placed anew."""
        if self.standing.pace is not None and work.vip.generation:
            self.moves += 1

    def drop(self, work: Work, placement: Placement) -> None:
        work.placements.remove(placement)
        self._occupy(placement.engine, -work.vip.slots)

    def shift(self, work: Work, engine: str, other: str) -> None:
        """What this plan has placed on ``engine`` is placed on ``other`` instead."""
        self.change(work, engine, engine=other)
        self._occupy(engine, -work.vip.slots)
        self._occupy(other, work.vip.slots)

    @contextmanager
    def lifted(self, work: Work, engine: str) -> Iterator[None]:
        """As if the VIP were not on the engine."""
        index = next(i for i, p in enumerate(work.placements) if p.engine == engine)
        held = work.placements.pop(index)
        self._occupy(engine, -work.vip.slots)
        yield
        work.placements.insert(index, held)
        self._occupy(engine, work.vip.slots)

    def _occupy(self, engine: str, slots: int) -> None:
        before = self.load.get(engine, 0)
        self.refused.clear()
        if engine not in self._names:
            self.loads_before.setdefault(engine, before)
        self.standing.set_load(engine, before + slots)

    def change(self, work: Work, engine: str, /, **fields: object) -> None:
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
            revision=self.standing.revision,
        )
        self.decisions.append(decision)
        if vip == self.watched:
            self.records.append(Record(decision=decision, judged=field.judged if field else None))

    def retract(self, vip: str, what: str, engine: str) -> None:
        """The last such decision was replaced by another one."""
        index = next(
            i for i, d in reversed([*enumerate(self.decisions)]) if (d.vip, d.what, d.engine) == (vip, what, engine)
        )
        gone = self.decisions.pop(index)
        self.records = [record for record in self.records if record.decision is not gone]

    def tell(self, name: str, detail: str, *, vip: str = "", engine: str = "") -> None:
        self.events.append(Event(name=name, vip=vip, engine=engine, detail=detail))

    def answer(self, request: Request, ok: bool, message: str) -> None:
        """Close a request."""
        self.open.pop(request.id, None)
        self.results.append(RequestResult(request=request.id, ok=ok, message=message))

    def shares_host(self, work: Work, engine: str) -> bool:
        """Whether the VIP is on the engine's host by another engine already, where that matters."""
        host = self.host(engine)
        return bool(host) and self.group.vs_host_redundancy and host in self.hosts_of(work, besides=(engine,))

    def hosts_of(self, work: Work, besides: Iterable[str] = ()) -> set[str]:
        """Where the VIP is to stay: the host of an engine that is to be left does not count, also while it can't be."""
        skip, engines = set(besides), self.engines
        stays = (engine for p in work.active if p.engine not in skip and (engine := engines.get(p.engine)) is not None)
        return {engine.host for engine in stays if engine.host and engine.enable_state not in LEAVING_STATES}


def _work(vip: Vip) -> Work:
    return Work(
        vip=vip,
        placements=list(vip.placements),
        generation=vip.generation,
        user_factor=vip.user_factor,
        requested=vip.requested,
        succession=vip.succession,
    )
