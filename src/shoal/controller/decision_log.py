"""``decisions.log``: every plan that did something, with all that it was made from, for `shoal replay`.

One JSON record a line. The first one of a group in a file holds its whole snapshot, later ones what has changed since.
Writing is a thread's work and never holds a plan up; what can't be kept up with is left out, and said to be.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol, TypeVar

import msgspec

from shoal import __version__
from shoal.errors import Invalid
from shoal.placement.model import Engine, Plan, Snapshot, Vip

log = logging.getLogger("shoal.decisions")

FILE_BYTES_MAX = 32 * 1024 * 1024
"""Then it becomes ``decisions.log.1``, and the one before that is gone."""
WAITING_MAX = 64
"""Plans that wait to be written."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One planning. ``rest`` is the snapshot without engines and VIPs; those that are new or changed stand beside it."""

    at: float
    version: str
    whole: bool = False
    """Every engine and VIP is here: nothing of earlier records counts."""
    missed: int = 0
    """Plans of this group before this one that are not in the file."""
    rest: Snapshot
    engines: tuple[Engine, ...] = ()
    engines_gone: tuple[str, ...] = ()
    vips: tuple[Vip, ...] = ()
    vips_gone: tuple[str, ...] = ()
    plan: Plan


class _Named(Protocol):
    @property
    def id(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


def difference(before: Iterable[_T], after: Iterable[_T]) -> tuple[tuple[_T, ...], tuple[str, ...]]:
    """What is new or changed in ``after``, and the ids of what is gone."""
    known = {one.id: one for one in before}
    changed = tuple(one for one in after if (old := known.pop(one.id, None)) is not one and old != one)
    return changed, tuple(known)


def record(before: Snapshot | None, snapshot: Snapshot, plan: Plan, now: float, missed: int = 0) -> Record:
    engines, engines_gone = difference(before.engines if before else (), snapshot.engines)
    vips, vips_gone = difference(before.vips if before else (), snapshot.vips)
    return Record(
        at=now,
        version=__version__,
        whole=before is None,
        missed=missed,
        rest=msgspec.structs.replace(snapshot, engines=(), vips=()),
        engines=engines,
        engines_gone=engines_gone,
        vips=vips,
        vips_gone=vips_gone,
        plan=plan,
    )


def snapshot_of(before: Snapshot | None, record: Record) -> Snapshot | None:
    """What the plan of ``record`` was made from; None if the records before it are not known."""
    if before is None and not record.whole:
        return None
    known = before if before is not None and not record.whole else record.rest
    engines = {one.id: one for one in known.engines} | {one.id: one for one in record.engines}
    vips = {one.id: one for one in known.vips} | {one.id: one for one in record.vips}
    for gone in record.engines_gone:
        del engines[gone]
    for gone in record.vips_gone:
        del vips[gone]
    return msgspec.structs.replace(
        record.rest,
        engines=tuple(sorted(engines.values(), key=lambda engine: engine.rank)),
        vips=tuple(sorted(vips.values(), key=lambda vip: (vip.created, vip.id))),
    )


def read(file: Path) -> Iterator[Record | None]:
    """Its records, in order; None for a line that is none (the last of a controller that was killed). Raises Invalid."""
    decoder = msgspec.json.Decoder(Record)
    try:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    yield decoder.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    yield None
    except OSError as error:
        raise Invalid(f"{file} can't be read: {error.strerror}") from None


class DecisionLog:
    """`note` never waits and never fails; `run` writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[tuple[Snapshot, Plan, float, int]] = deque()
        self._wanted = asyncio.Event()
        self._missed: dict[str, int] = {}
        self._written: dict[str, Snapshot] = {}
        """The snapshot of each group that the file ends with."""

    def note(self, snapshot: Snapshot, plan: Plan, now: float) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._missed[snapshot.group.id] = self._missed.get(snapshot.group.id, 0) + 1
            return
        self._waiting.append((snapshot, plan, now, self._missed.pop(snapshot.group.id, 0)))
        self._wanted.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Until cancelled. A full disk costs records, nothing else."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                batch = list(self._waiting)
                try:
                    await asyncio.to_thread(self.write, batch)
                except OSError as error:
                    log.warning("decisions are not written down for now: %s", error)
                    self._written.clear()
                for _ in batch:
                    self._waiting.popleft()

    def write(self, batch: list[tuple[Snapshot, Plan, float, int]]) -> None:
        """(snapshot, plan, when, plans of the group missed before). Raises OSError."""
        self._rotate()
        with self._open() as file:
            for snapshot, plan, now, missed in batch:
                entry = record(self._written.get(snapshot.group.id), snapshot, plan, now, missed)
                file.write(msgspec.json.encode(entry) + b"\n")
                self._written[snapshot.group.id] = snapshot

    def _rotate(self) -> None:
        if self._path.exists() and self._path.stat().st_size > FILE_BYTES_MAX:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._written.clear()

    def _open(self) -> IO[bytes]:
        self._path.touch(mode=0o600)
        file = self._path.open("r+b")
        end = file.seek(0, 2)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # a controller was killed while it wrote
                file.write(b"\n")
        return file
