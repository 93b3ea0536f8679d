"""From the answer to a new virtual service's POST to its first 200, on a warm engine and when one must be made."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.private_host import private_host

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench


class Waiter:
    """A warm process in the client's namespace that tries an address until it answers."""

    def __init__(self, lab: Lab) -> None:
        command = lab.fabric.enter("lab-client", sys.executable, "-m", "shoal.lab.first")
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdout is not None and self._child.stdout.readline() == b"ready\n"

    def first(self, address: str) -> float:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(f"{address} 80\n".encode())
        self._child.stdin.flush()
        return float(self._child.stdout.readline())

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()


async def measure(bench: Bench, count: int) -> dict[str, object]:
    lab = Lab(bench.options.data_dir)
    try:
        async with Api(bench.url, PASSWORD) as api:
            backend = await lab.backend("web1")
            await lab.node("client")
            waiter = Waiter(lab)
            servers = [(backend.address, backend.port)]
            body = {"name": "warm", "max_vs_per_se": 1000}
            await api.post("serviceenginegroup", body)
            group = "/api/serviceenginegroup?name=warm"
            made = await api.service("first", servers, se_group_ref=group)
            await api.placed(made["uuid"], 1)
            warm, cold = [], []
            for number in range(count):
                made = await api.service(f"warm{number}", servers, se_group_ref=group)
                posted = time.monotonic()
                warm.append((await asyncio.to_thread(waiter.first, made["address"]) - posted) * 1000)
                await api.placed(made["uuid"], 1)
                await asyncio.sleep(0.6)  # let the burst's window pass: each is a first change
            for number in range(count):
                await api.post("serviceenginegroup", {"name": f"cold{number}", "buffer_se": 0})
                ref = f"/api/serviceenginegroup?name=cold{number}"
                made = await api.service(f"cold{number}", servers, se_group_ref=ref)
                posted = time.monotonic()
                cold.append((await asyncio.to_thread(waiter.first, made["address"]) - posted) * 1000)
                await api.call("DELETE", f"virtualservice/{made['uuid']}")
            waiter.close()
    finally:
        await lab.close()
    return {
        "n": count,
        "warm_ms_median": round(statistics.median(warm), 1),
        "warm_ms_max": round(max(warm), 1),
        "warm_ms_limit": 300,
        "new_engine_ms_median": round(statistics.median(cold), 1),
        "new_engine_ms_max": round(max(cold), 1),
        "new_engine_ms_limit": 2000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, private_host():
        bench = Bench(Path(folder) / "data")
        bench.launch()
        try:
            figures = asyncio.run(measure(bench, options.count))
        finally:
            bench.stop()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
