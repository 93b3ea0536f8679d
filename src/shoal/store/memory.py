"""The store of tests and the simulator: everything in memory, nothing survives."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections.abc import AsyncGenerator, Sequence

from shoal.errors import NotReady
from shoal.store import caps
from shoal.store.history import History, compacted
from shoal.store.leases import Clock, Leases, LocalLease
from shoal.store.protocol import Batch, Change, Conflict, Listing, Record, Transaction

HISTORY_REVISIONS_MAX = 10_000
HISTORY_BYTES_MAX = 64 * 1024 * 1024


class MemoryStore:
    """A `shoal.store.protocol.Store`. ``now`` is the clock of its leases, in seconds.

    Every operation gives other tasks a turn first, as a store on a disk would, so that races show up in tests too.
    """

    def __init__(self, *, now: Clock = time.monotonic, history_revisions_max: int = HISTORY_REVISIONS_MAX) -> None:
        self._records: dict[str, Record] = {}
        self._keys: list[str] = []
        self._history = History(0, revisions_max=history_revisions_max, bytes_max=HISTORY_BYTES_MAX)
        self._leases = Leases(now)
        self._closed = False

    async def get(self, key: str) -> Record | None:
        await self._turn()
        return self._records.get(key)

    async def list(self, prefix: str) -> Listing:
        await self._turn()
        begin = bisect_left(self._keys, prefix)
        end = bisect_left(self._keys, True, begin, key=lambda key: not key.startswith(prefix))
        return Listing(tuple(map(self._records.__getitem__, self._keys[begin:end])), self._history.last)

    async def commit(self, transaction: Transaction) -> int:
        """See `shoal.store.protocol.Store.commit`. A transaction that changes nothing makes no new revision."""
        caps.check(transaction)
        await self._turn()
        if stale := tuple(c.key for c in transaction.conditions if self._version(c.key) != c.version):
            raise Conflict(stale)
        revision = self._history.last + 1
        deletes = [key for key in transaction.deletes if key in self._records]
        for key, value in transaction.puts:
            self._put(key, value, revision)
        for key in deletes:
            del self._records[key]
            del self._keys[bisect_left(self._keys, key)]
        changes = [Change(key, bytes(value), revision) for key, value in transaction.puts]
        changes += [Change(key, None, revision) for key in deletes]
        if changes:
            self._history.append(Batch(revision, tuple(changes)))
        return self._history.last

    def watch(self, prefix: str, since: int) -> AsyncGenerator[Batch, None]:
        return self._history.follow(prefix, since, self._older)

    async def lease(self, name: str, holder: str, ttl_s: float) -> LocalLease | None:
        await self._turn()
        return self._leases.take(name, holder, ttl_s)

    async def close(self) -> None:
        self._closed = True
        self._history.close()

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self._closed:
            raise NotReady("The store was closed.")

    async def _older(self, since: int) -> Sequence[Batch]:
        raise compacted(since, self._history.floor)

    def _version(self, key: str) -> int:
        record = self._records.get(key)
        return record.version if record is not None else 0

    def _put(self, key: str, value: bytes, revision: int) -> None:
        former = self._records.get(key)
        if former is None:
            insort(self._keys, key)
        self._records[key] = Record(key, bytes(value), revision, former.created if former is not None else revision)
