"""The embedded store: one SQLite file, durable at every commit.

Write-ahead log with ``synchronous=FULL``; one writer thread (`shoal.store.sqlite_writer`), reads in threads of their
own, so the event loop never waits for the disk. The history of changes is kept in the same file, so a watch can go on
after a restart. Leases live in memory: see `shoal.store.leases` for why.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from shoal.errors import NotReady
from shoal.store import caps
from shoal.store.history import PAGE_BATCHES_MAX, History, compacted
from shoal.store.leases import Clock, Leases, LocalLease
from shoal.store.protocol import Batch, Listing, Record, Transaction
from shoal.store.sqlite_file import FileLock, fault, prepare, reader
from shoal.store.sqlite_writer import Outcome, Request, Writer, decode_changes

DATABASE_BYTES_MAX = 8 * 1024**3
"""As etcd's highest recommended quota. Past it, writes are refused as on a full disk."""
HISTORY_REVISIONS_MAX = 10_000
HISTORY_BYTES_MAX = 256 * 1024 * 1024
"""How much of the past is kept on disk for watchers to resume from, whichever bound comes first."""
RECENT_REVISIONS_MAX = 1_024
RECENT_BYTES_MAX = 16 * 1024 * 1024
"""How much of it is held in memory for watchers that keep up."""
PAGE_BYTES_MAX = 4 * 1024 * 1024
"""How much history a watcher that fell behind reads at a time."""
WAITING_TRANSACTIONS_MAX = 1_024
"""Transactions handed to the writer; further commits wait their turn before."""
READERS = 2

_Result = TypeVar("_Result")


class SqliteStore:
    """A `shoal.store.protocol.Store` in one file. Made by `open`."""

    def __init__(
        self, path: Path, lock: FileLock, connection: sqlite3.Connection, now: Clock, history: tuple[int, int]
    ) -> None:
        self._path = path
        self._lock = lock
        self._writer = Writer(
            path,
            connection,
            asyncio.get_running_loop(),
            self._deliver,
            history_revisions_max=history[0],
            history_bytes_max=history[1],
        )
        self._history = History(
            self._writer.revision, revisions_max=min(RECENT_REVISIONS_MAX, history[0]), bytes_max=RECENT_BYTES_MAX
        )
        self._leases = Leases(now)
        self._room = asyncio.Semaphore(WAITING_TRANSACTIONS_MAX)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._writer.start()

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        now: Clock = time.monotonic,
        bytes_max: int = DATABASE_BYTES_MAX,
        history_revisions_max: int = HISTORY_REVISIONS_MAX,
        history_bytes_max: int = HISTORY_BYTES_MAX,
    ) -> SqliteStore:
        """Open the database, or create it (mode 0600) in an existing directory.

        Raises `NotReady`, naming the file and the next step: locked by another controller, unreadable, read-only,
        damaged, foreign, of another format.
        """
        file = Path(path).absolute()
        lock = await asyncio.to_thread(FileLock, file)
        connection: sqlite3.Connection | None = None
        try:
            connection = await asyncio.to_thread(prepare, file, bytes_max)
            return cls(file, lock, connection, now, (history_revisions_max, history_bytes_max))
        except BaseException as error:
            if connection is not None:
                connection.close()
            lock.release()
            if isinstance(error, sqlite3.Error):
                raise fault(file, error) from error
            raise

    async def get(self, key: str) -> Record | None:
        return await self._read(lambda connection: _get(connection, key))

    async def list(self, prefix: str) -> Listing:
        return await self._read(lambda connection: _list(connection, prefix))

    async def commit(self, transaction: Transaction) -> int:
        """See `shoal.store.protocol.Store.commit`. A transaction that changes nothing makes no new revision.

        Cancelled, it may have been applied or not, but never in part. Raises `Unavailable` while the disk is full,
        `NotReady` once it has failed: then only a controller that starts anew can tell what is stored.
        """
        caps.check(transaction)
        async with self._room:
            self._check_open()
            request = Request(transaction, asyncio.get_running_loop().create_future())
            self._writer.submit(request)
            return await request.done

    def watch(self, prefix: str, since: int) -> AsyncGenerator[Batch, None]:
        return self._history.follow(prefix, since, self._older)

    async def lease(self, name: str, holder: str, ttl_s: float) -> LocalLease | None:
        self._check_open()
        return self._leases.take(name, holder, ttl_s)

    async def close(self) -> None:
        """Finish the commits under way, end the watches, let go of the file. Twice is no error."""
        if self._closed:
            return
        self._closed = True
        self._history.close()
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()
        self._writer.stop()
        self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("The store was closed.")

    def _deliver(self, batches: Sequence[Batch], outcomes: Sequence[Outcome]) -> None:
        """In the event loop, after a COMMIT."""
        for batch in batches:
            self._history.append(batch)
        for request, outcome in outcomes:
            if request.done.cancelled():
                continue
            if isinstance(outcome, Exception):
                request.done.set_exception(outcome)
            else:
                request.done.set_result(outcome)

    async def _older(self, since: int) -> Sequence[Batch]:
        return await self._read(lambda connection: _changes(connection, since))

    async def _read(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._query, query)

    def _query(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """In a reader's thread: one consistent view of the database."""
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = reader(self._path)
                self._connections.append(connection)
            connection.execute("BEGIN")
            try:
                return query(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise fault(self._path, error) from error


def _get(connection: sqlite3.Connection, key: str) -> Record | None:
    row = connection.execute(
        "SELECT value, version, created FROM record WHERE key = ?", (key.encode(errors="replace"),)
    ).fetchone()
    return None if row is None else Record(key, *row)


def _list(connection: sqlite3.Connection, prefix: str) -> Listing:
    start = prefix.encode(errors="replace")
    end = _following(start)
    query = "SELECT key, value, version, created FROM record WHERE key >= ?"
    if end is None:
        rows = connection.execute(f"{query} ORDER BY key", (start,))
    else:
        rows = connection.execute(f"{query} AND key < ? ORDER BY key", (start, end))
    records = tuple(Record(key.decode(), value, version, created) for key, value, version, created in rows)
    return Listing(records, _last(connection))


def _changes(connection: sqlite3.Connection, since: int) -> Sequence[Batch]:
    floor = connection.execute("SELECT min(revision) FROM history").fetchone()[0]
    if floor is None or since < floor - 1:
        raise compacted(since, (floor or 1) - 1)
    batches = []
    size = 0
    for revision, data in connection.execute(
        "SELECT revision, changes FROM history WHERE revision > ? ORDER BY revision LIMIT ?", (since, PAGE_BATCHES_MAX)
    ):
        batches.append(decode_changes(revision, data))
        size += len(data)
        if size > PAGE_BYTES_MAX:
            break
    return batches


def _last(connection: sqlite3.Connection) -> int:
    """The newest revision is that of the newest history row; one is always kept."""
    return int(connection.execute("SELECT coalesce(max(revision), 0) FROM history").fetchone()[0])


def _following(prefix: bytes) -> bytes | None:
    """The first key after every key that starts with ``prefix``; None when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
