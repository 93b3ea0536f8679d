"""What the engines count, as it went: rates and gauges of virtual services, pools, servers, engines and the controller.

Not in the store: lost samples are lost. The controller's monotonic clock decides where a sample belongs; an engine's
own clock only says how far apart two of its samples are. Known to be missing: what was counted while an engine and the
controller were apart for longer than `GAP_MAX_S`, or while no controller ran.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

from shoal.wire.counters import INTERVAL_S, Counters, Counts, EngineCounts
from shoal.wire.latency import Buckets

from .clock import Clock
from .rings import BRIEF, FULL, SHORT, Amounts, Pieces, Resolution, Rings, Window, pieces

log = logging.getLogger("shoal.metrics")

GAP_MAX_S = 60.0
"""Totals that are further apart are a new begin: spread over more, they would tell a rate that never was."""
YOUNG_S = 15.0
"""An epoch that is no older has been counted from its zero."""
SETTLED_AFTER_S = INTERVAL_S + 1.0
"""So long after its end a 5 s slot has the samples of all engines."""
OVERTAKEN_S = 0.1
"""What a message counts is spread over at least so much, also when the one before it came very late."""
DRIFT_MAX = 0.001
"""How much faster than ours an engine's clock may go."""
ENTITIES_MAX = 150_000
SWEEP_INTERVAL_S = 60.0
FREE_CPU_OVER_S = 30.0
STEP_JUMP_S = 30.0
"""When the wall clock has jumped further, the labels of all slots move with it."""

Key = tuple[str, str]
"""(kind, id): virtualservice, pool, serviceengine, controller by uuid; server by ``<pool uuid>/<name>``."""
COUNTED = Counts.__struct_fields__[1:]
TIMES = "times of "
"""Before the kind of an entity: the rings with how long its requests took."""
Times = dict[tuple[str, str, str], Buckets]
"""How long requests took, of entities as `_entries` names them."""
ZERO = Counts()
ENGINE_GAUGES = ("open", "memory", "machine_memory", "machine_memory_free", "threads", "cores", "idle_percent")
ENGINE_COUNTED = tuple(name for name in EngineCounts.__struct_fields__ if name not in ENGINE_GAUGES)
CONTROLLER = "controller"


class Last(msgspec.Struct):
    """The last message of an engine. ``offset_s``: from its clock to ours."""

    message: Counters
    counts: dict[tuple[str, str, str], Counts]
    times: Times
    offset_s: float
    until: float


class MetricFileLike(Protocol):
    pause_s: float

    async def save(self, metrics: Metrics) -> None: ...


class Metrics:
    """``known(kind, uuid)`` says whether the entity still exists."""

    def __init__(self, clock: Clock, known: Callable[[str, str], bool] = lambda kind, uuid: True) -> None:
        self._clock = clock
        self._known = known
        self._anchor = clock.now() - clock.monotonic()
        self._entities: dict[Key, Rings] = {}
        self._open: dict[Key, dict[str, int]] = {}
        self._last: dict[str, Last] = {}
        self._free: dict[str, deque[tuple[float, float]]] = {}
        self._own: tuple[float, float] | None = None
        self._full = False

    # --- what engines say ---

    def take(self, engine: str, message: Counters) -> None:
        """Late and repeated messages change nothing."""
        now, last = self.time(), self._last.get(engine)
        at = message.at_ms / 1000
        same = last is not None and last.message.epoch == message.epoch
        if last is not None and same and message.number <= last.message.number:
            return
        offset = now - at
        if last is not None and same:
            offset = min(offset, last.offset_s + DRIFT_MAX * (at - last.message.at_ms / 1000))
        end = at + offset
        begin = last.until if last is not None and same else end - at
        if same:
            end = max(end, begin + OVERTAKEN_S)
        counts, times = dict(_entries(message)), dict(_times(message))
        self._last[engine] = Last(message, counts, times, offset, end)
        self._note_open(engine, last.counts if last is not None else {}, counts)
        fresh = end - begin <= GAP_MAX_S + OVERTAKEN_S and (same or at <= YOUNG_S)
        if end <= begin or not fresh:
            return
        cut = pieces(begin, end)
        before = last if same else None
        self._add_services(engine, before.counts if before else {}, counts, begin, end, cut)
        self._add_times(before.times if before else {}, times, begin, end, cut)
        if last is not None and same:
            self._add_engine(engine, last.message.engine, message.engine, begin, end, cut)

    def _note_open(
        self, engine: str, before: dict[tuple[str, str, str], Counts], counts: dict[tuple[str, str, str], Counts]
    ) -> None:
        for key in {(kind, id) for kind, id, _ in before} - {(kind, id) for kind, id, _ in counts}:
            self._open.get(key, {}).pop(engine, None)
        sums: dict[Key, int] = {}
        for (kind, id, _), c in counts.items():
            sums[kind, id] = sums.get((kind, id), 0) + c.open
        for key, value in sums.items():
            self._open.setdefault(key, {})[engine] = value

    def _add_services(
        self,
        engine: str,
        before: dict[tuple[str, str, str], Counts],
        counts: dict[tuple[str, str, str], Counts],
        begin: float,
        end: float,
        cut: Pieces,
    ) -> None:
        grown: dict[Key, list[float]] = {}
        for whole, c in counts.items():
            key = whole[:2]
            was = before.get(whole, ZERO)
            more = _grown(was, c) if c != was else None
            sums = grown.get(key)
            if sums is None:
                grown[key] = more or [0.0] * len(COUNTED)
            elif more is not None:
                grown[key] = [a + b for a, b in zip(sums, more, strict=True)]
        for key, values in grown.items():
            rings = self._rings(key)
            if rings is None:
                continue
            amounts = [(name, value) for name, value in zip(COUNTED, values, strict=True) if value]
            open_now = self._open[key]
            amounts.append(("open", open_now[engine] * (end - begin)))
            rings.add(begin, end, cut, amounts, [("open_max", sum(open_now.values()))])

    def _add_times(self, before: Times, times: Times, begin: float, end: float, cut: Pieces) -> None:
        """Of entities that have rings already: nothing took time where nothing was counted."""
        for whole, buckets in times.items():
            if (was := before.get(whole, ())) == buckets:
                continue
            rings = self._rings(times_of(whole[:2])) if whole[:2] in self._entities else None
            if rings is not None:
                known = dict(was)
                grown = ((bucket, count - known.get(bucket, 0)) for bucket, count in buckets)
                rings.add(begin, end, cut, [(time_series(b), float(more)) for b, more in grown if more > 0])

    def _add_engine(
        self, engine: str, was: EngineCounts, now: EngineCounts, begin: float, end: float, cut: Pieces
    ) -> None:
        rings = self._rings(("serviceengine", engine))
        if rings is None:
            return
        seconds = end - begin
        amounts = [(name, float(max(0, getattr(now, name) - getattr(was, name)))) for name in ENGINE_COUNTED]
        amounts += [(name, getattr(now, name) * seconds) for name in ENGINE_GAUGES]
        rings.add(begin, end, cut, amounts, [("open_max", now.open)])
        more = dict(amounts)
        threads = max(1, now.threads)
        used = more["haproxy_cpu_ms"] / (1000 * seconds * threads)
        busy = more["machine_busy_ms"] / more["machine_ms"] if more["machine_ms"] else 0.0
        free = max(0.0, min(1 - used, (1 - busy) * now.cores / threads))
        self._free.setdefault(engine, deque(maxlen=int(FREE_CPU_OVER_S / INTERVAL_S))).append((end, free))

    def note(self, key: Key, since: float, gauges: Mapping[str, float]) -> float:
        """What was so ``since`` then, of an entity that is measured: until what is returned, which is to be the next ``since``."""
        rings = self._entities.get(key)
        end = rings.until if rings is not None else since
        begin = max(since, end - GAP_MAX_S)
        if rings is not None and begin < end:
            amounts = [(name, value * (end - begin)) for name, value in gauges.items()]
            rings.add(begin, end, pieces(begin, end), amounts)
        return max(since, end)

    def free_cpu(self, engine: str) -> float | None:
        """The share 0..1 of the CPU HAProxy could use there that was free, in the last 30 s; None: nothing is known.

        What other processes of the machine take is not free.
        """
        since = self.time() - FREE_CPU_OVER_S
        recent = [free for at, free in self._free.get(engine, ()) if at >= since]
        return sum(recent) / len(recent) if recent else None

    # --- the controller itself ---

    async def run(self, file: MetricFileLike | None) -> None:
        """Sample, sweep and save, until cancelled; then save a last time."""
        saved = swept = self._clock.monotonic()
        try:
            while True:
                await self._clock.sleep(INTERVAL_S)
                self.sample_own()
                now = self._clock.monotonic()
                if now - swept >= SWEEP_INTERVAL_S:
                    swept = now
                    self.sweep()
                if file is not None and now - saved >= file.pause_s:
                    saved = now
                    await file.save(self)
        finally:
            if file is not None:
                await file.save(self)

    def sample_own(self) -> None:
        """Count this process's CPU and memory; call it each `INTERVAL_S`."""
        now = self.time()
        usage = os.times()
        cpu_ms = (usage.user + usage.system) * 1000
        before, self._own = self._own, (now, cpu_ms)
        rings = self._rings((CONTROLLER, CONTROLLER))
        if before is None or rings is None or not 0 < now - before[0] <= GAP_MAX_S:
            return
        seconds = now - before[0]
        amounts: Amounts = [
            ("cpu_ms", cpu_ms - before[1]),
            ("memory", _memory() * seconds),
            ("machine_memory", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * seconds),
            ("engines", len(self._last) * seconds),
        ]
        rings.add(before[0], now, pieces(before[0], now), amounts)

    # --- entities ---

    def _rings(self, key: Key) -> Rings | None:
        found = self._entities.get(key)
        if found is None:
            if len(self._entities) >= ENTITIES_MAX:
                if not self._full:
                    log.error("metrics are kept of %d entities at most; further ones are left out", ENTITIES_MAX)
                self._full = True
                return None
            found = self._entities[key] = Rings(shape(key[0]))
        return found

    def sweep(self) -> None:
        """Forget what exists no more, and servers nothing was heard of for as long as is kept of them."""
        oldest = self.time() - max(r.step_s * r.slots for r in SHORT)
        for key in list(self._entities):
            kind, id = key[0].removeprefix(TIMES), key[1]
            server = kind == "server"
            gone = not self._known("pool" if server else kind, id.partition("/")[0])
            if gone or (server and self._entities[key].until < oldest):
                del self._entities[key]
                self._open.pop(key, None)
        for engine in [engine for engine in self._last if not self._known("serviceengine", engine)]:
            del self._last[engine]
            self._free.pop(engine, None)
        for engine, last in self._last.items():  # a silent engine has no connections that anyone knows of
            if last.until < self.time() - GAP_MAX_S:
                self._note_open(engine, last.counts, {})
        self._full = len(self._entities) >= ENTITIES_MAX

    def rings(self, kind: str, id: str) -> Rings | None:
        """What is kept of an entity."""
        return self._entities.get((kind, id))

    def keys(self, kind: str) -> list[str]:
        """Ids of the entities of a kind that something is known of, in order."""
        return sorted(id for k, id in self._entities if k == kind)

    def counted(self) -> dict[str, Counters]:
        """Engine -> what it said last, if that is not long ago."""
        since = self.time() - GAP_MAX_S
        return {engine: last.message for engine, last in self._last.items() if last.until >= since}

    @property
    def size(self) -> int:
        """Bytes of all ring buffers."""
        return sum(rings.size for rings in self._entities.values())

    # --- reading ---

    def last(self, kind: str, id: str) -> Window | None:
        """The newest 5 s that are settled; None when nothing is known of them."""
        found = self.read(kind, id, FULL[0].step_s, limit=1)
        return found[0] if found and found[0].seconds else None

    def over(self, kind: str, id: str, seconds: float, *, ago: float = 0.0) -> Window | None:
        """So many seconds, a day at most, up to so long ago, as one; None when nothing is known of them."""
        rings = self._entities.get((kind, id))
        if rings is None:
            return None
        end = self.time() - ago
        fine = end - seconds >= self.time() - rings.resolutions[0].step_s * (rings.resolutions[0].slots - 1)
        number = 0 if fine else min(1, len(rings.resolutions) - 1)
        step = rings.resolutions[number].step_s
        slots = range(math.ceil((end - seconds) / step), max(math.ceil((end - seconds) / step) + 1, int(end // step)))
        window = Window(rings, number, slots, self._entities.get(times_of((kind, id))))
        return window if window.seconds else None

    def read(
        self, kind: str, id: str, step_s: int, *, start: float | None = None, stop: float | None = None, limit: int
    ) -> list[Window]:
        """The newest ``limit`` slots between two wall-clock times, oldest first, those of which nothing is known with
        ``seconds`` 0. ``step_s`` must be `step_allowed`. A slot of more than 5 s is shown while it goes on."""
        rings = self._entities.get((kind, id)) or Rings()
        number = max((n for n, r in enumerate(rings.resolutions) if step_s % r.step_s == 0), default=0)
        resolution = rings.resolutions[number]
        kept_s = resolution.step_s * resolution.slots
        slots, shift = self.span(step_s, start=start, stop=stop, limit=limit, kept_s=kept_s)
        group = step_s // resolution.step_s
        times = self._entities.get(times_of((kind, id)))
        windows = [Window(rings, number, range(slot * group, (slot + 1) * group), times) for slot in slots]
        for window in windows:
            window.at += shift
        return windows

    def span(
        self, step_s: int, *, start: float | None, stop: float | None, limit: int, kept_s: int
    ) -> tuple[range, int]:
        """(the slots of ``step_s`` that are asked for, what to add to their times for the wall clock); of the last
        ``kept_s``."""
        shift, now = self._shift(), self.time()
        end = now - SETTLED_AFTER_S if step_s == FULL[0].step_s else now + step_s
        end = min(end, stop - shift) if stop is not None else end
        last = int(end // step_s) - 1
        first = max(last - limit + 1, int(now - kept_s) // step_s)
        if start is not None:
            first = max(first, -int(-(start - shift) // step_s))
        return range(first, last + 1), shift

    def time(self) -> float:
        """The wall clock at this controller's start, and from there on the monotonic one."""
        return self._clock.monotonic() + self._anchor

    def _shift(self) -> int:
        """How far the wall clock has jumped since, in whole slots; small corrections don't count."""
        jump = self._clock.now() - self.time()
        return round(jump / FULL[0].step_s) * FULL[0].step_s if abs(jump) > STEP_JUMP_S else 0

    # --- the disk ---

    def entities(self) -> list[tuple[Key, Rings]]:
        return list(self._entities.items())

    def restore(self, key: Key, rings: Rings) -> None:
        """What an earlier controller has measured."""
        self._entities.setdefault(key, rings)


def time_series(bucket: int) -> str:
    """The series that counts requests of a bucket of `shoal.wire.latency`."""
    return f"took_{bucket}"


def shape(kind: str) -> tuple[Resolution, ...]:
    if kind.removeprefix(TIMES) == "server":
        return SHORT
    return BRIEF if kind.startswith(TIMES) else FULL


def times_of(key: Key) -> Key:
    """Where it is kept how long the requests of an entity took."""
    return f"{TIMES}{key[0]}", key[1]


def step_allowed(step_s: int) -> bool:
    """A step is a whole number of slots of one resolution, a day at most."""
    return 0 < step_s <= 86_400 and step_s % FULL[0].step_s == 0


def _entries(message: Counters) -> Iterator[tuple[tuple[str, str, str], Counts]]:
    """((kind, id, by which virtual service), counts): a pool that several services use has servers in each of them."""
    for service in message.services:
        yield ("virtualservice", service.id, ""), service.counts
        for pool in service.pools:
            for name, counts in pool.servers:
                yield ("pool", pool.id, f"{service.id}/{name}"), counts
                yield ("server", f"{pool.id}/{name}", service.id), counts


def _times(message: Counters) -> Iterator[tuple[tuple[str, str, str], Buckets]]:
    for service in message.services:
        if service.latency:
            yield ("virtualservice", service.id, ""), service.latency
        for pool in service.pools:
            for name, buckets in pool.responses:
                yield ("pool", pool.id, f"{service.id}/{name}"), buckets
                yield ("server", f"{pool.id}/{name}", service.id), buckets


def _grown(was: Counts, now: Counts) -> list[float]:
    """What came since. Totals that have fallen began anew."""
    before, after = msgspec.structs.astuple(was)[1:], msgspec.structs.astuple(now)[1:]
    grown = [float(a - b) for a, b in zip(after, before, strict=True)]
    return grown if min(grown) >= 0 else [float(value) for value in after]


def _memory() -> int:
    """Bytes this process has in memory."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
