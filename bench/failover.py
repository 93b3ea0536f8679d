"""Outage of every kind of fault, in every HA mode, with the controller up and dead (as root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.rig import figures
from tests.integration import private_shoal

from shoal.errors import NotReady
from shoal.lab.network import Lab
from shoal.lab.probe import START_EVERY_S
from shoal.lab.trials import KINDS, MODES, PARTIAL_KINDS, Bench, Trial

START_EVERY_MS = START_EVERY_S * 1000
LATE_ANSWER_MS_MAX = 20


async def cell(bench: Bench, mode: str, kind: str, faults: int, *, controller: bool) -> list[Trial]:
    lab = Lab(bench.options.data_dir)
    found = []
    for number in range(faults):
        found.append(await bench.trial(lab, mode, kind, controller=controller))
        print(f"\r{mode} {kind} controller {controller}: {number + 1}/{faults} ", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


LIMITS_MS = {
    **dict.fromkeys(("kill", "haproxy", "haproxy+agent", "host"), (50, 150)),
    **dict.fromkeys(("freeze", "cut", "mute"), (350, 600)),
}
"""Kind -> median and 99th percentile of the outage."""
FAST_MEDIAN_MS = 120


def summary(trials: list[Trial], *, fast: bool) -> dict[str, object]:
    """``failed_share``: of the starts between the first and the last that failed (a service on several engines may lose
    a part only)."""
    first = trials[0]
    outages = [trial.outage_ms for trial in trials]
    within = [trial.failed / max(1, round(trial.outage_ms / START_EVERY_MS)) for trial in trials if trial.failed]
    cell: dict[str, object] = {
        "mode": first.mode,
        "kind": first.kind,
        "controller": "up" if first.controller else "dead",
        "detection": "fast" if fast else "standard",
        "faults": len(trials),
        "outage_ms_median": statistics.median(outages),
        "outage_ms_p99": figures.percentile(outages, 0.99),
        "outage_ms_max": max(outages),
        "failed_share_median": round(statistics.median(within), 2) if within else 0.0,
        "late_answer_ms_max": max(trial.late_answer_ms for trial in trials),
        "late_answer_ms_limit": LATE_ANSWER_MS_MAX,
    }
    if first.kind in LIMITS_MS:
        median, p99 = LIMITS_MS[first.kind]
        cell |= {"outage_ms_median_limit": min(median, FAST_MEDIAN_MS) if fast else median, "outage_ms_p99_limit": p99}
    return cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20, help="per mode, kind and controller state")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=[*KINDS, *PARTIAL_KINDS])
    parser.add_argument("--controller", default="both", choices=["up", "dead", "both"])
    parser.add_argument("--fast", action="store_true", help="aggressive_failure_detection")
    parser.add_argument("--ipv6", action="store_true", help="probe IPv6 addresses, in front of IPv6 servers")
    options = parser.parse_args()
    states = {"up": [True], "dead": [False], "both": [True, False]}[options.controller]
    cells = []
    stopped = ""
    fast = {"aggressive_failure_detection": options.fast}
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            private_shoal.prepared(Path(folder), modes=options.modes, ipv6=options.ipv6, **fast) as bench,
        ):
            for mode in options.modes:
                for kind in options.kinds:
                    for controller in states:
                        trials = asyncio.run(cell(bench, mode, kind, options.faults, controller=controller))
                        cells.append(summary(trials, fast=options.fast))
    except NotReady as error:  # what was measured is not lost
        stopped = str(error)
    print(json.dumps({"ipv6": options.ipv6, "cells": cells, **({"stopped": stopped} if stopped else {})}))
    sys.exit(bool(stopped))


if __name__ == "__main__":
    main()
