"""Statements about elastic HA that operators rely on, one test each; `docs/elastic-ha.md` lists them all."""

from __future__ import annotations

import msgspec
import pytest

from shoal.placement import plan
from shoal.placement.model import EngineState, Placement, PlacementState, Request, RequestKind, Role
from shoal.placement.steps import TAKEOVER_WITHIN_S

from .world import World

PACKED, DISTRIBUTED = "PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"
PAIR = {"ha_mode": "HA_MODE_SHARED_PAIR", "algo": DISTRIBUTED, "min_scaleout_per_vs": 2, "buffer_se": 0}


def names(count: int, first: int = 1) -> list[str]:
    return [f"VS{n}" for n in range(first, first + count)]


def last_decision(world: World, vip: str) -> str:
    assert world.last is not None
    return next(d.why for d in world.last.decisions if d.vip == vip)


# --- N+M ---


@pytest.mark.parametrize("spare", [0, 1, 3])
def test_the_first_service_of_a_group_brings_one_engine_and_the_buffer(spare: int) -> None:
    world = World(buffer_se=spare)
    world.add("VS1")
    assert world.count() == 1 + spare


def test_a_group_that_never_had_a_service_has_no_engine() -> None:
    world = World()
    world.settle()
    assert world.count() == 0


def test_a_service_on_two_engines_takes_two_slots() -> None:
    world = World(max_vs_per_se=4, buffer_se=1, min_scaleout_per_vs=2)
    world.add("VS1", "VS2")
    assert world.last is not None
    assert (world.last.buffer.used, world.count()) == (4, 2)
    world.add("VS3")
    assert world.last.buffer.used == 6
    assert world.count() == 3  # ceil(6 / 4) + 1


def test_raising_the_buffer_makes_engines_and_moves_nothing() -> None:
    world = World(max_vs_per_se=5)
    world.add(*names(5))
    before = {vs: world.on(vs) for vs in names(5)}
    count = world.count()
    world.edit(buffer_se=3)
    assert world.count() == count + 2
    assert {vs: world.on(vs) for vs in names(5)} == before


def test_lowering_the_buffer_moves_nothing() -> None:
    world = World(buffer_se=3)
    world.add(*names(5))
    before = {vs: world.on(vs) for vs in names(5)}
    world.edit(buffer_se=0)
    assert {vs: world.on(vs) for vs in names(5)} == before


def test_a_failed_engines_services_go_to_free_slots_without_waiting() -> None:
    world = World(max_vs_per_se=8)
    world.add(*names(20))
    world.makes = False  # a replacement would never come up
    victim = world.primary("VS1")
    lost = [vs for vs in names(20) if victim in world.on(vs)]
    world.fail(victim)
    assert all(p.state is PlacementState.READY for vs in lost for p in world.vips[vs].placements)
    assert sum(e.state is EngineState.CREATING for e in world.engines.values()) == 1, "the buffer is repaired"


def test_nothing_moves_to_the_replacement_nor_back_to_an_engine_that_returns() -> None:
    world = World(max_vs_per_se=8)
    world.add(*names(20))
    victim = world.primary("VS1")
    world.fail(victim)
    after = {vs: world.on(vs) for vs in names(20)}
    fresh = f"SE{world.serial}"
    assert world.load()[fresh] == 0
    world.recover(victim)
    assert {vs: world.on(vs) for vs in names(20)} == after
    world.add("VS21")
    assert world.on("VS21")[0] in (victim, fresh), "both are empty: the next service goes to one of them"


def test_a_group_that_may_not_make_engines_uses_those_it_has() -> None:
    world = World(can_create=False, buffer_se=1, max_vs_per_se=2)
    world.engine("A")
    world.add(*names(2))
    assert world.on("VS2") == ["A"]
    world.add("VS3")
    assert world.on("VS3") == []
    assert "no write access" in last_decision(world, "VS3")
    world.engine("B")
    world.settle()
    assert world.on("VS3") == ["B"]


def test_more_failures_than_the_buffer_leave_services_down_until_an_engine_is_made() -> None:
    world = World(max_vs_per_se=4, buffer_se=1)
    world.add(*names(8))
    assert world.count() == 3
    world.makes = False
    for victim in list(world.load())[:2]:
        world.fail(victim)
    down = [vs for vs in names(8) if not any(p.state is PlacementState.READY for p in world.vips[vs].placements)]
    assert len(down) == 4
    world.makes = True
    world.settle()
    assert all(p.state is PlacementState.READY for vs in names(8) for p in world.vips[vs].placements)


# --- active/active ---


def test_a_lost_engine_leaves_every_service_of_an_active_active_group_up() -> None:
    world = World(max_vs_per_se=3, max_se=6, **PAIR)
    world.add(*names(5))
    world.makes = False
    world.fail(world.primary("VS1"))
    assert all(any(p.state is PlacementState.READY for p in world.vips[vs].placements) for vs in names(5))


def test_active_active_with_no_engine_to_be_made_uses_the_least_loaded() -> None:
    world = World(max_vs_per_se=5, max_se=3, **PAIR)
    world.add(*names(4))
    world.edit(can_create=False)
    world.fail(world.primary("VS1"))
    assert all(len(world.on(vs)) == 2 for vs in names(4))


def test_minimum_scale_two_with_a_buffer_restores_at_once_into_free_slots() -> None:
    world = World(min_scaleout_per_vs=2, max_vs_per_se=10, buffer_se=1, algo=PACKED)
    world.add(*names(3))
    world.engine("idle")
    world.settle()
    world.makes = False
    world.fail(world.primary("VS1"))
    assert all(p.state is PlacementState.READY for vs in names(3) for p in world.vips[vs].placements)
    assert all(len(world.on(vs)) == 2 for vs in names(3))


# --- where ---


def test_an_idle_engine_is_used_before_one_is_made_in_both_algorithms() -> None:
    for algo in (PACKED, DISTRIBUTED):
        world = World(buffer_se=0, algo=algo)
        world.engine("A")
        world.engine("B")
        world.add("VS1", "VS2")
        assert world.count() == 2
        assert {world.primary("VS1"), world.primary("VS2")} == {"A", "B"}


def test_the_least_loaded_engine_is_chosen_and_the_oldest_breaks_a_tie() -> None:
    world = World(buffer_se=0, max_se=3)
    for engine in "ABC":
        world.engine(engine)
    world.add(*names(3))
    assert [world.primary(vs) for vs in names(3)] == ["A", "B", "C"]
    world.remove("VS2")
    world.add("VS4", "VS5")
    assert (world.primary("VS4"), world.primary("VS5")) == ("B", "A")


def test_a_disabled_engine_counts_against_max_se() -> None:
    world = World(max_se=2, buffer_se=0, max_vs_per_se=1)
    world.add("VS1")
    idle = "spare"
    world.engine(idle)
    world.enable_state(idle, "SE_STATE_DISABLED")
    world.add("VS2")
    assert world.on("VS2") == []
    assert "max_se 2 is reached" in last_decision(world, "VS2")


def test_a_failed_engine_does_not_count_against_max_se() -> None:
    world = World(max_se=2, buffer_se=0, max_vs_per_se=1)
    world.add("VS1", "VS2")
    world.fail(world.primary("VS1"))
    assert len(world.on("VS1")) == 1
    assert world.count() == 2


def test_a_service_waits_for_an_engine_in_creation_and_all_that_wait_share_it() -> None:
    world = World(buffer_se=0)
    world.makes = False
    world.put("VS1")
    world.put("VS2")
    world.settle()
    assert len(world.engines) == 1
    assert world.on("VS1") == world.on("VS2") == ["SE1"]
    assert {p.state for vs in ("VS1", "VS2") for p in world.vips[vs].placements} == {PlacementState.WAITING}


def test_services_without_any_engine_are_placed_before_those_below_their_scale() -> None:
    world = World(max_vs_per_se=1, max_se=2, buffer_se=0, can_create=False, min_scaleout_per_vs=2)
    for engine in "AB":
        world.engine(engine)
    world.put("VS1")
    world.put("VS2")
    world.settle()
    assert [len(world.on(vs)) for vs in ("VS1", "VS2")] == [1, 1]


def test_waiting_for_an_engine_is_told_after_a_minute() -> None:
    world = World(buffer_se=0)
    world.makes = False
    world.add("VS1")
    world.wait(59)
    assert "VS_AWAITING_SE" not in world.events
    world.wait(1)
    assert "VS_AWAITING_SE" in world.events


def test_a_failed_creation_is_not_tried_again_before_its_time_unless_asked() -> None:
    world = World(buffer_se=0, create_retry_at=1300.0)
    world.put("VS1")
    world.settle()
    assert world.on("VS1") == []
    assert world.last is not None and world.last.wake_at == 1060.0  # the event of waiting; then the retry
    assert world.request("retryplacement", "VS1").ok
    assert world.on("VS1") == ["SE1"]


def test_a_retry_whose_service_waits_for_a_takeover_excuses_no_creation_until_then() -> None:
    """Its answer is still to come; each creation that failed was followed by the next in the same moment."""
    world = World(max_vs_per_se=1)
    world.add("VS1")
    (owner,) = world.on("VS1")
    world.alter(owner, state=EngineState.DOWN, down_since=world.now)
    world.group = msgspec.structs.replace(world.group, create_retry_at=world.now + 300.0)
    world.requests["retry"] = Request(id="retry", kind=RequestKind.RETRY, vip="VS1", at=world.now)
    waiting = plan(world.snapshot(), world.now)
    assert (list(waiting.new_engines), list(waiting.results)) == ([], [])
    assert plan(world.snapshot(), world.now + TAKEOVER_WITHIN_S).new_engines, "nobody took it over"


# --- scale ---


def test_raising_the_minimum_lifts_only_services_below_it() -> None:
    world = World(buffer_se=0)
    world.add("VS1", "VS2")
    world.request("scaleout", "VS2")
    world.edit(min_scaleout_per_vs=2)
    assert [len(world.on(vs)) for vs in ("VS1", "VS2")] == [2, 2]
    assert world.vips["VS2"].user_factor == 0


def test_lowering_the_minimum_moves_nothing() -> None:
    world = World(buffer_se=0, min_scaleout_per_vs=2)
    world.add("VS1")
    before = world.on("VS1")
    world.edit(min_scaleout_per_vs=1)
    assert world.on("VS1") == before
    assert world.request("scalein", "VS1").ok
    assert len(world.on("VS1")) == 1


def test_lowering_the_maximum_keeps_a_wider_service_and_lets_it_shrink() -> None:
    world = World(buffer_se=0, max_scaleout_per_vs=4)
    world.add("VS1")
    for _ in range(3):
        world.request("scaleout", "VS1")
    world.edit(max_scaleout_per_vs=3)
    assert len(world.on("VS1")) == 4
    assert not world.request("scaleout", "VS1").ok
    assert world.request("scalein", "VS1").ok
    assert len(world.on("VS1")) == 3


def test_a_service_enabled_again_is_capped_at_the_maximum() -> None:
    world = World(buffer_se=0, max_scaleout_per_vs=4)
    world.add("VS1")
    for _ in range(3):
        world.request("scaleout", "VS1")
    world.vips["VS1"] = msgspec.structs.replace(world.vips["VS1"], enabled=False)
    world.edit(max_scaleout_per_vs=2)
    world.wait(31)
    world.vips["VS1"] = msgspec.structs.replace(world.vips["VS1"], enabled=True)
    world.settle()
    assert len(world.on("VS1")) == 2


def test_a_scale_in_takes_a_secondary() -> None:
    world = World(buffer_se=0)
    world.add("VS1")
    world.request("scaleout", "VS1")
    owner = world.primary("VS1")
    assert world.request("scalein", "VS1").ok
    assert world.on("VS1") == [owner]


@pytest.mark.parametrize("named", [False, True])
def test_the_primary_is_scaled_in_when_asked_and_another_takes_over_first(named: bool) -> None:
    world = World(buffer_se=0)
    world.add("VS1")
    world.request("scaleout", "VS1")
    owner, generation = world.primary("VS1"), world.vips["VS1"].generation
    assert world.request("scalein", "VS1", **({"from_engine": owner} if named else {"scalein_primary": True})).ok
    assert world.primary("VS1") != owner
    assert world.vips["VS1"].generation == generation + 1
    assert owner not in world.on("VS1")


def test_what_is_too_many_leaves_also_where_no_engine_can_be_left() -> None:
    """Every engine is being disabled, and nothing else has room: a migrate had brought the service to one of them."""
    world = World(buffer_se=0, max_se=3, min_scaleout_per_vs=2)
    for engine in "ABC":
        world.engine(engine)
    world.add("VS1")
    assert world.request("scaleout", "VS1").ok and len(world.on("VS1")) == 3
    for engine in "ABC":
        world.alter(engine, enable_state="SE_STATE_DISABLED")
    world.settle()
    assert len(world.on("VS1")) == 3, "as many as are asked for, on engines that can't be left"
    owner = world.primary("VS1")
    world.vips["VS1"] = msgspec.structs.replace(world.vips["VS1"], user_factor=0, requested=2)
    world.settle()
    world.wait(31.0)
    assert len(world.on("VS1")) == 2 and world.primary("VS1") == owner


def test_a_migrate_that_ends_where_it_began_has_failed() -> None:
    """The engine that it came to dies while the one that it left still drains, and takes the service back."""
    world = World(buffer_se=0)
    for engine in "AB":
        world.engine(engine)
    world.add("VS1")
    (former,) = world.on("VS1")
    world.requests["q"] = Request(id="q", kind=RequestKind.MIGRATE, vip="VS1", at=world.now)
    world.settle()
    owner = world.primary("VS1")
    assert world.vips["VS1"].succession == (owner, former)
    world.fail(owner)
    assert world.primary("VS1") == former
    (answer,) = world.results
    assert not answer.ok and f"{former}, which it was leaving, has taken it back" in answer.message


def test_an_engine_disabled_for_placement_keeps_what_it_has_and_gets_nothing() -> None:
    world = World(buffer_se=0, max_vs_per_se=4)
    world.add("VS1")
    only = world.primary("VS1")
    world.enable_state(only, "SE_STATE_DISABLED_FOR_PLACEMENT")
    world.add("VS2")
    assert world.on("VS1") == [only]
    assert only not in world.on("VS2")
    refused = world.request("migrate", "VS1")
    assert not refused.ok and "DISABLED_FOR_PLACEMENT" in refused.message


@pytest.mark.parametrize("kind", ["scaleout", "migrate"])
def test_an_operation_goes_to_the_engine_that_is_asked_for_or_to_a_new_one(kind: str) -> None:
    world = World(buffer_se=0)
    for engine in "ABC":
        world.engine(engine)
    world.add("VS1")
    assert world.request(kind, "VS1", to_engine="C").ok
    assert "C" in world.on("VS1")
    count = world.count()
    assert world.request(kind, "VS1", to_new=True).ok
    assert world.count() == count + 1
    assert f"SE{world.serial}" in world.on("VS1")


def test_the_only_placement_that_serves_never_leaves_as_surplus() -> None:
    world = World(buffer_se=0)
    for engine in "AB":
        world.engine(engine)
    world.add("VS1")
    primary = Placement(engine="A", role=Role.PRIMARY, state=PlacementState.ASSIGNED, since=world.now)
    serving = Placement(engine="B", role=Role.SECONDARY, state=PlacementState.READY, since=world.now)
    world.vips["VS1"] = msgspec.structs.replace(world.vips["VS1"], placements=(primary, serving), requested=1)
    planned = [p for vip in plan(world.snapshot(), world.now).vips for p in vip.placements if p.engine == "B"]
    assert all(p.state is PlacementState.READY for p in planned)
    world.settle()
    world.wait(31)
    assert world.on("VS1") == ["A"], "once the primary serves, the other one leaves"


def test_a_successor_on_another_host_comes_before_the_next_in_line() -> None:
    """While one more is being made on a host, the VIP is not placed on that host again though it is next in succession there."""
    world = World(buffer_se=0, max_se=3, max_vs_per_se=4, vs_host_redundancy=True, min_scaleout_per_vs=2)
    for engine, host in (("A", "h3"), ("B", "h1"), ("C", "h4")):
        world.engine(engine, host)
    world.engine("D", "h1")
    world.alter("D", state=EngineState.CREATING)
    world.alter("A", state=EngineState.DOWN, down_since=world.now - 10.0)
    serving = Placement(engine="A", role=Role.PRIMARY, state=PlacementState.READY, since=0.0)
    coming = Placement(engine="D", role=Role.SECONDARY, state=PlacementState.WAITING, since=0.0)
    world.put("VS1")
    world.vips["VS1"] = msgspec.structs.replace(
        world.vips["VS1"],
        placements=(serving, coming),
        succession=("A", "B", "C"),
        generation=1,
        list_version=1,
        requested=2,
        user_factor=0,
        armed=False,
    )
    world.step()
    assert world.primary("VS1") == "C"


# --- timers ---


@pytest.mark.parametrize("claimed", [False, True])
def test_who_is_ready_stands_in_for_an_owner_that_does_not_take_on(claimed: bool) -> None:
    """It is slow, or frozen, or does not hear the controller; nobody answers meanwhile."""
    world = World(buffer_se=0, min_scaleout_per_vs=2)
    for engine in "AB":
        world.engine(engine)
    world.add("VS1")
    vip, owner = world.vips["VS1"], world.primary("VS1")
    (other,) = (engine for engine in world.on("VS1") if engine != owner)
    slow = Placement(engine=owner, role=Role.PRIMARY, state=PlacementState.ASSIGNED, since=world.now)
    ready = Placement(engine=other, role=Role.SECONDARY, state=PlacementState.READY, since=world.now)
    vip = world.vips["VS1"] = msgspec.structs.replace(vip, placements=(slow, ready), claimant=owner if claimed else "")
    world.step()
    assert world.last is not None and world.primary("VS1") == owner
    assert world.last.wake_at == (None if claimed else world.now + 1.5)
    world.now += 1.5
    world.step()
    assert world.primary("VS1") == (owner if claimed else other)
    assert world.vips["VS1"].generation == vip.generation + (not claimed)
    if not claimed:
        assert world.last is not None and f"{other} is ready" in last_decision(world, "VS1")


def test_nobody_stands_in_for_an_owner_out_of_sight() -> None:
    """It may answer, unheard."""
    world = World(buffer_se=0, min_scaleout_per_vs=2)
    for engine in "AB":
        world.engine(engine)
    world.add("VS1")
    owner = world.primary("VS1")
    placements = tuple(
        msgspec.structs.replace(p, state=PlacementState.ASSIGNED, since=world.now - 60.0) if p.engine == owner else p
        for p in world.vips["VS1"].placements
    )
    world.vips["VS1"] = msgspec.structs.replace(world.vips["VS1"], placements=placements, claimant="")
    world.alter(owner, state=EngineState.SUSPECT)
    world.step()
    assert world.primary("VS1") == owner


@pytest.mark.parametrize("upgrade_s", [5.0, 90.0])
def test_what_drains_from_an_engine_that_is_upgraded_has_a_time_of_its_own(upgrade_s: float) -> None:
    world = World(buffer_se=0, max_vs_per_se=4, vs_scalein_timeout_for_upgrade_s=upgrade_s)
    for name in ("A", "B", "C", "D"):
        world.engine(name)
    world.add("VS1", "VS2")
    upgraded, other = world.primary("VS1"), world.primary("VS2")
    world.edit(upgrading=upgraded)
    for engine in (upgraded, other):
        world.alter(engine, enable_state="SE_STATE_DISABLED")
    world.settle()
    began, left = world.now, dict[str, float]()
    while len(left) < 2:
        assert world.last is not None and world.last.wake_at is not None
        world.wait(world.last.wake_at - world.now)
        for vip, engine in (("VS1", upgraded), ("VS2", other)):
            if engine not in world.on(vip):
                left.setdefault(vip, world.now - began)
    assert left == {"VS1": upgrade_s, "VS2": world.group.vs_scalein_timeout_s}


@pytest.mark.parametrize(("kind", "told"), [("scaleout", "VS_SCALEOUT_FAILED"), ("migrate", "VS_MIGRATE_FAILED")])
def test_an_operation_whose_engine_is_not_ready_in_time_is_taken_back(kind: str, told: str) -> None:
    world = World(vs_scaleout_timeout_s=60.0)
    world.add("VS1")
    before = world.on("VS1")
    world.requests["q"] = Request(id="q", kind=RequestKind(kind), vip="VS1", at=world.now)
    world.step()
    (joined,) = (engine for engine in world.on("VS1") if engine not in before)
    world.now += 59.0
    world.step()
    assert not world.results and world.last is not None and world.last.wake_at == world.now + 1.0
    world.now += 1.0
    world.step()
    (answer,) = world.results
    assert not answer.ok and f"{joined} was not ready within 60 s" in answer.message
    assert told in world.events
    world.wait(world.group.vs_scalein_timeout_s)
    assert world.on("VS1") == before
    assert (world.vips["VS1"].requested, world.vips["VS1"].user_factor) == (1, 0)


def test_without_a_limit_an_operation_waits_for_its_engine() -> None:
    world = World(vs_scaleout_timeout_s=0.0)
    world.add("VS1")
    world.requests["q"] = Request(id="q", kind=RequestKind.SCALE_OUT, vip="VS1", at=world.now)
    world.step()
    for _ in range(3):
        world.now += 3600.0
        world.step()
        assert not world.results
    world.settle()
    assert [answer.ok for answer in world.results] == [True] and len(world.on("VS1")) == 2
