"""Shares of new flows by free CPU: where they go, and when they stay."""

from __future__ import annotations

import itertools
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from shoal.controller.records import VipRecord
from shoal.controller.shares import LOOK_INTERVAL_S, STEP_INTERVAL_S, WEIGHT_MAX, WEIGHT_MIN, Shares, step
from shoal.engine.guard import buckets
from shoal.engine.guard.buckets import deal
from shoal.placement.model import Placement, PlacementState, Role
from shoal.wire import messages

NAMES = ("a", "b", "c")
weights = some.integers(WEIGHT_MIN, WEIGHT_MAX)
members = some.dictionaries(some.sampled_from("abcdefgh"), weights, min_size=1)


# --- buckets ---


def moved(before: tuple[str, ...], after: tuple[str, ...]) -> int:
    return sum(a != b for a, b in zip(before, after, strict=True))


@given(members, members)
def test_weights_are_honoured_within_a_bucket_and_no_bucket_moves_in_vain(
    before: dict[str, int], after: dict[str, int]
) -> None:
    old = deal((), tuple(before), before)
    new = deal(old, tuple(after), after)
    have, share = Counter(old), Counter(new)
    for engine, weight in after.items():
        assert abs(share[engine] - 256 * weight / sum(after.values())) < 1
    # whoever has less than before gave only that, whoever has more only took
    assert moved(old, new) == sum(max(0, have[e] - share[e]) for e in {*before, *after})
    # and no other rounding would have moved fewer: nobody gave a bucket that an odd one could have left to it
    odd_takers = [e for e in after if share[e] > 256 * after[e] // sum(after.values()) and share[e] > have[e]]
    odd_givers = [e for e in after if share[e] < 256 * after[e] / sum(after.values()) and share[e] < have[e]]
    assert not (odd_takers and odd_givers)


@given(members)
def test_the_same_weights_move_nothing(given: dict[str, int]) -> None:
    table = deal((), tuple(given), given)
    assert deal(table, tuple(reversed(given)), given) == table


def test_who_is_not_weighed_gets_an_equal_share_and_nobody_less_than_a_quarter() -> None:
    assert Counter(deal((), ("a", "b", "c", "d"), {"a": 2000, "b": 500, "x": 4000}, 45)) == Counter(
        a=20, b=5, c=10, d=10
    )
    assert Counter(deal((), ("a", "b"), {"a": 0, "b": 10**9}, 17)) == Counter(a=1, b=16)
    assert (buckets.WEIGHT_MIN, buckets.WEIGHT_MAX) == (WEIGHT_MIN, WEIGHT_MAX)


# --- the law ---


@given(some.dictionaries(some.sampled_from("abcdefgh"), some.tuples(weights, some.floats(0, 1)), min_size=2))
def test_a_step_goes_towards_free_cpu_and_stays_within_bounds(engines: dict[str, tuple[int, float]]) -> None:
    before = {e: weight for e, (weight, _) in engines.items()}
    free = {e: value for e, (_, value) in engines.items()}
    after = step(before, free)
    assert all(WEIGHT_MIN <= w <= WEIGHT_MAX for w in after.values())
    growth = {e: after[e] / before[e] for e in after if WEIGHT_MIN < after[e] < WEIGHT_MAX}
    ranked = sorted(growth, key=lambda e: free[e])
    assert all(growth[x] <= growth[y] + 0.01 for x, y in itertools.pairwise(ranked))


# --- a controller in virtual time ---


class World:
    """Engines with an idle share of their own (``base``); each takes load by its weight, late by ``flow_s``."""

    def __init__(self, load: float = 0.0, base: dict[str, float] | None = None, flow_s: float = 0.1) -> None:
        self.time = 100.0
        self.load, self.flow_s = load, flow_s
        self.base = base or dict.fromkeys(NAMES, 1.0)
        self.used = dict.fromkeys(NAMES, load / len(NAMES))
        self.free: dict[str, float | None] = {}
        self.noise = 0.0
        self.random = random.Random(7)
        self.pushed: list[str] = []
        self.placements = dict.fromkeys(NAMES, PlacementState.READY)
        self.by_load = True
        self.vips = {"g": {"v": self.record()}}
        self.shares = self.controller()
        self.history: list[dict[str, int]] = []

    def controller(self) -> Shares:
        return Shares(
            self,
            self,
            free_cpu=self.free.get,
            by_load=lambda group, vip: self.by_load,
            push=self.pushed.append,
        )

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def record(self) -> VipRecord:
        placements = tuple(
            Placement(engine=n, role=Role.SECONDARY, state=s, since=0.0) for n, s in self.placements.items()
        )
        return VipRecord(id="v", group="g", placements=placements, succession=tuple(self.placements))

    def run(self, seconds: float, blind: tuple[str, ...] = ()) -> None:
        for _ in range(int(seconds / LOOK_INTERVAL_S)):
            self.time += LOOK_INTERVAL_S
            told = self.shares.weights("v")
            total = sum(told.get(n, 1000) for n in NAMES)
            keep = 0.5 ** (LOOK_INTERVAL_S / self.flow_s)
            for n in NAMES:
                wanted = self.load * told.get(n, 1000) / total
                self.used[n] = self.used[n] * keep + wanted * (1 - keep)
                free = self.base[n] - self.used[n] + self.random.uniform(-self.noise, self.noise)
                self.free[n] = None if n in blind else min(max(free, 0.0), 1.0)
            self.shares.look()
            self.history.append(dict(self.shares.weights("v")))

    def tables_moved(self) -> int:
        """Buckets that moved in all, at a primary that heard of each change."""
        table, count = deal((), NAMES), 0
        for told in self.history:
            after = deal(table, NAMES, told)
            count += moved(table, after)
            table = after
        return count

    def of(self, engine: str) -> dict[str, dict[str, int]]:
        return self.shares.of(engine).vips


def test_noise_moves_nothing() -> None:
    world = World(load=1.2)
    world.noise = 0.07
    world.run(3600)
    assert world.tables_moved() == 0
    assert world.pushed == []
    assert world.of("a") == {}


def test_a_primary_that_also_forwards_ends_with_fewer_flows() -> None:
    world = World(load=1.2, base={"a": 0.7, "b": 1.0, "c": 1.0})
    world.run(900)
    told = world.shares.weights("v")
    assert told["a"] < 700 and told["b"] == told["c"] > 1000
    values = [world.base[n] - world.used[n] for n in NAMES]
    assert max(values) - min(values) < 0.06, "as much CPU is free everywhere"
    before = world.tables_moved()
    world.run(3600)
    assert world.tables_moved() == before, "and there it rests"
    assert before < 60, "without going to and fro"
    assert set(world.pushed) == set(NAMES)


def test_flows_that_last_make_no_endless_swing() -> None:
    world = World(load=1.2, base={"a": 0.7, "b": 1.0, "c": 1.0}, flow_s=300)
    world.run(4 * 3600)
    before = world.tables_moved()
    world.run(3600)
    assert world.tables_moved() == before
    assert all(WEIGHT_MIN <= w <= WEIGHT_MAX for told in world.history for w in told.values())


def test_steps_are_no_closer_than_the_figures_look_back() -> None:
    world = World(load=0.6, base={"a": 0.3, "b": 1.0, "c": 1.0})
    world.run(300)
    changes = [n for n, (x, y) in enumerate(zip(world.history, world.history[1:], strict=False)) if x != y]
    assert len(changes) > 2
    assert min(y - x for x, y in itertools.pairwise(changes)) * LOOK_INTERVAL_S >= STEP_INTERVAL_S


def test_an_overloaded_engine_keeps_a_floor() -> None:
    world = World(load=0.3, base={"a": 0.0, "b": 1.0, "c": 1.0})
    world.run(3600)
    assert world.shares.weights("v")["a"] == WEIGHT_MIN
    assert Counter(deal((), NAMES, world.shares.weights("v")))["a"] >= 20


def test_missing_figures_change_nothing_at_first_and_then_mean_an_equal_share() -> None:
    world = World(load=1.2, base={"a": 0.5, "b": 1.0, "c": 1.0})
    world.run(600)
    told = dict(world.shares.weights("v"))
    assert told["a"] < 800
    world.run(50, blind=("a",))
    assert world.shares.weights("v") == told
    world.run(50, blind=("a",))
    assert world.shares.weights("v") == told | {"a": 1000}
    world.run(120, blind=NAMES)
    assert world.of("b") == {}, "nothing is known: equal shares"


def test_a_new_controller_goes_on_from_what_engines_were_told() -> None:
    world = World(load=1.2, base={"a": 0.5, "b": 1.0, "c": 1.0})
    world.run(600)
    told = world.of("b")
    assert told["v"]["a"] < 800
    world.shares = world.controller()
    world.run(10, blind=NAMES)
    world.shares.adopt(told)
    world.shares.adopt({"v": {"a": 4000, "b": 250, "c": 250}, "gone": {"a": 500}})
    assert world.of("a") == told
    world.run(20, blind=NAMES)
    assert world.of("a") == told
    assert world.of("x") == {}


def test_a_vip_that_is_spread_no_more_or_by_address_only_has_no_shares() -> None:
    world = World(load=1.2, base={"a": 0.5, "b": 1.0, "c": 1.0})
    world.run(600)
    assert world.of("a")
    world.by_load = False
    world.pushed.clear()
    world.run(5)
    assert world.of("a") == {} and set(world.pushed) == set(NAMES)
    world.by_load = True
    world.run(600)
    assert world.of("a")
    world.placements = {"a": PlacementState.READY, "b": PlacementState.DRAINING, "c": PlacementState.DRAINING}
    world.vips["g"]["v"] = world.record()
    world.run(5)
    assert world.of("a") == {}


def test_a_successor_knows_the_shares_too() -> None:
    world = World(load=1.2, base={"a": 0.5, "b": 1.0, "c": 1.0})
    world.vips["g"]["v"] = VipRecord(
        id="v", group="g", placements=world.record().placements, succession=(*NAMES, "standby")
    )
    world.run(600)
    assert world.of("standby") == world.of("a") != {}
    assert messages.EQUAL_SHARE == 1000
