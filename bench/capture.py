"""What a capture costs the service and what it loses: wrk without one, with heads only, with whole packets (as root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.rig.load import Loaded, wrk
from tests.integration.private_host import private_host

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench

MODE = "HA_MODE_SHARED_PAIR"
WAYS = {"none": None, "heads": ("--size", "64", "--side", "client"), "whole": ()}


async def prepare(bench: Bench, lab: Lab) -> None:
    async with Api(bench.url, PASSWORD) as api:
        await bench.prepare(lab, api, modes=[MODE])


def capturing(bench: Bench, options: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shoal", "capture", f"vs-{MODE.lower().replace('_', '-')}"]
    command += ["--controller", bench.url, "-o", "/dev/null", "--megabytes", "2000", "--json", *options]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SHOAL_PASSWORD": PASSWORD},
    )
    assert child.stderr is not None
    child.stderr.readline()
    return child


def figures(loaded: Loaded, told: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"rps": loaded.rps, "p50_ms": loaded.p50_ms, "p99_ms": loaded.p99_ms}
    if told is not None:
        received = sum(engine["received"] for engine in told["engines"])
        found |= {"packets": told["packets"], "dropped": told["dropped"], "received": received}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, private_host():
        bench = Bench(Path(folder) / "data")
        bench.launch()
        lab = Lab(bench.options.data_dir)
        try:
            asyncio.run(prepare(bench, lab))
            address = bench.services[MODE]["address"]
            wrk(lab, address, 80, 1.0)
            for _ in range(options.rounds):
                for way, chosen in WAYS.items():
                    child = capturing(bench, chosen) if chosen is not None else None
                    loaded = wrk(lab, address, 80, options.seconds)
                    told = None
                    if child is not None:
                        child.terminate()
                        told = json.loads(child.communicate()[0])
                    found[way].append(figures(loaded, told))
        finally:
            asyncio.run(lab.close())
            bench.stop()
    print(json.dumps({"seconds": options.seconds, "ways": found}))


if __name__ == "__main__":
    main()
