"""A group run to its end on paper."""

from __future__ import annotations

import msgspec

from shoal.placement import course
from shoal.placement.model import Snapshot
from tests.scenarios.world import World


def two_engines(**group: object) -> World:
    world = World(buffer_se=0, max_vs_per_se=4, max_se=4, se_deprovision_delay_s=600.0, **group)
    for name in ("A", "B"):
        world.engine(name)
    for name in ("V1", "V2"):
        world.put(name)
    world.settle()
    return world


def edited(world: World, **fields: object) -> Snapshot:
    snapshot = world.snapshot()
    return msgspec.structs.replace(snapshot, group=msgspec.structs.replace(snapshot.group, **fields))


def test_a_settled_group_has_nothing_before_it() -> None:
    world = two_engines()
    found = course.follow(world.snapshot(), world.now)
    assert found.settled and found.end.vips == found.begin.vips and found.last.empty


def test_engines_come_up_and_drains_end() -> None:
    world = two_engines()
    world.alter("A", enable_state="SE_STATE_DISABLED")
    world.alter("B", enable_state="SE_STATE_DISABLED")
    found = course.follow(world.snapshot(), world.now)
    assert found.settled
    assert sum(len(step.plan.new_engines) for step in found.steps) == 1
    assert {p.engine for vip in found.end.vips for p in vip.placements} == {"made-3"}
    drained = max(step.after_s for step in found.steps)
    assert drained == world.group.vs_scalein_timeout_s
    held = {
        p.engine for step in found.steps if step.after_s < drained for vip in step.world.vips for p in vip.placements
    }
    assert {"A", "B", "made-3"} <= held


def test_an_idle_engine_goes_when_its_time_has_come() -> None:
    world = two_engines()
    assert {world.on("V1")[0], world.on("V2")[0]} == {"A", "B"}
    world.alter("B", enable_state="SE_STATE_DISABLED")
    moved = course.follow(world.snapshot(), world.now)
    assert not [step for step in moved.steps if step.plan.retire_engines]  # a disabled engine is the operator's
    world = two_engines()
    world.remove("V2")
    found = course.follow(world.snapshot(), world.now)
    (retired,) = [step for step in found.steps if step.plan.retire_engines]
    assert retired.after_s == 600.0 and len(found.end.engines) == 1
