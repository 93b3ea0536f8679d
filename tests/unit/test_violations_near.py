"""What a plan touches is held against the same rules as the whole group, at the cost of what it touches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from shoal.placement import Planner
from shoal.placement.carry import enter, progress
from shoal.placement.invariants import violations, violations_near
from shoal.placement.model import Engine, EngineState, Group, Placement, Plan, Snapshot, Vip, VipPlan

NOW = 1_000.0
ENGINES = 12


def settled() -> Planner:
    """Twelve engines on six hosts, two VIPs on most of them, room for three."""
    group = Group(id="g", name="g", max_se=ENGINES, max_vs_per_se=3, buffer_se=0, algo="PLACEMENT_ALGO_DISTRIBUTED")
    engines = (
        Engine(id=f"e{n}", name=f"e{n}", rank=n, host=f"h{n // 2}", state=EngineState.UP) for n in range(ENGINES)
    )
    vips = (Vip(id=f"v{n}", name=f"v{n}", slots=1, created=float(n)) for n in range(20))
    planner = Planner(Snapshot(revision=1, group=group, engines=tuple(engines), vips=tuple(vips)))
    while not (plan := planner.plan(NOW)).empty:
        enter(planner.standing, plan)
        progress(planner.standing, plan, NOW)
    return planner


def both(planner: Planner, plan: Plan) -> tuple[list[str], list[str]]:
    near = violations_near(planner.standing, plan, (), ())
    return near, violations(planner.standing.snapshot(), plan)


def moved(change: Callable[[VipPlan, Placement], VipPlan]) -> Callable[[Planner], Plan]:
    """A plan that gives a new VIP an engine, and does something else with it."""

    def make(planner: Planner) -> Plan:
        planner.standing.put_vip(Vip(id="new", name="new", slots=1, created=1e9))
        plan = planner.plan(NOW)
        vips = tuple(change(vip, vip.placements[0]) if vip.id == "new" else vip for vip in plan.vips)
        return replace(plan, vips=vips)

    return make


def full(planner: Planner) -> str:
    load = planner.standing.load
    return max(load, key=lambda engine: (load[engine], engine))


def one_too_many(planner: Planner) -> Plan:
    engine = full(planner)
    for number in range(4):
        planner.standing.put_vip(Vip(id=f"new{number}", name=f"new{number}", slots=1, created=1e9 + number))
    plan = planner.plan(NOW)
    vips = tuple(
        replace(vip, placements=tuple(replace(p, engine=engine) for p in vip.placements), succession=(engine,))
        if vip.id.startswith("new")
        else vip
        for vip in plan.vips
    )
    return replace(plan, vips=vips)


def old_list(planner: Planner) -> Plan:
    planner.standing.put_vip(Vip(id="new", name="new", slots=1, created=1e9))
    plan = planner.plan(NOW)
    vips = tuple(replace(vip, list_version=0) if vip.id == "new" else vip for vip in plan.vips)
    return replace(plan, vips=vips)


def retired_with_all(planner: Planner) -> Plan:
    return replace(planner.plan(NOW), retire_engines=(full(planner),))


@pytest.mark.parametrize(
    "make",
    [
        moved(lambda vip, first: replace(vip, placements=(first, first))),
        moved(lambda vip, first: replace(vip, succession=("e11", "e10"))),
        one_too_many,
        old_list,
        retired_with_all,
    ],
)
def test_a_plan_that_breaks_a_rule_is_found_by_what_it_touches(make: Callable[[Planner], Plan]) -> None:
    planner = settled()
    near, all_of_it = both(planner, make(planner))
    assert set(near) == set(all_of_it) != set()


def test_a_good_plan_breaks_none_and_little_is_looked_at() -> None:
    planner = settled()
    planner.standing.put_vip(Vip(id="new", name="new", slots=1, created=1e9))
    assert both(planner, planner.plan(NOW)) == ([], [])
