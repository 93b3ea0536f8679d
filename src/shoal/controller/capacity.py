"""How much load servers can take (``capacity_estimation`` of a pool): the highest at which they still answered in time.

Load is answers a second (of a TCP service connections), summed over engines. Time is that to the first byte: to connect to
the server, and until its answer begins (of a TCP service to connect). What counts are 5 s of the last ten minutes, and 5 minutes of the last
day; what was better before that is forgotten.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from shoal.objects.views import Pool, view

from .clock import Clock
from .metric_ids import POOL, RESPONSES
from .metrics import Metrics
from .pools import server_name
from .protocols import Documents
from .rings import SHORT, Window
from .view import View

LOOK_INTERVAL_S = 15.0
ANSWERS_MIN = 5
"""In a span of time: what fewer took says nothing."""
NEAR = 0.8
"""Of the capacity: who is late with so much load has shown where it ends."""
LATE_TIMES, LATE_MS_MIN = 3.0, 20.0
"""Automatic: late is who takes so many times as long as in the best quarter of the time, and at least so long."""
NOW_S = 30
"""What the load is now is the mean of so long."""


class Span(NamedTuple):
    """What a server did in a span of time."""

    load: float
    ms: float


class Estimate(msgspec.Struct, frozen=True):
    """Of one server. Without ``reached`` it was never late, and can take at least ``capacity``."""

    load: float
    capacity: float
    reached: bool
    threshold_ms: float

    def document(self) -> dict[str, Any]:
        return {
            "load": round(self.load, 3),
            "capacity": round(self.capacity, 3),
            "reached": self.reached,
            "ttfb_threshold_ms": round(self.threshold_ms, 1),
        }


class Whole(NamedTuple):
    """Of a pool's servers that are up. ``capacity`` is None while none of them has shown where its own ends."""

    load: float
    capacity: float | None


def spans(windows: Iterable[Window]) -> list[Span]:
    found = []
    for window in windows:
        count = window.total(*RESPONSES) or window.total("connections")
        timed = window.total("timed") if count >= ANSWERS_MIN else 0.0
        if timed:
            ms = (window.total("connect_ms") + window.total("response_ms")) / timed
            found.append(Span(count / window.seconds, ms))
    return found


def estimate(found: Sequence[Span], threshold_ms: int, load: float) -> Estimate | None:
    """``threshold_ms`` 0: automatic. None of nothing."""
    if not found:
        return None
    limit = float(threshold_ms) or automatic(found)
    capacity = max((one.load for one in found if one.ms <= limit), default=0.0)
    reached = any(one.ms > limit and one.load >= NEAR * capacity for one in found)
    return Estimate(load, capacity, reached, limit)


def automatic(found: Sequence[Span]) -> float:
    best = sorted(one.ms for one in found)[: max(1, len(found) // 4)]
    return max(LATE_MS_MIN, LATE_TIMES * statistics.fmean(best))


def whole(found: Sequence[Estimate | None]) -> Whole:
    """Of servers of which nothing is known (None), and those that never reached their capacity, at least what the others can
    take on average is expected."""
    known = [one.capacity for one in found if one is not None and one.reached]
    load = sum(one.load for one in found if one is not None)
    if not known:
        return Whole(load, None)
    usual = statistics.fmean(known)
    least = ((one.capacity, one.reached) if one is not None else (0.0, False) for one in found)
    return Whole(load, sum(capacity if reached else max(usual, capacity) for capacity, reached in least))


class Capacities:
    """``documents`` know the addresses of servers by name; ``up(pool)``: the names of its servers that are up."""

    def __init__(
        self, view: View, documents: Documents, metrics: Metrics, clock: Clock, *, up: Callable[[str], Sequence[str]]
    ) -> None:
        self._view = view
        self._documents = documents
        self._metrics = metrics
        self._clock = clock
        self._up = up
        self._days: dict[tuple[str, str], tuple[int, list[Span]]] = {}
        """By pool and server: the 5 minutes that began last, and the spans of the day before."""
        self._known: dict[str, dict[str, Estimate | None]] = {}
        self._noted: dict[str, float] = {}
        """By pool: until when its metrics say it."""
        self.on_look: Callable[[], None] = lambda: None
        """Is called after each look."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(LOOK_INTERVAL_S)
            await self.look()
            self.on_look()

    async def look(self) -> None:
        """Once, at all pools that want it."""
        wanted = [document["uuid"] for document in self._view.all(POOL) if document.get("capacity_estimation")]
        kept: dict[str, dict[str, Estimate | None]] = {}
        for document in filter(None, (self._documents.get(POOL, uuid) for uuid in wanted)):
            pool = view(document, Pool)
            kept[pool.uuid] = {}
            for server in pool.servers:
                name = server_name(pool, server)
                kept[pool.uuid][name] = self._estimated(pool, name)
                await asyncio.sleep(0)
        self._known = kept
        self._noted = {pool: self._note(pool) for pool in kept}
        there = {(pool, name) for pool, names in kept.items() for name in names}
        self._days = {key: day for key, day in self._days.items() if key in there}

    def of(self, pool: str) -> dict[str, Estimate | None]:
        """By server's name, those of a pool that wants it; None of which nothing is known yet."""
        return self._known.get(pool, {})

    def whole(self, pool: str) -> Whole:
        """Of those that are up."""
        known = self.of(pool)
        return whole([known.get(name) for name in self._up(pool)])

    def _estimated(self, pool: Pool, server: str) -> Estimate | None:
        id = f"{pool.uuid}/{server}"
        fine, coarse = SHORT
        recent = self._metrics.read("server", id, fine.step_s, limit=fine.slots)
        slot = int(self._metrics.time() // coarse.step_s)
        day = self._days.get((pool.uuid, server))
        if day is None or day[0] != slot:
            whole_day = self._metrics.read("server", id, coarse.step_s, limit=coarse.slots)
            day = self._days[pool.uuid, server] = slot, spans(whole_day)
        now = [window for window in recent[-(NOW_S // fine.step_s) :] if window.seconds]
        seconds = sum(window.seconds for window in now)
        count = sum(window.total(*RESPONSES) or window.total("connections") for window in now)
        load = count / seconds if seconds else 0.0
        return estimate([*spans(recent), *day[1]], pool.capacity_estimation_ttfb_thresh, load)

    def _note(self, pool: str) -> float:
        found = self.whole(pool)
        gauges = {}
        if found.capacity is not None:
            gauges = {"est_capacity": found.capacity, "free_capacity": max(0.0, found.capacity - found.load)}
        return self._metrics.note((POOL, pool), self._noted.get(pool, 0.0), gauges)
