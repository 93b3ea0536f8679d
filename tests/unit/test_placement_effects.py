"""What a course comes to, VIP by VIP."""

from __future__ import annotations

import msgspec

from shoal.placement import course
from shoal.placement.effects import Effects, Interruption, besides, dissolved, effects, with_the_gone
from shoal.placement.model import Snapshot
from tests.scenarios.world import World


def world(**group: object) -> World:
    """V1 on A, V2 on B, C idle."""
    found = World(**{"buffer_se": 0, "max_vs_per_se": 2, "max_se": 3, "se_deprovision_delay_s": 0.0, **group})
    for name in ("A", "B", "C"):
        found.engine(name)
    for name in ("V1", "V2"):
        found.put(name)
    found.settle()
    assert (found.on("V1"), found.on("V2")) == (["A"], ["B"])
    return found


def of(snapshot: Snapshot, now: float = 1000.0) -> Effects:
    return effects(course.follow(snapshot, now))


def without(snapshot: Snapshot, *engines: str) -> Snapshot:
    left = tuple(engine for engine in snapshot.engines if engine.id not in engines)
    return msgspec.structs.replace(snapshot, engines=left)


def test_a_planned_move_hands_over_and_drains() -> None:
    placed = world()
    placed.alter("A", enable_state="SE_STATE_DISABLED")
    (effect,) = of(placed.snapshot()).vips
    assert (effect.vip, effect.leaves, effect.joins) == ("V1", ("A",), ("C",))
    assert (effect.owner_before, effect.owner_after) == ("A", "C")
    assert effect.interruption is Interruption.HANDOVER and effect.drains == ("A",) and not effect.cuts


def test_an_engine_that_goes_at_once_cuts() -> None:
    before = world().snapshot()
    found = with_the_gone(of(without(before, "A")), before, without(before, "A"))
    (effect,) = found.vips
    assert effect.interruption is Interruption.CUT and effect.cuts == ("A",) and effect.owner_after
    assert [engine.id for engine in found.deleted] == ["A"]


def test_a_vip_that_must_wait_for_an_engine_is_down_so_long() -> None:
    placed = world(max_vs_per_se=1)
    placed.remove("V2")
    placed.engines.pop("B")
    placed.engines.pop("C")
    placed.settle()
    found = of(without(placed.snapshot(), "A"))
    (effect,) = found.vips
    assert effect.interruption is Interruption.WAIT and effect.owner_after == found.made[0].id


def test_a_vip_that_no_engine_can_take_is_down_and_what_would_help_is_said() -> None:
    before = world(max_vs_per_se=1, max_se=1).snapshot()
    found = of(without(before, "A", "C"))
    (effect,) = found.vips
    assert effect.interruption is Interruption.DOWN and effect.lacks == 1 and not found.made
    assert [decision.vip for decision in found.unplaced] == ["V1"] and "Raise max_" in found.unplaced[0].would_help


def test_one_more_engine_disturbs_nobody_and_one_less_drains() -> None:
    placed = world(min_scaleout_per_vs=1)
    more = msgspec.structs.replace(
        placed.snapshot(), group=msgspec.structs.replace(placed.group, min_scaleout_per_vs=2)
    )
    joined = of(more).vips
    assert [effect.interruption for effect in joined] == [Interruption.NONE, Interruption.NONE]
    assert all(len(effect.joins) == 1 and not effect.leaves for effect in joined)
    placed.request("scaleout", "V1")
    member = next(engine for engine in placed.on("V1") if engine != placed.primary("V1"))
    placed.alter(member, enable_state="SE_STATE_DISABLED")
    (left,) = (effect for effect in of(placed.snapshot()).vips if effect.vip == "V1")
    assert left.interruption is Interruption.DRAIN and left.drains == (member,)


def test_what_is_under_way_anyway_is_not_the_edit_s() -> None:
    placed = world()
    placed.alter("A", enable_state="SE_STATE_DISABLED")
    placed.step()
    placed.progress()
    before = placed.snapshot()
    assert of(before).vips
    after = msgspec.structs.replace(before, group=msgspec.structs.replace(before.group, max_se=9))
    found = besides(of(after), of(before))
    assert (found.vips, found.made, found.deleted, found.unplaced) == ((), (), (), ())


def test_a_deleted_group_takes_all_of_its_own_along() -> None:
    found = dissolved(world().snapshot())
    assert [effect.interruption for effect in found.vips] == [Interruption.STOP] * 2
    assert [engine.id for engine in found.deleted] == ["A", "B", "C"]
