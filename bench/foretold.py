"""What-if beside reality: random small groups of real engines, foretold, killed, compared (as root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration import private_shoal

from shoal.errors import ShoalError
from shoal.lab.api import Api
from shoal.lab.foretold import Compared, Foretold
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD


async def compare(url: str, lab: Lab, seeds: range, faults: int, at_once: int) -> tuple[list[Compared], list[str]]:
    """What was compared, and what could not be."""
    waiting = list(seeds)
    found: list[Compared] = []
    failed: list[str] = []

    async def work(api: Api) -> None:
        while waiting:
            seed = waiting.pop(0)
            try:
                found.extend(await Foretold(api, lab, seed).run(faults))
            except ShoalError as error:
                failed.append(f"seed {seed}: {error}")
            print(f"\rseed {seed} ", end="", file=sys.stderr)

    async with Api(url, PASSWORD) as api, asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(work(api))
    return found, failed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", default="0:30", help="FIRST:LAST, LAST not included (default: %(default)s)")
    options.add_argument("--faults", type=int, default=2, help="sets of engines killed in each (default: 2)")
    options.add_argument("--at-once", type=int, default=2, help="groups at a time (default: 2)")
    asked = options.parse_args()
    first, _, last = asked.seeds.partition(":")
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, private_shoal.launched(Path(folder)) as bench:
        lab = Lab(bench.options.data_dir)
        seeds = range(int(first), int(last or int(first) + 1))
        found, failed = asyncio.run(compare(bench.url, lab, seeds, asked.faults, asked.at_once))
    wrong = [msgspec.to_builtins(one) for one in found if one.differences]
    result = {
        "bench": "foretold",
        "fabrics": len({one.seed for one in found}),
        "faults": len(found),
        "engines_killed": sum(len(one.killed) for one in found),
        "vips_compared": sum(one.vips for one in found),
        "vips_touched": sum(one.touched for one in found),
        "otherwise_than_foretold": wrong,
        "by_order_of_deaths": sum(len(one.by_order) for one in found),
        "not_compared": failed,
        "took_s": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result))
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
