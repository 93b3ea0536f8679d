"""A minimal event loop: readiness and timers in one thread. No fork, no thread, no task between a packet and its answer."""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable
from typing import Protocol


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Timer:
    """``cancel()`` is final."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self.running = True

    @staticmethod
    def now() -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        timer = Timer(when, call)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def on_readable(self, file: HasFileno, call: Callable[[], None]) -> None:
        self._selector.register(file, selectors.EVENT_READ, (call, None))

    def on_writable(self, file: HasFileno, call: Callable[[], None]) -> None:
        """Instead of readable."""
        self._selector.modify(file, selectors.EVENT_WRITE, (None, call))

    def forget(self, file: HasFileno) -> None:
        self._selector.unregister(file)

    def run(self) -> None:
        """Until ``running`` is False. Input goes before timers: after a stall, news comes before conclusions."""
        while self.running:
            while self._timers and self._timers[0][2].call is None:
                heapq.heappop(self._timers)
            wait = max(0.0, self._timers[0][0] - self.now()) if self._timers else None
            files = self._selector.get_map()
            for key, mask in self._selector.select(wait):
                if files.get(key.fd) is not key:  # closed, or changed, by what came before it
                    continue
                on_read, on_write = key.data
                call = on_read if mask & selectors.EVENT_READ else on_write
                if call is not None:
                    call()
            due = self.now()
            while self._timers and self._timers[0][0] <= due:
                timer = heapq.heappop(self._timers)[2]
                if timer.call is not None:
                    timer.call()
