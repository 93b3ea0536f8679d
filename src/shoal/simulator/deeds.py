"""Carries out the events of a `History` on a `SystemWorld`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from shoal.errors import NotReady, ShoalError
from shoal.store.protocol import Condition, Conflict, Transaction

from .agent import APPLY_S
from .history import Event, Shape
from .system_world import OPERATOR, SystemWorld

CREATE_S = (0.05, 0.3)
DELAY_S = (0.0001, 0.002)


ANY = "any"
"""The controller is to choose the address."""


def address_of(service: str) -> str:
    """One that no other service had before."""
    last = service.rpartition("-")[2]
    number = int(last) if last.isdigit() else 0
    return f"10.9.{64 + number // 250}.{number % 250 + 1}"


class Skip(Exception):
    """The event means nothing here."""


class Deeds:
    """``do`` says whether the event meant anything (one that nobody waits for: that it was begun)."""

    def __init__(self, world: SystemWorld, shape: Shape) -> None:
        self._world, self._shape = world, shape
        self._underway: list[asyncio.Task[bool]] = []
        """What nobody has waited for yet."""
        self._done: dict[str, Callable[[Event], Awaitable[None]]] = {
            "kill": self._kill,
            "return": self._return,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "haproxy": self._haproxy,
            "unplug": self._unplug,
            "plug": self._plug,
            "gateway": self._gateway,
            "agent": self._agent,
            "wipe": self._wipe,
            "vanish": self._vanish,
            "lag": self._lag,
            "part": self._part,
            "join": self._join,
            "reset": self._reset,
            "split": self._split,
            "meet": self._split,
            "host": self._host,
            "host_return": self._host_return,
            "rack": self._host,
            "rack_return": self._host_return,
            "network": self._network,
            "cloud": self._cloud,
            "cloudless": self._cloudless,
            "crash": self._crash,
            "start": self._start,
            "stall": self._stall,
            "store": self._store,
            "outage": self._outage,
            "rival": self._rival,
            "clock": self._clock,
            "create": self._create,
            "delete": self._delete,
            "address": self._address,
            "enable": self._enable,
            "move": self._move,
            "group": self._group,
            "engine": self._engine,
            "operate": self._operate,
            "calm": self._calm,
            "pass": self._pass,
        }

    async def do(self, event: Event) -> bool:
        """Raises Broken, and what ended the controller. An operator's wish may be refused: that is an answer."""
        meant = True
        if event.beside:
            self._underway.append(asyncio.create_task(self._alone(event)))
        else:
            meant = await self._alone(event)
        await self._world.pass_time(event.wait_s)
        self._underway = [task for task in self._underway if not _ended(task)]
        return meant

    async def _alone(self, event: Event) -> bool:
        try:
            await self._done[event.do](event)
        except Skip:
            return False
        except ShoalError as refusal:
            self._world.note(f"{event.do} {event.service or event.target}: {refusal}")
        return True

    # --- who is meant ---

    def _named(self, reference: str) -> str:
        """An engine's id. A rank that is not there any more stands for one that is."""
        agents = self._world.agents
        if not agents:
            raise Skip
        name, colon, place = reference.partition(":")
        if colon:
            record = self._world.record_of(name)
            if record is None or not record.succession:
                raise Skip
            engine = record.succession[int(place) % len(record.succession)]
            if engine not in agents:
                raise Skip
            return engine
        engines = self._world.segment.engines
        ranked = sorted((engines[id].rank, id) for id in agents)
        exact = [id for rank, id in ranked if rank == int(name)]
        return exact[0] if exact else ranked[int(name) % len(ranked)][1]

    def _uuid(self, type: str, name: str) -> str:
        document = self._world.running.view.named(type, name)
        if document is None:
            raise Skip
        return str(document["uuid"])

    # --- engines ---

    async def _kill(self, event: Event) -> None:
        engine = self._named(event.engine)
        if not self._world.segment.engines[engine].running:
            raise Skip
        self._world.kill(engine)

    async def _return(self, event: Event) -> None:
        engine = self._named(event.engine)
        if self._world.segment.engines[engine].running:
            raise Skip
        await self._world.cloud.restart(engine)

    async def _freeze(self, event: Event) -> None:
        engine = self._named(event.engine)
        machine = self._world.segment.engines[engine]
        if machine.frozen or not machine.running:
            raise Skip
        self._world.freeze(engine)

    async def _thaw(self, event: Event) -> None:
        engine = self._named(event.engine)
        if not self._world.segment.engines[engine].frozen:
            raise Skip
        self._world.thaw(engine)

    async def _haproxy(self, event: Event) -> None:
        self._world.segment.set_haproxy(self._named(event.engine), bool(event.count))

    async def _unplug(self, event: Event) -> None:
        engine = self._named(event.engine)
        if not self._world.segment.engines[engine].link:
            raise Skip
        self._world.cut(engine)

    async def _plug(self, event: Event) -> None:
        engine = self._named(event.engine)
        if self._world.segment.engines[engine].link:
            raise Skip
        self._world.heal(engine)

    async def _gateway(self, event: Event) -> None:
        engine, up = self._named(event.engine), bool(event.count)
        if self._world.agents[engine].gateway == up:
            raise Skip
        self._world.set_gateway(engine, up)

    async def _agent(self, event: Event) -> None:
        engine = self._named(event.engine)
        machine = self._world.segment.engines[engine]
        if machine.frozen or not machine.running:
            raise Skip
        self._world.restart_agent(engine, event.amount)

    async def _wipe(self, event: Event) -> None:
        engine = self._named(event.engine)
        if self._world.segment.engines[engine].running:
            raise Skip
        self._world.wipe(engine)

    async def _vanish(self, event: Event) -> None:
        engine = self._named(event.engine)
        self._world.note(f"{engine} is deleted by somebody else")
        await self._world.cloud.delete(engine)

    async def _lag(self, event: Event) -> None:
        lag_s = (event.amount / 4, event.amount) if event.amount else APPLY_S
        self._world.set_lag(self._named(event.engine), lag_s)

    async def _part(self, event: Event) -> None:
        engine = self._named(event.engine)
        self._world.part(engine, to_engine=event.way != "out", to_controller=event.way != "in")

    async def _join(self, event: Event) -> None:
        engine = self._named(event.engine)
        if engine not in self._world.unreachable or not self._world.segment.engines[engine].link:
            raise Skip
        self._world.join(engine)

    async def _reset(self, event: Event) -> None:
        self._world.reset(self._named(event.engine))

    async def _split(self, event: Event) -> None:
        one, other = self._named(event.engine), self._named(event.other)
        if one == other:
            raise Skip
        segment, apart = self._world.segment, event.do == "split"
        if event.way in ("both", ""):
            segment.cut(one, other, apart)
        if event.way in ("out", ""):
            segment.mute(one, other, apart)
        if event.way in ("in", ""):
            segment.mute(other, one, apart)

    def _on(self, name: str) -> list[str]:
        hosts = self._shape.rack(name) if name.startswith("rack") else (name,)
        return [engine for engine in self._world.agents if self._world.cloud.host_of(engine) in hosts]

    async def _host(self, event: Event) -> None:
        doomed = [engine for engine in self._on(event.target) if self._world.segment.engines[engine].running]
        if not doomed:
            raise Skip
        for engine in doomed:
            self._world.kill(engine)

    async def _host_return(self, event: Event) -> None:
        for engine in self._on(event.target):
            if not self._world.segment.engines[engine].running:
                await self._world.cloud.restart(engine)

    # --- what they stand on ---

    async def _network(self, event: Event) -> None:
        segment = self._world.segment
        segment.loss, segment.repeated = event.amount, event.amount if event.count else 0.0
        segment.delay_s = (DELAY_S[0], 0.004) if event.count else DELAY_S

    async def _cloud(self, event: Event) -> None:
        cloud = self._world.cloud
        cloud.failures = event.count
        cloud.create_s = (event.amount / 4, event.amount) if event.amount else CREATE_S

    async def _cloudless(self, event: Event) -> None:
        if bool(event.count) == self._world.outside.cloudless:
            raise Skip
        self._world.lose_cloud(bool(event.count))

    async def _crash(self, event: Event) -> None:
        """With the n-th reach; one who knows no better waits for it."""
        if self._world.process is None:
            raise Skip
        if event.count:
            self._world.running.door.crash_in = event.count
        else:
            await self._world.kill_controller()

    async def _start(self, event: Event) -> None:
        if self._world.process is not None:
            raise Skip
        await self._world.start_controller(crash_in=event.count)

    async def _stall(self, event: Event) -> None:
        if self._world.process is None or self._world.stopped:
            raise Skip
        self._world.stop_controller(event.amount)

    async def _store(self, event: Event) -> None:
        self._world.slow_store(event.amount)

    async def _outage(self, event: Event) -> None:
        if event.target == self._world.outside.outage:
            raise Skip
        self._world.lose_store(event.target)
        await self._written_again("/intent/", event.count)  # something comes: whoever follows notices

    async def _rival(self, event: Event) -> None:
        """It writes what is there already: only the version changes."""
        if not await self._written_again(f"/{event.target}/", event.count):
            raise Skip

    async def _written_again(self, prefix: str, number: int) -> bool:
        store = self._world.store
        records = (await store.list(prefix)).records
        if not records:
            return False
        record = records[number % len(records)]
        unchanged = Condition(record.key, record.version)
        with suppress(Conflict):  # the controller was quicker: what it wrote stays
            await store.commit(Transaction(conditions=(unchanged,), puts=((record.key, record.value),)))
        return True

    async def _clock(self, event: Event) -> None:
        self._world.clock.offset_s += event.amount

    # --- operators ---

    async def _create(self, event: Event) -> None:
        world = self._world
        vip = event.fields.get("vip", "")
        name, group = event.service, event.target
        given = event.fields.get("address", address_of(name))
        given = "" if vip or given == ANY else given
        await world.running.serve(world.service(name, group, vip=vip, address=given, port=80 + event.count))

    async def _delete(self, event: Event) -> None:
        """What refers to it goes last; what others use stays."""
        name = event.service
        found = self._uuid("virtualservice", name)
        await self._call(self._world.delete("virtualservice", found))
        for type, suffix in (("vsvip", "vip"), ("pool", "pool")):
            document = self._world.running.view.named(type, f"{name}-{suffix}")
            if document is not None:
                await self._call(self._world.delete(type, document["uuid"]))

    async def _address(self, event: Event) -> None:
        found = self._uuid("vsvip", f"{event.service}-vip")
        entry: dict[str, Any] = {"vip_id": "0", "auto_allocate_ip": True}
        if event.target != ANY:
            entry = {"vip_id": "0", "ip_address": {"addr": event.target, "type": "V4"}}
        await self._call(self._world.patch("vsvip", found, vip=[entry]))

    async def _enable(self, event: Event) -> None:
        found = self._uuid("virtualservice", event.service)
        await self._call(self._world.patch("virtualservice", found, enabled=bool(event.count)))

    async def _move(self, event: Event) -> None:
        found = self._uuid("virtualservice", event.service)
        reference = f"/api/serviceenginegroup?name={event.target}"
        await self._call(self._world.patch("virtualservice", found, se_group_ref=reference))

    async def _group(self, event: Event) -> None:
        found = self._uuid("serviceenginegroup", event.target)
        await self._call(self._world.patch("serviceenginegroup", found, **event.fields))

    async def _engine(self, event: Event) -> None:
        engine = self._named(event.engine)
        if self._world.running.view.get("serviceengine", engine) is None:
            raise Skip
        await self._call(self._world.patch("serviceengine", engine, enable_state=event.target))

    async def _operate(self, event: Event) -> None:
        world = self._world
        on = "" if event.service else "serviceengine" if event.engine else "serviceenginegroup"
        if on:
            uuid = self._named(event.engine) if event.engine else self._uuid(on, event.other)
            await self._call(world.controller.operate(on, uuid, event.target, {}, OPERATOR))
            return
        found = self._uuid("virtualservice", event.service)
        body = {"to_se_ref": self._named(event.engine)} if event.engine else {}
        answer = await self._call(world.operate(found, event.target, **body))
        world.note(f"{event.target} of {event.service}: {answer['status']}")

    async def _call(self, work: Any) -> Any:
        try:
            running = self._world.running
        except NotReady:
            work.close()
            raise
        return await running.serve(work)

    # --- the end of all that ---

    async def _calm(self, event: Event) -> None:
        """With ``count``, what is dead starts again; else the controller makes do with what there is."""
        await asyncio.gather(*self._underway)
        await self._world.mend(restart=bool(event.count))
        await self._world.settle()

    async def _pass(self, event: Event) -> None: ...


def _ended(task: asyncio.Task[bool]) -> bool:
    """Raises what it broke."""
    if task.done():
        task.result()
    return task.done()
