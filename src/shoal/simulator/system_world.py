"""The real controller over the real core in virtual time: simulated clouds, engines and faults.

Everything random comes from one seed. Ownership's invariants are checked after every event of the data network,
placement's by the controller itself after every plan; either ends the run. Not simulated: HAProxy, the REST layer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shoal.clouds.noop import NoopCloud
from shoal.clouds.protocol import CloudError, EngineHandle, EngineSpec, Identity
from shoal.controller import bootstrap
from shoal.controller.controller import Controller
from shoal.controller.engine_documents import EngineDocuments
from shoal.controller.intent import Caller, Intent
from shoal.controller.rules import Rules
from shoal.controller.secrets import Secrets
from shoal.controller.view import View
from shoal.errors import NotReady
from shoal.objects import load
from shoal.ownership.events import Tell
from shoal.placement.model import PlacementState
from shoal.store.memory import MemoryStore

from .agent import SimulatedAgent
from .kernel import Broken
from .link import Connection
from .ownership_world import Engine, World
from .virtual_time import VirtualClock, VirtualLoop

VIP_NETWORK = "10.9.0.0/16"
OPERATOR = Caller(user="admin")
SETTLE_S_MAX = 120.0
"""After the last fault everything must be as intended within this time (virtual)."""
CHECK_S = 0.5
NO_IDENTITY = Identity(key_pem=b"", certificate_pem=b"", ca_pem=b"")

Document = dict[str, Any]


class SimulatedCloud(NoopCloud):
    """``create_s``: (least, most) a creation takes; the next ``failures`` creations fail. ``booted`` and ``gone`` are
    told of machines that start and go."""

    def __init__(
        self,
        clock: VirtualClock,
        chance: random.Random,
        booted: Callable[[EngineHandle, int], None],
        gone: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._clock = clock
        self._chance = chance
        self._booted = booted
        self._gone = gone
        self._ranks: dict[str, int] = {}
        self.create_s = (0.05, 0.3)
        self.failures = 0

    async def create(self, spec: EngineSpec) -> EngineHandle:
        await self._clock.sleep(self._chance.uniform(*self.create_s))
        if self.failures:
            self.failures -= 1
            raise CloudError("The simulated cloud has no room now.")
        handle = await super().create(spec)
        self._ranks[spec.id] = spec.rank
        self._booted(handle, spec.rank)
        return handle

    async def restart(self, engine_id: str) -> EngineHandle:
        handle = await super().restart(engine_id)
        self._booted(handle, self._ranks[engine_id])
        return handle

    async def delete(self, engine_id: str) -> None:
        if engine_id in self._ranks:
            self._gone(engine_id)
        await super().delete(engine_id)


class ControllerProcess:
    """One life of the controller: what it held in memory dies with it."""

    def __init__(self, world: SystemWorld) -> None:
        self._world = world
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        world = self._world
        view = View(world.store, world.registry)
        await view.start()
        self.view = view
        network = ipaddress.IPv4Network("100.64.0.0/16")
        rules = Rules(view, lambda address: ipaddress.ip_address(address) in network)
        self.intent = Intent(
            world.store,
            view,
            world.registry,
            Secrets(bytes(32), Path("simulated")),
            rules,
            clock=world.clock,
            fresh_id=world.fresh_id,
        )
        await bootstrap.bootstrap(self.intent, view, bootstrap.Options(vip_networks=(VIP_NETWORK,)))
        self.controller = Controller(
            world.store,
            view,
            world.cloud,
            EngineDocuments(self.intent, view),
            identity=lambda id, name: NO_IDENTITY,
            unseal=lambda text, context: text,
            heartbeat_key=lambda group: b"",
            clock=world.clock,
            fresh_id=world.fresh_id,
        )
        await self.controller.load()
        self._tasks.append(asyncio.create_task(self.controller.run(), name="controller"))

    async def kill(self) -> None:
        for connection in self._connections:
            connection.controller.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.view.stop()

    def check(self) -> None:
        """Raises what ended the controller, if anything has."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def connect(self, engine: str) -> Connection:
        connection = Connection()
        self._connections.append(connection)
        self._tasks.append(asyncio.create_task(self._attend(engine, connection)))
        return connection

    async def _attend(self, engine: str, connection: Connection) -> None:
        try:
            await self.controller.attend(connection.controller, f"shoal://engine/{engine}")
        except NotReady:
            pass
        finally:
            connection.controller.hang_up()


class SystemWorld:
    """``async with`` is not needed: everything ends with the loop. Call `start` first."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.clock = VirtualClock(loop)
        self.store = MemoryStore(now=self.clock.monotonic)
        self.registry = load()
        self.segment = World((), seed=seed, delay_s=(0.0001, 0.002), schedule=loop, on_tell=self._told)
        self.cloud = SimulatedCloud(self.clock, random.Random(f"{seed}/cloud"), self._booted, self._gone)
        self.agents: dict[str, SimulatedAgent] = {}
        self.process: ControllerProcess | None = None
        self.unreachable: set[str] = set()
        """Engines that the controller can't reach (and that can't reach it)."""
        self._loop = loop
        self._connections: dict[str, Connection] = {}
        self._ids = 0

    # --- running ---

    async def start(self) -> None:
        self.process = ControllerProcess(self)
        await self.process.start()

    async def pass_time(self, seconds: float) -> None:
        """Raises what broke meanwhile."""
        end = self.now + seconds
        while self.now < end:
            await asyncio.sleep(min(CHECK_S, end - self.now))
            if self._loop.failure is not None:
                raise self._loop.failure
            if self.process is not None:
                self.process.check()
                self._check_plans()

    @property
    def now(self) -> float:
        return self._loop.now

    @property
    def running(self) -> ControllerProcess:
        """Raises NotReady while there is no controller."""
        if self.process is None:
            raise NotReady("the controller is dead")
        return self.process

    @property
    def controller(self) -> Controller:
        return self.running.controller

    def fresh_id(self) -> str:
        self._ids += 1
        return f"00000000-0000-4000-8000-{self._ids:012x}"

    def note(self, text: str) -> None:
        self.segment.note(text)

    def _check_plans(self) -> None:
        broken = self.controller.events({"name": "INVARIANT_BROKEN"})
        if broken:
            raise Broken(self.segment.explain(broken[0]["event_description"]))

    # --- machines ---

    def _booted(self, handle: EngineHandle, rank: int) -> None:
        """A machine comes up: new, or again with its disk."""
        machine = self.segment.engines.get(handle.id)
        if machine is None:
            machine = self.segment.engines[handle.id] = Engine(handle.id, rank)
            self.agents[handle.id] = SimulatedAgent(
                self.segment, handle.id, rank, handle.address, handle.mac, self._connect, f"{self.seed}/{rank}"
            )
        else:
            self.kill(handle.id)
        self.note(f"{handle.name} ({handle.id}) starts on {handle.host}")
        machine.frozen = False
        self.cloud.mark(handle.id, running=True)
        self.segment.start(handle.id)
        self.agents[handle.id].start()

    def _gone(self, engine: str) -> None:
        self.kill(engine)
        self.agents.pop(engine)
        self.segment.engines.pop(engine)

    def _connect(self, engine: str) -> Connection:
        if self.process is None or engine in self.unreachable:
            raise NotReady("no controller answers")
        connection = self._connections[engine] = self.process.connect(engine)
        return connection

    def _told(self, engine: str, effect: Tell) -> None:
        self.agents[engine].told(effect)

    # --- faults ---

    def kill(self, engine: str) -> None:
        """kill -9 of every process of the engine."""
        self.note(f"{engine} is killed")
        self.segment.engines[engine].frozen = False
        self.segment.kill(engine)
        self.agents[engine].kill()
        self.cloud.mark(engine, running=False)

    def freeze(self, engine: str) -> None:
        self.note(f"{engine} freezes")
        self.segment.freeze(engine)
        self.agents[engine].freeze()

    def thaw(self, engine: str) -> None:
        self.note(f"{engine} thaws")
        self.agents[engine].thaw()
        self.segment.thaw(engine)

    def cut(self, engine: str) -> None:
        """Its only link: neither peers nor the controller."""
        self.note(f"{engine} loses its link")
        self.segment.link(engine, False)
        self.part(engine)

    def heal(self, engine: str) -> None:
        self.note(f"{engine} has its link again")
        self.segment.link(engine, True)
        self.join(engine)

    def part(self, engine: str) -> None:
        """The controller and the engine lose each other; the data network goes on."""
        self.note(f"{engine} and the controller lose each other")
        self.unreachable.add(engine)
        if connection := self._connections.get(engine):
            connection.cut()

    def join(self, engine: str) -> None:
        """The end of `part`."""
        self.unreachable.discard(engine)
        if connection := self._connections.get(engine):
            connection.heal()

    async def kill_controller(self) -> None:
        self.note("the controller is killed")
        process, self.process = self.running, None
        await process.kill()

    async def start_controller(self) -> None:
        self.note("the controller starts")
        await self.start()

    # --- the operator ---

    async def create(self, type: str, body: Document) -> Document:
        return (await self.running.intent.create(type, body, OPERATOR)).doc

    async def patch(self, type: str, uuid: str, **fields: Any) -> None:
        await self.running.intent.patch(type, uuid, {"replace": fields}, OPERATOR)

    async def delete(self, type: str, uuid: str) -> None:
        await self.running.intent.delete(type, uuid, OPERATOR)

    async def service(self, name: str, group: str) -> Document:
        """A pool, an address and a virtual service on port 80."""
        server = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}
        await self.create("pool", {"name": f"{name}-pool", "servers": [server]})
        await self.create("vsvip", {"name": f"{name}-vip", "vip": [{"auto_allocate_ip": True}]})
        body = {
            "name": name,
            "vsvip_ref": f"/api/vsvip?name={name}-vip",
            "pool_ref": f"/api/pool?name={name}-pool",
            "se_group_ref": f"/api/serviceenginegroup?name={group}",
            "services": [{"port": 80}],
        }
        return await self.create("virtualservice", body)

    async def operate(self, service: str, operation: str, **body: Any) -> Document:
        return await self.controller.operate("virtualservice", service, operation, {"vip_id": "0", **body}, OPERATOR)

    # --- what must come true ---

    def unsettled(self) -> list[str]:
        """What is not (yet) as intended, in sentences. Empty = every service is served as it should be."""
        ledger, found = self.controller.ledger, []
        for records in ledger.vips.values():
            for record in records.values():
                active = [p for p in record.placements if p.state is not PlacementState.DRAINING]
                ready = [p.engine for p in active if p.state is PlacementState.READY]
                owners = [
                    e.name for e in self.segment.engines.values() if record.id in e.addresses.values()
                    and self.segment.now < e.lease_until and e.link
                ]  # fmt: skip
                if len(active) != record.requested or len(ready) != record.requested:
                    found.append(f"{record.id}: {ready} of {record.requested} ready ({record.scale_reason})")
                elif owners != [record.succession[0]]:
                    found.append(f"{record.id}: answered by {owners}, planned for {record.succession[:1]}")
                elif len(record.succession) < 2 or not self.controller.compiler.armed(record):
                    found.append(f"{record.id}: no armed successor in {record.succession}")
        return found

    async def settle(self) -> None:
        """Until all is as intended. Raises Broken, with what is not, after `SETTLE_S_MAX`."""
        end = self.now + SETTLE_S_MAX
        while unsettled := self.unsettled():
            if self.now > end:
                raise Broken(self.segment.explain("; ".join(unsettled)))
            await self.pass_time(CHECK_S)
