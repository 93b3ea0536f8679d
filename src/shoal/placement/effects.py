"""What a course comes to: who moves, whose connections suffer and how, which engines are made and go."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import pairwise

import msgspec

from .carry import made
from .course import Course
from .model import Decision, Placement, PlacementState, Role, Snapshot, Vip
from .remedy import remedies, sentence

HELPED_MAX = 3
"""Of what could not be done, so much is given thought to what would help."""
SERVING = (PlacementState.ASSIGNED, PlacementState.READY)


class Interruption(StrEnum):
    """What a change does to the clients of one VIP, the worst of it. From harmless to bad."""

    NONE = "none"  # another engine joins, or nothing that they would notice
    DRAIN = "drain"  # open connections to a leaving engine end with `vs_scalein_timeout`; new ones go elsewhere
    HANDOVER = "handover"  # the same, and another engine answers for the VIP: a planned change of owner
    CUT = "cut"  # open connections to an engine are lost; new ones are taken again at once
    WAIT = "wait"  # nobody answers until an engine has been made
    DOWN = "down"  # nobody answers any more
    STOP = "stop"  # the edit itself ends it: disabled, or deleted


ORDER = list(Interruption)
SOONER_S = 1.0
"""An idle engine that would have been deleted anyway, but later than so, is the edit's."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One VIP. Engines by id; ``made-<rank>`` for those that would be made."""

    vip: str
    joins: tuple[str, ...] = ()
    """Engines that serve it at the end and did not before."""
    leaves: tuple[str, ...] = ()
    owner_before: str = ""
    """Who answers for it; "" = nobody."""
    owner_after: str = ""
    interruption: Interruption = Interruption.NONE
    drains: tuple[str, ...] = ()
    """Engines on which its open connections may last for `vs_scalein_timeout`."""
    cuts: tuple[str, ...] = ()
    """Engines on which its open connections are lost."""
    lacks: int = 0
    """Engines that it has fewer than wanted, at the end."""
    why: str = ""

    @property
    def disturbs(self) -> bool:
        """Clients that are served now may notice."""
        return self.interruption is not Interruption.NONE


class EngineMade(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    host: str
    why: str


class EngineDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    after_s: float
    why: str


class Unplaced(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be done in the end for a VIP ("" = for the group)."""

    vip: str
    why: str
    would_help: str
    """A sentence; "" = nothing by itself, or one past `HELPED_MAX`."""


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """``vips``: those that change, in the snapshot's order."""

    vips: tuple[Effect, ...]
    made: tuple[EngineMade, ...]
    deleted: tuple[EngineDeleted, ...]
    unplaced: tuple[Unplaced, ...]


def effects(course: Course) -> Effects:
    decided = _decided(course)
    deleted = [
        EngineDeleted(id=id, after_s=step.after_s, why=_why(step.plan.decisions, id))
        for step in course.steps
        for id in step.plan.retire_engines
    ]
    found = (_effect(course, index, vip, decided) for index, vip in enumerate(course.begin.vips))
    return Effects(
        vips=tuple(effect for effect in found if effect is not None),
        made=_made(course),
        deleted=tuple(deleted),
        unplaced=_unplaced(course),
    )


def _unplaced(course: Course) -> tuple[Unplaced, ...]:
    found = [decision for decision in course.last.decisions if decision.what == "none"]
    return tuple(
        Unplaced(
            vip=decision.vip,
            why=decision.why,
            would_help=sentence(remedies(course.end, decision.vip, course.ended_at)) if n < HELPED_MAX else "",
        )
        for n, decision in enumerate(found)
    )


def besides(found: Effects, baseline: Effects) -> Effects:
    """What would not have come without the change anyway."""
    known = {effect.vip: effect for effect in baseline.vips}
    due = {engine.id: engine.after_s for engine in baseline.deleted}
    short = {(d.vip, d.why) for d in baseline.unplaced}
    return Effects(
        vips=tuple(e for e in found.vips if not _same(e, known.get(e.vip))),
        made=found.made[len(baseline.made) :],
        deleted=tuple(e for e in found.deleted if e.id not in due or due[e.id] - e.after_s > SOONER_S),
        unplaced=tuple(d for d in found.unplaced if (d.vip, d.why) not in short),
    )


def with_the_gone(found: Effects, before: Snapshot, after: Snapshot) -> Effects:
    """The same with what the edit itself takes away: VIPs that are served, and engines."""
    vips = {vip.id for vip in after.vips}
    engines = {engine.id for engine in after.engines}
    gone = [_stopped(vip, "it is deleted, or leaves the group") for vip in before.vips if vip.id not in vips]
    deleted = [EngineDeleted(id=e.id, after_s=0.0, why="asked for") for e in before.engines if e.id not in engines]
    return msgspec.structs.replace(
        found,
        vips=(*(effect for effect in gone if effect.leaves), *found.vips),
        deleted=(*deleted, *found.deleted),
    )


def _stopped(vip: Vip, why: str) -> Effect:
    engines = tuple(p.engine for p in _active(vip))
    return Effect(
        vip=vip.id,
        leaves=engines,
        owner_before=_owner(vip),
        interruption=Interruption.STOP if engines else Interruption.NONE,
        cuts=tuple(p.engine for p in vip.placements if p.state in SERVING),
        why=why,
    )


def dissolved(before: Snapshot) -> Effects:
    """The group itself goes, and its engines with it."""
    why = "the group is deleted"
    return Effects(
        vips=tuple(_stopped(vip, why) for vip in before.vips),
        made=(),
        deleted=tuple(EngineDeleted(id=engine.id, after_s=0.0, why=why) for engine in before.engines),
        unplaced=(),
    )


def _same(effect: Effect, other: Effect | None) -> bool:
    return other is not None and msgspec.structs.replace(effect, why=other.why) == other


def _effect(course: Course, index: int, begin: Vip, decided: dict[str, list[tuple[str, Decision]]]) -> Effect | None:
    worlds = [begin, *(step.world.vips[index] for step in course.steps)]
    end = course.end.vips[index]
    if all(world is begin or world == begin for world in worlds):
        return None
    before, after = [p.engine for p in _active(begin)], [p.engine for p in _active(end)]
    joins = tuple(engine for engine in after if engine not in before)
    leaves = tuple(engine for engine in before if engine not in after)
    served = bool(_serving(begin))
    drains: dict[str, None] = {}
    cuts: dict[str, None] = {}
    worst = Interruption.NONE
    for former, latter in pairwise(worlds):
        worst = max(worst, _between(former, latter, drains, cuts, served), key=ORDER.index)
    owner_before, owner_after = _owner(begin), _owner(end)
    if not end.enabled:
        worst = Interruption.STOP if served else worst
    elif served and not _serving(end):
        worst = Interruption.DOWN
    lacks = max(0, end.requested - len(after)) if end.enabled else 0
    if not (joins or leaves or owner_before != owner_after or worst is not Interruption.NONE):
        return None
    return Effect(
        vip=begin.id,
        joins=joins,
        leaves=leaves,
        owner_before=owner_before,
        owner_after=owner_after,
        interruption=worst,
        drains=tuple(drains),
        cuts=tuple(cuts),
        lacks=lacks,
        why=_reason(decided.get(begin.id, []), joins, leaves),
    )


def _between(former: Vip, latter: Vip, drains: dict[str, None], cuts: dict[str, None], served: bool) -> Interruption:
    """What one step does to the clients; notes where connections drain, and where they are lost."""
    worst = Interruption.NONE
    held = {p.engine: p for p in latter.placements}
    for placement in former.placements:
        now = held.get(placement.engine)
        if placement.state is not PlacementState.READY and placement.state is not PlacementState.ASSIGNED:
            continue
        if now is None:
            cuts[placement.engine] = None
            worst = max(worst, Interruption.CUT, key=ORDER.index)
        elif now.state is PlacementState.DRAINING:
            drains[placement.engine] = None
            worst = max(worst, Interruption.DRAIN, key=ORDER.index)
    if _owner(former) and _owner(latter) not in ("", _owner(former)) and _owner(former) in held:
        worst = max(worst, Interruption.HANDOVER, key=ORDER.index)
    if served and latter.enabled and not _serving(latter):
        worst = Interruption.WAIT
    return worst


def _active(vip: Vip) -> list[Placement]:
    return [p for p in vip.placements if p.state is not PlacementState.DRAINING]


def _serving(vip: Vip) -> list[Placement]:
    return [p for p in vip.placements if p.state in SERVING]


def _owner(vip: Vip) -> str:
    found = (p.engine for p in vip.placements if p.role is Role.PRIMARY and p.state in SERVING)
    return next(found, "")


def _made(course: Course) -> tuple[EngineMade, ...]:
    found: list[EngineMade] = []
    world: Snapshot = course.begin
    for step in course.steps:
        ids = made(world, step.plan)
        found += [EngineMade(id=ids[w.id], host=w.host, why=w.why) for w in step.plan.new_engines]
        world = step.world
    return tuple(found)


def _decided(course: Course) -> dict[str, list[tuple[str, Decision]]]:
    """The decisions on each VIP, each with the id of its engine."""
    found: dict[str, list[tuple[str, Decision]]] = {}
    world = course.begin
    for step in course.steps:
        ids = made(world, step.plan)
        for decision in step.plan.decisions:
            if decision.vip:
                found.setdefault(decision.vip, []).append((ids.get(decision.engine, decision.engine), decision))
        world = step.world
    return found


def _reason(decided: list[tuple[str, Decision]], joins: Iterable[str], leaves: Iterable[str]) -> str:
    """The sentence that says most: of the engine that joins, else of the one that leaves, else the first one."""
    for engines in (tuple(joins), tuple(leaves)):
        for engine, decision in decided:
            if engine in engines and decision.why:
                return decision.why
    return next((decision.why for _, decision in decided if decision.why), "")


def _why(decisions: Iterable[Decision], engine: str) -> str:
    return next((d.why for d in decisions if d.engine == engine and d.why), "")
