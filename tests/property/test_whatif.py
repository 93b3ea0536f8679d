"""What-if by numbers and by plans: the same answer; the worst set is the worst; what is proven holds."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.placement import plan
from shoal.placement.margin import Bounds, Search, margin, worst
from shoal.placement.model import Engine, EngineState, Group, Snapshot, Vip
from shoal.placement.outcome import Changes
from shoal.placement.survival import Loss, Survival
from shoal.placement.whatif import edited, fail, served_by, whatif
from tests.property.test_placement import History

NOW = 1000.0
seeds = st.integers(min_value=0, max_value=2**32)


def at_rest(seed: int) -> Snapshot:
    """A group with VIPs of several sizes and scales, after some history."""
    history = History(seed)
    pick = history.random.choice
    world = history.world
    world.group = msgspec.structs.replace(
        world.group, max_se=pick([4, 6, 9]), max_vs_per_se=pick([2, 4, 6]), max_scaleout_per_vs=3
    )
    for _ in range(history.random.randint(2, 10)):
        history.add()
    history.run()
    return edited(world.snapshot(), Changes(), world.now + 100).snapshot


def by_plan(snapshot: Snapshot, dead: tuple[str, ...]) -> Loss:
    """The planner's answer."""
    outcome = fail(snapshot, dead, NOW)
    missing = sum(max(0, len(f.before) - len(f.at_once)) for f in outcome.fates if f.at_once)
    return Loss(len(outcome.waiting) + len(outcome.down), missing, len(outcome.interrupted))


def up(snapshot: Snapshot) -> list[str]:
    return [e.id for e in sorted(snapshot.engines, key=lambda e: e.rank) if e.state is EngineState.UP]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seeds)
def test_numbers_say_what_the_planner_says(seed: int) -> None:
    snapshot = at_rest(seed)
    survival = Survival(snapshot, NOW)
    chance = random.Random(seed)
    for _ in range(4):
        dead = chance.sample(up(snapshot), chance.randint(0, len(up(snapshot))))
        loss = survival.loss(survival.engines.index(e) for e in dead)
        if survival.exact:
            assert loss == by_plan(snapshot, tuple(dead)), dead
        bounds = Bounds(survival, len(dead))
        sums = [sum(w[survival.engines.index(e)] for e in dead) for w in bounds.weights]
        most = bounds.loss(sums)
        assert loss.down <= most.down and loss.missing <= most.missing and loss.interrupted == most.interrupted


def mixed(seed: int) -> Snapshot:
    """A group at rest with VIPs of several sizes on one or several engines, full or not."""
    chance = random.Random(seed)
    engines, room, hosts = chance.randint(3, 14), chance.choice([3, 4, 6, 8, 12]), chance.randint(1, 8)
    sizes = chance.choice([[1], [1, 2], [1, 1, 3], [2], [3], [2, 3], [1, 2, 3, 4]])
    scales = chance.choice([[1], [1, 2], [2], [1, 2, 3], [3]])
    group = Group(
        id="g",
        name="g",
        max_vs_per_se=room,
        max_se=engines + chance.choice([0, 0, 2]),
        algo=chance.choice(["PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"]),
        vs_host_redundancy=chance.random() < 0.7,
        buffer_se=chance.choice([0, 1, 2]),
        can_create=chance.random() < 0.6,
        ever_used=True,
    )
    left, vips = int(engines * room * chance.uniform(0.3, 1.0)), list[Vip]()
    while True:
        slots, scale = chance.choice(sizes), min(engines, chance.choice(scales))
        left -= slots * scale
        if left < 0 or slots > room:
            break
        n = len(vips)
        vips.append(Vip(id=f"v{n}", name=f"v{n}", slots=slots, created=n, requested=scale, user_factor=scale - 1))
    up = EngineState.UP
    made = (
        Engine(id=f"e{n}", name=f"e{n}", rank=n, host=f"h{n % hosts}" if hosts < 7 else "", state=up)
        for n in range(engines)
    )
    return edited(Snapshot(revision=1, group=group, engines=tuple(made), vips=tuple(vips)), Changes(), NOW).snapshot


@pytest.mark.parametrize("seed", [*range(30), 99])
def test_no_set_of_a_mixed_group_is_worse_than_its_bound(seed: int) -> None:
    survival = Survival(mixed(seed), NOW)
    chance = random.Random(seed)
    for _ in range(30):
        dead = chance.sample(range(len(survival.engines)), chance.randint(1, len(survival.engines)))
        bounds = Bounds(survival, len(dead))
        most = bounds.loss([sum(weight[engine] for engine in dead) for weight in bounds.weights])
        loss = survival.loss(dead)
        assert loss.down <= most.down and loss.missing <= most.missing, dead


def test_vips_on_several_engines_keep_them_as_long_as_there_is_room() -> None:
    """Known by the bound: of 20 engines, sets of 4 are too many to be looked at."""
    group = Group(id="g", name="g", max_vs_per_se=12, max_se=20, buffer_se=0, can_create=False, ever_used=True)
    engines = tuple(Engine(id=f"e{n}", name=f"e{n}", rank=n, host="", state=EngineState.UP) for n in range(20))
    vips = tuple(Vip(id=f"v{n}", name=f"v{n}", slots=1, created=n, requested=2, user_factor=1) for n in range(84))
    found = margin(edited(Snapshot(revision=1, group=group, engines=engines, vips=vips), Changes(), NOW).snapshot, NOW)
    assert (found.keeps_capacity.engines, found.keeps_capacity.exact) == (5, True)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds)
def test_the_worst_set_is_the_worst_and_the_margin_what_all_sets_survive(seed: int) -> None:
    snapshot = at_rest(seed)
    survival = Survival(snapshot, NOW)
    engines = up(snapshot)
    if not survival.vips or len(engines) > 6:
        return
    losses = {
        count: [by_plan(snapshot, dead) for dead in itertools.combinations(engines, count)]
        for count in range(1, min(3, len(engines)) + 1)
    }
    found = margin(snapshot, NOW)
    for count, of_all in losses.items():
        answer = worst(snapshot, count, NOW)
        assert answer.exact and answer.loss == max(of_all) == by_plan(snapshot, answer.engines)
        assert answer.down_at_most == answer.loss.down == len(answer.down)
        assert found.stays_up.exact and found.keeps_capacity.exact
        assert all(not loss.down for loss in of_all) == (found.stays_up.engines >= count), count
        assert all(not (loss.down or loss.missing) for loss in of_all) == (found.keeps_capacity.engines >= count)
    for guarantee in (found.stays_up, found.keeps_capacity):
        if guarantee.broken_by:
            assert len(guarantee.broken_by) == guarantee.engines + 1
            loss = by_plan(snapshot, guarantee.broken_by)
            assert loss.down or (guarantee is found.keeps_capacity and loss.missing)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds)
def test_a_search_cut_short_says_so_and_its_bound_holds(seed: int) -> None:
    snapshot = at_rest(seed)
    survival = Survival(snapshot, NOW)
    count = 2
    if len(survival.engines) < count:
        return
    search = Search(survival, count, followed_max=1)
    found = survival.loss(search.worst())
    worst_of_all = max(survival.loss(dead) for dead in itertools.combinations(range(len(survival.engines)), count))
    assert found <= worst_of_all
    assert search.complete is False or found == worst_of_all
    assert worst_of_all.down <= search.bounds.most(count).down


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds)
def test_edits_interrupt_nothing_and_end_at_rest(seed: int) -> None:
    snapshot = at_rest(seed)
    chance = random.Random(seed)
    engines = up(snapshot)
    mode = chance.choice(["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"])
    changes = Changes(
        drain=tuple(chance.sample(engines, min(len(engines), chance.choice([0, 1])))),
        remove=tuple(chance.sample(engines, min(len(engines), chance.choice([0, 1])))),
        add=chance.choice([0, 1, 5]),
        proposed=msgspec.structs.replace(snapshot, group=msgspec.structs.replace(snapshot.group, ha_mode=mode)),
    )
    outcome = whatif(snapshot, changes, NOW)
    assert outcome.stays_up and not outcome.interrupted
    after = edited(snapshot, changes, NOW).snapshot
    assert plan(after, NOW).empty
    left = {e.id for e in after.engines}
    for engine in changes.remove:
        assert (engine in left) == (engine in outcome.stuck) == (engine not in outcome.engines_deleted)
    serving = {e for engines in served_by(after).values() for e in engines}
    for engine in (*changes.drain, *changes.remove):
        assert (engine in serving) == (engine in outcome.stuck)
    assert set(outcome.unplaced) == {v.id for v in after.vips if v.enabled and not served_by(after)[v.id]}
