"""Engines out of the controller's sight (suspect), and moves that are paced."""

from __future__ import annotations

import msgspec
import pytest

from shoal.placement import plan
from shoal.placement.carry import applied
from shoal.placement.invariants import violations
from shoal.placement.model import (
    Engine,
    EngineState,
    Group,
    Pace,
    Placement,
    PlacementState,
    Plan,
    Role,
    Snapshot,
    Vip,
)
from tests.scenarios.world import World

SUSPECT = EngineState.SUSPECT


def world(**group: object) -> World:
    """Five services on N+M engines of two slots each."""
    made = World(**{"max_vs_per_se": 2, "max_se": 6, "buffer_se": 1, **group})
    made.add("a", "b", "c", "d", "e")
    return made


def planned(snapshot: Snapshot, now: float = 5000.0) -> Plan:
    result = plan(snapshot, now)
    assert violations(snapshot, result) == []
    return result


@pytest.mark.parametrize("mode", ["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR", "HA_MODE_LEGACY_ACTIVE_STANDBY"])
def test_when_all_are_out_of_sight_nothing_changes(mode: str) -> None:
    here = world(ha_mode=mode, se_deprovision_delay_s=60.0, max_vs_per_se=8)
    for engine in here.engines:
        here.alter(engine, state=SUSPECT)
    assert planned(here.snapshot()).empty


@pytest.mark.parametrize("lost", [0, 1])
def test_a_legacy_pair_with_an_engine_out_of_sight_stays_as_it_is(lost: int) -> None:
    here = world(ha_mode="HA_MODE_LEGACY_ACTIVE_STANDBY", max_vs_per_se=8, distribute_load=True)
    here.alter(sorted(here.engines)[lost], state=SUSPECT)
    assert planned(here.snapshot()).empty
    answer = here.request("switchover", "a")
    assert not answer.ok and "lost sight" in answer.message


def test_a_suspect_engine_keeps_what_it_holds_and_gets_nothing_new() -> None:
    here = world()
    before = {vip: here.on(vip) for vip in here.vips}
    suspects = ["SE1", "SE2", "SE3"]
    for engine in suspects:
        here.alter(engine, state=SUSPECT)
    here.add("new")
    assert {vip: here.on(vip) for vip in before} == before
    assert not set(here.on("new")) & set(suspects)


@pytest.mark.parametrize("enable_state", ["SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE"])
def test_the_host_of_a_disabled_engine_out_of_sight_is_as_good_as_another(enable_state: str) -> None:
    """b is to be left and can't be yet; its host has room, and the VIP's other host is no better for it."""
    hosts = {"a": "one", "b": "two", "c": "one", "d": "two"}
    engines = tuple(
        Engine(id=id, name=id, rank=rank, host=host, state=SUSPECT if id == "b" else EngineState.UP,
               enable_state=enable_state if id == "b" else "SE_STATE_ENABLED")
        for rank, (id, host) in enumerate(hosts.items())
    )  # fmt: skip
    held = tuple(
        Placement(engine=id, role=role, state=PlacementState.READY, since=0.0)
        for id, role in (("a", Role.PRIMARY), ("b", Role.SECONDARY))
    )
    vip = Vip(id="v", name="v", slots=1, created=0.0, placements=held, generation=1, requested=2, user_factor=1,
              succession=("a", "b"), list_version=1, armed=True)  # fmt: skip
    busy = Placement(engine="d", role=Role.PRIMARY, state=PlacementState.READY, since=0.0)
    other = Vip(id="o", name="o", slots=1, created=0.0, placements=(busy,), generation=1, requested=1,
                succession=("d",), list_version=1, armed=True)  # fmt: skip
    group = Group(id="g", name="g", ha_mode="HA_MODE_SHARED_PAIR", algo="PLACEMENT_ALGO_DISTRIBUTED", buffer_se=0,
                  max_se=4, max_vs_per_se=4, vs_host_redundancy=True)  # fmt: skip
    result = planned(Snapshot(revision=1, group=group, engines=engines, vips=(vip, other)))
    placed = {p.engine for v in result.vips if v.id == "v" for p in v.placements} - {"a", "b"}
    assert placed <= {"d"}
    if enable_state == "SE_STATE_DISABLED_FORCE":
        assert placed == {"d"}


def test_who_only_waits_for_an_engine_that_is_out_of_sight_goes_elsewhere() -> None:
    """It came up and was lost sight of before it was told of the VIP: nobody else need wait for it."""
    states = {"a": SUSPECT, "b": EngineState.UP}
    engines = tuple(
        Engine(id=id, name=id, rank=n, host=id, state=state) for n, (id, state) in enumerate(states.items())
    )
    waiting = Placement(engine="a", role=Role.PRIMARY, state=PlacementState.WAITING, since=0.0)
    vip = Vip(id="v", name="v", slots=1, created=0.0, placements=(waiting,), generation=1, requested=1)
    group = Group(id="g", name="g", ha_mode="HA_MODE_LEGACY_ACTIVE_STANDBY")
    result = planned(Snapshot(revision=1, group=group, engines=engines, vips=(vip,)))
    assert [p.engine for p in result.vips[0].placements] == ["b"]


def test_a_suspect_engine_counts_for_the_buffer_and_against_max_se() -> None:
    here = world(max_se=4)
    assert len(here.engines) == 4
    here.alter("SE1", state=SUSPECT)
    result = planned(here.snapshot())
    assert result.buffer.kept and not result.new_engines
    here.edit(buffer_se=2)
    assert len(here.engines) == 4, "four of max_se 4"


def test_lists_that_name_a_suspect_stand() -> None:
    """It acts by its list, and can't be told another."""
    here = world()
    lists = {vip: found.succession for vip, found in here.vips.items()}
    here.alter("SE2", state=SUSPECT)
    here.settle()
    assert {vip: found.succession for vip, found in here.vips.items() if "SE2" in found.succession} == {
        vip: list for vip, list in lists.items() if "SE2" in list
    }


def test_a_dead_engine_s_services_move_past_the_suspects() -> None:
    here = world()
    for engine in ("SE2", "SE3"):
        here.alter(engine, state=SUSPECT)
    mine = [vip for vip in here.vips if here.on(vip) == ["SE1"]]
    here.guards = False
    here.fail("SE1")
    here.wait(10.0)
    for vip in mine:
        (engine,) = here.on(vip)
        assert engine not in ("SE1", "SE2", "SE3")


def test_a_suspect_that_is_being_disabled_waits() -> None:
    here = world()
    here.alter("SE1", state=SUSPECT)
    before = {vip: here.on(vip) for vip in here.vips}
    here.enable_state("SE2", "SE_STATE_DISABLED")
    assert {vip: here.on(vip) for vip in here.vips} == before
    here.recover("SE1")
    here.wait(60.0)
    assert not any("SE2" in here.on(vip) for vip in here.vips)


def test_operations_on_what_is_out_of_sight_are_refused_with_the_reason() -> None:
    here = world()
    (engine,) = here.on("a")
    here.alter(engine, state=SUSPECT)
    answer = here.request("migrate", "a")
    assert not answer.ok
    assert "lost sight" in answer.message


def test_moves_are_paced_and_the_rest_waits_for_its_turn() -> None:
    here = world(max_vs_per_se=10, buffer_se=0, max_se=3)
    here.engine("SE9")
    here.guards = False
    here.alter("SE1", state=EngineState.DOWN, down_since=0.0)
    lost = sum(here.on(vip) == ["SE1"] for vip in here.vips)
    assert lost == 5
    snapshot = msgspec.structs.replace(here.snapshot(), pace=Pace(moves=2, next_at=5000.4))
    result = planned(snapshot)
    assert result.moves == 2
    assert len(result.held) == lost - 2
    assert result.wake_at == 5000.4
    waiting = next(vip for vip in result.vips if vip.id in result.held)
    assert waiting.scale_state == "SCALEOUT_AWAITING_SE_ASSIGNMENT"
    assert "turn" in waiting.scale_reason
    assert planned(here.snapshot()).moves == 0, "no storm, no count"


def test_what_was_never_placed_is_not_paced() -> None:
    here = world()
    here.put("new")
    result = planned(msgspec.structs.replace(here.snapshot(), pace=Pace(moves=0, next_at=5000.4)))
    assert "new" not in result.held
    assert next(vip for vip in result.vips if vip.id == "new").placements


def test_a_move_off_a_suspect_is_an_invariant_broken() -> None:
    here = world()
    here.alter("SE1", state=SUSPECT)
    snapshot = here.snapshot()
    vip = next(vip for vip in snapshot.vips if vip.placements[0].engine == "SE1")
    other = msgspec.structs.replace(snapshot, engines=tuple(
        msgspec.structs.replace(e, state=EngineState.DOWN) if e.id == "SE1" else e for e in snapshot.engines
    ))  # fmt: skip
    moved = plan(other, 5000.0)
    assert any(vip.name in sentence and "out of sight" in sentence for sentence in violations(snapshot, moved))
    assert all(p.state is PlacementState.READY for p in vip.placements)


@pytest.mark.parametrize("mode", ["HA_MODE_LEGACY_ACTIVE_STANDBY", "HA_MODE_SHARED"])
def test_a_dead_owners_list_stays_while_its_successor_is_out_of_sight(mode: str) -> None:
    """It may have taken over by that list, and is known by it when it is back."""
    here = World(ha_mode=mode, max_vs_per_se=8, max_se=2)
    here.add("a", "b")
    list_before = here.vips["a"].succession
    owner, standby = list_before
    here.alter(owner, state=EngineState.DOWN, down_since=0.0)
    here.alter(standby, state=SUSPECT)
    snapshot = msgspec.structs.replace(
        here.snapshot(), group=msgspec.structs.replace(here.snapshot().group, can_create=False)
    )
    result = planned(snapshot)
    (after,) = (vip for vip in result.vips if vip.id == "a")
    assert after.succession == list_before and after.placements == ()
    assert plan(applied(snapshot, result), 5001.0).empty, "and it stays so"

    back = applied(snapshot, result)
    back = msgspec.structs.replace(
        back,
        engines=tuple(msgspec.structs.replace(e, state=EngineState.UP) if e.id == standby else e for e in back.engines),
        vips=tuple(msgspec.structs.replace(v, claimant=standby) if v.id == "a" else v for v in back.vips),
    )
    (taken,) = (vip for vip in planned(back, 5002.0).vips if vip.id == "a")
    assert [p.engine for p in taken.placements] == [standby] and taken.generation > after.generation


def test_so_it_does_while_the_service_waits_for_a_new_engine() -> None:
    here = World(max_vs_per_se=8, max_se=3)
    here.add("a", "b")
    owner, standby = list_before = here.vips["a"].succession
    here.alter(owner, state=EngineState.DOWN, down_since=0.0)
    here.alter(standby, state=SUSPECT)
    (after,) = (vip for vip in planned(here.snapshot()).vips if vip.id == "a")
    assert [p.state for p in after.placements] == [PlacementState.WAITING]
    assert after.succession == list_before
