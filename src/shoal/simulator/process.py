"""One life of the controller, and the places at which it can end."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shoal.clouds.protocol import CloudError, EngineHandle, EngineSpec, Host, Identity
from shoal.controller import bootstrap
from shoal.controller.controller import Controller
from shoal.controller.engine_documents import EngineDocuments
from shoal.controller.freed import Freed
from shoal.controller.intent import Intent
from shoal.controller.rules import Rules
from shoal.controller.secrets import Secrets
from shoal.controller.view import View
from shoal.errors import NotReady, ShoalError
from shoal.store.memory import MemoryStore
from shoal.store.noted import NotedStore
from shoal.store.protocol import Batch, Lease, Listing, Record, Transaction, Unavailable
from shoal.wire.messages import FromController, FromEngine
from shoal.wire.recorded import Recording

from .kernel import Broken
from .link import Connection, End
from .virtual_time import PROCESS

if TYPE_CHECKING:
    from .system_world import SimulatedCloud, SystemWorld

VIP_NETWORK = "10.9.0.0/16"
NO_IDENTITY = Identity(key_pem=b"", certificate_pem=b"", ca_pem=b"")

ANSWER_S_MAX = 60.0
"""An operator's call is answered, if only with an error, within this time."""
CHECK_S = 0.5
FULL, GONE, FLAKY = "full", "gone", "flaky"
OUTAGES = (FULL, GONE, FLAKY)
"""The store takes no writes; can't be reached; loses questions and answers, so that what failed may have happened."""
LOST = 0.3
"""Of the questions, and of the answers, while it is flaky."""

_T = TypeVar("_T")


class Outside:
    """What a process stands on: it stays as it is when another process begins. ``slow_s``: the store answers within this
    time. ``outage``: one of `OUTAGES`, or "". ``cloudless``: the cloud can't be reached."""

    def __init__(self) -> None:
        self.slow_s = 0.0
        self.outage = ""
        self.cloudless = False


class Door:
    """Where a process reaches beyond its own memory: before and after each operation on the store and the cloud, and
    each message to an engine. A crash at any await has the effect of one at the door before it, so these are all.

    ``crash_in``: the process ends at so many doors from now; 0 = it does not.
    """

    def __init__(self, outside: Outside, chance: random.Random, die: Callable[[], None]) -> None:
        self.crash_in = 0
        self.dead = False
        self._outside = outside
        self._chance = chance
        self._die = die

    async def passes(self) -> None:
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in and not self.dead:
                self._die()
        if self.dead:
            await asyncio.Event().wait()  # it is never heard of again

    async def store(self) -> None:
        await self.passes()
        if self._outside.slow_s:
            await asyncio.sleep(self._chance.uniform(0.0, self._outside.slow_s))

    async def read(self) -> None:
        await self.store()
        self._refuse(GONE)

    async def write(self) -> None:
        await self.store()
        self._refuse(FULL, GONE)

    async def written(self) -> None:
        await self.store()
        self._refuse()

    async def cloud(self) -> None:
        await self.passes()
        if self._outside.cloudless:
            raise CloudError("The simulated cloud can't be reached.")

    def followed(self) -> None:
        self._refuse(GONE)

    def _refuse(self, *outages: str) -> None:
        """In these, and by chance where the store is flaky."""
        outage = self._outside.outage
        if outage in outages or (outage == FLAKY and self._chance.random() < LOST):
            raise Unavailable(f"The simulated store is {outage}.")


class ReachedStore:
    """A `shoal.store.protocol.Store` through the door."""

    def __init__(self, store: MemoryStore, door: Door) -> None:
        self._store, self._door = store, door

    async def get(self, key: str) -> Record | None:
        await self._door.read()
        return await self._store.get(key)

    async def list(self, prefix: str) -> Listing:
        await self._door.read()
        return await self._store.list(prefix)

    async def commit(self, transaction: Transaction) -> int:
        await self._door.write()
        revision = await self._store.commit(transaction)
        await self._door.written()
        return revision

    async def watch(self, prefix: str, since: int) -> AsyncIterator[Batch]:
        async with aclosing(self._store.watch(prefix, since)) as batches:
            async for batch in batches:
                self._door.followed()
                yield batch

    async def lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        await self._door.read()
        return await self._store.lease(name, holder, ttl_s)

    async def close(self) -> None: ...


class ReachedCloud:
    """A `shoal.clouds.protocol.Cloud` through the door."""

    def __init__(self, cloud: SimulatedCloud, door: Door) -> None:
        self._cloud, self._door = cloud, door

    async def start(self) -> None: ...

    async def create(self, spec: EngineSpec) -> EngineHandle:
        await self._door.cloud()
        handle = await self._cloud.create(spec)
        await self._door.cloud()
        return handle

    async def restart(self, engine_id: str) -> EngineHandle:
        await self._door.cloud()
        handle = await self._cloud.restart(engine_id)
        await self._door.cloud()
        return handle

    async def renew(self, engine_id: str, identity: Identity) -> None:
        await self._door.cloud()
        await self._cloud.renew(engine_id, identity)
        await self._door.cloud()

    async def plug(self, engine_id: str, vlans: Sequence[int]) -> None:
        await self._door.cloud()
        await self._cloud.plug(engine_id, vlans)
        await self._door.cloud()

    async def delete(self, engine_id: str) -> None:
        await self._door.cloud()
        await self._cloud.delete(engine_id)
        await self._door.cloud()

    async def engines(self) -> list[EngineHandle]:
        await self._door.cloud()
        return await self._cloud.engines()

    async def hosts(self) -> list[Host]:
        await self._door.cloud()
        return await self._cloud.hosts()

    async def recordings(self, engine_id: str, seconds: float) -> tuple[Recording, ...]:
        return ()

    async def stop(self) -> None: ...

    async def destroy(self) -> None: ...


class ReachedEngine:
    """The controller's end of a connection (a `shoal.controller.fleet.Link`) through the door."""

    def __init__(self, end: End[FromEngine, FromController], door: Door) -> None:
        self._end, self._door = end, door

    async def send(self, message: FromController) -> None:
        await self._door.passes()
        await self._end.send(message)

    async def receive(self) -> FromEngine:
        return await self._end.receive()

    async def close(self) -> None:
        await self._end.close()


class ControllerProcess:
    """What it held in memory dies with it. ``on_death`` is told when it has crashed by itself."""

    def __init__(self, world: SystemWorld, on_death: Callable[[ControllerProcess], None]) -> None:
        self._world = world
        self._on_death = on_death
        self.door = Door(world.outside, random.Random(f"{world.seed}/door"), self._crash)
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._calls: set[asyncio.Task[Any]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._context = copy_context()
        self._context.run(PROCESS.set, self)

    def _task(self, work: Coroutine[Any, Any, _T], name: str | None = None) -> asyncio.Task[_T]:
        return asyncio.create_task(work, name=name, context=self._context.copy())

    async def start(self) -> None:
        """Raises NotReady if it dies on the way, or the store can't be used."""
        self._starting = self._task(self._start(), "start")
        await asyncio.wait({self._starting})
        if self._starting.cancelled() or self.door.dead:
            raise NotReady("the controller died while it started")
        try:
            self._starting.result()
        except ShoalError:
            self.end()
            raise

    async def _start(self) -> None:
        world = self._world
        store = NotedStore(ReachedStore(world.store, self.door), world.clock.now)
        view = View(store, world.registry)
        self.view = view
        await view.start()
        network = ipaddress.IPv4Network("100.64.0.0/16")
        rules = Rules(view, lambda address: ipaddress.ip_address(address) in network, Freed(world.clock))
        self.intent = Intent(
            store,
            view,
            world.registry,
            Secrets(bytes(32), Path("simulated")),
            rules,
            clock=world.clock,
            fresh_id=world.fresh_id,
        )
        await bootstrap.bootstrap(self.intent, view, bootstrap.Options(vip_networks=(VIP_NETWORK,)))
        self.controller = Controller(
            store,
            view,
            ReachedCloud(world.cloud, self.door),
            EngineDocuments(self.intent, view),
            identity=lambda id, name: NO_IDENTITY,
            unseal=lambda text, context: text,
            heartbeat_key=str.encode,
            freed=rules.freed,
            clock=world.clock,
            fresh_id=world.fresh_id,
        )
        self.controller.events_log.on_added = world.witness.raised
        self.controller.watch(store)
        await self.controller.load()
        self._tasks.append(asyncio.create_task(self.controller.run(), name="controller"))

    def _crash(self) -> None:
        self.end()
        self._on_death(self)

    def end(self) -> None:
        """kill -9: it does nothing more, and the kernel closes its sockets."""
        self.door.dead = True
        self._world.let_go_on()
        for connection in self._connections:
            connection.controller.hang_up()
        doomed = [task for task in (*self._tasks, *self._calls, self._starting) if task is not None]
        for task in doomed:
            task.cancel()
        if hasattr(self, "view"):
            doomed.append(asyncio.create_task(self.view.stop()))
        self._burial = asyncio.gather(*doomed, return_exceptions=True)

    async def kill(self) -> None:
        self.end()
        await self._burial

    def check(self) -> None:
        """Raises what ended the controller, if anything has."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        self._tasks = [task for task in self._tasks if not task.done()]

    async def serve(self, work: Coroutine[Any, Any, _T]) -> _T:
        """An operator's call. Raises NotReady when the process dies before it has answered, and what ended it."""
        task = self._task(work)
        self._calls.add(task)
        until = self._world.now + ANSWER_S_MAX
        while not task.done():
            await asyncio.wait({task}, timeout=CHECK_S)
            self.check()
            if self._world.now > until:
                raise Broken(
                    self._world.segment.explain(f"an operator's call has no answer after {ANSWER_S_MAX} s"), "answers"
                )
        self._calls.discard(task)
        if task.cancelled():
            raise NotReady("the controller died before it had answered")
        return task.result()

    def connect(self, engine: str) -> Connection:
        connection = Connection()
        self._connections = [c for c in self._connections if not c.closed]
        self._connections.append(connection)
        self._tasks.append(self._task(self._attend(engine, connection)))
        return connection

    async def _attend(self, engine: str, connection: Connection) -> None:
        try:
            link = ReachedEngine(connection.controller, self.door)
            await self.controller.attend(link, f"shoal://engine/{engine}")
        except NotReady:
            pass
        finally:
            connection.controller.hang_up()
