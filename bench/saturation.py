"""Failovers that nothing caused, while both cores are saturated: standard and fast detection side by side (as root).

Each group has two engines that serve one virtual service together; wrk loads both services all the time, and as many
busy loops as asked compete with it at ordinary priority. Nothing is broken: every VIP that a guard takes or gives up is
a false failover. A witness of higher priority than the guards' does nothing but look at the clock: where it was late, too,
the machine itself stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from bench.rig import load
from bench.rig.stage import Stage, play

GROUPS = {"standard": False, "fast": True}
"""Name -> ``aggressive_failure_detection``."""
MOVED = re.compile(r" (took|gave up) ")
ROUND_S = 20.0
WITNESS = """
import json, os, sys, time
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))
late, before = [], time.monotonic()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
    now = time.monotonic()
    if now - before > 0.06:
        late.append([time.strftime("%H:%M:%S"), round((now - before) * 1000 - 10)])
    before = now
print(json.dumps(late))
"""
"""Prints when it was more than 50 ms late, and by how many."""


def moves(directory: Path) -> list[str]:
    """Lines of an engine's guard that say a VIP was taken or given up."""
    log = directory / "guard.log"
    return [line for line in log.read_text().splitlines() if MOVED.search(line)] if log.exists() else []


def idle_s() -> float:
    """CPU seconds that all cores together have idled."""
    return float(Path("/proc/uptime").read_text().split()[1])


async def measure(stage: Stage, options: argparse.Namespace) -> dict[str, object]:
    server, _ = await stage.server()
    addresses, engines = [], {}
    for name, fast in GROUPS.items():
        group = await stage.group(name, 2, min_scaleout_per_vs=2, aggressive_failure_detection=fast)
        service = await stage.api.service(name, [(server, 80)], se_group_ref=group)
        placed = await stage.settled(service, 2)
        addresses.append(service["address"])
        folder = stage.bench.options.data_dir / "engines"
        engines[name] = [folder / placement["se_ref"].rpartition("#")[2] for placement in placed["placements"]]
    await asyncio.sleep(3)
    before = {name: {one: len(moves(one)) for one in folders} for name, folders in engines.items()}
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.hogs)]
    done = stage.bench.options.data_dir / "witnessed"
    witness = subprocess.Popen([sys.executable, "-c", WITNESS, str(done)], stdout=subprocess.PIPE)
    began, idle, requests = time.monotonic(), idle_s(), 0
    try:
        while (left := options.minutes * 60 - (time.monotonic() - began)) > 0:
            loads = [
                asyncio.to_thread(load.wrk, stage.lab, address, 80, min(left, ROUND_S), close=close)
                for address, close in zip(addresses, (False, True), strict=True)
            ]
            requests += sum(one.requests for one in await asyncio.gather(*loads))
            print(f"\r{time.monotonic() - began:.0f} s ", end="", file=sys.stderr)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
        done.touch()
    late = json.loads((await asyncio.to_thread(witness.communicate))[0])
    print(file=sys.stderr)
    took = time.monotonic() - began
    cores = len(os.sched_getaffinity(0))
    figures: dict[str, object] = {
        "bench": "saturation",
        "minutes": round(took / 60, 1),
        "hogs": options.hogs,
        "requests": requests,
        "cpu_idle_percent": round((idle_s() - idle) / took / cores * 100, 2),
        "machine_stood_still": {
            "times": len(late),
            "longest_ms": max((ms for _, ms in late), default=0),
            "at": late[:20],
        },
    }
    for name, folders in engines.items():
        lines = [line for one in folders for line in moves(one)[before[name][one] :]]
        figures[name] = {
            "false_failovers": sum(" took " in line for line in lines),
            "given_up": sum(" gave up " in line for line in lines),
            "lines": [line[:300] for line in lines[:20]],
            **({"false_failovers_limit": 0} if name == "standard" else {}),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--hogs", type=int, default=0, help="busy loops beside the load")
    options = parser.parse_args()
    play(lambda stage: measure(stage, options))


if __name__ == "__main__":
    main()
