"""The rings on disk, so that a restart of the controller loses only the finest step and what it did not hear."""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from pathlib import Path

import msgspec

from .metrics import Metrics, shape
from .rings import Rings, Saved

log = logging.getLogger("shoal.metrics")

VERSION = 1
SAVE_INTERVAL_S = 60.0
SAVED_BYTES_PER_S_MAX = 256 * 1024
"""With many entities it is saved less often: the disk is for the store."""
FILE_BYTES_MAX = 1 << 30
"""Of the file, and of what is in it; a larger one is not read."""
ENTITIES_AT_ONCE = 200
"""Copied before other work gets its turn."""


class Entry(msgspec.Struct, array_like=True):
    kind: str
    id: str
    rings: Saved


class Snapshot(msgspec.Struct):
    version: int
    entries: list[Entry]


class MetricFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.pause_s = SAVE_INTERVAL_S
        """Until the next save is due."""

    def load(self, metrics: Metrics) -> int:
        """How many entities were found. A file that can't be read counts as none: nothing durable is in it."""
        try:
            if self._path.stat().st_size > FILE_BYTES_MAX:
                raise ValueError("it is too large")
            data = zlib.decompressobj().decompress(self._path.read_bytes(), FILE_BYTES_MAX)
            snapshot = msgspec.msgpack.decode(data, type=Snapshot)
            if snapshot.version != VERSION:
                raise ValueError(f"it is of version {snapshot.version}")
            found = [((e.kind, e.id), Rings.restored(e.rings, shape(e.kind))) for e in snapshot.entries]
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, zlib.error) as error:
            log.warning("the metrics of before can't be read (%s); they begin anew", error)
            return 0
        for key, rings in found:
            metrics.restore(key, rings)
        return len(found)

    async def save(self, metrics: Metrics) -> None:
        """Replaces the file in one step. A full disk costs the file, nothing else."""
        entries: list[Entry] = []
        for number, ((kind, id), rings) in enumerate(metrics.entities()):
            entries.append(Entry(kind, id, rings.saved()))
            if number % ENTITIES_AT_ONCE == ENTITIES_AT_ONCE - 1:
                await asyncio.sleep(0)
        try:
            size = await asyncio.to_thread(self._write, Snapshot(VERSION, entries))
        except OSError as error:
            log.warning("the metrics can't be saved: %s", error)
            return
        self.pause_s = max(SAVE_INTERVAL_S, size / SAVED_BYTES_PER_S_MAX)

    def _write(self, snapshot: Snapshot) -> int:
        data = zlib.compress(msgspec.msgpack.encode(snapshot), level=1)
        fresh = self._path.with_suffix(".new")
        fresh.touch(mode=0o600)
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        return len(data)
