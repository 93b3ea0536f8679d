"""An engine's life: made when a plan wants it, watched, started again when dead for long, deleted when retired.

Level-triggered: what is to be done follows from the records, so a crash at any line loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from shoal.clouds.protocol import Cloud, Identity
from shoal.objects.views import ServiceEngineGroup
from shoal.placement.model import EngineState

from .clock import Clock, woken
from .engine_timers import Timers
from .events import EventLog
from .fleet import Fleet
from .ledger import Changes, Ledger
from .making import Documents, Making
from .mending import Mending
from .plugging import Plugging
from .records import EngineRecord
from .watching import Watching

WATCH_INTERVAL_S = 0.2
ABSENT_S = 5.0
"""An engine that is heard of no more, and that the cloud has not known for so long, is deleted."""


class Lifecycle:
    """``mark(group)`` asks for a new plan; ``group(uuid)`` gives a group's typed view; ``timers`` those in force."""

    def __init__(
        self,
        cloud: Cloud,
        ledger: Ledger,
        fleet: Fleet,
        events: EventLog,
        clock: Clock,
        documents: Documents,
        *,
        identity: Callable[[str, str], Identity],
        group: Callable[[str], ServiceEngineGroup | None],
        timers: Callable[[], Timers],
        mark: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._ledger = ledger
        self._fleet = fleet
        self._clock = clock
        self._documents = documents
        self._timers = timers
        self._mark = mark
        self._making = Making(
            cloud,
            ledger,
            events,
            clock,
            documents,
            identity=identity,
            group=group,
            timers=timers,
            mark=mark,
            abandon=self.retire,
        )
        self._mending = Mending(
            cloud, ledger, fleet, events, clock, timers=timers, mark=mark, remove=self.retire
        )  # fmt: skip
        self._watching = Watching(
            cloud,
            ledger,
            fleet,
            events,
            fleet.clock,
            group=group,
            mark=mark,
            contacted=self._making.succeeded,
            starting=self._mending.starting,
        )
        self._plugging = Plugging(cloud, events, clock, documents.vlans)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._removals: dict[str, EngineRecord] = {}
        self._kicked = asyncio.Event()
        self._due = True
        """Something is to be begun, or all engines are to be looked at."""
        self._spoken: dict[str, None] = {}
        """Engines that have said something since the last look."""
        self._look_at = 0.0

    def retry_at(self, group: str) -> float:
        """No engine creation for the group before this time (wall clock); 0 = none pending."""
        return self._making.retry_at(group)

    def retry_now(self, group: str) -> None:
        self._making.retry_now(group)

    def kick(self, engine: str = "") -> None:
        """Records or sessions changed: look at once. ``engine``: what is known of this one alone did."""
        self._due = self._due or not engine
        self._spoken[engine] = None
        self._kicked.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                if self._is_due():
                    self._start_due(tasks)
                    await self._follow(tasks)
                    self._look_at = self._clock.monotonic() + WATCH_INTERVAL_S
                if not await woken(self._kicked, max(0.0, self._look_at - self._clock.monotonic())):
                    self._due = True

    def _is_due(self) -> bool:
        """Is a look to be taken, which goes over all engines? Not for the word of one that is as well as it was."""
        due, spoken = self._due or self._clock.monotonic() >= self._look_at, self._spoken
        self._due, self._spoken = False, {}
        return due or not all(
            self._watching.is_as_noted(engine) and not self._mending.minds(engine) for engine in spoken
        )

    def retire(self, engine: EngineRecord) -> None:
        """The record is gone from the ledger; remove the engine itself."""
        self._removals[engine.id] = engine
        self.kick()

    def hurry(self, waited_for: Callable[[str], bool]) -> None:
        """Start dead engines again at once, instead of after `crashed_se_reboot`, that a service waits for."""
        self._mending.waited_for = waited_for

    def going(self) -> list[EngineRecord]:
        """Retired engines that the cloud has not deleted yet."""
        return list(self._removals.values())

    async def adopt(self) -> None:
        """Bring records and cloud together: engines that are no more (`shoal down` removed them) are forgotten, what
        they held is placed anew; engines without a record are removed, and those whose making the last controller did not see the
        end of, as they are made anew; those that don't run are started, by `run`. Call
        before it. Raises what the store and the cloud raise; repeated, it goes on."""
        handles = await self._cloud.engines()
        self._plugging.adopt(handles)
        present = {handle.id: handle.running for handle in handles}
        for engine in list(self._ledger.engines.values()):
            if engine.created and engine.id not in present:
                await self._ledger.repeat(Changes(engines={engine.id: None}))
                await self._documents.remove(engine.id)
        made = {engine.id for engine in self._ledger.engines.values() if engine.created}
        for id in sorted(present.keys() - made):
            await self._cloud.delete(id)
        for id in self._in_need(present):
            self._mending.starting[id] = None

    def _in_need(self, present: dict[str, bool]) -> list[str]:
        """Engines that don't run; those that hold something first."""
        held = {p.engine for vips in self._ledger.vips.values() for vip in vips.values() for p in vip.placements}
        dead = [engine for engine in self._ledger.engines.values() if not present.get(engine.id, True)]
        return [engine.id for engine in sorted(dead, key=lambda e: (e.id not in held, e.rank))]

    # --- what is due ---

    def _start_due(self, tasks: asyncio.TaskGroup) -> None:
        for engine in list(self._ledger.engines.values()):
            if not engine.created:
                self._once(tasks, engine.id, partial(self._making.create, engine))
            elif self._plugging.due(engine):
                self._once(tasks, engine.id, partial(self._plugging.plug, engine))
        for engine in list(self._removals.values()):
            self._once(tasks, engine.id, partial(self._remove, engine))
        for id in list(self._mending.starting):
            dead = self._ledger.engines.get(id)
            if dead is None:
                del self._mending.starting[id]
            else:
                self._once(tasks, id, partial(self._mending.start, dead, "it did not run when the controller started"))

    def _once(self, tasks: asyncio.TaskGroup, key: str, work: Callable[[], Awaitable[None]]) -> None:
        if key not in self._tasks:
            self._tasks[key] = tasks.create_task(self._guarded(key, work))

    async def _guarded(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            del self._tasks[key]

    async def _remove(self, engine: EngineRecord) -> None:
        if await self._making.remove(engine):
            self._removals.pop(engine.id, None)
            await self._fleet.disconnect(engine.id)  # a machine that lost its power has not closed its connection
            self._fleet.forget_engine(engine.id)
            self._watching.forget(engine.id)
            self._mending.forget(engine.id)
            self._plugging.forget(engine.id)
            self._mark(engine.group)  # what it held may be given away now

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        states = await self._watching.look()
        for id, state in states.items():
            engine = self._ledger.engines.get(id)
            if engine is None or id in self._tasks:
                continue
            if state is EngineState.UP and engine.seen and not self._mending.minds(id):
                continue
            if engine.seen and self._watching.absent_s(id) >= ABSENT_S:
                await self._mending.give_up(engine, "the cloud does not know it any more: somebody else has deleted it")
            elif not engine.seen:
                self._await_first_contact(tasks, engine)
            elif self._mending.seen(engine, state):
                self._once(tasks, id, partial(self._mending.start, engine, "down for long"))
            elif self._mending.is_lost(engine):
                await self._mending.give_up(engine, "down for long, and starting it again did not help")

    def _await_first_contact(self, tasks: asyncio.TaskGroup, engine: EngineRecord) -> None:
        if not engine.created or engine.id in self._removals:
            return
        if self._watching.awaited_s(engine) > self._timers().vs_se_bootup_fail:
            self._once(tasks, engine.id, partial(self._never_came, engine))

    async def _never_came(self, engine: EngineRecord) -> None:
        why = f"did not connect within {self._timers().vs_se_bootup_fail} s."
        await self._making.failed(engine, why, "VS_SE_BOOTUP_FAIL")
        self.retire(engine)
