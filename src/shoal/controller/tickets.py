"""What engines make the keys of TLS session tickets from: the same on all engines of a group, so that clients resume their sessions
wherever they come, also after a failover; another one each day (RFC 5077, 5.5)."""

from __future__ import annotations

from collections.abc import Callable

from .clock import Clock

SECONDS_PER_DAY = 86_400
Secrets = tuple[bytes, bytes, bytes]
"""Of the day before, of today, of tomorrow."""


class Tickets:
    """``derive(purpose)`` gives 32 octets, always the same."""

    def __init__(self, derive: Callable[[str], bytes], clock: Clock) -> None:
        self._derive = derive
        self._clock = clock

    def secrets(self, group: str) -> Secrets:
        today = int(self._clock.now() // SECONDS_PER_DAY)
        before, now, after = (self._derive(f"tickets/{group}/{day}") for day in range(today - 1, today + 2))
        return before, now, after

    async def run(self, changed: Callable[[], None]) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(SECONDS_PER_DAY - self._clock.now() % SECONDS_PER_DAY + 1.0)
            changed()
