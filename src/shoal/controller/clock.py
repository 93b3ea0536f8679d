"""Time and fresh ids come from one place, so that the simulator can supply others."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Protocol

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
