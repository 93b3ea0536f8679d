"""Addresses that are held are announced anew from time to time: a neighbour that missed a takeover, or forgot, learns."""

from __future__ import annotations

from collections.abc import Callable, Collection

from .loop import Loop, Timer

TICK_S = 1.0


class Anew:
    """``announce(vip)`` for every VIP that is ``held``, once in each period since it is. They take turns, as many in a tick as that
    takes, so a thousand VIPs are no burst."""

    def __init__(self, loop: Loop, held: Collection[str], announce: Callable[[str], None]) -> None:
        self._loop = loop
        self._held = held
        self._announce = announce
        self._every_s = 0.0
        self._turns: dict[str, None] = {}
        """Who is next comes first."""
        self._due = 0.0
        """Announcements that were due, and a part of the next one."""
        self._timer: Timer | None = None

    def want(self, every_s: float) -> None:
        """0: not at all."""
        if every_s == self._every_s:
            return
        self._every_s, self._due = every_s, 0.0
        self._turns.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if every_s:
            self._wait()

    def _wait(self) -> None:
        self._timer = self._loop.at(self._loop.now() + TICK_S, self._tick)

    def _tick(self) -> None:
        turns = self._turns = {vip: None for vip in (*self._turns, *self._held) if vip in self._held}
        self._due = self._due + len(turns) * TICK_S / self._every_s if turns else 0.0
        while self._due >= 1.0:
            self._due -= 1.0
            vip = next(iter(turns))
            del turns[vip]
            turns[vip] = None
            self._announce(vip)
        self._wait()
