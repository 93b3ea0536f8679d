"""What native spreading costs: the same service on two engines against one, keep-alive and close, paired (as root).

CPU is that of everything a request passes: client, engines (HAProxy, agent, guard) and server. The owner's kernel
forwards in the context of whoever sent the packet, so HAProxy's own CPU would not show it.
"""

from __future__ import annotations

import argparse
import statistics

import msgspec
from bench.rig import contestants, figures, load, pem, processes
from bench.rig.stage import Stage, play

from shoal.lab.api import Document

LIMITS = {"keep_alive": 1.10, "close": 1.30}


class Side(msgspec.Struct):
    address: str
    pids: list[int]


class Run(msgspec.Struct):
    cpu_us: float
    rps: float


async def side(stage: Stage, name: str, engines: int, servers: list[tuple[str, int]], pid: int) -> Side:
    group = await stage.group(name, engines, min_scaleout_per_vs=engines)
    made: Document = await stage.api.service(name, servers, se_group_ref=group)
    placed = await stage.settled(made, engines)
    names = [placement["se_ref"].rpartition("#")[2] for placement in placed["placements"]]
    return Side(made["address"], [pid, *(p for engine in names for p in stage.pids(engine))])


def run(stage: Stage, who: Side, seconds: float, *, close: bool) -> Run:
    before = processes.cpu_s(who.pids)
    loaded = load.wrk(stage.lab, who.address, 80, seconds, close=close)
    cpu = processes.cpu_s(who.pids) - before + loaded.client_cpu_s
    return Run(cpu / loaded.requests * 1e6, loaded.rps)


async def measure(stage: Stage, options: argparse.Namespace) -> dict[str, object]:
    key, certificate = pem.self_signed("bench.example")
    file = stage.folder / "bench.pem"
    file.write_text(certificate + key)
    server = await stage.lab.node("server")
    await stage.lab.node("client")
    pid = stage.haproxy("server", contestants.backend(server, str(file)))
    sides = {n: await side(stage, f"on{n}", n, [(server, 80)], pid) for n in (1, 2)}
    found: dict[str, object] = {"bench": "spread", "pairs": options.pairs, "seconds": options.seconds}
    for case, limit in LIMITS.items():
        runs: dict[int, list[Run]] = {1: [], 2: []}
        for number in range(-1, options.pairs):
            for engines in (1, 2) if number % 2 else (2, 1):
                taken = run(stage, sides[engines], options.seconds, close=case == "close")
                if number >= 0:  # the first round warms up
                    runs[engines].append(taken)
        costs = [(two.cpu_us, one.cpu_us) for one, two in zip(runs[1], runs[2], strict=True)]
        rates = [(one.rps, two.rps) for one, two in zip(runs[1], runs[2], strict=True)]
        found[case] = {
            "one_engine_us": round(statistics.median(one for _, one in costs), 2),
            "two_engines_us": round(statistics.median(two for two, _ in costs), 2),
            "cpu_two_to_one": figures.paired_ratio(costs, limit),
            "one_engine_rps": round(statistics.median(one for one, _ in rates)),
            "two_engines_rps": round(statistics.median(two for _, two in rates)),
            "rps_one_to_two": figures.paired_ratio(rates, limit),
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
