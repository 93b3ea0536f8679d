"""What if these engines fail, and who takes over? Answered by the planner itself, on paper, until nothing is left to do."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .carry import applied, progressed
from .model import Buffer, EngineState, PlacementState, Snapshot, Vip
from .planner import plan

ROUNDS_MAX = 50


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a failure comes to. VIPs by id, in the snapshot's order."""

    engines: tuple[str, ...]
    interrupted: tuple[str, ...]
    """VIPs that lose their owner: a short interruption each."""
    waiting: tuple[str, ...]
    """VIPs that no engine left can take: down until a new engine is there."""
    down: tuple[str, ...]
    """VIPs that stay down."""
    reduced: tuple[str, ...]
    """VIPs that stay up with fewer engines than requested."""
    exposed: tuple[str, ...]
    """VIPs that stay up with no successor: down when their engine fails next."""
    moves: int
    """Placements made anew."""
    engines_made: int
    buffer: Buffer
    """Capacity when all is done."""

    @property
    def stays_up(self) -> bool:
        return not (self.waiting or self.down)

    @property
    def keeps_capacity(self) -> bool:
        return not (self.down or self.reduced) and self.buffer.kept

    @property
    def sentence(self) -> str:
        return (
            f"{len(self.interrupted)} VIPs lose their owner, {len(self.waiting)} wait for a new engine, "
            f"{len(self.down)} stay down, {len(self.reduced)} stay reduced; {self.moves} placements move, "
            f"{self.engines_made} engines are made, {self.buffer.free} slots are free in the end "
            f"({self.buffer.needed} needed)"
        )


def fail(snapshot: Snapshot, engine_ids: Iterable[str], now: float) -> Outcome:
    """The failure of all these engines at once, with every engine that is wanted being made in the end.

    Raises KeyError for an engine that is not in the snapshot, ValueError for a legacy group.
    """
    dead = tuple(dict.fromkeys(engine_ids))
    known = {engine.id for engine in snapshot.engines}
    for engine in dead:
        if engine not in known:
            raise KeyError(engine)
    world = msgspec.structs.replace(
        snapshot,
        engines=tuple(
            msgspec.structs.replace(e, state=EngineState.DOWN) if e.id in dead else e for e in snapshot.engines
        ),
        vips=tuple(_orphaned(vip, dead) for vip in snapshot.vips),
        requests=(),
    )
    first = plan(world, now)
    world = applied(world, first)
    waiting = tuple(vip.id for vip in world.vips if vip.enabled and not _serving(vip))
    last, made = first, len(first.new_engines)
    for _ in range(ROUNDS_MAX):
        world = progressed(world, now)
        last = plan(world, now)
        if last.empty:
            break
        made += len(last.new_engines)
        world = applied(world, last)
    before = {vip.id: {p.engine for p in vip.placements} for vip in snapshot.vips}
    return Outcome(
        engines=dead,
        interrupted=tuple(vip.id for vip in snapshot.vips if vip.succession[:1] and vip.succession[0] in dead),
        waiting=waiting,
        down=tuple(vip.id for vip in world.vips if vip.enabled and not _serving(vip)),
        reduced=tuple(v.id for v in world.vips if v.enabled and 0 < _serving(v) < v.requested),
        exposed=tuple(v.id for v in world.vips if v.enabled and _serving(v) and len(v.succession) < 2),
        moves=sum(len({p.engine for p in vip.placements} - before[vip.id]) for vip in world.vips),
        engines_made=made,
        buffer=last.buffer,
    )


def takers(snapshot: Snapshot, engine: str) -> dict[str, str]:
    """Who takes each VIP over that the engine owns, when it fails: the first of the armed list that lives and has
    room beside what it takes over, too. "" = nobody. What the engines themselves will decide, as far as it is known."""
    up = {e.id for e in snapshot.engines if e.state is EngineState.UP}
    room = dict.fromkeys(up, snapshot.group.max_vs_per_se)
    for vip in snapshot.vips:
        for placement in vip.placements:
            if placement.engine in room:
                room[placement.engine] -= vip.slots
    found: dict[str, str] = {}
    for vip in snapshot.vips:
        if not vip.enabled or vip.succession[:1] != (engine,):
            continue
        holds = {p.engine for p in vip.placements}
        found[vip.id] = ""
        for successor in vip.succession[1:] if vip.armed else ():
            if successor in up and (successor in holds or room[successor] >= vip.slots):
                found[vip.id] = successor
                room[successor] -= 0 if successor in holds else vip.slots
                break
    return found


def _orphaned(vip: Vip, dead: tuple[str, ...]) -> Vip:
    return msgspec.structs.replace(vip, claimant="") if vip.claimant in dead else vip


def _serving(vip: Vip) -> int:
    return sum(p.state in (PlacementState.ASSIGNED, PlacementState.READY) for p in vip.placements)
