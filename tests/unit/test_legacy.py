"""Legacy active/standby groups, one test for each statement of elastic-ha 1.3 that placement is asked to keep."""

from __future__ import annotations

import msgspec
import pytest

from shoal.placement.invariants import violations
from shoal.placement.legacy import homes
from shoal.placement.model import Engine, EngineState, PlacementState, Request, RequestKind
from shoal.placement.remedy import remedies, sentence
from shoal.placement.whatif import fail, takers
from tests.scenarios.world import World

LEGACY = "HA_MODE_LEGACY_ACTIVE_STANDBY"
SE_2 = "ACTIVE_STANDBY_SE_2"


def pair(*names: str, **group: object) -> World:
    """A settled pair of SE1 and SE2 with these virtual services."""
    world = World(ha_mode=LEGACY, **group)
    world.add(*names)
    return world


def distributed(**group: object) -> World:
    """A and B of the first side, C and D of the second."""
    world = World(ha_mode=LEGACY, distribute_load=True, **group)
    for name, tag in (("A", "ACTIVE_STANDBY_SE_1"), ("B", "ACTIVE_STANDBY_SE_1"), ("C", SE_2), ("D", SE_2)):
        world.put(name, tag=tag)
    world.settle()
    return world


def active(world: World) -> dict[str, str]:
    return {vip: world.primary(vip) for vip in world.vips}


def standby(world: World) -> dict[str, tuple[str, ...]]:
    return {id: vip.succession[1:] for id, vip in world.vips.items()}


# --- the pair ---


def test_exactly_two_engines_made_on_demand() -> None:
    world = World(ha_mode=LEGACY)
    world.settle()
    assert not world.engines, "nothing is to be served"
    world.add("A", "B", "C")
    assert list(world.engines) == ["SE1", "SE2"]


@pytest.mark.parametrize("fields", [{"max_se": 10}, {"buffer_se": 3}, {"min_scaleout_per_vs": 3}])
def test_what_the_mode_fixes_is_fixed_whatever_the_fields_say(fields: dict[str, object]) -> None:
    world = pair("A", "B", **fields)
    assert len(world.engines) == 2
    assert active(world) == {"A": "SE1", "B": "SE1"}


def test_the_two_are_on_different_hosts_where_hosts_allow() -> None:
    world = World(ha_mode=LEGACY, can_create=False)
    for name, host in (("E1", "a"), ("E2", "a"), ("E3", "b")):
        world.engine(name, host)
    world.add("A")
    assert (world.primary("A"), standby(world)["A"]) == ("E1", ("E3",))


def test_each_service_has_one_active_and_one_standby_that_carries_nothing() -> None:
    world = pair("A", "B")
    assert active(world) == {"A": "SE1", "B": "SE1"}, "compacted: all active on one"
    assert standby(world) == {"A": ("SE2",), "B": ("SE2",)}
    assert world.load() == {"SE1": 2, "SE2": 0}


@pytest.mark.parametrize(
    ("kind", "instead"),
    [("scaleout", "HA_MODE_SHARED_PAIR"), ("scalein", "Disable the virtual service"), ("migrate", "Use switchover")],
)
def test_no_scale_out_no_scale_in_no_migrate_and_what_to_use_instead(kind: str, instead: str) -> None:
    world = pair("A")
    answer = world.request(kind, "A")
    assert (answer.ok, instead in answer.message) == (False, True), answer.message
    assert active(world) == {"A": "SE1"}


def test_max_vs_per_se_limits_what_the_pair_accepts() -> None:
    world = pair("A", "B", max_vs_per_se=3)
    world.add("C", "D")
    assert world.on("D") == []
    assert len(world.engines) == 2
    assert world.last is not None
    (decision,) = (d for d in world.last.decisions if d.what == "none")
    assert "3 of max_vs_per_se 3 slots used" in decision.why
    assert sentence(remedies(world.snapshot(), "D", world.now)) == "Raise max_vs_per_se to 4."
    world.edit(max_vs_per_se=4)
    assert world.on("D") == ["SE1"]


def test_with_load_on_both_each_could_still_carry_all() -> None:
    world = distributed(max_vs_per_se=4)
    world.put("E", tag=SE_2)
    world.settle()
    assert world.on("E") == [], "SE1 could not carry five"
    assert fail(world.snapshot(), ["SE2"], world.now).stays_up, "of those that are served"


def test_a_service_that_waits_for_the_pair_takes_the_engine_that_is_up_first() -> None:
    world = World(ha_mode=LEGACY)
    world.put("A")
    world.step()
    assert [p.state for p in world.vips["A"].placements] == [PlacementState.WAITING]
    second = list(world.engines)[1]
    world.alter(second, state=EngineState.UP)
    world.step()
    assert world.on("A") == [second]


# --- distribute load ---


def test_with_distribute_load_each_service_picks_a_side() -> None:
    world = distributed()
    assert active(world) == {"A": "SE1", "B": "SE1", "C": "SE2", "D": "SE2"}
    assert standby(world) == {"A": ("SE2",), "B": ("SE2",), "C": ("SE1",), "D": ("SE1",)}


def test_without_distribute_load_tags_say_nothing() -> None:
    world = pair("A")
    world.put("C", tag=SE_2)
    world.settle()
    assert active(world) == {"A": "SE1", "C": "SE1"}


def test_a_new_service_waits_for_its_side_while_that_is_being_made() -> None:
    world = World(ha_mode=LEGACY, distribute_load=True)
    world.put("C", tag=SE_2)
    world.step()
    first, second = world.engines
    world.alter(first, state=EngineState.UP)
    world.step()
    assert world.on("C") == [second]
    world.settle()
    assert active(world) == {"C": second}


def test_services_with_one_tag_share_the_active_engine_also_after_a_takeover() -> None:
    world = distributed()
    world.fail("SE2")
    world.put("E", tag=SE_2)
    world.settle()
    assert world.primary("E") == world.primary("C") == "SE1"


# --- takeover ---


def test_the_survivor_becomes_active_for_everything() -> None:
    world = distributed()
    assert takers(world.snapshot(), "SE1") == {"A": "SE2", "B": "SE2"}
    world.fail("SE1")
    assert set(active(world).values()) == {"SE2"}
    assert world.events.count("VS_SWITCHOVER") == 2


def test_a_dead_engine_is_replaced_and_the_new_one_is_standby_for_all() -> None:
    world = pair("A", "B")
    world.fail("SE1")
    assert sorted(world.engines) == ["SE1", "SE2", "SE3"]
    assert active(world) == {"A": "SE2", "B": "SE2"}
    assert standby(world) == {"A": ("SE3",), "B": ("SE3",)}


def test_also_the_standby_is_replaced() -> None:
    world = pair("A")
    world.fail("SE2")
    assert (active(world), standby(world)) == ({"A": "SE1"}, {"A": ("SE3",)})


def test_one_that_returns_after_it_was_replaced_goes_again() -> None:
    world = pair("A")
    world.fail("SE1")
    world.recover("SE1")
    assert sorted(world.engines) == ["SE2", "SE3"]
    assert active(world) == {"A": "SE2"}


def test_one_that_returns_before_its_replacement_is_there_is_the_standby() -> None:
    world = pair("A")
    world.makes = False
    world.fail("SE1")
    world.recover("SE1")
    assert (active(world), standby(world)) == ({"A": "SE2"}, {"A": ("SE1",)})
    world.makes = True
    world.settle()
    assert sorted(world.engines) == ["SE1", "SE2"]


def test_without_write_access_an_engine_that_returns_is_the_standby_and_a_third_stays() -> None:
    world = World(ha_mode=LEGACY, can_create=False)
    for name in ("E1", "E2"):
        world.engine(name)
    world.add("A")
    world.fail("E1")
    assert (active(world), standby(world)) == ({"A": "E2"}, {"A": ()})
    world.recover("E1")
    assert (active(world), standby(world)) == ({"A": "E2"}, {"A": ("E1",)})
    world.engine("E3")
    world.settle()
    assert "E3" in world.engines
    world.fail("E1")
    assert standby(world) == {"A": ("E3",)}


def test_a_pair_short_of_an_engine_serves_with_no_standby_and_says_so() -> None:
    world = World(ha_mode=LEGACY, can_create=False)
    world.engine("E1")
    world.add("A", "B")
    assert active(world) == {"A": "E1", "B": "E1"}
    assert world.last is not None
    (event,) = (e for e in world.last.events if e.name == "VS_SE_HA_COMPROMISED")
    assert event.detail == "A, B: served with no standby, the pair has one engine, and the cloud gives no write access"
    assert sentence(remedies(world.snapshot(), "", world.now)) == "Add an engine by hand."


def test_a_standby_that_could_not_carry_all_is_none_for_the_rest_and_that_is_said() -> None:
    world = distributed()
    world.edit(max_vs_per_se=3)
    assert sorted(map(len, standby(world).values())) == [0, 0, 1, 1]
    assert "VS_SE_HA_COMPROMISED" in world.events
    assert violations(world.snapshot()) == []


# --- no fail-back ---


def test_no_automatic_fail_back() -> None:
    world = distributed()
    world.makes = False
    world.fail("SE2")
    world.recover("SE2")
    world.wait(60.0)
    assert set(active(world).values()) == {"SE1"}


def test_redistributing_by_hand_moves_each_back_to_its_side() -> None:
    world = distributed()
    world.makes = False
    world.fail("SE2")
    world.recover("SE2")
    wanted = homes(world.snapshot(), world.now)
    assert wanted == {"C": "SE2", "D": "SE2"}
    for vip, engine in wanted.items():
        assert world.request("switchover", vip, to_engine=engine).ok
    assert active(world) == {"A": "SE1", "B": "SE1", "C": "SE2", "D": "SE2"}
    assert homes(world.snapshot(), world.now) == {}


def test_auto_redistribute_moves_back_what_was_taken_over() -> None:
    world = distributed(auto_redistribute=True)
    world.makes = False
    world.fail("SE2")
    assert set(active(world).values()) == {"SE1"}
    world.recover("SE2")
    assert active(world) == {"A": "SE1", "B": "SE1", "C": "SE2", "D": "SE2"}
    world.wait(60.0)
    assert world.load() == {"SE1": 2, "SE2": 2}


def test_auto_redistribute_moves_to_the_replacement() -> None:
    world = distributed(auto_redistribute=True)
    world.fail("SE1")
    assert active(world) == {"A": "SE2", "B": "SE2", "C": "SE3", "D": "SE3"}


def test_auto_redistribute_leaves_what_an_operator_has_switched_over() -> None:
    world = distributed(auto_redistribute=True)
    assert world.request("switchover", "A").ok
    world.wait(60.0)
    assert active(world)["A"] == "SE2"


def test_compacted_redistributing_brings_all_together_again() -> None:
    world = pair("A", "B", "C")
    assert world.request("switchover", "B").ok
    assert homes(world.snapshot(), world.now) == {"B": "SE1"}


# --- switchover ---


def test_switchover_swaps_active_and_standby() -> None:
    world = pair("A", "B")
    answer = world.request("switchover", "A")
    assert (answer.ok, answer.message) == (True, "A is active on SE2.")
    assert active(world) == {"A": "SE2", "B": "SE1"}
    assert standby(world) == {"A": ("SE1",), "B": ("SE2",)}
    assert world.events.count("VS_SWITCHOVER") == 1


def test_the_former_active_is_the_standby_while_it_still_drains() -> None:
    world = pair("A")
    world.requests["q"] = request(world, "A")
    world.settle()
    states = {p.engine: p.state for p in world.vips["A"].placements}
    assert states == {"SE1": PlacementState.DRAINING, "SE2": PlacementState.READY}
    assert world.vips["A"].succession == ("SE2", "SE1")


def test_switching_back_while_the_former_active_still_drains() -> None:
    world = pair("A")
    for id in ("q1", "q2"):
        world.requests[id] = msgspec.structs.replace(request(world, "A"), id=id)
        world.settle()
    assert [result.message for result in world.results] == ["A is active on SE2.", "A is active on SE1."]
    assert world.primary("A") == "SE1"


def test_switchover_without_a_standby_is_refused() -> None:
    world = World(ha_mode=LEGACY, can_create=False)
    world.engine("E1")
    world.add("A")
    answer = world.request("switchover", "A")
    assert (answer.ok, answer.message) == (False, "switchover refused: the pair has no other engine.")


def test_switchover_whose_standby_dies_fails() -> None:
    world = pair("A")
    world.requests["q"] = request(world, "A")
    world.step()
    world.fail("SE2")
    (answer,) = world.results
    assert (answer.ok, "SE2 is down" in answer.message) == (False, True)
    assert "VS_SWITCHOVER_FAIL" in world.events
    assert world.primary("A") == "SE1"


def test_switchover_to_a_standby_that_never_gets_ready_fails_in_time() -> None:
    world = pair("A", vs_switchover_timeout_s=20.0)
    world.requests["q"] = request(world, "A")
    world.step()
    world.now += 21.0
    world.step()
    (answer,) = world.results
    assert (answer.ok, "not ready within 20 s" in answer.message) == (False, True)


def test_switchover_to_a_standby_that_is_ready_when_its_time_ends_is_made() -> None:
    """Seed 71 of 10,000 events: the clock jumped by two hours, the former active had come back and was not ready, and the only
    engine that was ready drained."""
    world = pair("A", vs_switchover_timeout_s=20.0)
    world.requests["q"] = request(world, "A")
    world.step()
    first, joined = world.vips["A"].placements
    back, ready = PlacementState.ASSIGNED, PlacementState.READY
    placements = (msgspec.structs.replace(first, state=back), msgspec.structs.replace(joined, state=ready))
    world.vips["A"] = msgspec.structs.replace(world.vips["A"], placements=placements)
    world.now += 7200.0
    world.settle()
    (answer,) = world.results
    assert (answer.ok, world.primary("A")) == (True, "SE2")


def test_switchover_where_the_active_dies_meanwhile_ends_on_the_standby() -> None:
    world = pair("A")
    world.requests["q"] = request(world, "A")
    world.step()
    world.fail("SE1")
    assert world.primary("A") == "SE2"
    assert not world.requests


def test_switchover_waits_while_the_active_is_out_of_sight() -> None:
    """It may still be active: what it has is not taken from it on a guess."""
    world = pair("A")
    world.requests["q"] = request(world, "A")
    world.step()
    world.alter("SE1", state=EngineState.SUSPECT)
    world.settle()
    assert (world.primary("A"), list(world.requests)) == ("SE1", ["q"])
    world.alter("SE1", state=EngineState.UP)
    world.settle()
    assert (world.primary("A"), world.results[0].ok) == ("SE2", True)


def test_switchover_is_for_legacy_groups() -> None:
    world = World()
    world.add("A")
    answer = world.request("switchover", "A")
    assert (answer.ok, "Use migrate." in answer.message) == (False, True)


def request(world: World, vip: str) -> Request:
    return Request(id="q", kind=RequestKind.SWITCHOVER, vip=vip, at=world.now)


# --- from and to other modes ---


def test_a_live_elastic_group_converges_to_the_pair() -> None:
    world = World(max_vs_per_se=4, buffer_se=1)
    world.add(*(f"V{n}" for n in range(4)))
    world.edit(buffer_se=3)
    assert len(world.engines) > 2
    before = active(world)
    world.edit(ha_mode=LEGACY)
    world.wait(31.0)
    assert len(world.engines) == 2
    assert all(len(heirs) == 1 for heirs in standby(world).values())
    kept = [vip for vip, engine in before.items() if engine in world.engines]
    assert [active(world)[vip] for vip in kept] == [before[vip] for vip in kept], "what is on the pair stays"


def test_scaled_services_keep_one_active_placement() -> None:
    world = World(ha_mode="HA_MODE_SHARED_PAIR", algo="PLACEMENT_ALGO_DISTRIBUTED", buffer_se=0, min_scaleout_per_vs=2)
    world.add("A", "B", "C")
    world.edit(ha_mode=LEGACY)
    world.wait(31.0)
    assert all(len(world.on(vip)) == 1 for vip in world.vips)
    assert len(world.engines) == 2


def test_what_two_engines_cannot_hold_keeps_serving_where_it_is() -> None:
    world = World(max_vs_per_se=1, buffer_se=0, max_se=4)
    world.add("A", "B", "C")
    world.edit(ha_mode=LEGACY)
    assert len({*active(world).values()}) == 3
    assert world.last is not None
    assert any(d.what == "none" and "has no room" in d.why for d in world.last.decisions)


@pytest.mark.parametrize(("mode", "scale"), [("HA_MODE_SHARED", 1), ("HA_MODE_SHARED_PAIR", 2)])
def test_a_pair_becomes_an_elastic_group(mode: str, scale: int) -> None:
    world = pair("A", "B")
    world.edit(ha_mode=mode, min_scaleout_per_vs=scale)
    assert all(len(world.on(vip)) == scale for vip in world.vips)


def test_an_engine_that_is_disabled_all_the_same_is_emptied_and_replaced() -> None:
    world = pair("A")
    world.enable_state("SE1", "SE_STATE_DISABLED")
    world.wait(31.0)
    assert active(world) == {"A": "SE2"}
    assert sorted(world.engines) == ["SE2", "SE3"]


def test_a_pair_that_serves_nothing_goes_like_idle_engines() -> None:
    world = pair("A", se_deprovision_delay_s=100.0)
    world.wait(200.0)
    assert len(world.engines) == 2, "the standby is idle, and needed"
    world.remove("A")
    world.wait(200.0)
    assert not world.engines


# --- what if ---


def test_what_if_says_that_nothing_stays_down_and_who_is_exposed() -> None:
    world = distributed()
    outcome = fail(world.snapshot(), ["SE1"], world.now)
    assert outcome.interrupted == ("A", "B")
    assert (outcome.stays_up, outcome.keeps_capacity, outcome.engines_made) == (True, True, 1)
    outcome = fail(msgspec.structs.replace(world.snapshot(), engines=both(world)), ["SE1", "SE2"], world.now)
    assert outcome.waiting == ("A", "B", "C", "D")


def both(world: World) -> tuple[Engine, ...]:
    return tuple(world.engines.values())
