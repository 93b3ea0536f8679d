"""A clock that stands still while its process does not run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shoal.controller.clock import STALL_S, WakingClock

TINY_S = 1e-6


class Machine:
    """Its time is told; ``sleep`` ends when that has passed."""

    def __init__(self) -> None:
        self.time = 5_000.0
        self.told: list[float] = []
        self.clock = WakingClock(self, self.told.append)

    def now(self) -> float:
        return self.time + 1_000_000.0

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        until = self.time + seconds
        while self.time < until:
            await asyncio.sleep(0)

    async def goes_on(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.time += 0.01
            await asyncio.sleep(0)

    async def is_paused(self, seconds: float) -> None:
        """Whoever is due next sees that so much has passed."""
        self.time += seconds


def running(story: Callable[[Machine], Awaitable[None]]) -> None:
    async def main() -> None:
        machine = Machine()
        beat = asyncio.create_task(machine.clock.run())
        await asyncio.sleep(0)
        await story(machine)
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)

    asyncio.run(main())


def test_a_pause_is_hardly_any_time_whoever_asks_first() -> None:
    async def story(machine: Machine) -> None:
        before = machine.clock.monotonic()
        await machine.goes_on(10.0)
        assert machine.clock.monotonic() == pytest.approx(before + 10.0)
        await machine.is_paused(8.0)  # nothing else has run yet
        assert before + 10.0 <= machine.clock.monotonic() <= before + 10.0 + STALL_S + TINY_S
        await machine.goes_on(1.0)
        assert before + 11.0 <= machine.clock.monotonic() <= before + 11.0 + 2 * STALL_S
        assert machine.told == [pytest.approx(8.2, abs=0.3)]
        await machine.is_paused(600.0)
        await machine.goes_on(1.0)  # the beat is first
        assert before + 12.0 <= machine.clock.monotonic() <= before + 12.0 + 4 * STALL_S
        assert machine.clock.now() == machine.now(), "what time it is has nothing to do with that"

    running(story)


def test_looking_at_the_clock_is_not_running() -> None:
    """One that computes for long looks at it, too, and reads nothing meanwhile."""

    async def story(machine: Machine) -> None:
        await machine.goes_on(1.0)
        before = machine.clock.monotonic()
        for _ in range(20):
            machine.time += 0.3
            assert machine.clock.monotonic() <= before + STALL_S + TINY_S
        await machine.goes_on(1.0)
        assert machine.clock.monotonic() <= before + 1.0 + STALL_S + TINY_S

    running(story)


def test_it_never_goes_back_and_a_hiccup_is_time_like_any_other() -> None:
    async def story(machine: Machine) -> None:
        began = machine.clock.monotonic()
        seen = [began]
        for _ in range(4):
            await machine.is_paused(STALL_S - 0.3)
            seen.append(machine.clock.monotonic())
            await machine.goes_on(0.4)
            seen.append(machine.clock.monotonic())
        assert not machine.told and seen[-1] == pytest.approx(began + 4 * (STALL_S + 0.1))
        for pause in (STALL_S + 0.05, 30.0, 0.3, 2.0):
            await machine.is_paused(pause)
            seen.append(machine.clock.monotonic())
            await machine.goes_on(0.4)
            seen.append(machine.clock.monotonic())
        assert seen == sorted(seen)
        assert len(machine.told) >= 2

    running(story)


def test_without_a_beat_it_is_the_clock_it_is_made_of() -> None:
    machine = Machine()
    machine.time += 100.0
    assert machine.clock.monotonic() == machine.time
    machine.time += 100.0
    assert machine.clock.monotonic() == machine.time and not machine.told

    async def ends() -> None:
        beat = asyncio.create_task(machine.clock.run())
        await asyncio.sleep(0)
        machine.time += 50.0
        before = machine.clock.monotonic()
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        assert machine.clock.monotonic() == before
        machine.time += 50.0
        assert machine.clock.monotonic() == before + 50.0, "what was lost stays lost"

    asyncio.run(ends())
