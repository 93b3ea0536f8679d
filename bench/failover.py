"""Outage of every kind of fault, in both elastic modes, with the controller up and dead (as root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.private_host import private_host

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import KINDS, MODES, PARTIAL_KINDS, PASSWORD, Bench, Trial


async def cell(bench: Bench, mode: str, kind: str, faults: int, *, controller: bool) -> list[Trial]:
    lab = Lab(bench.options.data_dir)
    found = []
    for number in range(faults):
        found.append(await bench.trial(lab, mode, kind, controller=controller))
        print(f"\r{mode} {kind} controller {controller}: {number + 1}/{faults} ", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def summary(trials: list[Trial]) -> dict[str, object]:
    outages = sorted(trial.outage_ms for trial in trials)
    return {
        "mode": trials[0].mode,
        "kind": trials[0].kind,
        "controller": "up" if trials[0].controller else "dead",
        "faults": len(trials),
        "outage_ms_median": statistics.median(outages),
        "outage_ms_max": outages[-1],
        "outage_ms_median_limit": 500,
        "late_answer_ms_max": max(trial.late_answer_ms for trial in trials),
        "late_answer_ms_limit": 20,
    }


async def prepare(bench: Bench, lab: Lab) -> None:
    async with Api(bench.url, PASSWORD) as api:
        await bench.prepare(lab, api)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20, help="per mode, kind and controller state")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=[*KINDS, *PARTIAL_KINDS])
    parser.add_argument("--controller", default="both", choices=["up", "dead", "both"])
    options = parser.parse_args()
    states = {"up": [True], "dead": [False], "both": [True, False]}[options.controller]
    cells = []
    with tempfile.TemporaryDirectory() as folder, private_host():
        bench = Bench(Path(folder) / "data")
        bench.launch()
        lab = Lab(bench.options.data_dir)
        try:
            asyncio.run(prepare(bench, lab))
            for mode in options.modes:
                for kind in options.kinds:
                    for controller in states:
                        trials = asyncio.run(cell(bench, mode, kind, options.faults, controller=controller))
                        cells.append(summary(trials))
        finally:
            asyncio.run(lab.close())
            bench.stop()
    print(json.dumps({"cells": cells}))


if __name__ == "__main__":
    main()
