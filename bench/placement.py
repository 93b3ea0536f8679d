"""How long a plan takes: 1,000 VIPs on 100 engines, one more VIP, and the failure of one engine.

Run: ``python bench/placement.py``; prints one JSON object, times in milliseconds (median of ``--repeat``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import msgspec

from shoal.placement import plan
from shoal.placement.carry import applied, progressed
from shoal.placement.model import Engine, EngineState, Group, Snapshot, Vip

MAX_VS_PER_SE = 12


def group(engines: int, algo: str = "PLACEMENT_ALGO_PACKED") -> Group:
    return Group(id="g", name="g", algo=algo, max_se=engines + 5, max_vs_per_se=MAX_VS_PER_SE, ever_used=True)


def empty(engines: int, vips: int) -> Snapshot:
    """``engines`` idle engines, ``vips`` VIPs that nobody has planned yet."""
    return Snapshot(
        revision=1,
        group=group(engines),
        engines=tuple(
            Engine(id=f"se-{n}", name=f"se-{n}", rank=n, host=f"host-{n % 20}", state=EngineState.UP)
            for n in range(engines)
        ),
        vips=tuple(Vip(id=f"vip-{n}", name=f"vs-{n}", slots=1, created=float(n)) for n in range(vips)),
    )


def settled(snapshot: Snapshot) -> Snapshot:
    for _ in range(20):
        result = plan(snapshot, 1000.0)
        if result.empty:
            return snapshot
        snapshot = progressed(applied(snapshot, result), 1000.0)
    raise RuntimeError("the world did not settle")


def with_one_more(snapshot: Snapshot) -> Snapshot:
    more = Vip(id="vip-new", name="vs-new", slots=1, created=1e9)
    return msgspec.structs.replace(snapshot, vips=(*snapshot.vips, more))


def with_dead(snapshot: Snapshot, engine: str) -> Snapshot:
    engines = tuple(
        msgspec.structs.replace(e, state=EngineState.DOWN) if e.id == engine else e for e in snapshot.engines
    )
    return msgspec.structs.replace(snapshot, engines=engines)


def timed_ms(snapshot: Snapshot, repeat: int) -> float:
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        plan(snapshot, 1000.0)
        taken.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(taken), 2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--engines", type=int, default=100)
    options.add_argument("--vips", type=int, default=1000)
    options.add_argument("--repeat", type=int, default=5)
    asked = options.parse_args()
    start = empty(asked.engines, asked.vips)
    steady = settled(start)
    print(
        json.dumps(
            {
                "bench": "placement",
                "engines": asked.engines,
                "vips": asked.vips,
                "initial_plan_ms": timed_ms(start, asked.repeat),
                "nothing_to_do_plan_ms": timed_ms(steady, asked.repeat),
                "add_one_plan_ms": timed_ms(with_one_more(steady), asked.repeat),
                "engine_failure_plan_ms": timed_ms(with_dead(steady, "se-0"), asked.repeat),
            }
        )
    )


if __name__ == "__main__":
    main()
