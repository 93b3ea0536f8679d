"""Chaos in virtual time: ``python -m shoal.simulator [--seeds FIRST:LAST] [--actions N] [--log]``.

Prints a line of JSON per seed; exit status 1 if an invariant was broken in any of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from typing import Any

from .chaos import Chaos
from .kernel import Broken
from .system_world import SystemWorld
from .virtual_time import VirtualLoop, run

MODES = ("HA_MODE_SHARED", "HA_MODE_SHARED_PAIR")


async def two_groups(world: SystemWorld, services: int = 3) -> list[str]:
    """One group of each mode with its services, placed; returns the services' uuids."""
    found = []
    for mode in MODES:
        await world.create("serviceenginegroup", {"name": mode, "ha_mode": mode, "max_se": 6, "max_vs_per_se": 4})
        for number in range(services):
            found.append((await world.service(f"{mode}-{number}", mode))["uuid"])
    await world.settle()
    return found


def chaos(seed: int, actions: int = 30) -> SystemWorld:
    """Kills, freezes, cuts, a dead controller, a slow cloud, edits and operations; then all must become whole again.

    Raises Broken, with seed, time and the last events.
    """

    async def main(loop: VirtualLoop) -> SystemWorld:
        world = SystemWorld(loop, seed)
        await world.start()
        await two_groups(world)
        faults = Chaos(world)
        for _ in range(actions):
            await faults.once()
        await faults.mend()
        await world.settle()
        return world

    return run(main)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m shoal.simulator", description=__doc__)
    parser.add_argument("--seeds", default="0:10", help="FIRST:LAST, LAST not included (default: %(default)s)")
    parser.add_argument("--actions", type=int, default=30, help="faults, edits and operations a run (default: 30)")
    parser.add_argument("--log", action="store_true", help="print what happened, with its virtual time in ms")
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    logging.disable(logging.CRITICAL)
    status = 0
    for seed in range(int(first), int(last or int(first) + 1)):
        began = time.monotonic()
        result: dict[str, Any] = {"seed": seed}
        try:
            world = chaos(seed, options.actions)
            log = "\n".join(world.segment.log)
            result |= {"ok": True, "virtual_s": round(world.now, 1)}
            result |= {"digest": hashlib.blake2b(log.encode(), digest_size=8).hexdigest()}
            if options.log:
                print(log)
        except Broken as broken:
            status, result = 1, {**result, "ok": False, "why": str(broken)}
        print(json.dumps({**result, "took_s": round(time.monotonic() - began, 2)}), flush=True)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
