"""What a UDP service costs a datagram: round trips through an engine and straight to the server, paired (as root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess

from bench.rig import figures
from bench.rig.stage import Stage, play

CASES = ("one_flow", "new_flows")


async def trips(stage: Stage, address: str, port: int, count: int) -> dict[str, list[float]]:
    command = ("shoal.lab.datagrams", address, str(port), str(count), "time")
    child = stage.lab.start("client", *command, output=subprocess.PIPE)
    found: dict[str, list[float]] = json.loads((await asyncio.to_thread(child.communicate))[0])
    return found


async def measure(stage: Stage, options: argparse.Namespace) -> dict[str, object]:
    backend = await stage.lab.backend("server")
    await stage.lab.node("client")
    service = await stage.api.service(
        "udp", [(backend.address, backend.port)], network_profile_ref="/api/networkprofile?name=System-UDP-Fast-Path"
    )
    await stage.settled(service)
    sides = {"direct": backend.address, "shoal": str(service["address"])}
    runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in sides}
    for number in range(-1, options.pairs):
        for name, address in sides.items() if number % 2 else reversed(sides.items()):
            taken = await trips(stage, address, 80, options.count)
            if number >= 0:  # the first round warms up
                runs[name].append(taken)
    found: dict[str, object] = {"bench": "udp", "pairs": options.pairs, "count": options.count}
    for case in CASES:
        medians = {name: [statistics.median(run[case]) for run in taken] for name, taken in runs.items()}
        every = {name: [trip for run in taken for trip in run[case]] for name, taken in runs.items()}
        found[case] = {
            "lost": {name: options.pairs * options.count - len(taken) for name, taken in every.items()},
            "p50_us": {name: round(statistics.median(taken), 1) for name, taken in every.items()},
            "p99_us": {name: round(figures.percentile(taken, 0.99), 1) for name, taken in every.items()},
            "shoal_to_direct": figures.paired_ratio(list(zip(medians["shoal"], medians["direct"], strict=True))),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--count", type=int, default=4000, help="round trips of each kind in a run")
    options = parser.parse_args()
    play(lambda stage: measure(stage, options))


if __name__ == "__main__":
    main()
