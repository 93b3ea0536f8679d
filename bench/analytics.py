"""What analytics cost with everything on: an engine's throughput, an idle agent, history per service (root).

``on`` is a service with client logs, ``off`` one without on the same HAProxy, in pairs: ``ratio`` is that of HAProxy's CPU
per request. Counting costs the same each second, whatever is served: the agent's share of a core (its work on log lines
included) and HAProxy's for being read. ``throughput_cost`` is what all of it takes from an engine of one core at full
load. With ``--cases every_slow`` slow requests are all logged; with ``failing`` each one is, as it fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.counters import BACKEND_ADDRESS, QUIET, idle, parts
from bench.cpu import T_95
from tests.integration.engine_lab import VIP, Lab, engine, pool, service
from tests.integration.private_host import private_host

from shoal.controller.clock import SystemClock
from shoal.controller.metrics import Metrics
from shoal.engine.haproxy import runtime
from shoal.wire import messages
from shoal.wire.client_logs import LogPolicy
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from shoal.wire.desired import Service, Vip
from shoal.wire.latency import Buckets

COST_LIMIT = 1.02
CASES = {"good": (80, "/"), "every_slow": (82, "/"), "failing": (80, "/missing")}
"""Port of the service with client logs, and what is asked for."""
BACKEND = """
global
    maxconn 2000
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend server
    bind {address}:80
    http-request return status 404 content-type text/plain string missing if {{ path /missing }}
    http-request return status 200 content-type text/plain string "hello world hello world hello world"
"""
OFF_PORT = 81
QUIET_S = 10.0
BUSY_BUCKETS = 12
"""Of 42: what a service has whose requests take 1 to 60 ms."""
TICKS = 8


def logged(one: Service) -> Service:
    return msgspec.structs.replace(one, log=LogPolicy())


def load(port: int, path: str, seconds: int) -> int:
    """Requests made by wrk."""
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", f"http://{VIP}:{port}{path}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = re.search(r"(\d+) requests in", out)
    if made is None:
        raise RuntimeError(out)
    return int(made[1])


class Run(msgspec.Struct):
    """``haproxy_us``: CPU a request; ``agent``: share of a core."""

    haproxy_us: float
    agent: float
    rps: float


def cpu_s(pid: int) -> float:
    """Of all its threads, to the nanosecond (proc(5), schedstat): a tick of the clock is too much here."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def run(worker: int, agent: int, port: int, path: str, seconds: int) -> Run:
    before, own, began = cpu_s(worker), cpu_s(agent), time.monotonic()
    requests = await asyncio.to_thread(load, port, path, seconds)
    took = time.monotonic() - began
    return Run((cpu_s(worker) - before) / requests * 1e6, (cpu_s(agent) - own) / took, requests / took)


async def quiet_share(worker: int, seconds: float) -> float:
    """Of a core, that HAProxy takes without a request: it is read, and asked whether it lives."""
    before = cpu_s(worker)
    await asyncio.sleep(seconds)
    return (cpu_s(worker) - before) / seconds


async def per_request(lab: Lab, worker: int, case: str, pairs: int, seconds: int) -> dict[str, object]:
    assert lab.agent is not None
    agent = lab.agent.pid
    port, path = CASES[case]
    took: list[tuple[Run, Run]] = []
    for number in range(-1, pairs):
        runs = {}
        for on in (True, False) if number % 2 else (False, True):
            runs[on] = await run(worker, agent, port if on else OFF_PORT, path, seconds)
        if number >= 0:  # the first pair warms up
            took.append((runs[True], runs[False]))
    logs = [math.log(on.haproxy_us / off.haproxy_us) for on, off in took]
    mean = statistics.fmean(logs)
    half = T_95.get(len(logs) - 1, 2.0) * statistics.stdev(logs) / math.sqrt(len(logs))
    share = statistics.fmean(on.agent for on, _ in took)
    reading = await quiet_share(worker, QUIET_S)
    return {
        "haproxy_on_us": round(statistics.median(on.haproxy_us for on, _ in took), 2),
        "haproxy_off_us": round(statistics.median(off.haproxy_us for _, off in took), 2),
        "ratio": round(math.exp(mean), 4),
        "low_95": round(math.exp(mean - half), 4),
        "high_95": round(math.exp(mean + half), 4),
        "median_ratio": round(math.exp(statistics.median(logs)), 4),
        "agent_percent_of_a_core": round(100 * share, 2),
        "haproxy_read_percent_of_a_core": round(100 * reading, 2),
        "throughput_cost": round(math.exp(mean) / (1 - share - reading), 4),
        "limit": COST_LIMIT if case == "good" else None,
        "requests_per_s": round(statistics.median(run.rps for pair in took for run in pair)),
    }


def history(services: int) -> dict[str, object]:
    """Rings of busy services, each with a pool of two servers and with times."""
    metrics = Metrics(SystemClock())
    for tick in range(TICKS):
        counts = Counts(5, *(1 + n + 100 * tick for n in range(len(Counts.__struct_fields__) - 1)))
        counts = msgspec.structs.replace(counts, responses_1xx=0, responses_3xx=0, errors=0, retries=0)
        times: Buckets = tuple((10 + n, 1 + tick) for n in range(BUSY_BUCKETS))
        every = tuple(
            ServiceCounts(
                f"virtualservice-{n:036d}",
                counts,
                (PoolCounts(f"pool-{n:036d}", (("a", counts), ("b", counts)), (("a", times), ("b", times))),),
                times,
            )
            for n in range(services)
        )
        metrics.take(
            "se", Counters(epoch="e", number=tick + 1, at_ms=1_000 * tick, engine=EngineCounts(), services=every)
        )
    return {"services": services, "ring_bytes_per_service": round(metrics.size / services)}


async def measure(folder: Path, asked: argparse.Namespace) -> dict[str, object]:
    figures: dict[str, object] = {}
    async with engine(folder) as lab:
        quiet = pool(servers=QUIET, monitors=())
        off = service("off", OFF_PORT, pool=quiet)
        every = [
            p if isinstance(p, Vip) or not isinstance(p, Service) else logged(p)
            for p in parts(asked.services, service(pool=quiet))
        ]
        exact = service("exact", CASES["every_slow"][0], pool=quiet, log=LogPolicy(every_slow=True))
        await lab.controller.push(*every, off, exact)
        await lab.controller.hear(messages.Ownership, lambda m: m.owner)
        worker = await runtime.worker_pid(str(lab.home / "admin.sock"))
        if asked.idle_seconds:
            figures["idle"] = await idle(lab, worker, asked.idle_seconds)
        file = folder / "backend.cfg"
        file.write_text(BACKEND.format(address=BACKEND_ADDRESS))
        backend = subprocess.Popen(["haproxy", "-db", "-f", str(file)])
        try:
            await asyncio.sleep(0.5)
            for case in asked.cases:
                figures[case] = await per_request(lab, worker, case, asked.pairs, asked.seconds)
        finally:
            backend.kill()
            backend.wait()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--idle-seconds", type=float, default=0.0)
    parser.add_argument("--cases", nargs="+", default=["good"], choices=list(CASES))
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=1)
    asked = parser.parse_args()
    figures: dict[str, object] = {"bench": "analytics", "history": history(200)}
    with tempfile.TemporaryDirectory() as name, private_host():
        figures |= asyncio.run(measure(Path(name), asked))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
