"""Recent changes, shared by every watcher of a store.

A watcher owns no queue, only a cursor (the last revision it saw): the one shared, bounded history is everybody's queue.
So a slow watcher costs no memory, however slow; when it falls behind what is held here it reads on from what the store
keeps longer (`Older`), and past that it is told `Compacted`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from itertools import islice

from shoal.errors import NotReady
from shoal.store.protocol import Batch, Compacted

PAGE_BATCHES_MAX = 256
"""Batches a watcher takes at a time before it looks again."""

Older = Callable[[int], Awaitable[Sequence[Batch]]]
"""Batches after a revision that the history no longer holds, in order; raises `Compacted`. Never empty."""


class History:
    """The batches of the revisions ``floor + 1 .. last``, without holes, at most ``revisions_max`` and ``bytes_max``."""

    def __init__(self, revision: int, *, revisions_max: int, bytes_max: int) -> None:
        self.last = revision
        self._batches: deque[Batch] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._revisions_max = revisions_max
        self._bytes_max = bytes_max
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def floor(self) -> int:
        """Batches up to this revision are gone from here."""
        return self.last - len(self._batches)

    def append(self, batch: Batch) -> None:
        """Add the batch of the next revision and wake the watchers."""
        if batch.revision != self.last + 1:
            raise ValueError(f"revision {batch.revision} after {self.last}")
        self.last = batch.revision
        size = size_of(batch)
        self._batches.append(batch)
        self._sizes.append(size)
        self._bytes += size
        while len(self._batches) > self._revisions_max or self._bytes > self._bytes_max:
            self._batches.popleft()
            self._bytes -= self._sizes.popleft()
        self._wake()

    def close(self) -> None:
        """Every watcher ends with `NotReady`."""
        self._closed = True
        self._wake()

    async def follow(self, prefix: str, since: int, older: Older) -> AsyncGenerator[Batch, None]:
        """Yield every batch after ``since`` that touches ``prefix``, for ever. Raises `Compacted`, `NotReady`."""
        cursor = since
        while True:
            if self._closed:
                raise NotReady("The store was closed.", hint="Watch again once it is open.")
            changed = self._changed  # taken before looking, so that no change falls between look and wait
            batches: Sequence[Batch] = await older(cursor) if cursor < self.floor else self._after(cursor)
            for batch in batches:
                cursor = batch.revision
                if (matching := narrowed(batch, prefix)) is not None:
                    yield matching
            if not batches:
                await changed.wait()

    def _after(self, revision: int) -> list[Batch]:
        missing = self.last - revision
        if missing <= 0:
            return []
        newest_first: Iterator[Batch] = reversed(self._batches)
        batches = list(islice(newest_first, max(0, missing - PAGE_BATCHES_MAX), missing))
        batches.reverse()
        return batches

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def narrowed(batch: Batch, prefix: str) -> Batch | None:
    """The batch with only the changes under ``prefix``; None when there are none."""
    changes = tuple(change for change in batch.changes if change.key.startswith(prefix))
    if not changes:
        return None
    return batch if len(changes) == len(batch.changes) else Batch(batch.revision, changes)


def size_of(batch: Batch) -> int:
    """Bytes of keys and values."""
    return sum(len(change.key) + len(change.value or b"") for change in batch.changes)


def compacted(since: int, floor: int) -> Compacted:
    return Compacted(
        f"Changes after revision {since} are no longer kept (only those after {floor} are).",
        hint="List again and watch from the listing's revision.",
    )
