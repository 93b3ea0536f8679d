"""What native spreading costs: the same service on two engines against one, keep-alive and close, paired (as root).

A third side, two engines with a service each and half of the connections each, has the second process and no
spreading: it tells what forwarding costs from what a second process costs on few cores (fewer events per wake-up).

CPU is that of everything a request passes: client, engines (HAProxy, agent, guard) and server. The owner's kernel
forwards in the context of whoever sent the packet, so HAProxy's own CPU would not show it.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor

import msgspec
from bench.rig import figures, load, processes
from bench.rig.stage import Stage, play

from shoal.lab.api import Document

LIMITS = {"keep_alive": 1.10, "close": 1.30}


class Side(msgspec.Struct):
    addresses: list[str]
    pids: list[int]


class Run(msgspec.Struct):
    cpu_us: float
    rps: float


async def side(stage: Stage, names: list[str], engines: int, servers: list[tuple[str, int]], pid: int) -> Side:
    """A service of each name on so many engines of its own."""
    made = Side([], [pid])
    for name in names:
        group = await stage.group(name, engines, min_scaleout_per_vs=engines)
        service: Document = await stage.api.service(name, servers, se_group_ref=group)
        placed = await stage.settled(service, engines)
        made.addresses.append(service["address"])
        for placement in placed["placements"]:
            made.pids += stage.pids(placement["se_ref"].rpartition("#")[2])
    return made


def run(stage: Stage, who: Side, seconds: float, *, close: bool) -> Run:
    before = processes.cpu_s(who.pids) + load.client_cpu_s()
    share = load.CONNECTIONS // len(who.addresses)
    with ThreadPoolExecutor() as threads:
        loads = [
            threads.submit(load.wrk, stage.lab, address, 80, seconds, close=close, connections=share)
            for address in who.addresses
        ]
        loaded = [future.result() for future in loads]
    cpu = processes.cpu_s(who.pids) + load.client_cpu_s() - before
    return Run(cpu / sum(one.requests for one in loaded) * 1e6, sum(one.rps for one in loaded))


def costs(first: list[Run], second: list[Run]) -> list[tuple[float, float]]:
    return [(a.cpu_us, b.cpu_us) for a, b in zip(first, second, strict=True)]


async def measure(stage: Stage, options: argparse.Namespace) -> dict[str, object]:
    server, pid = await stage.server()
    servers = [(server, 80)]
    sides = {
        "one": await side(stage, ["one"], 1, servers, pid),
        "two": await side(stage, ["two"], 2, servers, pid),
        "apart": await side(stage, ["left", "right"], 1, servers, pid),
    }
    found: dict[str, object] = {"bench": "spread", "pairs": options.pairs, "seconds": options.seconds}
    for case, limit in LIMITS.items():
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for number in range(-1, options.pairs):
            for name in sides if number % 2 else reversed(sides):
                taken = run(stage, sides[name], options.seconds, close=case == "close")
                if number >= 0:  # the first round warms up
                    runs[name].append(taken)
        found[case] = {
            "cpu_us": {name: round(statistics.median(r.cpu_us for r in taken), 2) for name, taken in runs.items()},
            "rps": {name: round(statistics.median(r.rps for r in taken)) for name, taken in runs.items()},
            "cpu_two_to_one": figures.paired_ratio(costs(runs["two"], runs["one"]), limit),
            "cpu_two_to_apart": figures.paired_ratio(costs(runs["two"], runs["apart"]), limit),
            "cpu_apart_to_one": figures.paired_ratio(costs(runs["apart"], runs["one"])),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run, whole ones")
    options = parser.parse_args()
    play(lambda stage: measure(stage, options))


if __name__ == "__main__":
    main()
