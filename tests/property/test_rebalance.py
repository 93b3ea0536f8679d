"""Auto-rebalance under random steady loads: no rule is broken, it ends, and it undoes nothing it did."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.placement.load import Load, Marks
from shoal.placement.model import EngineState, RequestKind
from tests.scenarios.balanced import Balanced

HOSTS = ["a", "b", "c"]
LOADS = [0.0, 1.0, 3.0, 8.0, 15.0, 25.0, 40.0, 60.0, 85.0]
seeds = st.integers(min_value=0, max_value=2**32)


def random_world(seed: int) -> Balanced:
    """A settled group in which operators have moved and scaled, with loads of any kind."""
    chance = random.Random(seed)
    pick = chance.choice
    high, low = pick([(80, 30), (60, 30), (90, 60), (40, 40), (50, 20)])
    world = Balanced(
        Marks(high=high, low=low, capacity=pick([{"cpu": 100.0}, {"cpu": 100.0, "cps": 50.0}])),
        ha_mode=pick(["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"]),
        algo=pick(["PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"]),
        buffer_se=pick([0, 1, 2]),
        min_se=pick([0, 1, 3]),
        max_se=pick([2, 4, 8]),
        max_vs_per_se=pick([2, 4, 8]),
        min_scaleout_per_vs=pick([1, 1, 2]),
        max_scaleout_per_vs=pick([2, 4]),
        se_deprovision_delay_s=pick([0.0, 7200.0]),
    )
    world.hosts = pick([[], HOSTS])
    for number in range(chance.randint(1, 8)):
        name = f"V{number}"
        world.service(name, slots=pick([1, 1, 1, 2]), cpu=pick(LOADS), cps=pick(LOADS), pps=pick(LOADS) * 100)
        if chance.random() < 0.4:
            world.request("scaleout", name)
        if chance.random() < 0.4:
            world.request("migrate", name, to_engine=pick(sorted(world.engines)))
    for vip in list(world.vips.values()):
        if len(vip.placements) < vip.requested:
            world.remove(vip.id)  # it would take any room that a change makes
    if chance.random() < 0.2:
        world.silent.add(pick(sorted(world.engines)))
    if chance.random() < 0.2:
        world.alter(pick(sorted(world.engines)), enable_state="SE_STATE_DISABLED_FOR_PLACEMENT")
    return world


def over(world: Balanced) -> dict[str, Load]:
    return {e: load.whole for e, load in world.loads().items() if world.marks.is_over(load.whole)}


def where(world: Balanced) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((vip, tuple(sorted(world.on(vip)))) for vip in sorted(world.vips))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(seeds)
def test_under_steady_load_every_change_keeps_the_rules_and_they_end(seed: int) -> None:
    world = random_world(seed)
    low = world.group.min_scaleout_per_vs
    seen = {where(world)}
    for _ in range(60):
        before, hot = where(world), over(world)
        counts = {vip: len(world.on(vip)) for vip in world.vips}
        found = world.look()
        action = found.action
        assert found.why
        if action is None:
            break
        slots = world.load()
        world.act(action)  # each plan of it is checked against the invariants
        now = where(world)
        changed = {vip for (vip, a), (_, b) in zip(before, now, strict=True) if a != b}
        assert changed == {action.vip}, "one change"
        assert now not in seen, "it came back to where it was"
        seen.add(now)
        newly = [e for e, load in over(world).items() if e not in hot and slots.get(e, 0)]
        assert not newly, "no engine in use was made to cross the high mark"
        assert set(world.on(action.vip)).isdisjoint(world.silent) or counts[action.vip] > 1
        if action.kind is RequestKind.SCALE_IN:
            assert len(world.on(action.vip)) >= low
        if action.kind is RequestKind.SCALE_OUT:
            assert len(world.on(action.vip)) <= world.group.max_scaleout_per_vs
        for vip in world.vips:
            assert len(world.on(vip)) >= min(counts[vip], low)
        up = sum(e.state is not EngineState.DOWN for e in world.engines.values())
        assert up <= world.group.max_se
    else:
        raise AssertionError(f"no end: {found.why}")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds)
def test_noise_of_a_twentieth_does_not_make_it_swing(seed: int) -> None:
    """Figures are never the same twice: when it has ended, they may vary without anything being undone."""
    world = random_world(seed)
    world.rebalance(60)
    chance = random.Random(seed)
    steady = dict(world.demand)
    moved: list[tuple[str, RequestKind]] = []
    for _ in range(12):
        for vip, load in steady.items():
            noise = chance.uniform(0.95, 1.05)
            world.demand[vip] = Load(cpu=load.cpu * noise, cps=load.cps * noise, pps=load.pps * noise)
        action = world.look().action
        if action is not None:
            moved.append((action.vip, action.kind))
            world.act(action)
    kinds = {(vip, kind) for vip, kind in moved}
    assert len(kinds) == len(moved), moved
    assert not any((vip, RequestKind.SCALE_IN) in kinds and (vip, RequestKind.SCALE_OUT) in kinds for vip, _ in kinds)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seeds)
def test_without_figures_nothing_is_done(seed: int) -> None:
    world = random_world(seed)
    world.silent = set(world.engines)
    assert world.look().action is None
