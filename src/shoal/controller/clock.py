"""Time and fresh ids come from one place, so that the simulator can supply others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("shoal.clock")

BEAT_S = 0.25
STALL_S = 0.5
"""So long after a beat time stands still. With the second between an engine's statuses that is less than it takes to miss one."""

FreshId = Callable[[], str]
"""Gives a text that was never given before."""


def fresh_uuid() -> str:
    return str(uuid.uuid4())


async def woken(event: asyncio.Event, within_s: float | None, settle_s: float = 0.0) -> bool:
    """Whether the event came within the time (None: however long it takes), and ``settle_s`` have passed since, in which
    more of the same could come. It is cleared either way."""
    came = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
            if settle_s:
                await asyncio.sleep(settle_s)
            came = True
    event.clear()
    return came


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class WakingClock:
    """A clock whose monotonic time stands still while this process does not run: it was stopped, its machine was paused, or it
    computed for long. What was not heard meanwhile waits to be read, so silence is to be measured by this clock. It knows only
    while `run` runs; without that it is the clock it is made of. ``stalled(seconds)`` is told."""

    def __init__(self, clock: Clock, stalled: Callable[[float], None] = lambda seconds: None) -> None:
        self._clock = clock
        self._stalled = stalled
        self._lost_s = 0.0
        self._beat_at = math.inf

    def now(self) -> float:
        return self._clock.now()

    def monotonic(self) -> float:
        return min(self._clock.monotonic(), self._beat_at + STALL_S) - self._lost_s

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def run(self) -> None:
        """Until cancelled."""
        self._beat_at = self._clock.monotonic()
        try:
            while True:
                await self._clock.sleep(BEAT_S)
                self._beat()
        finally:
            self._beat()
            self._beat_at = math.inf

    def _beat(self) -> None:
        now, before = self._clock.monotonic(), self._beat_at
        lost_s = max(0.0, now - before - STALL_S)
        self._lost_s += lost_s
        self._beat_at = now
        if lost_s:
            log.warning("did not run for %.1f s", now - before)
            self._stalled(now - before)
