"""Dead engines are started again, empty; those that stay dead are deleted (reference: elastic-ha 5.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shoal.clouds.protocol import Cloud, CloudError
from shoal.placement.model import EngineState
from shoal.store.protocol import Unavailable

from .clock import Clock
from .engine_timers import Timers
from .events import EventLog
from .fleet import Fleet
from .ledger import Changes, Ledger
from .records import EngineRecord

STARTS_AT_ONCE_MAX = 4
"""Engines that are started again and have not connected yet: many at once would keep each other from starting."""
STARTED_WITHIN_S = 10.0
"""One that has not connected by then holds nobody up any longer."""
STARTED_POLL_S = 0.1


class Mending:
    """``remove(engine)`` has an engine removed whose record is gone."""

    def __init__(
        self,
        cloud: Cloud,
        ledger: Ledger,
        fleet: Fleet,
        events: EventLog,
        clock: Clock,
        *,
        timers: Callable[[], Timers],
        mark: Callable[[str], None],
        remove: Callable[[EngineRecord], None],
    ) -> None:
        self._cloud = cloud
        self._ledger = ledger
        self._fleet = fleet
        self._events = events
        self._clock = clock
        self._timers = timers
        self._mark = mark
        self._remove = remove
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE_MAX)
        self._down_since: dict[str, float] = {}
        """Monotonic, by engine; for one of which nothing runs and one that is silent alike."""
        self._rebooted_at: dict[str, float] = {}
        self.waited_for: Callable[[str], bool] = lambda engine: False
        """Whether a service can't be placed before the engine has been heard of."""
        self.starting: dict[str, None] = {}
        """Engines that are about to be started, or are starting."""

    def seen(self, engine: EngineRecord, state: EngineState) -> bool:
        """What to do about the engine as it is: True = it is to be started again (`start`)."""
        if state is not EngineState.DOWN:
            self.forget(engine.id)
            return False
        since = self._down_since.setdefault(engine.id, self._clock.monotonic())
        timers = self._timers()
        gone = self._fleet.live(engine.id).gone
        wait_s = timers.crashed_se_reboot if gone else timers.unresponsive_se_reboot
        if gone and self.waited_for(engine.id):
            wait_s = 0
        untried = engine.id not in self._rebooted_at and engine.id not in self.starting
        return untried and self._clock.monotonic() - since >= wait_s

    def minds(self, engine: str) -> bool:
        """Whether anything is noted of it: it is or was down."""
        return engine in self._down_since or engine in self._rebooted_at

    def is_lost(self, engine: EngineRecord) -> bool:
        """It was started again, and is down all the same for long."""
        at = self._rebooted_at.get(engine.id)
        return at is not None and self._clock.monotonic() - at >= self._timers().del_offline_se_after_reboot_delay

    def forget(self, engine: str) -> None:
        self._down_since.pop(engine, None)
        self._rebooted_at.pop(engine, None)

    async def start(self, engine: EngineRecord, why: str) -> None:
        """Start it again, in turn; until it has connected, or for `STARTED_WITHIN_S`. One that is retired meanwhile is waited
        for no longer: it is to be removed, and goes by old orders until then."""
        self.starting[engine.id] = None
        try:
            async with self._slots:
                if engine.id in self._ledger.engines and not self._is_back(engine.id):
                    await self._start(engine, why)
        finally:
            self.starting.pop(engine.id, None)

    async def _start(self, engine: EngineRecord, why: str) -> None:
        self._events.add("REBOOT_SE", f"{engine.name}: {why}", serviceengine=engine.id)
        self._rebooted_at[engine.id] = self._clock.monotonic()
        try:
            await self._cloud.restart(engine.id)
        except CloudError as error:
            self._events.add("SE_FATAL_ERROR", f"{engine.name}: {error}", level="error", serviceengine=engine.id)
            return
        end = self._clock.monotonic() + STARTED_WITHIN_S
        while engine.id in self._ledger.engines and not self._is_back(engine.id) and self._clock.monotonic() < end:
            await self._clock.sleep(STARTED_POLL_S)

    def _is_back(self, engine: str) -> bool:
        return self._fleet.live(engine).session is not None and self._fleet.state(engine) is EngineState.UP

    async def give_up(self, engine: EngineRecord, why: str) -> None:
        """Delete it. What it had is elsewhere already, and if an engine is missing a plan makes another. Where that can't be
        stored, it is given up with a later look."""
        try:
            await self._ledger.repeat(Changes(engines={engine.id: None}))
        except Unavailable:
            return
        self._events.add(
            "DELETING_SE",
            f"{engine.name}: {why}",
            level="error",
            serviceengine=engine.id,
            serviceenginegroup=engine.group,
        )
        self.forget(engine.id)
        self._remove(engine)
        self._mark(engine.group)
