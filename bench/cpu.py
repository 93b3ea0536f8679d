"""CPU per request of HAProxy behind a Shoal service against a hand-written haproxy.cfg doing the same (as root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from shoal.engine.haproxy import runtime
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.private_host import private_host

LIMIT = 1.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
T_95 = {3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 9: 2.262, 11: 2.201, 15: 2.131, 19: 2.093}

BACKEND = """global
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend web
    bind {address}:80
    http-request return status 200 content-type text/plain string "hello from the backend of the bench"
"""
HAND_WRITTEN = """global
    maxconn 4000
    nbthread 1
    stats socket {socket} mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend web
    bind {address}:80
    default_backend web
backend web
    balance roundrobin
    option forwardfor
    server s1 {server}:80
"""


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def load(lab: Lab, address: str, seconds: int, *, close: bool) -> int:
    """Requests made by wrk in the client's namespace."""
    header = ["-H", "Connection: close"] if close else []
    command = lab.fabric.enter("lab-client", "wrk", "-t1", "-c16", f"-d{seconds}s", *header, f"http://{address}/")
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if found is None or bad is not None:
        raise RuntimeError(out)
    return int(found[1])


def microseconds(lab: Lab, address: str, pid: int, seconds: int, *, close: bool) -> float:
    before = cpu_s(pid)
    requests = load(lab, address, seconds, close=close)
    return (cpu_s(pid) - before) / requests * 1e6


def compared(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """The ratio Shoal / hand-written over paired runs, with its 95 % interval (t, on the logarithm)."""
    logs = [math.log(shoal / plain) for shoal, plain in pairs]
    mean = statistics.fmean(logs)
    half = T_95.get(len(logs) - 1, 2.0) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {
        "shoal_us": round(statistics.median(s for s, _ in pairs), 2),
        "hand_written_us": round(statistics.median(p for _, p in pairs), 2),
        "ratio": round(math.exp(mean), 4),
        "low_95": round(math.exp(mean - half), 4),
        "high_95": round(math.exp(mean + half), 4),
        "limit_for_low_95": LIMIT,
    }


async def measure(bench: Bench, folder: Path, count: int, seconds: int) -> dict[str, object]:
    lab = Lab(bench.options.data_dir)
    children: list[subprocess.Popen[bytes]] = []

    def haproxy(node: str, text: str) -> int:
        file = folder / f"{node}.cfg"
        file.write_text(text)
        child = subprocess.Popen(lab.fabric.enter(f"lab-{node}", "haproxy", "-db", "-f", str(file)))
        children.append(child)
        return child.pid

    try:
        async with Api(bench.url, PASSWORD) as api:
            server, plain = await lab.node("server"), await lab.node("plain")
            await lab.node("client")
            haproxy("server", BACKEND.format(address=server))
            text = HAND_WRITTEN.format(address=plain, server=server, socket=folder / "plain.sock")
            plain_pid = haproxy("plain", text)
            made = await api.service("bench", [(server, 80)])
            engine = (await api.placed(made["uuid"], 1))["answers"]
            await asyncio.sleep(2)
            socket = bench.options.data_dir / "engines" / engine / "admin.sock"
            shoal_pid = await runtime.worker_pid(str(socket))
        figures: dict[str, object] = {"pairs": count, "seconds": seconds}
        for close in (False, True):
            pairs = []
            load(lab, made["address"], 1, close=close), load(lab, plain, 1, close=close)
            for number in range(count):
                order = [(made["address"], shoal_pid), (plain, plain_pid)]
                took = {}
                for address, pid in order if number % 2 else order[::-1]:
                    took[pid] = microseconds(lab, address, pid, seconds, close=close)
                pairs.append((took[shoal_pid], took[plain_pid]))
            figures["close" if close else "keep_alive"] = compared(pairs)
    finally:
        for child in children:
            child.kill()
            child.wait()
        await lab.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, private_host():
        folder = Path(name)
        bench = Bench(folder / "data")
        bench.launch()
        try:
            figures = asyncio.run(measure(bench, folder, options.pairs, options.seconds))
        finally:
            bench.stop()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
