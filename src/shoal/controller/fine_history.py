"""The finest step of the last day, on disk: memory has it for an hour only.

Five minutes of an entity are one row of 60 slots, compressed. Where nothing was counted there is no row: the 5-minute
rings in memory, which have a day, say that there was nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import zlib
from pathlib import Path

import msgspec

from .day_files import DayFiles, Row, Table, Where
from .metrics import Metrics, times_of
from .rings import FULL, Resolution, Rings, Window

log = logging.getLogger("shoal.metrics")

STEP_S = FULL[0].step_s
BLOCK_S = FULL[1].step_s
SLOTS = BLOCK_S // STEP_S
KEPT_S = 86_400
SETTLED_S = 60.0
"""So long after its end a block has the samples of all engines, the late ones too."""
LOOK_INTERVAL_S = 5.0
ENTITIES_AT_ONCE = 200
TABLE = Table(
    name="fine",
    columns={"kind": "TEXT", "id": "TEXT", "data": "BLOB"},
    indexed=("id",),
    days_max=2,
    bytes_max=1 << 30,
)


class Block(msgspec.Struct, array_like=True):
    """32-bit floats in the machine's byte order, by series."""

    order: str
    covered: bytes
    values: dict[str, bytes]


class FineHistory:
    """``folder`` None: in memory (tests)."""

    def __init__(self, folder: Path | None, metrics: Metrics) -> None:
        self._files = DayFiles(folder, TABLE)
        self._metrics = metrics
        self._kept = 0
        """The block that was kept last, by its number."""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_INTERVAL_S)
                await self.keep()
        finally:
            self._files.close()

    async def keep(self) -> None:
        """Write the newest block that is over, once. A full disk costs the block."""
        block = int((self._metrics.time() - SETTLED_S) // BLOCK_S) - 1
        if block <= self._kept:
            return
        self._kept = block
        found: list[tuple[float, str, str, Block]] = []
        for number, ((kind, id), rings) in enumerate(self._metrics.entities()):
            cut = rings.cut(0, block * SLOTS, SLOTS)
            if cut is not None:
                found.append((float(block * BLOCK_S), kind, id, Block(sys.byteorder, *cut)))
            if number % ENTITIES_AT_ONCE == ENTITIES_AT_ONCE - 1:
                await asyncio.sleep(0)
        try:
            await asyncio.to_thread(self._write, found)
        except (sqlite3.Error, OSError) as error:
            log.warning("5 minutes of the finest history were not written: %s", error)

    def _write(self, found: list[tuple[float, str, str, Block]]) -> None:
        packed = [(at, (kind, id, zlib.compress(msgspec.msgpack.encode(b), 1))) for at, kind, id, b in found]
        self._files.append(packed)

    async def read(
        self, kind: str, id: str, step_s: int, *, start: float | None = None, stop: float | None = None, limit: int
    ) -> list[Window]:
        """As `Metrics.read`, with a day of steps below 5 minutes."""
        near = self._metrics.read(kind, id, step_s, start=start, stop=stop, limit=limit)
        if step_s % BLOCK_S == 0:
            return near
        slots, shift = self._metrics.span(step_s, start=start, stop=stop, limit=limit, kept_s=KEPT_S)
        if not slots or (len(near) == len(slots) and all(window.seconds for window in near)):
            return near
        group = step_s // STEP_S
        wanted = range(slots.start * group, slots.stop * group)
        try:
            rings, times = await asyncio.to_thread(self._load, kind, id, wanted)
        except (sqlite3.Error, OSError) as error:
            log.warning("the finest history can't be read: %s", error)
            return near
        for key, into in (((kind, id), rings), (times_of((kind, id)), times)):
            memory = self._metrics.rings(*key)
            if memory is not None:
                _overlay(into, memory, wanted, quiet=into is rings)
        windows = [Window(rings, 0, range(slot * group, (slot + 1) * group), times) for slot in slots]
        for window in windows:
            window.at += shift
        return windows

    def _load(self, kind: str, id: str, wanted: range) -> tuple[Rings, Rings]:
        since, until = float((wanted.start - SLOTS) * STEP_S), float(wanted.stop * STEP_S)
        found: list[Rings] = []
        for one, of in ((kind, id), times_of((kind, id))):
            rings = Rings((Resolution(STEP_S, len(wanted)),))
            rings.begin(wanted.stop - 1)
            where = Where(sql="id = ? AND kind = ?", values=(of, one), since=since, until=until)
            for row in self._files.read(where, limit=KEPT_S // BLOCK_S + 2, oldest_first=True):
                at, block = _unpacked(row)
                if block.order == sys.byteorder:
                    rings.paste(0, round(at / STEP_S), block.covered, block.values, wanted)
            found.append(rings)
        return found[0], found[1]


def _unpacked(row: Row) -> tuple[float, Block]:
    at, _, _, data = row
    assert isinstance(at, float) and isinstance(data, bytes)
    return at, msgspec.msgpack.decode(zlib.decompress(data), type=Block)


def _overlay(into: Rings, memory: Rings, wanted: range, *, quiet: bool) -> None:
    """What memory knows of these slots rules; ``quiet``: where its 5 minutes were without any count, nothing was."""
    if quiet:
        for block in range(wanted.start // SLOTS, -(-wanted.stop // SLOTS)):
            covered = memory.quiet(1, block)
            if covered:
                inside = range(max(wanted.start, block * SLOTS), min(wanted.stop, (block + 1) * SLOTS))
                into.cover(0, inside, covered / SLOTS)
    kept = range(max(wanted.start, memory.oldest(0)), wanted.stop)
    known = [slot for slot in kept if memory.covered(0, slot)]
    for first, count in _runs(known):
        cut = memory.cut(0, first, count)
        if cut is not None:
            into.paste(0, first, *cut, wanted)
        else:
            into.cover(0, range(first, first + count), float(STEP_S))


def _runs(slots: list[int]) -> list[tuple[int, int]]:
    """(first, how many) of those that follow each other."""
    runs: list[tuple[int, int]] = []
    for slot in slots:
        if runs and slot == sum(runs[-1]):
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((slot, 1))
    return runs
