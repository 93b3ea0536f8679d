"""What an operator does to where virtual services are, under load: scale out and in, migrate, engines taken out of
service, restarted and filled again. Used by `shoal certify`."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from shoal.clouds.fabric import processes_in
from shoal.errors import NotReady, ShoalError

from .api import Api, Document, engine_name
from .changes import Service
from .network import Lab

SETTLED_WITHIN_S = 90.0
UPGRADED_WITHIN_S = 180.0
ATTEMPTS_MAX = 3
AGENT = b"shoal.engine"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """``why`` is empty when it went as it should."""

    at: float
    kind: str
    what: str
    took_ms: float
    why: str = ""


class Moves:
    """``sizes`` says on how many engines each service is meant to be."""

    def __init__(self, api: Api, lab: Lab, rng: random.Random, services: list[Service]) -> None:
        self._api = api
        self._lab = lab
        self._rng = rng
        self._services = services
        self.sizes = {service.uuid: 1 for service in services}
        self.log: list[Move] = []

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(move.kind for move in self.log if not move.why).items()))

    def failed(self) -> list[Move]:
        return [move for move in self.log if move.why]

    async def rounds(self, scale_outs: int, migrations: int) -> None:
        """So many scale outs, as many scale ins, and migrations, spread over the services, which go side by side."""
        lists: list[list[str]] = [[] for _ in self._services]
        for kind, count in (("scaleout", scale_outs), ("migrate", migrations)):
            for number in range(count):
                lists[number % len(lists)].append(kind)
        async with asyncio.TaskGroup() as tasks:
            for service, kinds in zip(self._services, lists, strict=True):
                self._rng.shuffle(kinds)
                tasks.create_task(self._round(service, kinds, random.Random(self._rng.random())))

    async def _round(self, service: Service, kinds: Iterable[str], rng: random.Random) -> None:
        """Each scale out is taken back some time later; from two engines on the next one is as likely as that."""
        most = 3
        for kind in kinds:
            while kind == "scaleout" and self.sizes[service.uuid] > 1:
                if self.sizes[service.uuid] < most and rng.random() < 0.5:
                    break
                await self._scale(service, "scalein", -1)
            await (self._scale(service, kind, +1) if kind == "scaleout" else self._migrate(service))
        while self.sizes[service.uuid] > 1:
            await self._scale(service, "scalein", -1)

    async def _do(self, kind: str, what: str, work: asyncio.Task[str]) -> bool:
        began, at, why = time.monotonic(), time.time(), ""
        try:
            what = f"{what}: {await work}"
        except ShoalError as error:
            why = str(error)
        took_ms = round((time.monotonic() - began) * 1000, 1)
        self.log.append(Move(at=at, kind=kind, what=what, took_ms=took_ms, why=why))
        return not why

    async def _settled(self, service: Service) -> Document:
        """It is on as many engines as it should be, none drains, its takeover is armed."""

        async def check() -> Document | None:
            found = await self._api.placement(service.uuid)
            held = found["placements"]
            ready = [p for p in held if p["state"] == "ready"]
            whole = len(ready) == len(held) == self.sizes[service.uuid] and found["armed"] and found["answers"]
            return found if whole else None

        wanted = f"{service.name} is on {self.sizes[service.uuid]} engines"
        found: Document = await self._api.until(wanted, check, SETTLED_WITHIN_S)
        return found

    async def _operate(self, service: Service, operation: str, **body: str) -> str:
        vip = (await self._api.placement(service.uuid))["vip_id"]
        await self._api.post(f"virtualservice/{service.uuid}/{operation}", {"vip_id": vip, **body})
        if operation != "migrate":
            self.sizes[service.uuid] += 1 if operation == "scaleout" else -1
        found = await self._settled(service)
        return ", ".join(engine_name(p["se_ref"]) for p in found["placements"])

    async def _scale(self, service: Service, operation: str, change: int) -> None:
        for _ in range(ATTEMPTS_MAX):
            size = self.sizes[service.uuid]
            work = asyncio.create_task(self._operate(service, operation))
            if await self._do(operation, service.name, work) or self.sizes[service.uuid] == size + change:
                return
        raise NotReady(f"{service.name} could not {operation}: {self.log[-1].why}")

    async def _migrate(self, service: Service, **body: str) -> None:
        async def work() -> str:
            before = (await self._api.placement(service.uuid))["answers"]
            return f"{before} -> {await self._operate(service, 'migrate', **body)}"

        await self._do("migrate", service.name, asyncio.create_task(work()))

    # --- engines ---

    async def _owner(self) -> tuple[str, str]:
        """(uuid, name) of an engine that answers for a service."""
        placed = await self._settled(self._rng.choice(self._services))
        reference = next(p["se_ref"] for p in placed["placements"] if engine_name(p["se_ref"]) == placed["answers"])
        return reference.partition("#")[0].rpartition("/")[2], placed["answers"]

    async def _enable(self, engine: str, state: str) -> None:
        await self._api.call("PATCH", f"serviceengine/{engine}", {"replace": {"enable_state": state}})

    async def _until_engine(self, engine: str, what: str, **wanted: object) -> None:
        async def check() -> bool:
            found = await self._api.get(f"serviceengine/{engine}/runtime")
            flat = {**found, "state": found["oper_status"]["state"]}
            return all(flat[key] == value for key, value in wanted.items())

        await self._api.until(what, check, SETTLED_WITHIN_S)

    async def _incarnation(self, engine: str) -> str:
        found: str = (await self._api.get(f"serviceengine/{engine}/runtime"))["incarnation"]
        return found

    async def _until_new(self, engine: str, name: str, before: str) -> None:
        async def check() -> bool:
            return await self._incarnation(engine) != before

        await self._api.until(f"the new agent of {name} has connected", check, SETTLED_WITHIN_S)
        await self._until_engine(engine, f"{name} is up", state="OPER_UP", se_connected=True)

    async def _all_settled(self) -> None:
        for service in self._services:
            await self._settled(service)

    async def _empty(self, engine: str, name: str) -> None:
        await self._enable(engine, "SE_STATE_DISABLED")
        await self._until_engine(engine, f"{name} is empty", state="OPER_DISABLED")

    async def disable_and_enable(self) -> None:
        async def work() -> str:
            engine, name = await self._owner()
            await self._empty(engine, name)
            await self._enable(engine, "SE_STATE_ENABLED")
            await self._all_settled()
            return name

        await self._do("engine_disable_enable", "engine", asyncio.create_task(work()))

    async def upgrade(self) -> None:
        """All engines of a group, one after another; then one of them is filled again."""
        engine, name = await self._owner()

        async def work() -> str:
            group = (
                (await self._api.get(f"serviceengine/{engine}"))["se_group_ref"].partition("#")[0].rpartition("/")[2]
            )
            before = await self._incarnation(engine)
            await self._api.post(f"serviceenginegroup/{group}/upgrade", {"all": True})

            async def check() -> bool:
                found = (await self._api.get(f"serviceenginegroup/{group}/runtime"))["upgrade"]
                if found and found["state"] == "SUSPENDED":
                    raise NotReady(found["why"])
                return not found

            await self._api.until("the upgrade is over", check, UPGRADED_WITHIN_S)
            if await self._incarnation(engine) == before:
                raise NotReady(f"{name} was not started anew")
            await self._all_settled()
            return name

        if await self._do("engine_upgrade", "group", asyncio.create_task(work())):
            await self._migrate(self._services[0], to_se_ref=f"/api/serviceengine?name={name}")

    async def restart_agent(self) -> None:
        """The agent is killed in place; HAProxy and guard go on, and the next agent adopts them."""

        async def work() -> str:
            engine, name = await self._owner()
            before = await self._incarnation(engine)
            for pid in processes_in(self._lab.fabric.addressing.namespace(name)):
                if _is_agent(pid):
                    os.kill(pid, signal.SIGKILL)
            await self._until_new(engine, name, before)
            await self._all_settled()
            return name

        await self._do("agent_restart", "engine", asyncio.create_task(work()))


def _is_agent(pid: int) -> bool:
    try:
        return AGENT in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
