"""The one thread that writes to the database.

Transactions that wait while the disk is busy are committed together: one fsync for all of them (group commit). Each is
still all or nothing by itself, and acknowledged only after the COMMIT that holds it.

A transaction is a handful of statements, however many keys it has: the interpreter lets go of its lock around each, and
while the event loop computes it takes up to 5 ms until this thread has it again.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sized
from pathlib import Path

import msgspec

from shoal.errors import NotReady
from shoal.store.protocol import Batch, Change, Conflict, Transaction, Unavailable
from shoal.store.sqlite_file import fault, is_io_fault

GROUP_TRANSACTIONS_MAX = 128
PRUNE_REVISIONS = 256
"""History is cut this many revisions at a time: cheaper than a delete in every transaction."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]])


class Request:
    """A transaction that waits for the disk. ``done`` belongs to the event loop; only the loop completes it."""

    __slots__ = ("done", "transaction")

    def __init__(self, transaction: Transaction, done: asyncio.Future[int]) -> None:
        self.transaction = transaction
        self.done = done


Outcome = tuple[Request, int | Exception]
Deliver = Callable[[list[Batch], list[Outcome]], None]


class Writer:
    """Owns the writing connection. ``deliver`` is called in ``loop`` after each COMMIT, batches in revision order."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        deliver: Deliver,
        *,
        history_revisions_max: int,
        history_bytes_max: int,
    ) -> None:
        self._path = path
        self._connection = connection
        self._loop = loop
        self._deliver = deliver
        self._revisions_max = history_revisions_max
        self._bytes_max = history_bytes_max
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._broken: Exception | None = None
        self.revision = 0
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._reload()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: Request) -> None:
        self._waiting.put(request)

    def stop(self) -> None:
        """Write what waits, then end. Blocks; call it in a thread."""
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while (request := self._waiting.get()) is not None:
            group = [request]
            last = False
            while len(group) < GROUP_TRANSACTIONS_MAX and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    last = True
                    break
                group.append(following)
            if not self._write([r for r in group if not r.done.cancelled()]) or last:
                return

    def _write(self, group: list[Request]) -> bool:
        """False when nobody is left to tell: the event loop was closed."""
        try:
            batches, outcomes = self._commit(group)
        except Exception as error:  # whatever it is, nobody who waits may wait for ever
            self._after_failure(error)
            if len(group) > 1 and self._broken is None:
                # One transaction too large for the disk must not take its neighbours with it.
                return all(self._write([request]) for request in group)
            batches, outcomes = [], [(request, self._fault(error)) for request in group]
        try:
            self._loop.call_soon_threadsafe(self._deliver, batches, outcomes)
        except RuntimeError:
            return False
        return True

    def _commit(self, group: list[Request]) -> tuple[list[Batch], list[Outcome]]:
        if self._broken is not None:
            raise self._broken
        batches: list[Batch] = []
        outcomes: list[Outcome] = []
        revision = self.revision
        self._connection.execute("BEGIN IMMEDIATE")
        for request in group:
            if stale := self._stale(request.transaction):
                outcomes.append((request, Conflict(stale)))
                continue
            changes = self._apply(request.transaction, revision + 1)
            if changes:
                revision += 1
                batches.append(Batch(revision, changes))
            outcomes.append((request, revision))
        sizes = [self._remember(batch) for batch in batches]
        pruned = self._prune(sizes)
        self._connection.execute("COMMIT")
        self.revision = revision
        self._sizes.extend(sizes)
        self._bytes += sum(sizes)
        for _ in range(pruned):
            self._bytes -= self._sizes.popleft()
        return batches, outcomes

    def _stale(self, transaction: Transaction) -> tuple[str, ...]:
        keys = [condition.key.encode() for condition in transaction.conditions]
        query = f"SELECT key, version FROM record WHERE key IN ({_places(keys)})"
        versions: dict[bytes, int] = dict(self._connection.execute(query, keys).fetchall()) if keys else {}
        return tuple(c.key for c in transaction.conditions if versions.get(c.key.encode(), 0) != c.version)

    def _apply(self, transaction: Transaction, revision: int) -> tuple[Change, ...]:
        if transaction.puts:
            rows = ", ".join(f"(?{2 * n + 2}, ?{2 * n + 3}, ?1, ?1)" for n in range(len(transaction.puts)))
            self._connection.execute(
                f"INSERT INTO record (key, value, version, created) VALUES {rows} "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version",
                [revision, *(part for key, value in transaction.puts for part in (key.encode(), value))],
            )
        changes = [Change(key, bytes(value), revision) for key, value in transaction.puts]
        if transaction.deletes:
            keys = [key.encode() for key in transaction.deletes]
            query = f"DELETE FROM record WHERE key IN ({_places(keys)}) RETURNING key"
            gone = {key for (key,) in self._connection.execute(query, keys).fetchall()}
            changes += [Change(key, None, revision) for key in transaction.deletes if key.encode() in gone]
        return tuple(changes)

    def _remember(self, batch: Batch) -> int:
        data = _encoder.encode([(change.key, change.value) for change in batch.changes])
        self._connection.execute("INSERT INTO history (revision, changes) VALUES (?, ?)", (batch.revision, data))
        return len(data)

    def _prune(self, added: list[int]) -> int:
        """Cut the oldest history; returns how many revisions. The newest always stays: it carries the revision."""
        count, total = len(self._sizes) + len(added), self._bytes + sum(added)
        step = min(PRUNE_REVISIONS, self._revisions_max)
        if count < self._revisions_max + step and total <= self._bytes_max:
            return 0
        pruned = 0
        for size in self._sizes:
            if count <= self._revisions_max and total <= self._bytes_max:
                break
            count, total, pruned = count - 1, total - size, pruned + 1
        if pruned:
            floor = self.revision - len(self._sizes) + pruned
            self._connection.execute("DELETE FROM history WHERE revision <= ?", (floor,))
        return pruned

    def _reload(self) -> None:
        """Take revision and history sizes from what is really stored."""
        rows = self._connection.execute("SELECT revision, length(changes) FROM history ORDER BY revision").fetchall()
        self.revision = rows[-1][0] if rows else 0
        self._sizes = deque(size for _, size in rows)
        self._bytes = sum(self._sizes)

    def _fault(self, error: Exception) -> NotReady:
        found = fault(self._path, error)
        if self._broken is not None and isinstance(found, Unavailable):  # it does not pass by itself
            return NotReady(found.message, hint="Restart the controller: it reads back what is really stored.")
        return found

    def _after_failure(self, error: Exception) -> None:
        if self._broken is not None:
            return
        if is_io_fault(error):
            self._broken = error
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._reload()
        except sqlite3.Error as second:
            self._broken = second


def _places(values: Sized) -> str:
    return ", ".join("?" * len(values))


def decode_changes(revision: int, data: bytes) -> Batch:
    return Batch(revision, tuple(Change(key, value, revision) for key, value in _decoder.decode(data)))
