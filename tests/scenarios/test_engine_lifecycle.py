"""What becomes of a group's engines, as plans see it (reference: elastic-ha 2.6, 2.7, 5.2 and 5.3)."""

from __future__ import annotations

import msgspec
import pytest

from shoal.placement.model import EngineState
from tests.scenarios.world import World


def names(count: int) -> list[str]:
    return [f"VS{n}" for n in range(1, count + 1)]


# --- idle engines ---


def test_a_deprovision_delay_of_zero_never_deletes() -> None:
    world = World(max_vs_per_se=2, se_deprovision_delay_s=0.0)
    world.add(*names(6))
    for name in names(6):
        world.remove(name)
    world.wait(10_000_000.0)
    assert world.count() == 4


def test_an_idle_engine_is_kept_for_the_delay_and_used_again() -> None:
    world = World(max_vs_per_se=1, buffer_se=0, se_deprovision_delay_s=600.0)
    world.add("VS1", "VS2")
    world.remove("VS2")
    world.wait(599.0)
    world.add("VS3")
    world.wait(700.0)
    assert world.count() == 2
    world.remove("VS3")
    world.wait(1.0)
    world.wait(599.0)
    assert world.count() == 1


def test_services_that_are_deleted_do_not_pack_those_that_are_left() -> None:
    world = World(max_vs_per_se=2, buffer_se=0, se_deprovision_delay_s=60.0)
    world.add(*names(6))
    placed = {name: world.on(name) for name in names(6)}
    left = [next(name for name, on in placed.items() if on == [engine]) for engine in world.engines]
    for name in set(names(6)) - set(left):
        world.remove(name)
    world.wait(1000.0)
    world.wait(1000.0)
    assert {name: world.on(name) for name in left} == {name: placed[name] for name in left}
    assert world.count() == 3, "one service each: none of them is idle"


def test_min_se_keeps_no_idle_engine() -> None:
    """It is a floor for auto-rebalance alone."""
    world = World(max_vs_per_se=1, buffer_se=0, min_se=3, se_deprovision_delay_s=60.0)
    world.add(*names(3))
    world.remove("VS2")
    world.remove("VS3")
    world.wait(1.0)
    world.wait(61.0)
    assert world.count() == 1


def test_an_idle_engine_that_a_succession_needs_is_kept() -> None:
    world = World(max_vs_per_se=4, buffer_se=1, se_deprovision_delay_s=60.0)
    world.add("big", slots=3)
    world.wait(1000.0)
    world.wait(1000.0)
    assert world.count() == 2
    assert len(world.vips["big"].succession) == 2


# --- dead engines ---


def test_a_dead_engine_that_returns_is_an_empty_candidate() -> None:
    world = World(max_vs_per_se=4)
    world.add(*names(4))
    (dead,) = world.on("VS1")
    world.fail(dead)
    moved = {name: world.on(name) for name in names(4)}
    world.recover(dead)
    assert {name: world.on(name) for name in names(4)} == moved, "nothing goes back"
    assert world.load()[dead] == 0
    world.add("new")
    assert world.on("new") == [dead], "and it is the first to get something new"


def test_an_engine_deleted_after_its_death_leaves_the_group_as_wide_as_it_was() -> None:
    world = World(max_vs_per_se=4)
    world.add(*names(6))
    count = world.count()
    (dead,) = world.on("VS1")
    world.fail(dead)
    assert world.count() == count, "it was replaced when it died"
    del world.engines[dead]
    world.settle()
    assert world.count() == count


# --- disabling (elastic-ha 5.3) ---


def test_the_events_of_disabling_an_engine_come_in_order() -> None:
    world = World(max_vs_per_se=4, buffer_se=0)
    world.add(*names(3))
    (engine,) = world.on("VS1")
    world.events.clear()
    world.enable_state(engine, "SE_STATE_DISABLED")
    world.wait(31.0)
    assert [name for name in world.events if name.startswith("MIGRATE_SE")] == [
        "MIGRATE_SE_STARTED",
        "MIGRATE_SE_FINISHED",
    ]
    assert world.engines[engine].migrate_state == "FINISHED"
    assert not any(engine in world.on(name) for name in names(3))


def test_what_can_not_move_off_a_disabled_engine_keeps_serving_and_is_tried_again() -> None:
    world = World(max_vs_per_se=4, buffer_se=0, max_se=1)
    world.add("VS1")
    (engine,) = world.on("VS1")
    world.events.clear()
    world.enable_state(engine, "SE_STATE_DISABLED")
    assert world.engines[engine].migrate_state == "FINISHED_WITH_FAILURE"
    assert world.on("VS1") == [engine]
    world.edit(max_se=2)
    assert world.on("VS1") != [engine]
    world.wait(31.0)
    assert [name for name in world.events if name.startswith("MIGRATE_SE")] == [
        "MIGRATE_SE_FAILED",
        "MIGRATE_SE_RESTARTED",
        "MIGRATE_SE_FINISHED",
    ]


def test_a_disabled_engine_stays_disabled_until_it_is_enabled() -> None:
    world = World(max_vs_per_se=4, buffer_se=0)
    world.add("VS1")
    (engine,) = world.on("VS1")
    world.enable_state(engine, "SE_STATE_DISABLED")
    world.wait(31.0)
    world.wait(10_000.0)
    assert engine in world.engines, "nor is it deleted for being idle"
    world.add("VS2", "VS3")
    assert not any(engine in world.on(name) for name in names(3))
    world.enable_state(engine, "SE_STATE_ENABLED")
    assert world.engines[engine].migrate_state == ""
    world.add("VS4")
    assert world.on("VS4") == [engine]


def test_services_of_several_engines_stay_up_while_one_is_disabled() -> None:
    world = World(ha_mode="HA_MODE_SHARED_PAIR", algo="PLACEMENT_ALGO_DISTRIBUTED", min_scaleout_per_vs=2, buffer_se=0)
    world.add(*names(2))
    engine = world.primary("VS1")
    world.enable_state(engine, "SE_STATE_DISABLED")
    world.wait(31.0)
    for name in names(2):
        assert len(world.on(name)) == 2 and engine not in world.on(name)


def test_disabled_by_force_an_engine_is_left_at_once() -> None:
    world = World(max_vs_per_se=4)
    world.add("VS1")
    (engine,) = world.on("VS1")
    world.alter(engine, enable_state="SE_STATE_DISABLED_FORCE")
    world.step()
    assert engine not in world.on("VS1"), "no drain"


def test_a_dead_engine_that_is_disabled_is_no_migration() -> None:
    world = World(max_vs_per_se=4)
    world.add("VS1")
    (engine,) = world.on("VS1")
    world.fail(engine)
    world.events.clear()
    world.enable_state(engine, "SE_STATE_DISABLED")
    assert not [name for name in world.events if name.startswith("MIGRATE_SE")]
    assert world.engines[engine].state is EngineState.DOWN


# --- deleted by an operator ---


@pytest.mark.parametrize("mode", ["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"])
def test_what_an_engine_held_that_is_deleted_by_force_is_placed_anew(mode: str) -> None:
    scale = 2 if mode == "HA_MODE_SHARED_PAIR" else 1
    world = World(ha_mode=mode, min_scaleout_per_vs=scale, max_vs_per_se=4)
    world.add(*names(3))
    (engine, *_) = world.on("VS1")
    world.guards = False
    del world.engines[engine]
    for name, vip in world.vips.items():
        world.vips[name] = msgspec.structs.replace(vip, succession=tuple(e for e in vip.succession if e != engine))
    world.settle()
    for name in names(3):
        assert len(world.on(name)) == scale and engine not in world.on(name)
