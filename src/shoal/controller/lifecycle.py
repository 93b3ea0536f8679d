"""An engine's life: made when a plan wants it, watched, rebooted when dead for long, deleted when retired.

Level-triggered: what is to be done follows from the records, so a crash at any line loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from shoal.clouds.protocol import Cloud, CloudError, EngineSpec, Identity
from shoal.objects.views import ServiceEngineGroup
from shoal.placement.model import EngineState

from .clock import Clock
from .events import EventLog
from .fleet import Fleet, Live
from .ledger import Changes, Ledger
from .records import EngineRecord
from .storm import told

log = logging.getLogger("shoal.lifecycle")

WATCH_INTERVAL_S = 0.2
CREATE_RETRY_FIRST_S = 5.0
CREATE_RETRY_MAX_S = 300.0
CREATIONS_AT_ONCE_MAX = 4
FIRST_CONTACT_MAX_S = 60.0
"""A made engine that does not connect within this time is deleted and made again (``vs_se_bootup_fail`` there)."""
REBOOT_DEAD_AFTER_S = 300.0
"""``unresponsive_se_reboot``'s default: a dead engine is started again, empty, after this time."""


class Documents(Protocol):
    """The ServiceEngine objects that stand for engines in the API."""

    async def put(self, engine: EngineRecord, group: ServiceEngineGroup | None) -> None: ...

    async def remove(self, engine: str) -> None: ...


class Lifecycle:
    """``mark(group)`` asks for a new plan; ``group(uuid)`` gives a group's typed view."""

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
        mark: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._ledger = ledger
        self._fleet = fleet
        self._events = events
        self._clock = clock
        self._documents = documents
        self._identity = identity
        self._group = group
        self._mark = mark
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(CREATIONS_AT_ONCE_MAX)
        self._failures: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._states: dict[str, EngineState] = {}
        self._pending_removals: dict[str, EngineRecord] = {}
        self._kicked = asyncio.Event()

    def retry_at(self, group: str) -> float:
        """No engine creation for the group before this time (wall clock); 0 = none pending."""
        return self._retry_at.get(group, 0.0)

    def retry_now(self, group: str) -> None:
        self._retry_at.pop(group, None)

    def kick(self) -> None:
        """Records or sessions changed: look at once."""
        self._kicked.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._start_due(tasks)
                await self._watch()
                try:
                    async with asyncio.timeout(WATCH_INTERVAL_S):
                        await self._kicked.wait()
                except TimeoutError:
                    pass
                self._kicked.clear()

    def retire(self, engine: EngineRecord) -> None:
        """The record is gone from the ledger; remove the engine itself."""
        self._pending_removals[engine.id] = engine
        self._kicked.set()

    async def adopt(self) -> None:
        """Bring records and cloud together: engines that are no more (`shoal down` removed them) are forgotten, what
        they held is placed anew; engines without a record are removed. Call before `run`."""
        present = {handle.id for handle in await self._cloud.engines()}
        for engine in list(self._ledger.engines.values()):
            if engine.created and engine.id not in present:
                await self._ledger.forget_engine(engine.id)
                await self._documents.remove(engine.id)
        for id in sorted(present - set(self._ledger.engines)):
            await self._cloud.delete(id)

    # --- making and removing ---

    def _start_due(self, tasks: asyncio.TaskGroup) -> None:
        for engine in list(self._ledger.engines.values()):
            if not engine.created:
                self._once(tasks, engine.id, partial(self._create, engine))
        for engine in list(self._pending_removals.values()):
            self._once(tasks, engine.id, partial(self._remove, engine))

    def _once(self, tasks: asyncio.TaskGroup, key: str, work: Callable[[], Awaitable[None]]) -> None:
        if key not in self._tasks:
            self._tasks[key] = tasks.create_task(self._guarded(key, work))

    async def _guarded(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            del self._tasks[key]

    async def _create(self, engine: EngineRecord) -> None:
        group = self._group(engine.group)
        if group is None:
            await self._ledger.write(Changes(engines={engine.id: None}))
            return
        self._events.add(
            "CREATING_SE", f"{engine.name}: {engine.why}", serviceengine=engine.id, serviceenginegroup=engine.group
        )
        spec = EngineSpec(
            id=engine.id,
            name=engine.name,
            rank=engine.rank,
            group=engine.group,
            host=engine.host,
            vcpus=group.vcpus_per_se,
            memory_mb=group.memory_per_se,
            identity=self._identity(engine.id, engine.name),
        )
        try:
            async with self._slots:
                handle = await self._cloud.create(spec)
        except CloudError as error:
            await self._creation_failed(engine, str(error))
            return
        fields = {"created": True, "host": handle.host, "address": handle.address, "mac": handle.mac}
        now = self._clock.now()
        fields |= {"created_at": now, "made_in_s": max(0.0, now - engine.created_at)}
        await self._ledger.write(Changes(engine_fields={engine.id: fields}))
        await self._documents.put(self._ledger.engines[engine.id], group)
        self._failures.pop(engine.group, None)
        self._mark(engine.group)

    async def _creation_failed(self, engine: EngineRecord, why: str) -> None:
        failures = self._failures[engine.group] = self._failures.get(engine.group, 0) + 1
        delay = min(CREATE_RETRY_FIRST_S * 2 ** (failures - 1), CREATE_RETRY_MAX_S)
        self._retry_at[engine.group] = self._clock.now() + delay
        self._events.add(
            "CREATE_SE_FAIL",
            f"{engine.name}: {why} Next try in {delay:.0f} s.",
            level="error",
            serviceengine=engine.id,
            serviceenginegroup=engine.group,
        )
        await self._ledger.write(Changes(engines={engine.id: None}))
        self._mark(engine.group)

    async def _remove(self, engine: EngineRecord) -> None:
        try:
            await self._cloud.delete(engine.id)
        except CloudError as error:
            self._events.add("DELETE_SE_FAIL", f"{engine.name}: {error}", level="error", serviceengine=engine.id)
            await self._clock.sleep(CREATE_RETRY_FIRST_S)
            return
        await self._documents.remove(engine.id)
        self._pending_removals.pop(engine.id, None)
        self._fleet.forget_engine(engine.id)
        self._states.pop(engine.id, None)
        self._events.add("DELETED_SE", engine.name, serviceengine=engine.id, serviceenginegroup=engine.group)

    # --- watching ---

    async def _watch(self) -> None:
        await self._ask_about_lost()
        states = self._fleet.look(self._ledger.engines)
        self._tell_of_storms()
        for engine in list(self._ledger.engines.values()):
            await self._first_contact(engine)
            if engine.id in states:
                self._note(engine, states[engine.id])

    async def _ask_about_lost(self) -> None:
        """Which of the engines without a session have no process left?"""
        lost = [e.id for e in self._ledger.engines.values() if e.created and self._fleet.live(e.id).session is None]
        if not lost:
            return
        running = {handle.id: handle.running for handle in await self._cloud.engines()}
        for engine in lost:
            self._fleet.live(engine).gone = not running.get(engine, False)

    async def _first_contact(self, engine: EngineRecord) -> None:
        if engine.seen or not engine.created:
            return
        if self._fleet.live(engine.id).session is not None:
            took_s = self._clock.now() - engine.created_at
            made_in_s = round(max(0.0, engine.made_in_s + took_s), 3)
            await self._ledger.write(Changes(engine_fields={engine.id: {"seen": True, "made_in_s": made_in_s}}))
            self._events.add(
                "CREATED_SE", f"{engine.name} on {engine.host}, connected after {took_s:.2f} s", serviceengine=engine.id
            )
            self._mark(engine.group)
        elif self._clock.now() - engine.created_at > FIRST_CONTACT_MAX_S:
            self.retire(engine)
            await self._creation_failed(engine, f"did not connect within {FIRST_CONTACT_MAX_S:.0f} s.")

    def _tell_of_storms(self) -> None:
        storms = self._fleet.storms
        while storms.news:
            news = storms.news.pop(0)
            group = self._group(news.storm.group)
            name = group.name if group else news.storm.group
            names = {id: engine.name for id, engine in self._ledger.engines.items()}
            self._events.add(
                "SE_STORM_STARTED" if news.began else "SE_STORM_ENDED",
                told(news, name, names),
                level="error" if news.began else "info",
                serviceenginegroup=news.storm.group,
            )
            self._mark(news.storm.group)

    def _note(self, engine: EngineRecord, state: EngineState) -> None:
        """Raise SE_UP and SE_DOWN, and have the group planned, when an engine's state changes."""
        before = self._states.get(engine.id)
        live = self._fleet.live(engine.id)
        if state is before:
            if state is EngineState.DOWN:
                self._reboot_if_due(engine, live.down_since)
            return
        self._states[engine.id] = state
        if state is EngineState.UP and before is not EngineState.SUSPECT:
            live.down_since, live.up_since = None, self._clock.now()
            self._events.add("SE_UP", engine.name, serviceengine=engine.id, serviceenginegroup=engine.group)
        elif state is EngineState.DOWN:
            live.down_since = self._clock.now()
            self._events.add(
                "SE_DOWN",
                down_reason(live, engine.name),
                level="error",
                serviceengine=engine.id,
                serviceenginegroup=engine.group,
            )
        self._mark(engine.group)

    def _reboot_if_due(self, engine: EngineRecord, down_since: float | None) -> None:
        if down_since is None or self._clock.now() - down_since < REBOOT_DEAD_AFTER_S or engine.id in self._tasks:
            return
        self._fleet.live(engine.id).down_since = self._clock.now()
        self._tasks[engine.id] = asyncio.get_running_loop().create_task(
            self._guarded(engine.id, partial(self._reboot, engine))
        )

    async def _reboot(self, engine: EngineRecord) -> None:
        self._events.add("REBOOT_SE", f"{engine.name}: down for long", serviceengine=engine.id)
        try:
            await self._cloud.restart(engine.id)
        except CloudError as error:
            self._events.add("SE_FATAL_ERROR", f"{engine.name}: {error}", level="error", serviceengine=engine.id)


def down_reason(live: Live, name: str) -> str:
    if live.gone:
        return f"{name}: none of its processes runs"
    if live.suspected_at > live.heard_at:
        return f"{name}: silent, and a peer has taken over from it"
    return f"{name}: nothing heard"
