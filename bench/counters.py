"""What counting costs: CPU per request with and without it, an idle agent at many services, memory of the history (root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.cpu import BACKEND, T_95, cpu_s
from tests.integration.engine_lab import VIP, Lab, engine, pool, service, settings, vip
from tests.integration.private_host import private_host

from shoal.controller.clock import SystemClock
from shoal.controller.metrics import Metrics
from shoal.engine.haproxy import runtime
from shoal.wire import messages
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from shoal.wire.desired import Part, Server, Service

COST_LIMIT = 1.02
AGENT_CPU_LIMIT_PERCENT = 1.0
AGENT_MEMORY_LIMIT_MB = 60
STATE_LIMIT_MS = 1_000
FIRST_PORT = 10_000
BACKEND_ADDRESS = "127.0.0.1"
QUIET = tuple(Server(name=f"{BACKEND_ADDRESS}:80-{n}", address=BACKEND_ADDRESS, port=80) for n in (1, 2))
TICKS = 8


def parts(count: int, one: Service) -> list[Part]:
    """Of so many services: this one, the others idle and without health checks."""
    quiet = pool(servers=QUIET, monitors=())
    ids = (f"virtualservice-{n:08d}-0000-4000-8000-000000000000" for n in range(count - 1))
    idle = [service(id, FIRST_PORT + n, pool=quiet) for n, id in enumerate(ids)]
    return [settings(), vip(), one, *idle]


async def many(lab: Lab, count: int) -> None:
    """``count`` idle services without health checks, and ``one`` with traffic whose servers are checked each second."""
    await lab.controller.push(*parts(count, service()))
    await lab.controller.hear(messages.Ownership, lambda m: m.owner)


async def idle(lab: Lab, worker: int, seconds: float) -> dict[str, object]:
    """CPU of agent and HAProxy with nothing to do."""
    assert lab.agent is not None
    await asyncio.sleep(3)
    before, began = (cpu_s(lab.agent.pid), cpu_s(worker)), time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    fields = Path(f"/proc/{lab.agent.pid}/statm").read_text().split()
    return {
        "agent_cpu_percent": round(100 * (cpu_s(lab.agent.pid) - before[0]) / took, 2),
        "agent_cpu_percent_limit": AGENT_CPU_LIMIT_PERCENT,
        "agent_memory_mb": round(int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "agent_memory_mb_limit": AGENT_MEMORY_LIMIT_MB,
        "haproxy_cpu_percent": round(100 * (cpu_s(worker) - before[1]) / took, 2),
    }


async def state_latency_ms(lab: Lab, count: int) -> list[float]:
    """From HAProxy's word in its log that a server is down to the controller's hearing of it."""
    found = []
    logged = lab.home / "haproxy.log"

    def is_now(state: str) -> Callable[[messages.Status], bool]:
        return lambda status: any((s.service, s.server, s.state) == ("one", "a", state) for s in status.servers)

    for _ in range(count):
        before = logged.stat().st_mtime
        await lab.backends["a"].stop()
        await lab.controller.hear(messages.Status, is_now("down"), since=len(lab.controller.heard))
        found.append((time.time() - logged.stat().st_mtime) * 1000)
        assert logged.stat().st_mtime > before
        await lab.backends["a"].start()
        await lab.controller.hear(messages.Status, is_now("up"), since=len(lab.controller.heard))
    return found


def load(seconds: int) -> int:
    """Requests made by wrk."""
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://{VIP}/"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = re.search(r"(\d+) requests in", out)
    if made is None or "Non-2xx" in out:
        raise RuntimeError(out)
    return int(made[1])


async def per_request(lab: Lab, count: int, pairs: int, seconds: int, folder: Path) -> dict[str, object]:
    """CPU of HAProxy and the agent together per request: the agent counting, and frozen. In pairs."""
    assert lab.agent is not None
    agent = lab.agent.pid
    file = folder / "backend.cfg"
    file.write_text(BACKEND.format(address=BACKEND_ADDRESS))
    backend = subprocess.Popen(["haproxy", "-db", "-f", str(file)])
    try:
        await lab.controller.push(*parts(count, service(pool=pool(servers=QUIET, monitors=()))))
        worker = await runtime.worker_pid(str(lab.home / "admin.sock"))
        await asyncio.to_thread(load, 1)
        took: list[tuple[float, float]] = []
        busy: list[float] = []
        for number in range(pairs):
            figures = {}
            for counting in (True, False) if number % 2 else (False, True):
                os.kill(agent, signal.SIGCONT if counting else signal.SIGSTOP)
                before = cpu_s(worker) + cpu_s(agent)
                requests = await asyncio.to_thread(load, seconds)
                used = cpu_s(worker) + cpu_s(agent) - before
                figures[counting] = used / requests * 1e6
                busy.append(100 * used / seconds)
            took.append((figures[True], figures[False]))
    finally:
        os.kill(agent, signal.SIGCONT)
        backend.kill()
        backend.wait()
    logs = [math.log(on / off) for on, off in took]
    mean = statistics.fmean(logs)
    half = T_95.get(len(logs) - 1, 2.0) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {
        "on_us": round(statistics.median(on for on, _ in took), 2),
        "off_us": round(statistics.median(off for _, off in took), 2),
        "ratio": round(math.exp(mean), 4),
        "low_95": round(math.exp(mean - half), 4),
        "high_95": round(math.exp(mean + half), 4),
        "limit": COST_LIMIT,
        # Counting costs the same each second: the less of a core HAProxy got, the larger its share of a request.
        "busy_percent_of_a_core": round(statistics.median(busy), 1),
    }


def history(services: int) -> dict[str, object]:
    """Rings of busy services, each with a pool of two servers, on one engine; and what a message of theirs costs."""
    metrics = Metrics(SystemClock())
    took, size = [], 0
    for tick in range(TICKS):
        counts = Counts(5, *(1 + n + 100 * tick for n in range(len(Counts.__struct_fields__) - 1)))
        counts = msgspec.structs.replace(counts, responses_1xx=0, responses_3xx=0, errors=0, retries=0)
        every = tuple(
            ServiceCounts(
                f"virtualservice-{n:036d}", counts, (PoolCounts(f"pool-{n:036d}", (("a", counts), ("b", counts))),)
            )
            for n in range(services)
        )
        at = 1_000 * tick
        message = Counters(epoch="e", number=tick + 1, at_ms=at, engine=EngineCounts(), services=every)
        data = msgspec.msgpack.encode(message)
        size = len(data)
        began = time.process_time()
        heard = msgspec.msgpack.decode(data, type=messages.FromEngine)
        assert isinstance(heard, Counters)
        metrics.take("se", heard)
        took.append(time.process_time() - began)
    return {
        "ring_bytes_per_service": round(metrics.size / services),
        "ring_mb": round(metrics.size / 1e6, 1),
        "message_bytes_per_service": round(size / services),
        "message_taken_ms": round(statistics.median(took[2:]) * 1000, 1),
        "message_taken_cpu_percent": round(statistics.median(took[2:]) / 5 * 100, 2),
    }


async def measure(folder: Path, asked: argparse.Namespace) -> dict[str, object]:
    async with engine(folder) as lab:
        await many(lab, asked.services)
        worker = await runtime.worker_pid(str(lab.home / "admin.sock"))
        figures: dict[str, object] = {"services": asked.services}
        figures["idle"] = await idle(lab, worker, asked.idle_seconds)
        latencies = await state_latency_ms(lab, 5)
        figures["state_heard_ms_median"] = round(statistics.median(latencies))
        figures["state_heard_ms_max"] = round(max(latencies))
        figures["state_heard_ms_limit"] = STATE_LIMIT_MS
        if asked.pairs:
            figures["cpu_per_request"] = await per_request(lab, asked.services, asked.pairs, asked.seconds, folder)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1_000)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    parser.add_argument("--pairs", type=int, default=8, help="0 = leave the CPU per request out")
    parser.add_argument("--seconds", type=int, default=10)
    asked = parser.parse_args()
    figures: dict[str, object] = {"history": history(asked.services)}
    with tempfile.TemporaryDirectory() as name, private_host():
        figures |= asyncio.run(measure(Path(name), asked))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
