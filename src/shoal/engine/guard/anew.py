"""Addresses that are held are announced anew from time to time: a neighbour that missed a takeover, or forgot, learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from .loop import Loop, Timer


class Anew:
    """``announce(vip)`` once in each period, for every VIP that is held then. The period is shared out among them, so that a
    thousand VIPs are no burst."""

    def __init__(self, loop: Loop, held: Collection[str], announce: Callable[[str], None]) -> None:
        self._loop = loop
        self._held = held
        self._announce = announce
        self._every_s = 0.0
        self._to_come: deque[str] = deque()
        self._timer: Timer | None = None

    def want(self, every_s: float) -> None:
        """0: not at all."""
        if every_s == self._every_s:
            return
        self._every_s = every_s
        self._to_come.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if every_s:
            self._wait()

    def _wait(self) -> None:
        if not self._to_come:
            self._to_come.extend(self._held)
        self._timer = self._loop.at(self._loop.now() + self._every_s / max(1, len(self._held)), self._next)

    def _next(self) -> None:
        while self._to_come:
            vip = self._to_come.popleft()
            if vip in self._held:
                self._announce(vip)
                break
        self._wait()
