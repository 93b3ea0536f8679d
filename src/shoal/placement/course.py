"""A snapshot run to its end on paper: plan, carry out, let engines come up and drains end, until nothing is left to do."""

from __future__ import annotations

import msgspec

from .carry import applied, progressed
from .model import Buffer, Engine, EngineState, Plan, Snapshot
from .planner import plan

ROUNDS_MAX = 200
AFTER_S = 60.0
"""How long after the last idle engine's deprovision delay is looked ahead: what waits longer waits for ever."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One plan that would be carried out ``after_s`` seconds from the beginning, and the group once it is stored."""

    after_s: float
    plan: Plan
    world: Snapshot


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """``steps`` in order; ``end`` is the group when all is done, ``last`` the (empty) plan made of it. ``settled`` is
    False if it was not done after `ROUNDS_MAX` plans."""

    begin: Snapshot
    steps: tuple[Step, ...]
    end: Snapshot
    last: Plan
    ended_at: float
    """When ``last`` was made."""
    buffers: tuple[tuple[float, Buffer], ...]
    """(seconds from the beginning, the buffer) of every plan that was made."""
    settled: bool

    def buffer(self, after_s: float) -> Buffer:
        """As it would be by then."""
        return [buffer for at, buffer in self.buffers if at <= after_s][-1]


def follow(snapshot: Snapshot, now: float) -> Course:
    """The course of a group that nothing else happens to: every engine that is wanted is made, what an engine is told
    it acknowledges, connections that drain last as long as they may.

    Engines that are made are called ``made-<rank>``. Raises ValueError where `plan` does.
    """
    steps: list[Step] = []
    world, at = _idle(snapshot, now), now
    until = now + snapshot.group.se_deprovision_delay_s + AFTER_S
    settled = False
    last = plan(world, at)
    buffers = [(0.0, last.buffer)]
    for _ in range(ROUNDS_MAX):
        if not last.empty:
            world = _idle(applied(world, last), at)
            steps.append(Step(after_s=at - now, plan=last, world=world))
        moved = _idle(progressed(world, at), at)
        if last.empty and moved == world:
            if last.wake_at is None or last.wake_at <= at or last.wake_at > until:
                settled = True
                break
            at = last.wake_at
        world = moved
        last = plan(world, at)
        buffers.append((at - now, last.buffer))
    return Course(
        begin=snapshot, steps=tuple(steps), end=world, last=last, ended_at=at, buffers=tuple(buffers), settled=settled
    )


def _idle(snapshot: Snapshot, now: float) -> Snapshot:
    """With the time since which each engine has held nothing, as the controller notes it after each plan."""
    holding = {p.engine for vip in snapshot.vips for p in vip.placements}

    def noted(engine: Engine) -> Engine:
        if engine.state is EngineState.CREATING or (engine.idle_since is None) == (engine.id in holding):
            return engine
        return msgspec.structs.replace(engine, idle_since=None if engine.id in holding else now)

    engines = tuple(noted(engine) for engine in snapshot.engines)
    return msgspec.structs.replace(snapshot, engines=engines) if engines != snapshot.engines else snapshot
