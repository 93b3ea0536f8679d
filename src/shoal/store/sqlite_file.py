"""The database file: its lock, its schema, its connections, and what can be wrong with it, in words."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from shoal.errors import NotReady
from shoal.store.protocol import Unavailable

SCHEMA_VERSION = 1
APPLICATION_ID = 0x53484F41  # "SHOA": tells our database from any other
PAGE_BYTES = 4096
BUSY_TIMEOUT_S = 5.0
"""How long to wait for a foreign program (a backup, the sqlite3 shell) that holds the database."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE record (key BLOB PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, created INTEGER NOT NULL);
CREATE TABLE history (revision INTEGER PRIMARY KEY, changes BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_FAULTS = {
    sqlite3.SQLITE_FULL: (
        "the disk, or the database's own size limit, is full",
        "Free space on that file system; writes go on by themselves then.",
    ),
    sqlite3.SQLITE_READONLY: (
        "it can't be written",
        "Check the owner and mode of the file and its directory, and that the file system is mounted read-write.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "it can't be opened",
        "Check that the directory exists and that this user may write in it.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "it is damaged",
        "Stop the controller, keep a copy of the file, and restore the latest backup.",
    ),
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database, or its beginning is damaged",
        "Move it away to start empty, or restore the latest backup.",
    ),
    sqlite3.SQLITE_BUSY: (
        "another program holds it",
        "End the program that has the file open (see: fuser).",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk reported an input/output error",
        "Check the disk (dmesg, SMART), then restart the controller: it reads back what is really stored.",
    ),
}


_PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
"""What is over by itself once somebody has done what the hint says."""


def fault(path: Path, error: Exception) -> NotReady:
    """The error as a sentence that names the file and the next step."""
    code = getattr(error, "sqlite_errorcode", None)
    why, hint = _FAULTS.get(code & 0xFF if isinstance(code, int) else -1, ("it can't be used", "See the reason given."))
    kind = Unavailable if isinstance(code, int) and code & 0xFF in _PASSING else NotReady
    return kind(f"The store's database {path}: {why} ({error}).", hint=hint)


def is_io_fault(error: Exception) -> bool:
    """After a failed write or fsync nobody knows what the disk holds; only a new start reads it back."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT)


class FileLock:
    """An exclusive flock on ``<database>.lock``: two controllers on one database would not see each other's changes.

    The kernel lets go of it when the process ends, however it ends; the file itself stays.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise NotReady(
                f"The store's lock file {path} can't be opened ({error.strerror}).",
                hint="Check the owner and mode of the directory.",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise NotReady(
                f"The store's database {database} is in use by another controller (process {holder}).",
                hint="Stop that one first, or use another data directory.",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


def prepare(path: Path, bytes_max: int) -> sqlite3.Connection:
    """Create or check the database; returns the writer's connection. Raises `NotReady`."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise NotReady(
            f"The store's database {path} can't be opened for writing ({error.strerror}).",
            hint="Check the owner and mode of the file and its directory.",
        ) from error
    try:
        return _prepare(path, bytes_max)
    except sqlite3.Error as error:
        raise fault(path, error) from error


def _prepare(path: Path, bytes_max: int) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            connection.executescript(_SCHEMA)
        _check(path, connection)
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise NotReady(
                f"The file system of {path} does not carry SQLite's write-ahead log.",
                hint="Put the data directory on a local disk.",
            )
        # FULL: the write-ahead log is flushed to the disk at each COMMIT, before anybody is told of it.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA max_page_count = {max(16, bytes_max // PAGE_BYTES)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise NotReady(
            f"{path} is a database, but not one of Shoal's.", hint="Name another file, or move this one away."
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise NotReady(
            f"The store's database {path} has format {version}; this Shoal reads format {SCHEMA_VERSION}.",
            hint="Start the Shoal version that wrote it.",
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise NotReady(
            f"The store's database {path} is damaged ({verdict}).",
            hint="Keep a copy of the file, and restore the latest backup.",
        )


def reader(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit (isolation_level None): every BEGIN and COMMIT is written out where it belongs.
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
