"""Reads HAProxy, often enough and not more: servers' states within about a second, counters every 5 s.

A reading costs by what HAProxy serves (13 ms with 1,000 virtual services). So it is made when HAProxy's log has grown
(it tells of every server that goes up or down), when the agent has changed something, and else at intervals that keep
its share of the time below `READING_SHARE_MAX`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import msgspec

from shoal.wire import counters as wire
from shoal.wire.desired import Service

from .counters import Tally
from .haproxy import render, runtime
from .haproxy.process import Process
from .haproxy.stats import Row, Table
from .machine import Machine

log = logging.getLogger("shoal.meter")

READING_SHARE_MAX = 1 / 400
READING_INTERVAL_MIN_S = 0.5
READING_INTERVAL_MAX_S = wire.INTERVAL_S
OLD_LINES_MAX = 8
"""Old workers that are still read; of older ones what they finish is not counted."""
STARTED_BEFORE_S = 1.0
"""HAProxy that has run for so much longer than the agent was counted by another one."""


class OldWorker(msgspec.Struct):
    """A worker that finishes what it has, after a reload. ``name`` is "" until it has been read."""

    name: str
    line: runtime.Line
    table: Table


class Meter:
    """One owner: the agent's measuring task; but `reloading` is entered by the one that applies."""

    def __init__(self, facts: render.Facts, process: Process, interface: str, epoch: str) -> None:
        self._socket = render.admin_socket(facts)
        self._process = process
        self._machine = Machine(interface)
        self._tally = Tally()
        self._table = Table()
        self._old: deque[OldWorker] = deque()
        self._worker = ""
        self._reading_alone = asyncio.Lock()
        """Readings of one worker must be taken in their order."""
        self._reading: runtime.Reading | None = None
        self._epoch = epoch
        self._began = time.monotonic()
        self._number = 0
        self._due = 0.0
        self._logged: tuple[int, int] = (0, 0)
        self._counters_due = self._began
        self.rows: Sequence[Row] = ()
        """Of the last reading, the very object of the one before if nothing has changed; empty when HAProxy did not answer."""

    def wake(self) -> None:
        """Something was changed: read at the next occasion."""
        self._due = 0.0

    async def look(self) -> None:
        """Read HAProxy if it is time."""
        logged = self._log_state()
        now = time.monotonic()
        if now < min(self._due, self._counters_due) and logged == self._logged:
            return
        if self._reading_alone.locked():  # a reload is under way
            return
        self._logged = logged
        async with self._reading_alone:
            await self._read()
            await self._read_old()
        took = time.monotonic() - now
        self._due = now + min(max(took / READING_SHARE_MAX, READING_INTERVAL_MIN_S), READING_INTERVAL_MAX_S)

    def counters(self, services: Mapping[str, Service], pids: Collection[int]) -> wire.Counters | None:
        """The counters when they are due, by the last `look`. ``pids``: agent and guard."""
        now = time.monotonic()
        if now < self._counters_due:
            return None
        self._counters_due = max(self._counters_due + wire.INTERVAL_S, now + wire.INTERVAL_S / 2)
        self._number += 1
        info = self._reading
        figures = {"open": info.number("CurrConns"), "idle_percent": info.number("Idle_pct")} if info else {}
        workers = {self._process.worker, *(int(old.name.partition("@")[0]) for old in self._old if old.name)}
        return wire.Counters(
            epoch=self._epoch,
            number=self._number,
            at_ms=round((now - self._began) * 1000),
            engine=self._machine.read(
                {*pids, self._process.master} - {0},
                workers - {0},
                threads=max(1, info.number("Nbthread")) if info else 1,
                **figures,
            ),
            services=self._tally.report(services),
        )

    @contextlib.asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """Keeps a line to the worker, which goes on reaching it after the reload inside: all it has done is read there
        when the reload is over, and has not to wait for that."""
        async with self._reading_alone:
            if self._tally.fresh:  # from here on it counts: see `_take`
                await self._read()
            try:
                self._old.append(OldWorker("", await runtime.Line.open(self._socket), Table()))
            except runtime.RuntimeFailure as error:
                log.warning("what the old worker has done since its last reading is not counted: %s", error)
            if len(self._old) > OLD_LINES_MAX:
                self._old.popleft().line.close()
            try:
                yield
            finally:
                self.wake()

    # --- reading ---

    async def _read(self) -> None:
        try:
            reading = await runtime.reading(self._socket)
        except runtime.RuntimeFailure:
            self.rows, self._reading = (), None
            return
        self.rows = self._take(reading, self._table)
        self._reading, self._worker = msgspec.structs.replace(reading, table=""), reading.worker

    def _take(self, reading: runtime.Reading, table: Table) -> Sequence[Row]:
        rows = table.read(reading.table)
        age = time.monotonic() - self._began
        found = self._tally.fresh and reading.number("Uptime_sec") > age + STARTED_BEFORE_S
        self._tally.take(reading.worker, rows, as_begin=found)
        return rows

    async def _read_old(self) -> None:
        """What old workers have finished; those that have nothing left are let go."""
        for old in list(self._old):
            try:
                reading = await old.line.reading()
                old.name = reading.worker
                done = self._reading is not None and old.name == self._worker  # its reload failed: it is no old one
                if not done:
                    self._take(reading, old.table)
                    done = reading.number("CurrConns") == 0 and reading.number("Stopping") == 1
            except runtime.RuntimeFailure:
                done = True
            if done:
                old.line.close()
                if old in self._old:
                    self._old.remove(old)
        if self._reading is not None:
            self._tally.only([self._worker, *(old.name for old in self._old)])

    def _log_state(self) -> tuple[int, int]:
        try:
            found = os.stat(self._process.log_file)
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns
