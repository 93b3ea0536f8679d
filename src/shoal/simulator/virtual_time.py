"""An asyncio loop whose time passes only when nothing is left to do at the present moment.

Code that takes its time from the loop (`asyncio.sleep`, `asyncio.timeout`) or from a `Clock` runs unchanged, hours in
seconds, and the same way each time.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar
from typing import Any, TypeVar

EPOCH_S = 1_700_000_000.0
"""The wall clock's reading at virtual time 0."""

TURNS_WITHOUT_TIME_MAX = 300_000
"""Turns of the loop at one moment: more of them is somebody who asks again and again."""

PROCESS: ContextVar[object] = ContextVar("process", default=None)
"""Which of the simulated processes a task belongs to, and all that it begins; None: to none that could be stopped."""

_T = TypeVar("_T")


class Stuck(AssertionError):
    """Everybody waits and nothing is due, or somebody never waits: in virtual time that is for ever."""


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting it moves the loop's time on, and does what `VirtualLoop.at` has put down."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._turns = 0
        self.loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        agenda, due = self.agenda, self.now + max(0.0, timeout) if timeout is not None else math.inf
        if agenda and agenda[0][0] <= due:
            while agenda and agenda[0][0] <= due:
                when, _, what = heapq.heappop(agenda)
                if when > self.now:
                    self.now, self._turns = when, 0
                self.loop.do(what)
                due = min(due, self.loop.next_due())
            return []
        if timeout is None:
            raise Stuck(f"nothing is due after {self.now:.3f} s of virtual time")
        if timeout > 0.0:
            self.now, self._turns = self.now + timeout, 0
        else:
            self._turns += 1
            if self._turns > TURNS_WITHOUT_TIME_MAX:
                tasks = ", ".join(sorted(map(str, asyncio.all_tasks(self.loop))))
                raise Stuck(f"no time passes at {self.now:.3f} s of virtual time: {tasks[:2000]}")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``failure``: the first exception that escaped a callback."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _run_once: Callable[[], None]

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)
        self._skipping.loop = self
        self._order = 0
        self.failure: BaseException | None = None
        self.set_exception_handler(self._note)
        self.stopped: object = None
        """The `PROCESS` that does not run."""
        self._waiting: list[asyncio.Handle] = []
        self._late: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._skipping.now

    @property
    def now(self) -> float:
        return self._skipping.now

    def at(self, when: float, what: Callable[[], None]) -> None:
        """As `call_at`, for what happens by the thousand: without a handle, a context and their order."""
        self._order += 1
        heapq.heappush(self._skipping.agenda, (when, self._order, what))

    def do(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            self.call_exception_handler({"message": "a callback failed", "exception": error})

    def stop_process(self, process: object) -> None:
        """kill -STOP: nothing of it runs, and time passes for all others; until `go_on`."""
        self.go_on()
        self.stopped = process
        self._run_once = self._turn_without_stopped

    def go_on(self) -> None:
        """kill -CONT. What its timers have waited for comes before what it was told meanwhile: the worse order."""

        def hear() -> None:
            self._ready.extend(waiting)

        if self.stopped is None:
            return
        self.stopped = None
        del self._run_once
        late, self._late = self._late, []
        waiting, self._waiting = self._waiting, []
        for timer in late:
            heapq.heappush(self._scheduled, timer)
        self.call_soon(self.call_soon, hear)  # a timer's task wakes a turn after it

    def _turn_without_stopped(self) -> None:
        own = [handle for handle in self._ready if self._is_stopped(handle)]
        late = [timer for timer in self._scheduled if self._is_stopped(timer)]
        if own:
            self._waiting += own
            self._ready = deque(handle for handle in self._ready if not self._is_stopped(handle))
        if late:
            self._late += late
            self._scheduled = [timer for timer in self._scheduled if not self._is_stopped(timer)]
            heapq.heapify(self._scheduled)
        super()._run_once()  # type: ignore[misc]

    def _is_stopped(self, handle: asyncio.Handle) -> bool:
        context: Context = handle._context  # type: ignore[attr-defined]
        return context.get(PROCESS) is self.stopped

    def next_due(self) -> float:
        """Until then asyncio has nothing to do."""
        if self._ready:
            return -math.inf
        return self._scheduled[0].when() if self._scheduled else math.inf

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """At once, taking no time: beside a real thread virtual time would pass as fast as the machine is slow."""
        done: asyncio.Future[_T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def run(self, seconds: float) -> None:
        raise NotImplementedError("a whole system is moved on by awaiting, see SystemWorld.pass_time")

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
