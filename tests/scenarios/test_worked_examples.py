"""The worked examples of elastic-ha (sections 1 and 2) and the rows of its table in 2.8."""

from __future__ import annotations

import msgspec
import pytest

from shoal.placement.remedy import remedies, sentence
from tests.scenarios.world import World

PACKED, DISTRIBUTED = "PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"
PAIR = {"ha_mode": "HA_MODE_SHARED_PAIR", "algo": DISTRIBUTED, "buffer_se": 0, "min_scaleout_per_vs": 2}


def names(count: int, first: int = 1) -> list[str]:
    return [f"VS{n}" for n in range(first, first + count)]


def test_example_a_built_up_failed_and_repaired() -> None:
    world = World(max_vs_per_se=8, buffer_se=1)
    world.add(*names(20))
    assert world.count() == 4
    assert world.free() >= 8
    victim = max(world.load(), key=lambda e: world.load()[e])
    world.fail(victim)
    assert all(world.on(vs) for vs in names(20))
    assert world.count() == 4
    assert world.free() == 12
    fresh = f"SE{world.serial}"
    assert world.load()[fresh] == 0
    world.add(*names(4, 21))
    assert world.load()[fresh] == 4
    world.add("VS25")
    assert world.count() == 5


def test_example_b_slot_counting() -> None:
    world = World(max_vs_per_se=5, buffer_se=2)
    counts, free = [], {}
    for name in names(11):
        world.add(name)
        counts.append(world.count())
        free[name] = world.free()
    assert counts == [3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5]
    assert (free["VS6"], free["VS10"], free["VS11"]) == (14, 10, 14)


def test_example_c_lost_placements_wait_for_the_one_replacement() -> None:
    world = World(max_vs_per_se=3, max_se=6, max_scaleout_per_vs=4, **PAIR)
    world.add(*names(5))
    world.request("scaleout", "VS3")
    assert sorted(len(world.on(vs)) for vs in names(5)) == [2, 2, 2, 2, 3]
    victim = world.on("VS3")[0]
    lost = [vs for vs in names(5) if victim in world.on(vs)]
    before = world.serial
    world.fail(victim)
    assert world.serial == before + 1
    assert world.count() == 6
    assert all(f"SE{world.serial}" in world.on(vs) for vs in lost)
    assert sorted(len(world.on(vs)) for vs in names(5)) == [2, 2, 2, 2, 3]


@pytest.mark.parametrize(
    ("algo", "counts", "ends"),
    [(PACKED, [2] * 8, [4, 4]), (DISTRIBUTED, [2, 2, 3, 4, 4, 4, 4, 4], [2, 2, 2, 2])],
)
def test_example_d_compact_against_distributed(algo: str, counts: list[int], ends: list[int]) -> None:
    world = World(max_se=4, buffer_se=1, algo=algo)
    seen = []
    for name in names(8):
        world.add(name)
        seen.append(world.count())
    assert seen == counts
    assert sorted(world.load().values()) == ends


def test_example_e_running_out_at_max_se() -> None:
    world = World(max_vs_per_se=8, buffer_se=1, max_se=4)
    world.add(*names(24))
    assert world.free() == 8
    assert "VS_SE_HA_COMPROMISED" not in world.events
    world.add(*names(8, 25))
    assert "VS_SE_HA_COMPROMISED" in world.events
    assert world.free() == 0
    world.add("VS33")
    assert world.on("VS33") == []
    assert world.last is not None
    decision = next(d for d in world.last.decisions if d.vip == "VS33")
    assert "max_se 4 is reached" in decision.why
    would_help = remedies(world.snapshot(), "VS33", world.now)
    assert sentence(would_help) == "Raise max_se to 5, or max_vs_per_se to 9."


def test_defaults_third_engine_at_the_eleventh_service() -> None:
    world = World()
    world.add(*names(10))
    assert world.count() == 2
    world.add("VS11")
    assert world.count() == 3


def test_shared_with_min_scaleout_2_places_like_active_active() -> None:
    world = World(min_scaleout_per_vs=2)
    world.add("VS1", "VS2")
    assert len(world.on("VS1")) == len(world.on("VS2")) == 2


def test_changing_the_mode_on_a_live_group_keeps_every_service_up() -> None:
    world = World()
    world.add(*names(6))
    before = {vs: world.primary(vs) for vs in names(6)}
    world.edit(**PAIR)
    assert all(len(world.on(vs)) == 2 for vs in names(6))
    assert {vs: world.primary(vs) for vs in names(6)} == before
    world.edit(ha_mode="HA_MODE_SHARED", algo=PACKED, buffer_se=1, min_scaleout_per_vs=1)
    assert all(len(world.on(vs)) == 2 for vs in names(6)), "lowering the minimum moves nothing"


def test_host_redundancy_prefers_other_hosts_and_falls_back() -> None:
    world = World(max_se=3, **PAIR)
    world.engine("A1", "a")
    world.engine("A2", "a")
    world.engine("B1", "b")
    world.add("VS1")
    assert sorted(world.on("VS1")) == ["A1", "B1"]
    world.fail("B1")
    assert len(world.on("VS1")) == 2
    assert {world.engines[e].host for e in world.on("VS1")} in ({"a", ""}, {"a"})


def test_a_vip_takes_a_slot_per_service_on_the_same_engines() -> None:
    world = World(max_vs_per_se=4)
    world.add("web", slots=3)
    world.add("other", slots=2)
    assert world.on("web") != world.on("other")


def test_scale_out_scale_in_and_their_bounds() -> None:
    world = World(max_scaleout_per_vs=2)
    world.add("VS1")
    assert world.request("scaleout", "VS1").ok
    assert len(world.on("VS1")) == 2
    refused = world.request("scaleout", "VS1")
    assert not refused.ok and "max_scaleout_per_vs is 2" in refused.message
    assert world.request("scalein", "VS1").ok
    world.wait(31)
    assert len(world.on("VS1")) == 1
    assert not world.request("scalein", "VS1").ok


def test_migrate_joins_promotes_and_drains() -> None:
    world = World()
    world.add("VS1")
    source = world.primary("VS1")
    generation = world.vips["VS1"].generation
    assert world.request("migrate", "VS1").ok
    assert world.primary("VS1") != source
    assert world.vips["VS1"].generation == generation + 1
    world.wait(31)
    assert source not in world.on("VS1")
    assert world.vips["VS1"].user_factor == 0


def test_disabling_an_engine_moves_all_away() -> None:
    world = World()
    world.add(*names(4))
    victim = world.primary("VS1")
    world.enable_state(victim, "SE_STATE_DISABLED")
    world.wait(31)
    assert world.load()[victim] == 0
    assert world.engines[victim].migrate_state == "FINISHED"
    assert "MIGRATE_SE_STARTED" in world.events and "MIGRATE_SE_FINISHED" in world.events


def test_a_service_that_cannot_move_keeps_serving() -> None:
    world = World(max_se=1, buffer_se=0)
    world.add("VS1")
    only = world.primary("VS1")
    world.enable_state(only, "SE_STATE_DISABLED")
    assert world.on("VS1") == [only]
    assert world.engines[only].migrate_state == "FINISHED_WITH_FAILURE"


def test_a_takeover_that_happened_is_adopted() -> None:
    world = World()
    world.add("VS1", "VS2")
    owner = world.primary("VS1")
    heir = world.vips["VS1"].succession[1]
    generation = world.vips["VS1"].generation
    world.fail(owner, settle=False)
    world.claim("VS1", heir)
    assert world.primary("VS1") == heir
    assert world.vips["VS1"].generation == generation + 1
    world.recover(owner)
    assert world.primary("VS1") == heir, "there is no fail-back"


def test_a_takeover_from_an_engine_that_lives_on_replaces_it() -> None:
    world = World()
    world.add("VS1")
    owner, heir = world.vips["VS1"].succession[:2]
    world.claim("VS1", heir)
    world.wait(31)
    assert world.on("VS1") == [heir]
    assert world.load()[owner] == 0


def test_the_controller_picks_an_owner_only_when_no_successor_has_claimed_in_time() -> None:
    world = World()
    world.add("VS1", "VS2")
    owner, heir = world.vips["VS1"].succession[:2]
    world.guards = False
    world.fail(owner, settle=False)
    world.step()
    assert world.primary("VS1") == owner, "the armed successor gets its time"
    assert world.last is not None and world.last.wake_at == world.now + 1.5
    world.wait(1.5)
    assert world.primary("VS1") == heir


def test_succession_spreads_what_one_engine_owns() -> None:
    world = World(max_vs_per_se=4, buffer_se=1, max_se=4)
    world.add(*names(9))
    for engine, load in world.load().items():
        owned = [vip for vip in world.vips.values() if vip.succession[:1] == (engine,)]
        heirs: dict[str, int] = {}
        for vip in owned:
            assert len(vip.succession) > 1, f"{vip.name} on {engine} ({load}) has no successor"
            heirs[vip.succession[1]] = heirs.get(vip.succession[1], 0) + 1
        for heir, count in heirs.items():
            assert world.load()[heir] + count <= 4


def test_idle_engines_go_but_the_buffer_stays() -> None:
    world = World(max_vs_per_se=2, se_deprovision_delay_s=600.0)
    world.add(*names(6))
    assert world.count() == 4
    for name in names(5):
        world.remove(name)
    world.wait(601)
    world.wait(601)
    assert world.count() == 2
    assert world.free() >= 2


def test_a_disabled_service_leaves_its_engines() -> None:
    world = World()
    world.add("VS1")
    world.vips["VS1"] = msgspec.structs.replace(world.vips["VS1"], enabled=False)
    world.settle()
    world.wait(31)
    assert world.on("VS1") == []
    world.vips["VS1"] = msgspec.structs.replace(world.vips["VS1"], enabled=True)
    world.settle()
    assert len(world.on("VS1")) == 1
