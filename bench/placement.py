"""How long plans take, and what a fleet takes in memory, for fleets of 100 to 100,000 VIPs with ten on each engine.

Run: ``python bench/placement.py``; prints one JSON object. Times in milliseconds; a list of events is given as its
median, p99 and maximum. Succession is part of every plan: each leaves the lists of the whole fleet current.

* ``from_nothing``: idle engines, no VIP placed. ``nothing_changed``: the next plan when all is settled.
* ``add``: one VIP more; ``engine``: the death of one engine, whose VIPs nobody takes over by himself; ``host``: that
  of a host with 20 engines. Each is the one plan that answers the event; ``settled`` is all plans until nothing is
  left to do, with what they write entered.
* ``from_scratch``: `plan` of the settled fleet, which looks at everything: what each event would take without a
  planner that is kept.
* ``followed``: what the controller pays that makes its snapshot anew: to compare it with what is known, and to plan.
* ``snapshot_mb``: what the snapshot of the settled fleet takes; ``planner_mb``: what its indexes take beside it.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from shoal.placement import Planner, plan
from shoal.placement.carry import enter, progress
from shoal.placement.model import Engine, EngineState, Group, Plan, Snapshot, Vip

SIZES = (100, 1_000, 10_000, 100_000)
VIPS_PER_ENGINE = 10
MAX_VS_PER_SE = 20
ENGINES_PER_HOST = 20
NOW = 1_000.0
PLANS_MAX = 20


def empty(vips: int) -> Snapshot:
    """Idle engines, and VIPs that nobody has planned yet."""
    engines = max(2, vips // VIPS_PER_ENGINE)
    return Snapshot(
        revision=1,
        group=Group(id="g", name="g", max_se=engines + 100, max_vs_per_se=MAX_VS_PER_SE, ever_used=True),
        engines=tuple(
            Engine(id=f"se-{n}", name=f"se-{n}", rank=n, host=f"host-{n // ENGINES_PER_HOST}", state=EngineState.UP)
            for n in range(engines)
        ),
        vips=tuple(Vip(id=f"vip-{n}", name=f"vs-{n}", slots=1, created=float(n)) for n in range(vips)),
    )


class Fleet:
    """One group under a planner that is kept, with a world that does at once what plans say."""

    def __init__(self, vips: int) -> None:
        self.planner = Planner(empty(vips))
        self.standing = self.planner.standing
        self.last: Plan | None = None
        self.serial = 0

    def answer(self) -> None:
        self.last = self.planner.plan(NOW)

    def follow(self, snapshot: Snapshot) -> None:
        self.standing.follow(snapshot)
        self.answer()

    def settle(self) -> None:
        """Carry the last plan out, and plan until nothing is left to do."""
        for _ in range(PLANS_MAX):
            assert self.last is not None
            if self.last.empty:
                return
            enter(self.standing, self.last)
            progress(self.standing, self.last, NOW)
            self.answer()
        raise RuntimeError("the fleet did not settle")

    def add(self) -> None:
        self.serial += 1
        self.standing.put_vip(Vip(id=f"new-{self.serial}", name=f"new-{self.serial}", slots=1, created=1e9))

    def kill(self, engines: Iterable[str]) -> None:
        for engine in engines:
            was = self.standing.engines[engine]
            self.standing.put_engine(msgspec.structs.replace(was, state=EngineState.DOWN, down_since=NOW - 10.0))

    def up(self) -> list[str]:
        return [engine.id for engine in self.standing.engines.values() if engine.state is EngineState.UP]

    def some_engine(self) -> list[str]:
        up = self.up()
        self.serial += 1
        return [up[self.serial * 7919 % len(up)]]

    def some_host(self) -> list[str]:
        host = self.standing.engines[self.some_engine()[0]].host
        return [engine for engine in self.up() if self.standing.engines[engine].host == host]


def timed_ms(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return round((time.perf_counter() - start) * 1000, 3)


def spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"median": round(statistics.median(ordered), 3), "p99": p99, "max": ordered[-1]}


def events(fleet: Fleet, happen: Callable[[], object], count: int) -> dict[str, Any]:
    first, whole = [], []
    for _ in range(count):
        happen()
        first.append(timed_ms(fleet.answer))
        whole.append(round(first[-1] + timed_ms(fleet.settle), 3))
    assert fleet.last is not None
    return {**spread(first), "settled": spread(whole)}


def measured(vips: int, count: int) -> dict[str, Any]:
    fleet = Fleet(vips)
    found: dict[str, Any] = {
        "vips": vips,
        "engines": len(fleet.standing.engines),
        "from_nothing_ms": timed_ms(fleet.answer),
    }
    fleet.settle()
    found["nothing_changed_ms"] = spread([timed_ms(fleet.answer) for _ in range(count)])
    found["add_ms"] = events(fleet, fleet.add, min(count, vips // 2))
    found["engine_ms"] = events(fleet, lambda: fleet.kill(fleet.some_engine()), max(2, min(count, vips // 500)))
    if len(fleet.up()) > 3 * ENGINES_PER_HOST:
        found["host_ms"] = events(fleet, lambda: fleet.kill(fleet.some_host()), max(1, min(10, vips // 2000)))
    snapshot = fleet.standing.snapshot()
    found["from_scratch_ms"] = timed_ms(lambda: plan(snapshot, NOW))
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=Snapshot)
    found["followed_ms"] = timed_ms(lambda: fleet.follow(copy))
    return {**found, **memory(snapshot)}


def memory(snapshot: Snapshot) -> dict[str, float]:
    """Of a copy: what is shared with others would not count."""
    text = msgspec.msgpack.encode(snapshot)
    tracemalloc.start()
    copy = msgspec.msgpack.decode(text, type=Snapshot)
    alone, _ = tracemalloc.get_traced_memory()
    planner = Planner(copy)
    planner.plan(NOW)
    gc.collect()
    both, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"snapshot_mb": round(alone / 2**20, 1), "planner_mb": round((both - alone) / 2**20, 1)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--vips", type=int, nargs="+", default=SIZES)
    options.add_argument("--events", type=int, default=200, help="how often each event happens, at most")
    asked = options.parse_args()
    fleets = [measured(vips, asked.events) for vips in asked.vips]
    print(json.dumps({"bench": "placement", "max_vs_per_se": MAX_VS_PER_SE, "fleets": fleets}))


if __name__ == "__main__":
    main()
