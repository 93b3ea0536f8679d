"""The real controller over the real core in virtual time: simulated clouds, engines and faults.

Everything random comes from one seed. Ownership's invariants are checked after every event of the data network,
placement's by the controller itself after every plan; either ends the run. Not simulated: HAProxy, the REST layer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from shoal.clouds.noop import HOSTS, NoopCloud
from shoal.clouds.protocol import CloudError, EngineHandle, EngineSpec
from shoal.controller import storm
from shoal.controller.controller import Controller
from shoal.controller.intent import Caller
from shoal.controller.records import VipRecord
from shoal.errors import NotReady
from shoal.objects import load
from shoal.ownership.events import Tell

from .agent import APPLY_S, SimulatedAgent
from .answered import LOOK_S, Answered
from .kernel import Broken
from .link import Connection
from .ownership_world import Engine, World
from .process import CHECK_S, ControllerProcess, Outside
from .settled import unsettled
from .virtual_time import VirtualClock, VirtualLoop
from .witness import Witness, WitnessedStore

OPERATOR = Caller(user="admin")
SETTLE_S_MAX = 120.0
"""After the last fault everything must be as intended within this time (virtual)."""
CREATE_S = (0.05, 0.3)
UNSETTLED_SHOWN_MAX = 20
STORM_REMEMBERED_S = storm.Settings().storm_window_s + storm.JUDGED_WITHIN_S + 5.0
REMEMBERED_S = 20.0
"""What befell an engine so long ago is no reason to give it up now."""

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
        hosts: Sequence[str] = HOSTS,
    ) -> None:
        super().__init__(hosts)
        self._clock = clock
        self._chance = chance
        self._booted = booted
        self._gone = gone
        self._ranks: dict[str, int] = {}
        self.create_s = CREATE_S
        self.failures = 0

    async def create(self, spec: EngineSpec) -> EngineHandle:
        await self._clock.sleep(self._chance.uniform(*self.create_s))
        if self.failures:
            self.failures -= 1
            raise CloudError("The simulated cloud has no room now.")
        return await self.make(spec)

    async def make(self, spec: EngineSpec) -> EngineHandle:
        """At once."""
        handle = await super().create(spec)
        self._ranks[spec.id] = spec.rank
        self._booted(handle, spec.rank)
        return handle

    async def restart(self, engine_id: str) -> EngineHandle:
        handle = await super().restart(engine_id)
        self._booted(handle, self._ranks[engine_id])
        return handle

    def host_of(self, engine_id: str) -> str:
        handle = self._engines.get(engine_id)
        return handle.host if handle is not None else ""

    async def delete(self, engine_id: str) -> None:
        if self._ranks.pop(engine_id, None) is not None:  # to delete it twice is no error
            self._gone(engine_id)
        await super().delete(engine_id)


class SystemWorld:
    """``async with`` is not needed: everything ends with the loop. Call `start` first."""

    def __init__(self, loop: VirtualLoop, seed: int, hosts: Sequence[str] = HOSTS) -> None:
        self.seed = seed
        self.hosts = tuple(hosts)
        self.random = random.Random(seed)
        self.clock = VirtualClock(loop)
        self.witness = Witness(self.breaks, self.is_well)
        self.store = WitnessedStore(now=self.clock.monotonic, on_commit=self.witness.committed)
        self.registry = load()
        self.segment = World((), seed=seed, delay_s=(0.0001, 0.002), schedule=loop, on_tell=self._told)
        self.cloud = SimulatedCloud(self.clock, random.Random(f"{seed}/cloud"), self._booted, self._gone, hosts)
        self.agents: dict[str, SimulatedAgent] = {}
        self.process: ControllerProcess | None = None
        self.unreachable: set[str] = set()
        """Engines that the controller can't reach, or that can't reach it."""
        self.outside = Outside()
        self.settled = 0
        """How often all was found to be as intended."""
        self._broken: Broken | None = None
        self._befell: dict[str, float] = {}
        """When something befell an engine, or ended, for the last time."""
        self.answered = Answered(self)
        self._disturbed_at = 0.0
        """The same of what all of them need to be judged rightly, and at once."""
        self._vsvips: dict[str, str] = {}
        self._loop = loop
        self._loop.at(LOOK_S, self._look)
        self._stops = 0
        self._connections: dict[str, Connection] = {}
        self._ids = 0

    # --- running ---

    async def start(self, crash_in: int = 0) -> None:
        """Raises NotReady if it dies on the way, at the ``crash_in``-th reach out of its process."""
        self._disturbed_at = self.now
        process = ControllerProcess(self, self._died)
        process.door.crash_in = crash_in
        await process.start()
        self.process = process

    async def pass_time(self, seconds: float) -> None:
        """Raises what broke meanwhile."""
        end = self.now + seconds
        while True:
            self._check()
            if self.now >= end:
                return
            await asyncio.sleep(min(CHECK_S, end - self.now))

    def _check(self) -> None:
        if self._loop.failure is not None:
            raise self._loop.failure
        if self.process is not None:
            self.process.check()
        if self._broken is not None:
            raise self._broken

    def _look(self) -> None:
        self.answered.look()
        self._loop.at(self.now + LOOK_S, self._look)

    def breaks(self, rule: str, sentence: str) -> None:
        if self._broken is None:
            self._broken = Broken(self.segment.explain(sentence), rule)

    def _died(self, process: ControllerProcess) -> None:
        self.note("the controller crashes")
        if self.process is process:
            self.process = None

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

    # --- machines ---

    def _booted(self, handle: EngineHandle, rank: int) -> None:
        """A machine comes up: new, or again with its disk."""
        machine = self.segment.engines.get(handle.id)
        if machine is None:
            machine = self.segment.engines[handle.id] = Engine(handle.id, rank, handle.mac)
            self.witness.booted(handle.id, rank)
            self.agents[handle.id] = SimulatedAgent(
                self.segment,
                handle.id,
                rank,
                handle.address,
                handle.mac,
                self._connect,
                f"{self.seed}/{rank}",
                on_desired=self.witness.told,
            )
        else:
            self.kill(handle.id)
        self._befalls(handle.id, f"{handle.name} ({handle.id}) starts on {handle.host}")
        machine.frozen = False
        self.cloud.mark(handle.id, running=True)
        self.segment.start(handle.id)
        self.agents[handle.id].start()

    def _gone(self, engine: str) -> None:
        self.kill(engine)
        self.agents.pop(engine)
        self.segment.remove(engine)
        self.unreachable.discard(engine)

    def _connect(self, engine: str) -> Connection:
        if self.process is None or engine in self.unreachable:
            raise NotReady("no controller answers")
        connection = self._connections[engine] = self.process.connect(engine)
        return connection

    def _told(self, engine: str, effect: Tell) -> None:
        if effect.ownership.owner:
            self.witness.claimed(engine, effect.ownership.vip, effect.ownership.claim)
        self.agents[engine].told(effect)

    def befell(self, engine: str) -> float:
        """When something befell it, or ended, for the last time."""
        return self._befell.get(engine, 0.0)

    @property
    def is_undisturbed(self) -> bool:
        """A controller has been running for long that reaches all that it needs, and suspects no storm."""
        outside, process = self.outside, self.process
        if process is None or self.stopped or outside.outage or outside.slow_s or outside.cloudless:
            return False
        return self.now - self._disturbed_at > REMEMBERED_S and not process.controller.fleet.storms.active

    def is_well(self, engine: str) -> bool:
        """Nothing has befallen it for long. ``""``: all of them, and all that there were as far back as a storm looks."""
        if not engine:
            lately = max([self._disturbed_at, *self._befell.values()])
            return self.now - lately > STORM_REMEMBERED_S and all(map(self.is_well, self.agents))
        machine, agent = self.segment.engines.get(engine), self.agents.get(engine)
        if machine is None or agent is None or self.outside.outage or self.outside.slow_s:
            return False
        befell = max(self._befell.get(engine, 0.0), self._disturbed_at)
        runs = machine.running and not machine.frozen and machine.link and agent.runs
        return runs and engine not in self.unreachable and self.now - befell > REMEMBERED_S

    def _befalls(self, engine: str, what: str) -> None:
        self.note(what)
        self._befell[engine] = self.now

    # --- faults ---

    def kill(self, engine: str) -> None:
        """kill -9 of every process of the engine."""
        self._befalls(engine, f"{engine} is killed")
        self.segment.engines[engine].frozen = False
        self.segment.kill(engine)
        self.agents[engine].kill()
        self.cloud.mark(engine, running=False)

    def freeze(self, engine: str) -> None:
        self._befalls(engine, f"{engine} freezes")
        self.segment.freeze(engine)
        self.agents[engine].freeze()

    def thaw(self, engine: str) -> None:
        self._befalls(engine, f"{engine} thaws")
        self.agents[engine].thaw()
        self.segment.thaw(engine)

    def cut(self, engine: str) -> None:
        """Its only link: neither peers nor the controller."""
        self._befalls(engine, f"{engine} loses its link")
        self.segment.link(engine, False)
        self.part(engine)

    def heal(self, engine: str) -> None:
        self._befalls(engine, f"{engine} has its link again")
        self.segment.link(engine, True)
        self.join(engine)

    def restart_agent(self, engine: str, after_s: float) -> None:
        """Its agent is killed, alone; the guard goes on, and has it started again."""
        self._befalls(engine, f"the agent of {engine} is killed")
        agent, machine = self.agents[engine], self.segment.engines[engine]
        agent.kill()

        def start() -> None:
            if not machine.running or agent.runs or self.agents.get(engine) is not agent:
                return
            if machine.frozen:
                self._loop.at(self.now + after_s, start)
                return
            self._befalls(engine, f"the agent of {engine} starts")
            agent.start()

        self._loop.at(self.now + after_s, start)

    def wipe(self, engine: str) -> None:
        """The disk of a dead machine is lost: claims and desired state."""
        self.note(f"{engine} loses its disk")
        machine = self.segment.engines[engine]
        machine.disk.clear()
        machine.desired = None
        self.agents[engine].wipe()

    def set_lag(self, engine: str, apply_s: tuple[float, float]) -> None:
        """Putting a new state into effect takes that long from now on."""
        self.note(f"{engine} applies within {apply_s[1]} s")
        self.agents[engine].apply_s = apply_s

    def set_gateway(self, engine: str, up: bool) -> None:
        self.note(f"{engine} {'reaches its gateway again' if up else 'does not reach its gateway'}")
        self.agents[engine].gateway = up

    def part(self, engine: str, *, to_engine: bool = True, to_controller: bool = True) -> None:
        """The controller and the engine lose each other, or one of them the other; the data network goes on."""
        ways = [way for way, lost in (("it hears nothing", to_engine), ("it is not heard", to_controller)) if lost]
        self._befalls(engine, f"{engine} and the controller lose each other: {', '.join(ways)}")
        self.unreachable.add(engine)
        if connection := self._connections.get(engine):
            connection.cut(to_engine=to_engine, to_controller=to_controller)

    def join(self, engine: str) -> None:
        """The end of `part`."""
        self._befell[engine] = self.now
        self.unreachable.discard(engine)
        if connection := self._connections.get(engine):
            connection.heal()

    def reset(self, engine: str) -> None:
        """Its connection to the controller breaks; it may make another one."""
        self._befalls(engine, f"the connection of {engine} and the controller breaks")
        if connection := self._connections.get(engine):
            connection.reset()

    def lose_store(self, outage: str) -> None:
        """One of `process.OUTAGES`; "" ends it."""
        self.note(f"the store is {outage or 'well again'}")
        self._disturbed_at = self.now
        self.outside.outage = outage

    def slow_store(self, seconds: float) -> None:
        """It takes up to so long for each answer."""
        self.outside.slow_s = seconds
        self._disturbed_at = self.now

    def lose_cloud(self, lost: bool) -> None:
        self.note("the controller does not reach the cloud" if lost else "the controller reaches the cloud")
        self.outside.cloudless = lost

    def stop_controller(self, seconds: float) -> None:
        """Its process does not run for so long, as when its machine is paused."""
        self.note(f"the controller does not run for {seconds} s")
        self._loop.stop_process(self.running)
        self._stops += 1
        stop = self._stops

        def end() -> None:
            if self._stops == stop:
                self.let_go_on()

        self._loop.at(self.now + seconds, end)

    @property
    def stopped(self) -> bool:
        return self._loop.stopped is not None

    def let_go_on(self) -> None:
        if self.stopped:
            self.note("the controller runs again")
            self._loop.go_on()

    async def kill_controller(self) -> None:
        self.note("the controller is killed")
        process, self.process = self.running, None
        await process.kill()

    async def start_controller(self, crash_in: int = 0) -> None:
        self.note("the controller starts")
        await self.start(crash_in)

    async def mend(self, *, restart: bool) -> None:
        """Every fault ends; with ``restart`` dead machines start again, too. What is lost stays lost."""
        self.note("every fault ends")
        segment = self.segment
        self.let_go_on()
        self.slow_store(0.0)
        self.lose_store("")
        self.lose_cloud(False)
        self.cloud.failures, self.cloud.create_s = 0, CREATE_S
        segment.loss = segment.repeated = 0.0
        for one, other in [sorted(pair) for pair in sorted(segment.cuts, key=sorted)]:
            segment.cut(one, other, False)
        for sender, receiver in sorted(segment.mutes):
            segment.mute(sender, receiver, False)
        for engine in sorted(self.agents):
            machine = segment.engines[engine]
            if not machine.link:
                self.heal(engine)
            if machine.frozen:
                self.thaw(engine)
            if not machine.haproxy:
                segment.set_haproxy(engine, True)
            self.agents[engine].gateway = True
            self.agents[engine].apply_s = APPLY_S
            if restart and not machine.running:
                await self.cloud.restart(engine)
        for engine in sorted(self.unreachable):
            self.join(engine)
        if self.process is None:
            await self.start_controller()
        self.running.door.crash_in = 0

    # --- the operator ---

    async def create(self, type: str, body: Document) -> Document:
        return (await self.running.intent.create(type, body, OPERATOR)).doc

    async def patch(self, type: str, uuid: str, **fields: Any) -> None:
        await self.running.intent.patch(type, uuid, {"replace": fields}, OPERATOR)

    async def delete(self, type: str, uuid: str) -> None:
        await self.running.intent.delete(type, uuid, OPERATOR)

    async def service(self, name: str, group: str, *, vip: str = "", address: str = "", port: int = 80) -> Document:
        """A pool, an address (``address``, or that of the service ``vip``, else any) and a virtual service."""
        server = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}
        await self.create("pool", {"name": f"{name}-pool", "servers": [server]})
        if not vip:
            entry = {"ip_address": {"addr": address, "type": "V4"}} if address else {"auto_allocate_ip": True}
            await self.create("vsvip", {"name": f"{name}-vip", "vip": [entry]})
        body = {
            "name": name,
            "vsvip_ref": f"/api/vsvip?name={vip or name}-vip",
            "pool_ref": f"/api/pool?name={name}-pool",
            "se_group_ref": f"/api/serviceenginegroup?name={group}",
            "services": [{"port": port}],
        }
        found = await self.create("virtualservice", body)
        self._vsvips[name] = str(found["vsvip_ref"]).rsplit("/", 1)[-1].partition("#")[0]
        return found

    def record_of(self, service: str) -> VipRecord | None:
        """The placement of a service by name, as it is stored: known also while there is no controller."""
        vsvip = self._vsvips.get(service)
        return self.witness.records.get(f"{vsvip}/0") if vsvip else None

    async def operate(self, service: str, operation: str, **body: Any) -> Document:
        return await self.controller.operate("virtualservice", service, operation, {"vip_id": "0", **body}, OPERATOR)

    # --- what must come true ---

    async def settle(self, within_s: float = SETTLE_S_MAX) -> None:
        """Until all is as intended. Raises Broken, with what is not, after that time; it begins when an engine may be made
        again, where creations have failed."""
        end = self.now + self._retry_in_s() + within_s
        while found := unsettled(self):
            if self.now > end:
                raise Broken(self.segment.explain("; ".join(found[:UNSETTLED_SHOWN_MAX])), "liveness")
            await self.pass_time(CHECK_S)
        self.settled += 1

    def _retry_in_s(self) -> float:
        retries = (
            self.controller.lifecycle.retry_at(group["uuid"]) for group in self.running.view.all("serviceenginegroup")
        )
        return max([0.0, *(at - self.clock.now() for at in retries if at)])
