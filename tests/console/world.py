"""A whole Shoal without packets, for the console: the real controller, REST face and console over `puppets`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from shoal.api.app import App, Dependencies
from shoal.controller.accounts import Accounts
from shoal.controller.backup.kept import Backups
from shoal.controller.client_logs import ClientLogStore
from shoal.controller.clock import SystemClock
from shoal.controller.controller import Controller
from shoal.controller.engine_documents import EngineDocuments
from shoal.controller.journal import Journal
from shoal.controller.sight import owners_of
from shoal.objects import load
from tests.api_world import HOST, NO_IDENTITY, PASSWORD, FakeRuntime, World, foundation
from tests.api_world import Clock as StandingClock

from .puppets import Troupe

Document = dict[str, Any]
HOSTS = ("rack1-host1", "rack1-host2", "rack2-host1", "rack2-host2")
SERVED_WITHIN_S = 30.0


class ConsoleWorld(World):
    """``post`` and friends speak the REST API in-process."""

    controller: Controller
    troupe: Troupe
    directory: Path
    anew: int
    """How often the controller was to begin anew: it is seen to be asked, and does not."""

    async def group(self, name: str, **fields: Any) -> Document:
        made: Document = await self.post("/api/serviceenginegroup", {"name": name, **fields})
        return made

    async def virtual_service(
        self, name: str, address: str, group: str = "Default-Group", servers: int = 3, port: int = 80, **fields: Any
    ) -> Document:
        tail = [int(part) for part in address.split(".")[2:]]
        ips = [f"10.{20 + tail[0] % 200}.{tail[1]}.{n + 1}" for n in range(servers)]
        pool = {"name": f"{name}-pool", "servers": [{"ip": {"addr": ip, "type": "V4"}, "port": 8080} for ip in ips]}
        await self.post("/api/pool", pool)
        vip = {"vip_id": "0", "ip_address": {"addr": address, "type": "V4"}}
        await self.post("/api/vsvip", {"name": f"{name}-vip", "vip": [vip]})
        made: Document = await self.post(
            "/api/virtualservice",
            {
                "name": name,
                "services": [{"port": port}],
                "pool_ref": f"/api/pool?name={name}-pool",
                "vsvip_ref": f"/api/vsvip?name={name}-vip",
                "se_group_ref": f"/api/serviceenginegroup?name={group}",
                **fields,
            },
        )
        return made

    async def served(self, within_s: float = SERVED_WITHIN_S) -> None:
        """Until every VIP has what it asks for."""
        async with asyncio.timeout(within_s):
            while not self._all_ready():
                await asyncio.sleep(0.1)

    def _all_ready(self) -> bool:
        vips = [vip for group in self.controller.ledger.vips.values() for vip in group.values()]
        return bool(vips) and all(
            vip.requested and sum(p.state.value == "ready" for p in vip.placements) >= vip.requested for vip in vips
        )


@asynccontextmanager
async def console_world(directory: Path) -> AsyncIterator[ConsoleWorld]:
    """Logged in as admin, with the controller at work."""
    async with foundation(directory, vip_networks=("10.9.0.0/16",)) as (store, view, intent):
        clock, logs = SystemClock(), directory / "logs"
        journal = Journal(logs, clock, partial(owners_of, view))
        intent.trail.on_written = journal.change
        client_logs = ClientLogStore(logs, clock)
        troupe = Troupe(HOSTS)
        controller = troupe.controller = Controller(
            store,
            view,
            troupe,
            EngineDocuments(intent, view),
            identity=lambda id, name: NO_IDENTITY,
            unseal=intent._secrets.unseal,
            heartbeat_key=lambda group: b"",
            journal=journal,
            client_logs=client_logs,
        )
        await controller.load()

        def begin_anew() -> None:
            world.anew += 1

        accounts = Accounts(store, view, intent)
        await accounts.ensure_admin(PASSWORD)
        deps = Dependencies(
            view=view,
            intent=intent,
            registry=load(),
            accounts=accounts,
            runtime=controller,
            metrics=controller.metrics,
            client_logs=client_logs,
            journal=journal,
            backups=Backups(store, view, intent, directory, begin_anew),
        )
        standing = StandingClock()
        world = ConsoleWorld(App(deps, standing), store, view, FakeRuntime(view), standing, controller.metrics)
        world.controller, world.troupe = controller, troupe
        world.directory, world.anew = directory, 0
        await world.login()
        tasks = [asyncio.create_task(controller.run()), asyncio.create_task(controller.margins.run())]
        try:
            yield world
        finally:
            await world.client.aclose()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await troupe.stop()


__all__ = ["HOST", "PASSWORD", "ConsoleWorld", "console_world"]
