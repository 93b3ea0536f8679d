"""The worst engines of many, exactly or not, and what keeping the margin of a group costs; times in milliseconds."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))


from shoal.placement.margin import margin, worst
from shoal.placement.model import Engine, EngineState, Group, Snapshot, Vip
from shoal.placement.outcome import Changes
from shoal.placement.whatif import edited, fail, whatif

NOW = 1000.0
LIMIT_MS = 5_000


MAX_VS_PER_SE = 12


def empty(engines: int, vips: int) -> Snapshot:
    """``engines`` idle engines on twenty hosts, ``vips`` VIPs that nobody has planned yet."""
    group = Group(id="g", name="g", max_se=engines + 5, max_vs_per_se=MAX_VS_PER_SE, ever_used=True)
    up = EngineState.UP
    return Snapshot(
        revision=1,
        group=group,
        engines=tuple(
            Engine(id=f"se-{n}", name=f"se-{n}", rank=n, host=f"host-{n % 20}", state=up) for n in range(engines)
        ),
        vips=tuple(Vip(id=f"vip-{n}", name=f"vs-{n}", slots=1, created=float(n)) for n in range(vips)),
    )


def settled(snapshot: Snapshot) -> Snapshot:
    return edited(snapshot, Changes(), NOW).snapshot


def mixed(engines: int, vips: int, scale: int) -> Snapshot:
    """VIPs of one to three slots (services that share one), ``scale`` engines each, on twenty hosts, some room left."""
    plain = empty(engines, vips)
    return settled(
        msgspec.structs.replace(
            plain,
            group=msgspec.structs.replace(plain.group, min_scaleout_per_vs=scale),
            vips=tuple(
                msgspec.structs.replace(v, slots=1 + (n % 7 == 0) + (n % 11 == 0)) for n, v in enumerate(plain.vips)
            ),
        )
    )


def timed_ms(work: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    taken, found = [], None
    for _ in range(repeat):
        began = time.perf_counter()
        found = work()
        taken.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(taken), 2), found


def fail_any(snapshot: Snapshot, count: int, repeat: int) -> dict[str, Any]:
    """The search, and the whole answer: the plan of the worst set too."""
    search_ms, found = timed_ms(lambda: worst(snapshot, count, NOW), repeat)
    whole_ms, outcome = timed_ms(lambda: whatif(snapshot, Changes(fail=found.engines), NOW), repeat)
    by_plan = fail(snapshot, found.engines, NOW)
    assert len(by_plan.waiting) + len(by_plan.down) == found.loss.down
    return {
        "k": count,
        "sets": found.sets,
        "looked_at": found.looked_at,
        "exact": found.exact,
        "vips_down": found.loss.down,
        "vips_down_at_most": found.down_at_most,
        "search_ms": search_ms,
        "answer_ms": round(search_ms + whole_ms, 2),
        "stays_up": outcome.stays_up,
        "limit_ms": LIMIT_MS,
    }


def margin_of(snapshot: Snapshot, repeat: int) -> dict[str, Any]:
    took_ms, found = timed_ms(lambda: margin(snapshot, NOW), repeat)
    return {
        "engines": len(snapshot.engines),
        "vips": len(snapshot.vips),
        "took_ms": took_ms,
        "stays_up": found.stays_up.engines,
        "stays_up_exact": found.stays_up.exact,
        "keeps_capacity": found.keeps_capacity.engines,
        "keeps_capacity_exact": found.keeps_capacity.exact,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--engines", type=int, default=50)
    options.add_argument("--repeat", type=int, default=5)
    asked = options.parse_args()
    groups = {
        "one slot each, one engine each": settled(empty(asked.engines, asked.engines * 9)),
        "one to three slots, one engine each": mixed(asked.engines, asked.engines * 7, 1),
        "one to three slots, two engines each": mixed(asked.engines, asked.engines * 3, 2),
    }
    result: dict[str, Any] = {"bench": "whatif", "engines": asked.engines}
    result["fail_any"] = {
        name: [fail_any(snapshot, k, asked.repeat) for k in (1, 2, 3)] for name, snapshot in groups.items()
    }
    result["ha_margin"] = [margin_of(snapshot, asked.repeat) for snapshot in groups.values()]
    result["ha_margin"] += [margin_of(settled(empty(n, n * 9)), 1) for n in (200, 1000)]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
