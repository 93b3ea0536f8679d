"""How good placements are, beside the optimum that OR-Tools' CP-SAT finds for the same instance.

Run: ``pip install .[bench]``, then ``python bench/quality.py``; prints one JSON object, each figure as a histogram of
the distance to the optimum.

An instance is a group of up to 40 engines on 3 to 10 hosts, VIPs that take 1 to 4 slots and have 1 to 4 engines on
hosts of their own, drawn by a seed. Measured are:

* ``packed``: engines used more than the optimum. All VIPs known at once, and one after another.
* ``distributed``: the highest load of an engine, in percent above the optimum; likewise. The optimum knows all VIPs and
  puts them where it likes. So VIPs that come one after another are also compared, at each arrival, with the least that
  is possible while nothing that serves moves: ``one_by_one_nothing_moved`` counts those after which it is higher.
* ``failure``: of a full group that can't grow, 1 to 3 engines or a host fail: how many placements more than the
  optimum stay lost (the optimum may not move what still serves), and how many of the others moved.

An optimum that is not proven within ``--seconds`` is replaced by its proven bound, which makes us look worse.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from ortools.sat.python import cp_model

from shoal.placement import plan
from shoal.placement.carry import applied, progressed
from shoal.placement.model import Engine, EngineState, Group, Snapshot, Vip

ENGINES_MAX = 40
ROUNDS_MAX = 200
NOW = 1_000.0
PACKED, DISTRIBUTED = "PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"


class Instance(msgspec.Struct, frozen=True):
    """``vips``: (slots, engines) of each."""

    vips: tuple[tuple[int, int], ...]
    hosts: int
    room: int
    """Slots of an engine."""

    @property
    def total(self) -> int:
        return sum(slots * scale for slots, scale in self.vips)


def drawn(chance: random.Random, fill: float) -> Instance:
    """An instance that takes at most ``fill`` of 40 engines."""
    hosts, room = chance.randint(3, 10), chance.choice([4, 6, 8, 10, 16, 20])
    small = chance.random()
    vips: list[tuple[int, int]] = []
    most = int(chance.uniform(0.1, 1.0) * fill * ENGINES_MAX * room)
    while True:
        slots = 1 if chance.random() < small else chance.randint(1, 4)
        scale = min(hosts, chance.choice([1, 1, 1, 2, 2, 3, 4]))
        if sum(s * n for s, n in vips) + slots * scale > most:
            return Instance(tuple(vips) or ((slots, scale),), hosts, room)
        vips.append((slots, scale))


# --- what Shoal does ---


class World:
    """A group whose cloud makes engines on the host with the fewest, of those that the plan does not avoid."""

    def __init__(self, instance: Instance, algo: str, engines: int = 0) -> None:
        self.instance = instance
        group = Group(
            id="g", name="g", algo=algo, buffer_se=0, max_se=ENGINES_MAX, max_vs_per_se=instance.room, ever_used=True
        )
        self.now = Snapshot(revision=1, group=msgspec.structs.replace(group, max_se=engines or ENGINES_MAX))
        self.hosts = Counter({f"host-{n}": 0 for n in range(instance.hosts)})
        for n in range(engines):
            self._make(f"se-{n}", n + 1, EngineState.UP, ())

    def _make(self, id: str, rank: int, state: EngineState, avoid: Iterable[str]) -> None:
        host = min(self.hosts, key=lambda h: (h in avoid, self.hosts[h], h))
        self.hosts[host] += 1
        made = Engine(id=id, name=id, rank=rank, host=host, state=state)
        self.now = msgspec.structs.replace(self.now, engines=(*self.now.engines, made))

    def want(self, vips: Iterable[int]) -> None:
        new = (self._vip(n, *self.instance.vips[n]) for n in vips)
        self.now = msgspec.structs.replace(self.now, vips=(*self.now.vips, *new))

    def _vip(self, n: int, slots: int, scale: int) -> Vip:
        return Vip(id=f"v{n}", name=f"v{n}", slots=slots, created=float(n), requested=scale, user_factor=scale - 1)

    def settle(self) -> None:
        for _ in range(ROUNDS_MAX):
            result = plan(self.now, NOW)
            if result.empty:
                return
            known = {engine.id for engine in self.now.engines}
            after = applied(self.now, result)
            made = [engine for engine in after.engines if engine.id not in known]
            self.now = msgspec.structs.replace(after, engines=tuple(e for e in after.engines if e.id in known))
            for engine, wanted in zip(made, result.new_engines, strict=True):
                self._make(engine.id, engine.rank, EngineState.CREATING, wanted.avoid_hosts)
            self.now = progressed(self.now, NOW)
        raise RuntimeError("the group did not settle")

    def fail(self, dead: Iterable[str]) -> None:
        gone = set(dead)
        self.now = msgspec.structs.replace(
            self.now,
            engines=tuple(
                msgspec.structs.replace(e, state=EngineState.DOWN) if e.id in gone else e for e in self.now.engines
            ),
        )

    def held(self) -> dict[str, set[str]]:
        return {vip.id: {p.engine for p in vip.placements} for vip in self.now.vips}

    def load(self) -> dict[str, int]:
        load = {engine.id: 0 for engine in self.now.engines}
        for vip in self.now.vips:
            for placement in vip.placements:
                load[placement.engine] += vip.slots
        return load

    def doubled(self) -> int:
        """Placements that share a host with another of their VIP."""
        host = {engine.id: engine.host for engine in self.now.engines}
        return sum(len(held) - len({host[e] for e in held}) for held in self.held().values())


def placed(instance: Instance, algo: str, *, at_once: bool, engines: int = 0) -> World:
    world = World(instance, algo, engines)
    order = range(len(instance.vips))
    for vips in [order] if at_once else [[n] for n in order]:
        world.want(vips)
        world.settle()
    return world


def placed_in_turn(instance: Instance, engines: int) -> tuple[World, int]:
    """Distributed, VIPs one after another; and how many of them left the highest load above the least that was possible
    with all before them where they were."""
    world, above = World(instance, DISTRIBUTED, engines), 0
    for n, (slots, scale) in enumerate(instance.vips):
        least = lowest_peak_of_one(world, slots, scale)
        world.want([n])
        world.settle()
        above += max(world.load().values()) > least
    return world, above


def lowest_peak_of_one(world: World, slots: int, scale: int) -> int:
    """The highest load with one VIP more, at best: on the least loaded engine of each of the emptiest hosts. Where these
    are fewer than its engines: the room, hosts have to be shared."""
    load, emptiest = world.load(), dict[str, int]()
    for engine in world.now.engines:
        used = load[engine.id]
        if used + slots <= world.instance.room:
            emptiest[engine.host] = min(used, emptiest.get(engine.host, used))
    if len(emptiest) < scale:
        return world.instance.room
    return max(*load.values(), sorted(emptiest.values())[scale - 1] + slots)


# --- the optimum ---


class Optimum:
    """Every VIP on engines of its own hosts, within the room: engine n is on host n modulo the hosts."""

    def __init__(self, instance: Instance, engines: int) -> None:
        self.model = cp_model.CpModel()
        self.on = [[self.model.new_bool_var("") for _ in range(engines)] for _ in instance.vips]
        for (_, scale), row in zip(instance.vips, self.on, strict=True):
            self.model.add(sum(row) == scale)
            for host in range(instance.hosts):
                self.model.add(sum(row[host :: instance.hosts]) <= 1)
        self.load = [
            sum(slots * row[n] for (slots, _), row in zip(instance.vips, self.on, strict=True)) for n in range(engines)
        ]

    def bound(self, least: int, reached: int, seconds: float) -> tuple[int, bool]:
        """The least value of the objective that is proven, and whether it is the optimum. ``reached`` when there is no
        solution: hosts were shared."""
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = 1
        status = solver.solve(self.model)
        if status == cp_model.INFEASIBLE:
            return reached, True
        return max(least, math.ceil(solver.best_objective_bound - 1e-6)), status == cp_model.OPTIMAL


def fewest_engines(instance: Instance, enough: int, seconds: float) -> tuple[int, bool]:
    """``enough``: engines that are known to do."""
    least = max(math.ceil(instance.total / instance.room), max(scale for _, scale in instance.vips))
    if enough == least:
        return least, True
    optimum = Optimum(instance, enough)
    used = [optimum.model.new_bool_var("") for _ in range(enough)]
    for load, use in zip(optimum.load, used, strict=True):
        optimum.model.add(load <= instance.room * use)
    optimum.model.add(sum(used) >= least)
    optimum.model.minimize(sum(used))
    return optimum.bound(least, enough, seconds)


def lowest_peak(instance: Instance, engines: int, reached: int, seconds: float) -> tuple[int, bool]:
    least = max(math.ceil(instance.total / engines), max(slots for slots, _ in instance.vips))
    if reached == least:
        return least, True
    optimum = Optimum(instance, engines)
    peak = optimum.model.new_int_var(least, reached, "")
    for load in optimum.load:
        optimum.model.add(load <= peak)
    optimum.model.minimize(peak)
    return optimum.bound(least, reached, seconds)


def most_restored(world: World, seconds: float) -> tuple[int, bool]:
    """How many of the lost placements can be made anew while nothing else moves."""
    model = cp_model.CpModel()
    up = [engine for engine in world.now.engines if engine.state is EngineState.UP]
    load = {engine.id: 0 for engine in up}
    takes: dict[str, list[Any]] = {engine.id: [] for engine in up}
    restored: list[Any] = []
    for vip in world.now.vips:
        kept = [p.engine for p in vip.placements if p.engine in load]
        for engine in kept:
            load[engine] += vip.slots
        missing = vip.requested - len(kept)
        if not missing:
            continue
        row = {engine.id: model.new_bool_var("") for engine in up if engine.id not in kept}
        model.add(sum(row.values()) <= missing)
        for engine, var in row.items():
            takes[engine].append(vip.slots * var)
        restored += row.values()
    for engine in load:
        model.add(sum(takes[engine]) + load[engine] <= world.instance.room)
    if not restored:
        return 0, True
    model.maximize(sum(restored))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    return math.floor(solver.best_objective_bound + 1e-6), status == cp_model.OPTIMAL


# --- beside each other ---


class Tally:
    def __init__(self, target: str) -> None:
        self.target = target
        self.counts: Counter[int] = Counter()
        self.unproven = 0

    def note(self, distance: int, proven: bool) -> None:
        self.counts[distance] += 1
        self.unproven += not proven

    def told(self, within: int) -> dict[str, Any]:
        count = sum(self.counts.values())
        good = sum(n for distance, n in self.counts.items() if distance <= within)
        return {
            "target": self.target,
            "instances": count,
            "within_target": good,
            "distances": {str(distance): self.counts[distance] for distance in sorted(self.counts)},
            "optimum_not_proven": self.unproven,
        }


def measure(instances: int, seed: int, seconds: float) -> dict[str, Any]:
    packed = {True: Tally("engines used: at most 1 more"), False: Tally("the same, VIPs come one after another")}
    peaks = {True: Tally("highest load: at most 10 % more"), False: Tally("the same, VIPs come one after another")}
    in_turn = Tally("VIPs after which the highest load was above the least possible without moving others: 0")
    lost, moved = Tally("placements lost that could be restored: 0"), Tally("others moved: 0")
    doubled = 0
    for n in range(instances):
        chance = random.Random(f"{seed}-{n}")
        instance = drawn(chance, 0.75)
        for at_once in (True, False):
            world = placed(instance, PACKED, at_once=at_once)
            doubled += world.doubled()
            used = sum(load > 0 for load in world.load().values())
            least, proven = fewest_engines(instance, used, seconds)
            packed[at_once].note(used - least, proven)
            engines = min(ENGINES_MAX, math.ceil(instance.total / instance.room * chance.uniform(1.2, 1.6)) + 3)
            if at_once:
                spread = placed(instance, DISTRIBUTED, at_once=True, engines=engines)
            else:
                spread, above = placed_in_turn(instance, engines)
                in_turn.note(above, True)
            doubled += spread.doubled()
            peak = max(spread.load().values())
            low, proven = lowest_peak(instance, engines, peak, seconds)
            peaks[at_once].note(math.ceil(100 * (peak - low) / low), proven)
        _failure(instance, chance, seconds, lost, moved)
    return {
        "packed": {"at_once": packed[True].told(1), "one_by_one": packed[False].told(1)},
        "distributed": {
            "at_once": peaks[True].told(10),
            "one_by_one": peaks[False].told(10),
            "one_by_one_nothing_moved": in_turn.told(0),
        },
        "failure": {"still_lost": lost.told(0), "moved": moved.told(0)},
        "placements_that_share_a_host": doubled,
    }


def _failure(instance: Instance, chance: random.Random, seconds: float, lost: Tally, moved: Tally) -> None:
    engines = min(ENGINES_MAX, math.ceil(instance.total / instance.room * chance.uniform(1.1, 1.4)) + 2)
    world = placed(instance, chance.choice([PACKED, DISTRIBUTED]), at_once=chance.random() < 0.5, engines=engines)
    before = world.held()
    up = [engine.id for engine in world.now.engines]
    host = chance.choice(world.now.engines).host
    whole = [engine.id for engine in world.now.engines if engine.host == host]
    dead = set(whole if chance.random() < 0.3 else chance.sample(up, min(len(up) - 1, chance.randint(1, 3))))
    world.now = msgspec.structs.replace(
        world.now, group=msgspec.structs.replace(world.now.group, max_se=engines - len(dead))
    )
    world.fail(dead)
    best, proven = most_restored(world, seconds)
    world.settle()
    after = world.held()
    restored = sum(len(after[vip] - before[vip]) for vip in before)
    lost.note(best - restored, proven)
    moved.note(sum(len(before[vip] - after[vip] - dead) for vip in before), True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--instances", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=5.0, help="for one optimum, at most")
    asked = options.parse_args()
    print(json.dumps({"bench": "quality", "seed": asked.seed, **measure(asked.instances, asked.seed, asked.seconds)}))


if __name__ == "__main__":
    main()
