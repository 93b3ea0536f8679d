"""Every rule of auto-rebalance (reference: elastic-ha 4), by its name."""

from __future__ import annotations

import pytest

from shoal.placement import rebalance
from shoal.placement.load import EngineLoad, Load, Marks, marks
from shoal.placement.model import EngineState, Request, RequestKind
from shoal.placement.rebalance import Action
from tests.scenarios.balanced import Balanced

OUT, IN, MOVE = RequestKind.SCALE_OUT, RequestKind.SCALE_IN, RequestKind.MIGRATE
CONNS = Marks(high=60, low=30, capacity={"open_conns": 50})


def crowded(*cpu: float, **group: object) -> Balanced:
    """Services s1, s2 ... on SE1, all on it, and SE2 idle. ``cpu``: what each makes."""
    world = Balanced(**{"buffer_se": 1, "max_se": 4, "se_deprovision_delay_s": 0.0, **group})
    for number, percent in enumerate(cpu, 1):
        world.service(f"s{number}", cpu=percent)
    for number in range(1, len(cpu) + 1):
        world.put_on(f"s{number}", "SE1")
    return world


# --- over the high mark ---


def test_between_the_marks_nothing_is_done() -> None:
    found = crowded(40, 30).look()
    assert found.action is None
    assert [e.level for e in found.engines] == ["between", "idle"]
    assert found.why == "every engine is between the marks"


def test_the_only_virtual_service_of_an_engine_over_the_mark_is_scaled_out() -> None:
    """The document's example: one VS on an 85 % SE."""
    found = crowded(85).look()
    assert found.action == Action(kind=OUT, vip="s1", to_engine="SE2")
    assert found.why == "SE1 has 85 % CPU, above 80 %: s1 is alone on it: scale it out; SE2 goes from 0 % to 42 %"


def test_two_virtual_services_of_45_percent_each_one_migrates_to_a_new_engine() -> None:
    """The document's example: neither passes 70 % of the packets."""
    world = crowded(45, 45, buffer_se=0)
    assert [*world.engines] == ["SE1"]
    found = world.look()
    assert found.action == Action(kind=MOVE, vip="s1", from_engine="SE1", to_new=True)
    assert "no running engine can take it, so one is made" in found.why
    world.act(found.action)
    assert world.on("s1") == ["SE2"] and world.on("s2") == ["SE1"]
    assert world.look().action is None


def test_one_with_more_than_70_percent_of_the_packets_is_scaled_out() -> None:
    world = crowded(66, 24)
    found = world.look()
    assert found.action == Action(kind=OUT, vip="s1", to_engine="SE2")
    assert "s1 makes 73 % of its packets" in found.why


def test_70_percent_of_the_packets_is_not_more_than_70_percent() -> None:
    world = crowded(63, 27)
    assert world.look().action == Action(kind=MOVE, vip="s1", from_engine="SE1", to_engine="SE2")


def test_packets_decide_the_scale_out_and_not_the_figure_that_is_over() -> None:
    world = crowded(66, 24)
    world.loads_with("s1", cpu=66, pps=100)
    world.loads_with("s2", cpu=24, pps=100)
    found = world.look()
    assert found.action is not None and found.action.kind is MOVE and found.action.vip == "s1"


def test_the_heavier_consumer_is_migrated() -> None:
    found = crowded(20, 35, 30).look()
    assert found.action == Action(kind=MOVE, vip="s2", from_engine="SE1", to_engine="SE2")
    assert "s2 makes 35 % CPU of it" in found.why


def test_a_lighter_one_is_migrated_where_only_it_has_room() -> None:
    world = crowded(20, 35, 30, max_se=2)
    world.service("other", cpu=45)
    assert world.on("other") == ["SE2"]
    found = world.look()
    assert found.action == Action(kind=MOVE, vip="s3", from_engine="SE1", to_engine="SE2")
    world.loads_with("other", cpu=50)
    found = world.look()
    assert found.action is not None and found.action.vip == "s1"


def test_a_move_must_not_make_its_target_cross_the_mark() -> None:
    world = crowded(45, 40, max_se=2)
    world.service("other", cpu=60)
    found = world.look()
    assert found.action is None
    assert "no running engine can take it and none can be made: max_se 2 is reached" in found.why


def test_of_several_targets_the_one_with_the_least_measured_load() -> None:
    world = crowded(45, 45, buffer_se=2)
    world.service("a", cpu=30)
    world.service("b", cpu=10)
    assert (world.on("a"), world.on("b")) == (["SE2"], ["SE3"])
    assert world.look().action == Action(kind=MOVE, vip="s1", from_engine="SE1", to_engine="SE3")


def test_why_the_others_were_passed_over_is_in_the_decision() -> None:
    world = crowded(45, 45, buffer_se=2)
    world.service("a", cpu=70)
    found = world.look()
    decision, judged = found.decision, found.judged
    assert decision is not None and decision.what == "rebalance_migrate" and decision.engine == "SE3"
    assert (decision.eligible, decision.excluded) == (1, (("holds_vip", 1), ("would_be_over", 1)))
    assert judged is not None
    assert {r.engine: r.rule for r in judged.rejections} == {"SE1": "holds_vip", "SE2": "would_be_over"}
    assert "it would have 115 %, more than 75 % (5 below the high mark)" in [r.detail for r in judged.rejections]


def test_at_max_scaleout_per_vs_it_is_migrated_instead() -> None:
    world = crowded(72, 11, max_scaleout_per_vs=1)
    found = world.look()
    assert found.action == Action(kind=MOVE, vip="s1", from_engine="SE1", to_engine="SE2")
    assert "s1 makes 87 % of its packets, and has 1 engines of max_scaleout_per_vs 1" in found.notes[0]


def test_at_max_scaleout_per_vs_and_no_move_helps_it_is_only_logged() -> None:
    found = crowded(85, max_scaleout_per_vs=1).look()
    assert found.action is None
    assert found.why.startswith("SE1 has 85 % CPU, above 80 %: s1 is alone on it, and has 1 engines")


def test_a_new_engine_is_made_for_a_scale_out() -> None:
    world = crowded(85, buffer_se=0)
    found = world.look()
    assert found.action == Action(kind=OUT, vip="s1", to_new=True)
    world.act(found.action)
    assert sorted(world.on("s1")) == ["SE1", "SE2"]


def test_at_max_se_it_is_only_logged() -> None:
    found = crowded(85, buffer_se=0, max_se=1).look()
    assert found.action is None
    assert "no running engine can take it and none can be made: max_se 1 is reached" in found.why


def test_an_engine_on_its_way_is_waited_for() -> None:
    world = crowded(85, buffer_se=0)
    world.makes = False
    world.edit(buffer_se=1)
    found = world.look()
    assert found.action is None and "SE2 is being created" in found.why


def test_nothing_is_balanced_while_engines_are_out_of_the_controllers_sight() -> None:
    world = crowded(85, buffer_se=0)
    assert world.look().action is not None
    world.engine("SE9")
    world.alter("SE9", state=EngineState.SUSPECT)
    found = world.look()
    assert found.action is None and "lost at once" in found.why


def test_the_host_rule_holds_for_a_scale_out() -> None:
    world = crowded(85)
    world.alter("SE1", host="h1")
    world.alter("SE2", host="h1")
    found = world.look()
    assert found.action == Action(kind=OUT, vip="s1", to_new=True)
    assert found.judged is not None
    assert [r.rule for r in found.judged.rejections if r.engine == "SE2"] == ["host_in_use"]


def test_max_vs_per_se_holds_for_a_target() -> None:
    world = crowded(45, 45, max_vs_per_se=2, buffer_se=2, max_se=3)
    world.service("a", slots=2, cpu=1)
    world.service("b", slots=2, cpu=1)
    assert (world.on("a"), world.on("b")) == (["SE2"], ["SE3"])
    found = world.look()
    assert found.action is None and "none can be made" in found.why


def test_nothing_is_migrated_from_an_engine_disabled_for_placement() -> None:
    world = crowded(45, 45)
    world.enable_state("SE1", "SE_STATE_DISABLED_FOR_PLACEMENT")
    found = world.look()
    assert found.action is None and "nothing is migrated from it" in found.why


def test_nothing_goes_to_a_disabled_engine() -> None:
    world = crowded(85, max_se=2)
    world.enable_state("SE2", "SE_STATE_DISABLED_FOR_PLACEMENT")
    assert world.look().action is None


def test_a_scale_out_that_did_not_spread_is_not_followed_by_another() -> None:
    """Long-lived connections stay where they are: more engines would not take any of them."""
    world = crowded(85, max_scaleout_per_vs=4)
    world.put_on("s1", "SE1", "SE2")
    loads = world.loads()
    loads["SE1"] = EngineLoad(whole=Load(cpu=85), vips={"s1": Load(cpu=85)})
    loads["SE2"] = EngineLoad(whole=Load(cpu=3), vips={"s1": Load(cpu=3)})
    found = rebalance.look(world.snapshot(), world.marks, loads, world.now)
    assert found.action is None and "SE2 has only 3 % CPU of it: one more engine would not help" in found.why


def test_load_that_no_virtual_service_makes_moves_nothing() -> None:
    world = crowded(10, 10)
    loads = world.loads()
    nothing = {vip: Load() for vip in loads["SE1"].vips}
    loads["SE1"] = EngineLoad(whole=Load(cpu=95), vips=nothing)
    found = rebalance.look(world.snapshot(), world.marks, loads, world.now)
    assert found.action is None and "no virtual service on it makes any of it" in found.why


def test_the_fullest_engine_is_relieved_first() -> None:
    world = crowded(45, 45, buffer_se=2)
    world.service("a", cpu=50)
    world.service("b", cpu=45)
    world.put_on("b", "SE2")
    found = world.look()
    assert found.action is not None and found.action.from_engine == "SE2"


# --- criteria and capacities ---


def test_open_conns_with_capacity_50_and_high_mark_60_acts_above_30_connections() -> None:
    """The document's example."""
    world = crowded(0, 0)
    world.marks = CONNS
    world.loads_with("s1", open_conns=16)
    world.loads_with("s2", open_conns=14)
    assert world.look().action is None
    world.loads_with("s2", open_conns=15)
    found = world.look()
    assert found.action == Action(kind=MOVE, vip="s1", from_engine="SE1", to_engine="SE2")
    assert found.why.startswith("SE1 has 31 open connections (62 % of 50), above 60 %: s1 makes 16 open connections")


def test_one_criterion_over_its_mark_is_enough_and_none_may_be_made_to_cross() -> None:
    world = crowded(50, 20)
    world.marks = Marks(capacity={"cpu": 100, "cps": 1000})
    world.loads_with("s1", cpu=50, cps=500)
    world.loads_with("s2", cpu=20, cps=400)
    found = world.look()
    assert found.action is not None and "900 new connections/s (90 % of 1000)" in found.why


def test_no_criteria_means_cpu() -> None:
    assert marks(80, 30, (), ()) == (Marks(high=80, low=30, capacity={"cpu": 100}), "")


def test_each_criterion_has_the_capacity_in_its_place() -> None:
    names = ("SE_AUTO_REBALANCE_PPS", "SE_AUTO_REBALANCE_MBPS", "SE_AUTO_REBALANCE_OPEN_CONNS", "SE_AUTO_REBALANCE_CPS")
    found, problem = marks(60, 30, names, (1, 2, 3, 4))
    assert found.capacity == {"pps": 1, "mbps": 2, "open_conns": 3, "cps": 4} and problem == ""


def test_a_criterion_without_a_capacity_is_not_looked_at() -> None:
    found, problem = marks(80, 30, ("SE_AUTO_REBALANCE_CPU", "SE_AUTO_REBALANCE_MBPS"), (100,))
    assert found.capacity == {"cpu": 100}
    assert problem == "SE_AUTO_REBALANCE_MBPS is not looked at: auto_rebalance_capacity_per_se has no capacity for it"


# --- under the low mark ---


def spread(*cpu: float, **group: object) -> Balanced:
    """Each service on an engine of its own."""
    world = Balanced(**{"buffer_se": 0, "max_se": 8, "se_deprovision_delay_s": 0.0, **group})
    world.edit(algo="PLACEMENT_ALGO_DISTRIBUTED")
    for number, percent in enumerate(cpu, 1):
        world.service(f"s{number}", cpu=percent)
    return world


def test_a_scaled_virtual_service_is_scaled_in() -> None:
    world = crowded(40)
    world.put_on("s1", "SE1", "SE2")
    found = world.look()
    assert found.action is not None and (found.action.kind, found.action.vip) == (IN, "s1")
    assert "scale s1 in, which has 2 engines and needs 1; SE1 goes to 40 %" in found.why
    world.act(found.action)
    assert len(world.on("s1")) == 1


def test_it_is_not_scaled_in_where_the_rest_would_come_near_the_high_mark() -> None:
    world = crowded(58)
    world.put_on("s1", "SE1", "SE2")
    found = world.look()
    assert found.action is None and "SE1 would have 58 % (at most 55 %)" in found.why


def test_min_scale_is_never_broken() -> None:
    world = spread(10, min_scaleout_per_vs=2)
    assert len(world.on("s1")) == 2
    assert world.look().action is None


def test_virtual_services_are_consolidated_and_the_emptied_engine_may_go() -> None:
    world = spread(10, 12, 14)
    assert world.load() == {"SE1": 1, "SE2": 1, "SE3": 1}
    found = world.look()
    assert found.action == Action(kind=MOVE, vip="s3", from_engine="SE3", to_engine="SE1")
    assert "SE3 has 14 % CPU, below 30 %: migrate s3 from it, so that it can go" in found.why
    world.rebalance()
    assert sorted(world.load().values()) == [0, 0, 3]


def test_consolidation_keeps_min_se() -> None:
    world = spread(10, 12, 14, min_se=2)
    world.rebalance()
    assert sorted(world.load().values()) == [0, 1, 2]
    assert "the group needs 2 of its 3 engines for min_se 2" in world.look().why


def test_consolidation_keeps_the_buffer() -> None:
    world = spread(10, 12, 14, buffer_se=1)
    assert world.count() == 3
    world.rebalance()
    assert sorted(world.load().values()) == [0, 1, 2]
    assert "for its virtual services and buffer_se 1" in world.look().why


def test_consolidation_keeps_max_vs_per_se() -> None:
    world = spread(10, 12, 14, max_vs_per_se=1)
    assert world.look().action is None


def test_consolidation_keeps_the_host_rule() -> None:
    world = spread(10, min_scaleout_per_vs=2, min_se=1)
    world.service("s2", cpu=5)
    assert [*world.engines] == ["SE1", "SE2", "SE3", "SE4"]
    for engine, host in {"SE1": "h1", "SE2": "h2", "SE3": "h1", "SE4": "h2"}.items():
        world.alter(engine, host=host)
    world.rebalance()
    hosts = [{world.engines[e].host for e in world.on(vip)} for vip in ("s1", "s2")]
    assert hosts == [{"h1", "h2"}, {"h1", "h2"}]
    assert sorted(world.load().values()) == [0, 0, 2, 2]


def test_consolidation_brings_no_engine_near_the_high_mark() -> None:
    world = spread(28, 28, 29)
    assert world.look().action is None


def test_an_engine_is_emptied_only_if_all_on_it_has_a_place() -> None:
    world = spread(2, 50)
    world.service("s3", cpu=20)
    world.put_on("s3", "SE1")
    assert world.load() == {"SE1": 2, "SE2": 1, "SE3": 0}
    assert world.look().action is None


def test_nothing_is_consolidated_while_an_engine_is_over_the_mark() -> None:
    world = crowded(85, buffer_se=0, max_scaleout_per_vs=1)
    world.edit(algo="PLACEMENT_ALGO_DISTRIBUTED")
    world.service("a", cpu=1)
    world.service("b", cpu=1)
    assert sorted(world.load().values()) == [1, 1, 1]
    assert world.look().action is None


# --- at most one change, and never in the dark ---


def test_nothing_while_an_operation_is_under_way() -> None:
    world = crowded(45, 45)
    world.requests["r"] = Request(id="r", kind=OUT, vip="s2", at=1.0)
    found = world.look()
    assert found.action is None and found.why == "an operation on s2 is under way"


def test_nothing_while_a_placement_is_not_ready() -> None:
    world = crowded(45, 45)
    world.put("new")
    world.step()
    found = world.look()
    assert found.action is None and found.why == "new is being moved (SE2: assigned)"


def test_missing_figures_move_nothing() -> None:
    world = crowded(45, 45)
    world.silent = {"SE1", "SE2"}
    found = world.look()
    assert found.action is None and found.why.endswith("the load of SE1, SE2 is not known")


def test_an_engine_whose_figures_are_missing_is_no_target() -> None:
    world = crowded(45, 45, max_se=2)
    world.silent = {"SE2"}
    found = world.look()
    assert found.action is None


def test_a_virtual_service_is_not_scaled_in_while_figures_of_one_of_its_engines_are_missing() -> None:
    world = crowded(40)
    world.put_on("s1", "SE1", "SE2")
    world.silent = {"SE2"}
    assert world.look().action is None


def test_legacy_groups_are_not_rebalanced() -> None:
    world = Balanced(ha_mode="HA_MODE_LEGACY_ACTIVE_STANDBY")
    with pytest.raises(ValueError, match="not rebalanced"):
        world.look()


def test_after_a_change_steady_load_makes_no_other_one() -> None:
    for world in (crowded(85), crowded(45, 45), crowded(62, 28), crowded(20, 35, 30)):
        assert len(world.rebalance()) == 1


def test_active_active_groups_are_rebalanced() -> None:
    world = Balanced(
        ha_mode="HA_MODE_SHARED_PAIR",
        algo="PLACEMENT_ALGO_DISTRIBUTED",
        buffer_se=0,
        min_scaleout_per_vs=2,
        max_se=3,
        se_deprovision_delay_s=0.0,
    )
    world.service("s1", cpu=90)
    world.service("s2", cpu=80)
    for vip in ("s1", "s2"):
        world.put_on(vip, "SE1", "SE2")
    found = world.look()
    assert found.action == Action(kind=MOVE, vip="s1", from_engine="SE1", to_engine="SE3")
