"""A service that engines announce to a router with clients behind it: for tests and the benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from shoal.lab import router as routers
from shoal.lab.api import Api
from shoal.lab.load import Plan, Report, Target
from shoal.lab.network import Backend, Lab
from shoal.lab.router import Router
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

SECRET = "between the two of us"
GROUP = {"name": "bgp", "ha_mode": "HA_MODE_SHARED", "max_se": 6, "min_scaleout_per_vs": 2, "vs_scalein_timeout": 30}
CLIENTS = 40


class World:
    """One service that two engines announce, behind a router with resilient groups."""

    lab: Lab
    router: Router
    backend: Backend
    service: dict[str, Any]
    tried: int
    """New connections in the last `served`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def make(self) -> None:
        self.lab = Lab(self.bench.options.data_dir)
        self.backend = await self.lab.backend("web1")
        self.router = await routers.make(self.lab, resilient=True, secret=SECRET)
        async with Api(self.bench.url, PASSWORD) as api:
            await self.configure(api)
            await api.post("serviceenginegroup", GROUP)
            self.service = await api.service(
                "web",
                [(self.backend.address, self.backend.port)],
                pool={"health_monitor_refs": ["/api/healthmonitor?name=quick"]},
                se_group_ref="/api/serviceenginegroup?name=bgp",
                enable_rhi=True,
                scaleout_ecmp=True,
            )
            await api.placed(self.service["uuid"], 2)

    async def configure(self, api: Api) -> None:
        monitor = {"type": "HEALTH_MONITOR_TCP", "send_interval": 1, "receive_timeout": 1, "failed_checks": 1}
        await api.post("healthmonitor", {"name": "quick", "successful_checks": 1, **monitor})
        vrf = (await api.get("vrfcontext?name=global"))["results"][0]
        peer = {
            "peer_ip": {"addr": self.router.address, "type": "V4"},
            "remote_as": routers.AS,
            "md5_secret": SECRET,
            "connect_timer": 1,
        }
        profile = {"local_as": routers.ENGINES_AS, "ibgp": False, "hold_time": 9, "keepalive_interval": 3}
        vrf["bgp_profile"] = {**profile, "peers": [peer]}
        await api.call("PUT", f"vrfcontext/{vrf['uuid']}", vrf)

    @property
    def vip(self) -> str:
        return str(self.service["address"])

    async def set(self, api: Api, **changes: Any) -> None:
        whole = await api.get(f"virtualservice/{self.service['uuid']}")
        await api.call("PUT", f"virtualservice/{self.service['uuid']}", {**whole, **changes})

    async def primary(self, api: Api) -> str:
        return str((await api.placement(self.service["uuid"]))["answers"])

    async def address_of(self, engine: str) -> str:
        """An engine's own."""
        command = self.lab.fabric.enter(engine, "ip", "-4", "-o", "addr", "show", "dev", "eth0")
        shown = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
        return shown.stdout.split("inet ")[1].split("/")[0]

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """WebSockets that talk all the time stay whole, and new connections are all made, with the first packet."""
        kept = Target(name="kept", kind="websocket", host=self.vip, port=80, clients=CLIENTS, seconds=0.0)
        fresh = Target(name="fresh", kind="close", host=self.vip, port=80, clients=CLIENTS // 4, pause_s=0.02)
        plan = msgspec.json.encode(Plan((kept, fresh))).decode()
        load = self.lab.start(self.router.clients, "shoal.lab.load", plan, output=subprocess.PIPE)
        await asyncio.sleep(1.0)
        try:
            yield
        finally:
            load.terminate()
            out, _ = await asyncio.to_thread(load.communicate)
        reports = [msgspec.json.decode(line, type=Report) for line in out.splitlines()]
        lost = [failure for report in reports for failure in (*report.failures, *report.idle)]
        for name, count in reports[-1].counts.items():
            assert (count.failed, count.idle_closes, count.slow) == (0, 0, 0), (name, count, lost)
            assert count.done >= CLIENTS and count.connections >= CLIENTS
        self.tried = reports[-1].counts["fresh"].connections

    async def cut(self, engine: str) -> float:
        """Take the engine's link away; milliseconds until the router has no way to it. It stays cut."""
        victim = await self.address_of(engine)
        began = time.monotonic()
        await self.lab.cut(engine)
        while victim in await self.router.next_hops(self.vip):
            await asyncio.sleep(0.002)
        return (time.monotonic() - began) * 1000


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    with launched(folder) as bench:
        made = World(bench)
        try:
            asyncio.run(made.make())
            yield made
        finally:
            asyncio.run(made.lab.close())
