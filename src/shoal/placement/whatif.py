"""What if: failures and edits, on paper. Answered by the planner itself, until nothing is left to do.

::

    whatif     any mixture: the edits are carried out and have settled, then the failures come
    fail       failures alone, in the group as it stands at this moment
    takeovers  who takes over by the armed lists
    struck     the group right after failures
    served_by  who serves each VIP
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from .board import ENABLED, SERVING
from .capacity import buffer_slots
from .carry import applied, progressed
from .model import Buffer, EngineState, PlacementState, Plan, Role, Snapshot, Vip
from .outcome import Changes, Fate, How, Outcome
from .planner import plan

ROUNDS_MAX = 50
DISABLED = "SE_STATE_DISABLED"
ADDED = "added-"
"""What the VIPs that are added are called, with a number."""
NOBODY: tuple[str, ...] = ()


class Takeover(msgspec.Struct, frozen=True):
    """``turns``: see `Fate.turns`."""

    engine: str
    turns: int


def whatif(snapshot: Snapshot, changes: Changes, now: float) -> Outcome:
    """The edits, carried out until all has settled; then the failures, with every engine that is wanted being made.

    The answer is for the group once what is in progress there is done. Raises KeyError for an engine that is not in the
    snapshot, ValueError for a group that can't be planned.
    """
    _known(snapshot, (*changes.fail, *changes.drain, *changes.remove))
    before = edited(snapshot, changes, now)
    leaving = dict.fromkeys((*changes.drain, *changes.remove))
    stuck = tuple(e for e in leaving if before.holds(e))
    removed = tuple(e for e in changes.remove if e not in stuck)
    return _failed(snapshot, before, changes.fail, now, stuck, removed)


def fail(snapshot: Snapshot, engine_ids: Iterable[str], now: float) -> Outcome:
    """The failure of all these engines at this moment, as the group stands. Raises as `whatif`."""
    dead = tuple(dict.fromkeys(engine_ids))
    _known(snapshot, dead)
    return _failed(snapshot, Settled(snapshot, now, rounds=0), dead, now)


class Settled:
    """A snapshot carried on until there is nothing to do (``rounds`` plans at most): what was wanted is up, has
    acknowledged, and what was to leave has left. ``made``: how many engines that took."""

    def __init__(self, snapshot: Snapshot, now: float, made: int = 0, rounds: int = ROUNDS_MAX) -> None:
        self.made = made
        self.last: Plan | None = None
        for _ in range(rounds):
            result = plan(snapshot, now)
            self.last = result
            self.made += len(result.new_engines)
            after = _progressed(applied(snapshot, result), now)
            if result.empty and after == snapshot:
                break
            snapshot = after
        self.snapshot = armed(snapshot) if rounds else snapshot

    def holds(self, engine: str) -> bool:
        return any(p.engine == engine for vip in self.snapshot.vips for p in vip.placements)


def edited(snapshot: Snapshot, changes: Changes, now: float) -> Settled:
    """The group once the edits among the changes have been carried out. A group that is at rest is left as it is."""
    world = Settled(_with_edits(snapshot, changes), now)
    return _without(world, tuple(e for e in changes.remove if not world.holds(e)), now)


def takeovers(snapshot: Snapshot, dead: Iterable[str]) -> dict[str, Takeover]:
    """Who takes each VIP over by itself when these engines die, as good as at the same moment, in this order: its armed
    list, the living in turn, one heartbeat's interval after another; who has no room when its turn comes lets it pass."""
    lost = {engine: n for n, engine in enumerate(dead)}
    up = {e.id for e in snapshot.engines if e.state is EngineState.UP and e.id not in lost}
    room = dict.fromkeys(up, snapshot.group.max_vs_per_se)
    for vip in snapshot.vips:
        for placement in vip.placements:
            if placement.engine in room:
                room[placement.engine] -= vip.slots
    orphans = [v for v in snapshot.vips if v.enabled and v.armed and v.succession[:1] and v.succession[0] in lost]
    vacant = {
        vip.id: (vip, [e for e in vip.succession[1:] if e in up])
        for vip in sorted(orphans, key=lambda v: (lost[v.succession[0]], v.created, v.id))
    }
    found: dict[str, Takeover] = {}
    for turn in range(max((len(heirs) for _, heirs in vacant.values()), default=0)):
        for id, (vip, heirs) in vacant.items():
            if id in found or turn >= len(heirs):
                continue
            heir = heirs[turn]
            holds = any(p.engine == heir for p in vip.placements)
            if holds or room[heir] >= vip.slots:
                found[id] = Takeover(heir, turn)
                room[heir] -= 0 if holds else vip.slots
    return found


def takers(snapshot: Snapshot, engine: str) -> dict[str, str]:
    """Who takes each VIP over that the engine owns, when it fails, as `takeovers`. "" = nobody."""
    found = takeovers(snapshot, (engine,))
    owned = (vip.id for vip in snapshot.vips if vip.enabled and vip.succession[:1] == (engine,))
    return {vip: found[vip].engine if vip in found else "" for vip in owned}


def struck(snapshot: Snapshot, dead: tuple[str, ...], now: float) -> Snapshot:
    """The group right after these engines have failed at the same moment: others have taken over, and the controller
    has planned once."""
    hit = _hit(snapshot, dead, takeovers(snapshot, dead))
    return applied(hit, plan(hit, now))


def served_by(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Of every VIP, the engines that are up and serve it, its owner first."""
    up = {e.id for e in snapshot.engines if e.state is EngineState.UP}

    def of(vip: Vip) -> tuple[str, ...]:
        placed = [p for p in vip.placements if p.state in SERVING and p.engine in up]
        return tuple(p.engine for p in sorted(placed, key=lambda p: p.role is not Role.PRIMARY))

    return {vip.id: of(vip) for vip in snapshot.vips}


# --- the steps ---


def _known(snapshot: Snapshot, engines: Iterable[str]) -> None:
    known = {engine.id for engine in snapshot.engines}
    for engine in engines:
        if engine not in known:
            raise KeyError(engine)


def _with_edits(snapshot: Snapshot, changes: Changes) -> Snapshot:
    snapshot = changes.proposed or snapshot
    leaving = {*changes.drain, *changes.remove}
    last = max((vip.created for vip in snapshot.vips), default=0.0)
    new = tuple(Vip(id=f"{ADDED}{n}", name=f"{ADDED}{n}", slots=1, created=last + n) for n in range(1, changes.add + 1))
    return msgspec.structs.replace(
        snapshot,
        engines=tuple(
            msgspec.structs.replace(e, enable_state=DISABLED) if e.id in leaving else e for e in snapshot.engines
        ),
        vips=(*snapshot.vips, *new),
        pace=None,
    )


def _hit(snapshot: Snapshot, dead: tuple[str, ...], taken: dict[str, Takeover]) -> Snapshot:
    """The engines are down, and what the others do by themselves has happened."""

    def claimed(vip: Vip) -> Vip:
        if vip.id in taken:
            return msgspec.structs.replace(vip, claimant=taken[vip.id].engine)
        return msgspec.structs.replace(vip, claimant="") if vip.claimant in dead else vip

    return msgspec.structs.replace(
        snapshot,
        engines=tuple(
            msgspec.structs.replace(e, state=EngineState.DOWN, down_since=None) if e.id in dead else e
            for e in snapshot.engines
        ),
        vips=tuple(map(claimed, snapshot.vips)),
        requests=(),
    )


def _progressed(snapshot: Snapshot, now: float) -> Snapshot:
    """As `carry.progressed`, and what was to leave has no connection left."""

    def drained(vip: Vip) -> Vip:
        if all(p.state is not PlacementState.DRAINING for p in vip.placements):
            return vip
        placements = (
            msgspec.structs.replace(p, drained=True) if p.state is PlacementState.DRAINING else p
            for p in vip.placements
        )
        return msgspec.structs.replace(vip, placements=tuple(placements))

    world = progressed(snapshot, now)
    return msgspec.structs.replace(world, vips=tuple(map(drained, world.vips)))


def armed(snapshot: Snapshot) -> Snapshot:
    """Every engine has acknowledged its lists."""
    vips = tuple(vip if vip.armed else msgspec.structs.replace(vip, armed=True) for vip in snapshot.vips)
    return msgspec.structs.replace(snapshot, vips=vips)


def _without(world: Settled, engines: tuple[str, ...], now: float) -> Settled:
    """Once these, which hold nothing, are deleted."""
    if not engines:
        return world
    left = tuple(e for e in world.snapshot.engines if e.id not in engines)
    return Settled(msgspec.structs.replace(world.snapshot, engines=left), now, world.made)


# --- the answer ---


def _failed(
    origin: Snapshot,
    before: Settled,
    dead: tuple[str, ...],
    now: float,
    stuck: tuple[str, ...] = (),
    removed: tuple[str, ...] = (),
) -> Outcome:
    start = before.snapshot
    taken = takeovers(start, dead)
    hit = _hit(start, dead, taken)
    first = plan(hit, now)
    then = applied(hit, first)
    end = Settled(_progressed(then, now), now, before.made + len(first.new_engines))
    idle = _idle(end.snapshot, origin, now)
    end = _without(end, idle, now)
    seen = Seen(origin, start, then, end.snapshot)
    fates = [_fate(vip, seen, dead, taken.get(vip.id)) for vip in start.vips]
    served = {vip.id for vip in start.vips if seen.start[vip.id] or seen.origin.get(vip.id)}
    last_plan = end.last or first
    last = [(vip, seen.end[vip.id]) for vip in end.snapshot.vips if vip.enabled]
    was = {vip.id: {p.engine for p in vip.placements} for vip in origin.vips}
    return Outcome(
        engines=dead,
        fates=tuple(fate for fate in fates if fate is not None),
        interrupted=tuple(vip.id for vip in start.vips if vip.succession[:1] and vip.succession[0] in dead),
        waiting=tuple(v.id for v, now_on in last if v.id in served and now_on and not seen.then[v.id]),
        down=tuple(v.id for v, now_on in last if v.id in served and not now_on),
        weakened=tuple(v.id for v, _ in last if 0 < len(seen.then[v.id]) < len(seen.start[v.id])),
        reduced=tuple(v.id for v, now_on in last if 0 < len(now_on) < v.requested),
        exposed=tuple(v.id for v, now_on in last if now_on and len(v.succession) < 2),
        unplaced=tuple(v.id for v, now_on in last if v.id not in served and not now_on),
        stuck=stuck,
        moves=sum(len({p.engine for p in vip.placements} - was.get(vip.id, set())) for vip in end.snapshot.vips),
        engines_made=end.made,
        engines_deleted=removed,
        engines_idle=idle,
        before=plan(origin, now).buffer,
        left=_left(then),
        buffer=last_plan.buffer,
        start=start,
        end=end.snapshot,
    )


class Seen:
    """Who serves each VIP before all, before and right after the failures, and in the end."""

    def __init__(self, origin: Snapshot, start: Snapshot, then: Snapshot, end: Snapshot) -> None:
        self.origin, self.start = served_by(origin), served_by(start)
        self.then, self.end = served_by(then), served_by(end)


def _fate(vip: Vip, seen: Seen, dead: tuple[str, ...], taken: Takeover | None) -> Fate | None:
    """None where nothing happens to the VIP."""
    before, then, after = seen.start[vip.id], seen.then[vip.id], seen.end[vip.id]
    planned = _moved(seen.origin.get(vip.id, NOBODY), before)
    ends_on = tuple(e for e in before if e in dead)
    if not ends_on and not planned and before == after:
        return None
    orphaned = bool(vip.succession) and vip.succession[0] in dead
    if not orphaned or not before:
        how = How.KEPT
    elif not then:
        how = How.MADE if after else How.NEVER
    else:
        how = How.TAKEN if taken is not None else How.PLACED
    return Fate(
        vip=vip.id,
        name=vip.name,
        origin=seen.origin.get(vip.id, NOBODY),
        before=before,
        at_once=then,
        after=after,
        planned=planned,
        how=how,
        turns=taken.turns if taken is not None else 0,
        ends_on=ends_on,
    )


def _moved(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The engines left, each with the one that came for it; "" where there is none."""
    left, come = [e for e in before if e not in after], [e for e in after if e not in before]
    length = max(len(left), len(come))
    left += [""] * (length - len(left))
    come += [""] * (length - len(come))
    return tuple(zip(left, come, strict=True))


def _left(snapshot: Snapshot) -> Buffer:
    """The capacity of the engines that run: what is there before any other one is made."""
    group = snapshot.group
    usable = {e.id for e in snapshot.engines if e.state is EngineState.UP and e.enable_state == ENABLED}
    used = sum(vip.slots for vip in snapshot.vips for p in vip.placements if p.engine in usable)
    slots = len(usable) * group.max_vs_per_se
    return Buffer(slots=slots, used=used, free=max(0, slots - used), needed=buffer_slots(group, used))


def _idle(snapshot: Snapshot, origin: Snapshot, now: float) -> tuple[str, ...]:
    """Engines that go when they have been idle for ``se_deprovision_delay``, and would not have gone otherwise."""
    return tuple(e for e in _retired(snapshot, now) if e not in set(_retired(origin, now)))


def _retired(snapshot: Snapshot, now: float) -> tuple[str, ...]:
    held = {p.engine for vip in snapshot.vips for p in vip.placements}
    engines = tuple(msgspec.structs.replace(e, idle_since=None if e.id in held else now) for e in snapshot.engines)
    later = now + snapshot.group.se_deprovision_delay_s
    return plan(msgspec.structs.replace(snapshot, engines=engines), math.nextafter(later, math.inf)).retire_engines
