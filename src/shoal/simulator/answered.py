"""The promise that a VIP is answered: nobody waits for long while an engine could answer.

It has two halves, both looked at from outside, by who speaks for the VIP's addresses:

- The engines by themselves. One is able, was told of the VIP as its owner or as a successor that may act, and hears all others
  that know of it. How long it may take follows from the group's heartbeats: the silence after which an engine counts as
  dead, the turns of those before it in succession, and some room.
- The controller. It runs and reaches a well engine that serves the VIP by its own record. Whoever was to answer instead is
  given up by then, however it failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shoal.ownership import state as known
from shoal.ownership.state import State, VipView
from shoal.placement.model import PlacementState

from .agent import APPLY_S
from .ownership_world import Engine

if TYPE_CHECKING:
    from .system_world import SystemWorld

LOOK_S = 0.1
"""So often."""
ROOM_S = 0.5
SERVED_AGAIN_S = 15.0
"""10 s until an engine that lost its connection is given up, without a cloud that knows better; the rest is for the plan."""
LOSS_MAX = 0.1
"""Where more heartbeats are lost, engines take one another for dead."""


class Answered:
    """``counts``: how often a VIP that nobody answered for was found that somebody could answer for."""

    def __init__(self, world: SystemWorld) -> None:
        self._world = world
        self._since: dict[tuple[str, str], float] = {}
        """(who, VIP) -> from when on they should have seen to it."""
        self.counts = {"answered": 0}

    def look(self) -> None:
        now, engines = self._world.now, self._world.segment.engines.values()
        told = {vip for engine in engines if engine.running for vip in engine.state.vips}
        missing = told.union(self._world.witness.records).difference(*(engine.spoken_for(now) for engine in engines))
        due: dict[tuple[str, str], float] = {}
        for vip in sorted(missing):
            for who, began, limit_s, able in self._answerable(vip, now):
                self.counts["answered"] += 1
                since = due[who, vip] = max(began, self._since.get((who, vip), now))
                if now - since > limit_s:
                    what = f"nobody has answered for {vip} for {now - since:.1f} s, though {', '.join(able)} could"
                    self._world.breaks("answered", f"{what}: {who} should have seen to it within {limit_s:.1f} s")
        self._since = due

    def _answerable(self, vip: str, now: float) -> Iterator[tuple[str, float, float, list[str]]]:
        """(who should see to it, from when on at the earliest, how soon, which engines could answer)."""
        concerned = [engine for engine in self._world.segment.engines.values() if _knows(engine, vip)]
        if self._contested(vip, concerned):
            return
        able = [engine for engine in concerned if _may_take_over(engine, vip, now)]
        if able and self._hear_one_another(concerned):
            began = max(max(self._world.befell(e.name), e.patient_until, e.state.listen_until) for e in concerned)
            limit_s = max(_limit_s(engine.state, engine.state.vips[vip]) for engine in able)
            yield "its engines", began, limit_s, [engine.name for engine in able]
        serving = self._served_by(vip)
        if serving:
            yield "the controller", 0.0, SERVED_AGAIN_S, serving

    def _contested(self, vip: str, concerned: list[Engine]) -> bool:
        """Another one has an address of it."""
        own = {a for engine in concerned if vip in engine.state.vips for a in engine.state.vips[vip].vip.addresses}
        running = (engine for engine in self._world.segment.engines.values() if engine.running)
        views = (view for engine in running for view in engine.state.vips.values())
        return any(own.intersection(view.vip.addresses) for view in views if view.vip.id != vip)

    def _hear_one_another(self, engines: list[Engine]) -> bool:
        segment = self._world.segment
        if segment.loss > LOSS_MAX:
            return False
        linked = [engine.name for engine in engines if engine.running and engine.link]
        whole = not segment.cuts and not segment.mutes
        return whole or all(segment.connected(one, other) for n, one in enumerate(linked) for other in linked[:n])

    def _served_by(self, vip: str) -> list[str]:
        """Engines that the controller has for ready, rightly, while it can do what it has to."""
        world, segment = self._world, self._world.segment
        record = world.witness.records.get(vip)
        if record is None or not world.is_undisturbed or segment.cuts or segment.mutes:
            return []
        ready = [p.engine for p in record.placements if p.state is PlacementState.READY and world.is_well(p.engine)]
        return [id for id in ready if _serves(segment.engines[id]) and world.agents[id].apply_s == APPLY_S]


def _knows(engine: Engine, vip: str) -> bool:
    return vip in engine.state.vips or (engine.desired is not None and any(v.id == vip for v in engine.desired.vips))


def _serves(engine: Engine) -> bool:
    return engine.running and not engine.frozen and engine.link and known.able(engine.state)


def _may_take_over(engine: Engine, vip: str, now: float) -> bool:
    """It is well, and planned for, or a successor by a list that it may act upon."""
    state, view = engine.state, engine.state.vips.get(vip)
    if view is None or not _serves(engine):
        return False
    meant = view.vip.owner == state.engine or state.engine in view.succession
    return meant and known.has_slots(state, view) and not known.outdated(state, view, now)


def _limit_s(state: State, view: VipView) -> float:
    turns = known.TURN_INTERVALS * known.interval_s(state) * (len(view.succession) + known.TURNS_OF_OTHERS)
    return 2 * known.detection_s(state) + turns + ROOM_S
