"""An asyncio loop whose time passes only when nothing is left to do at the present moment.

Code that takes its time from the loop (`asyncio.sleep`, `asyncio.timeout`) or from a `Clock` runs unchanged, hours in
seconds, and the same way each time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

EPOCH_S = 1_700_000_000.0
"""The wall clock's reading at virtual time 0."""

TURNS_WITHOUT_TIME_MAX = 300_000
"""Turns of the loop at one moment: more of them is somebody who asks again and again."""

_T = TypeVar("_T")


class Stuck(AssertionError):
    """Everybody waits and nothing is due, or somebody never waits: in virtual time that is for ever."""


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting it moves the loop's time on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0
        self.busy: Callable[[], str] = lambda: ""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck(f"nothing is due after {self.now:.3f} s of virtual time")
        if timeout > 0.0:
            self.now += timeout
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > TURNS_WITHOUT_TIME_MAX:
                raise Stuck(f"no time passes at {self.now:.3f} s of virtual time: {self.busy()}")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``failure``: the first exception that escaped a callback."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)
        self._skipping.busy = lambda: ", ".join(sorted(map(str, asyncio.all_tasks(self))))[:2000]
        self.failure: BaseException | None = None
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._skipping.now

    @property
    def now(self) -> float:
        return self._skipping.now

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.call_at(when, what)

    def run(self, seconds: float) -> None:
        raise NotImplementedError("a whole system is moved on by awaiting, see SystemWorld.pass_time")

    def run_in_executor(self, executor: object, func: Callable[..., _T], *args: object) -> asyncio.Future[_T]:
        """At once, here: a thread's work would take real time, and end at another virtual one each run."""
        done: asyncio.Future[_T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.failure is None:
            self.failure = context.get("exception") or AssertionError(context["message"])


class VirtualClock:
    """A `shoal.controller.clock.Clock`. ``offset_s`` is how far the wall clock is wrong; set it to make it jump."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset_s = 0.0

    def now(self) -> float:
        return EPOCH_S + self._loop.time() + self.offset_s

    def monotonic(self) -> float:
        return 1_000.0 + self._loop.time()  # 0 means "never" in many places

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, _T]]) -> _T:
    """Run ``main(loop)`` to its end in virtual time. An exception in any callback fails the run."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(main(loop))
        if loop.failure is not None:
            raise loop.failure
        return result
    finally:
        _finish(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _finish(loop: VirtualLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
