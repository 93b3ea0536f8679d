"""Memory of an engine by its number of virtual services, old and new worker together, and what it costs idle (as root).

Two engines: one owns every VIP, the other has the same listeners armed. An open connection keeps the old worker there
after a reload. HAProxy's memory is PSS (shared pages counted once), that of agent and guard RSS.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator

from bench.rig import contestants, figures, processes
from bench.rig.stage import SERVICES_MAX, Stage, play

from shoal.errors import NotReady, ShoalError

TOGETHER_MB_LIMIT, AT = 300, SERVICES_MAX
PROCESS_MB_LIMIT = 60
IDLE_PERCENT_LIMIT = 1.0
SETTLE_S = 3.0
RELOADED_WITHIN_S = 15.0


def kinds(stage: Stage, engine: str) -> dict[str, list[int]]:
    """The pids of an engine by what they are."""
    found: dict[str, list[int]] = {"haproxy": [], "agent": [], "guard": []}
    for pid in stage.pids(engine):
        line = processes.command_line(pid)
        if line.startswith("haproxy"):
            found["haproxy"].append(pid)
        elif "-m shoal.engine.guard" in line:
            found["guard"].append(pid)
        elif "-m shoal.engine " in line:
            found["agent"].append(pid)
    return found


@contextlib.contextmanager
def open_connection(stage: Stage, address: str) -> Iterator[None]:
    """A client that keeps a TCP connection open."""
    script = (
        "import socket,sys; s=socket.create_connection(tuple(sys.argv[1:2])+(int(sys.argv[2]),)); print('made',flush=True);"
        "sys.stdin.read()"
    )
    command = ["python3", "-c", script, address, str(contestants.TCP_PORT)]
    entered = stage.lab.fabric.enter("lab-client", *command)
    with subprocess.Popen(entered, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == b"made\n"
            yield
        finally:
            child.kill()


class Play:
    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage, self.options = stage, options
        self.servers: list[tuple[str, int]] = []
        self.group = self.tcp = ""
        self.engine = self.other = ""
        self.filled = 0

    async def prepare(self) -> None:
        stage = self.stage
        server, _ = await stage.server()
        self.servers = [(server, 80), (server, 81)]
        self.group = await stage.group("bench", engines=2)
        made = await stage.api.service(
            "tcp",
            self.servers,
            se_group_ref=self.group,
            services=[{"port": contestants.TCP_PORT}],
            application_profile_ref="/api/applicationprofile?name=System-L4-Application",
        )
        self.tcp = made["address"]
        placed = await stage.settled(made)
        self.engine = placed["answers"]
        engines = await stage.api.get("serviceengine?page_size=100")
        self.other = next(e["name"] for e in engines["results"] if e["name"] != self.engine)

    async def measure(self) -> dict[str, object]:
        await self.prepare()
        found: dict[str, object] = {"bench": "memory"}
        for services in sorted(self.options.services):
            try:
                await self.stage.fill(range(self.filled, services - 1), self.servers, self.group)
                self.filled = max(self.filled, services - 1)
                await asyncio.sleep(SETTLE_S)
                owner = await self.engine_figures(self.engine, services)
                armed = await self.engine_figures(self.other, services)
                owner |= await self.together(self.engine, services)  # last: both engines are at work for a while then
                found[f"services_{services}"] = {
                    "fill_s": round(self.stage.fill_s, 1),
                    "owner": owner,
                    "armed": armed,
                }
            except (TimeoutError, ShoalError) as error:
                found[f"services_{services}"] = {"failed": f"{type(error).__name__}: {error}"[:200]}
                break
        return found | {"missed": figures.missed(found)}

    async def engine_figures(self, engine: str, services: int) -> dict[str, object]:
        master, worker = await self.stage.haproxy_of(engine)
        found: dict[str, object] = {
            "master_mb": round(processes.pss_mb(master), 1),
            "worker_mb": round(processes.pss_mb(worker), 1),
            "worker_kb_per_service": round(processes.pss_mb(worker) / services * 1000, 1),
        }
        return found | await self.idle(engine)

    async def idle(self, engine: str) -> dict[str, object]:
        of = kinds(self.stage, engine)
        before, began = {kind: processes.cpu_s(pids) for kind, pids in of.items()}, time.monotonic()
        await asyncio.sleep(self.options.idle)
        elapsed = time.monotonic() - began
        found: dict[str, object] = {}
        for kind, pids in of.items():
            percent = 100 * (processes.cpu_s(pids) - before[kind]) / elapsed
            found[f"{kind}_idle_percent"] = round(percent, 2)
            if kind != "haproxy":
                found[f"{kind}_idle_percent_limit"] = IDLE_PERCENT_LIMIT
                found[f"{kind}_mb"] = round(sum(map(processes.rss_mb, pids)), 1)
                found[f"{kind}_mb_limit"] = PROCESS_MB_LIMIT
        return found

    async def together(self, engine: str, services: int) -> dict[str, object]:
        """Right after a reload: master, old and new worker."""
        stage = self.stage
        _, before = await stage.haproxy_of(engine)
        with open_connection(stage, self.tcp):
            pool = (await stage.api.get("pool?name=tcp-pool"))["results"][0]
            turned = pool["lb_algorithm"] == "LB_ALGORITHM_ROUND_ROBIN"
            pool["lb_algorithm"] = "LB_ALGORITHM_LEAST_CONNECTIONS" if turned else "LB_ALGORITHM_ROUND_ROBIN"
            await stage.api.call("PUT", f"pool/{pool['uuid']}", pool)
            deadline = time.monotonic() + RELOADED_WITHIN_S
            while (await stage.haproxy_of(engine))[1] == before:
                if time.monotonic() > deadline:
                    raise NotReady(f"No reload within {RELOADED_WITHIN_S:.0f} s of a pool's new algorithm.")
                await asyncio.sleep(0.01)
            most = 0.0
            for _ in range(20):  # the worst of the first second
                most = max(most, sum(map(processes.pss_mb, kinds(stage, engine)["haproxy"])))
                await asyncio.sleep(0.05)
            if before not in stage.pids(engine):
                raise NotReady("The old worker was gone before it could be measured.")
        found: dict[str, object] = {"together_mb": round(most, 1)}
        return found | ({"together_mb_limit": TOGETHER_MB_LIMIT} if services == AT else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[1, 100], help="up to 1000")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of watching it do nothing, per engine")
    options = parser.parse_args()
    play(lambda stage: Play(stage, options).measure())


if __name__ == "__main__":
    main()
