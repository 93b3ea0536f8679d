"""Rows by time in SQLite, a file a day (UTC), the oldest of which go when they are too old or too many.

Rows are appended and read, never changed. Not for the event loop, where every call may wait for the disk; for it there is
`Searches`.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from shoal.errors import NotReady

log = logging.getLogger("shoal.day_files")

READ_WITHIN_S = 10.0
PROGRESS_STEPS = 100_000
"""Of SQLite's machine, between two looks at the clock."""
BROKEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
Row = tuple[object, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """``columns``: name -> SQL type, beside ``at`` (seconds since the epoch). ``locked``: rows can't be changed or
    deleted, not even by somebody who opens the file with SQLite's own shell (but with the whole file)."""

    name: str
    columns: Mapping[str, str]
    indexed: tuple[str, ...] = ()
    unique: str = ""
    """A column: a row whose value is there already that day is passed over."""
    days_max: int
    bytes_max: int
    """Of all files. Where today's alone has more, its oldest quarter goes, unless it is ``locked``."""
    locked: bool = False


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """``sql`` with a ``?`` for each of ``values``; column names in it are the table's."""

    sql: str = ""
    values: tuple[object, ...] = ()
    since: float = 0.0
    until: float = float("inf")


class DayFiles:
    """``folder`` None: nothing outlives this object (tests, simulations)."""

    def __init__(self, folder: Path | None, table: Table) -> None:
        self._folder = folder
        self._table = table
        self._alone = threading.Lock()
        self._open: dict[str, sqlite3.Connection] = {}
        self._deadline = float("inf")

    def append(self, rows: Sequence[tuple[float, Row]]) -> None:
        """(at, the columns). In one transaction a day. Raises sqlite3.Error."""
        days: dict[str, list[Row]] = {}
        for at, row in rows:
            days.setdefault(_day(at), []).append((at, *row))
        marks = ", ".join("?" * (len(self._table.columns) + 1))
        with self._alone:
            for day in sorted(days):
                database = self._database(day)
                with database:
                    database.executemany(f"INSERT OR IGNORE INTO rows VALUES ({marks})", days[day])
            self._prune()

    def read(self, where: Where, *, limit: int, offset: int = 0, oldest_first: bool = False) -> list[Row]:
        """(at, the columns) of the rows that match, newest first. Raises NotReady when that takes too long."""
        with self._reading():
            found: list[Row] = []
            order = "" if oldest_first else " DESC"
            for day in self._days(where, oldest_first=oldest_first):
                if len(found) >= limit:
                    break
                sql, values = _clause(where)
                text = f"SELECT * FROM rows WHERE {sql} ORDER BY at{order}, rowid{order} LIMIT ? OFFSET ?"
                rows = self._database(day).execute(text, (*values, limit - len(found), offset)).fetchall()
                found += rows
                offset = 0 if rows else max(0, offset - self._count(day, where))
            return found

    def count(self, where: Where) -> int:
        """How many rows match. Raises NotReady when that takes too long."""
        with self._reading():
            return sum(self._count(day, where) for day in self._days(where))

    def newest(self, column: str) -> object:
        """The largest value of a column; None when there are no rows."""
        with self._alone:
            for day in reversed(self._present()):
                (found,) = self._database(day).execute(f"SELECT max({column}) FROM rows").fetchone()
                if found is not None:
                    return found
            return None

    def close(self) -> None:
        with self._alone:
            for database in self._open.values():
                database.close()
            self._open.clear()

    # --- files ---

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._alone:
            self._deadline = time.monotonic() + READ_WITHIN_S
            try:
                yield
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                    raise
                why = f"The search took longer than {READ_WITHIN_S:.0f} s."
                raise NotReady(why, hint="Narrow the time (start, end) or add a filter.") from None
            finally:
                self._deadline = float("inf")

    def _count(self, day: str, where: Where) -> int:
        sql, values = _clause(where)
        (count,) = self._database(day).execute(f"SELECT count(*) FROM rows WHERE {sql}", values).fetchone()
        return int(count)

    def _present(self) -> list[str]:
        """Days there are rows of, in order."""
        if self._folder is None:
            return sorted(self._open)
        prefix = f"{self._table.name}-"
        return sorted(path.stem.removeprefix(prefix) for path in self._folder.glob(f"{prefix}????-??-??.db"))

    def _days(self, where: Where, *, oldest_first: bool = False) -> Iterator[str]:
        first, last = _day(where.since), _day(where.until) if where.until < 1e11 else "9"
        days = [day for day in self._present() if first <= day <= last]
        yield from days if oldest_first else reversed(days)

    def _path(self, day: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._table.name}-{day}.db"

    def _database(self, day: str) -> sqlite3.Connection:
        database = self._open.get(day)
        if database is None:
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path(day).touch(mode=0o600)
            place = ":memory:" if self._folder is None else str(self._path(day))
            database = sqlite3.connect(place, check_same_thread=False)
            try:
                database.executescript(_schema(self._table))
            except sqlite3.DatabaseError as error:
                database.close()
                if self._folder is None or error.sqlite_errorcode not in BROKEN:
                    raise
                self._set_aside(day)
                return self._database(day)
            database.set_progress_handler(lambda: time.monotonic() > self._deadline, PROGRESS_STEPS)
            self._open[day] = database
        return database

    def _set_aside(self, day: str) -> None:
        """A file that SQLite can't read is kept under another name, and the day begins anew."""
        path = self._path(day)
        aside = path.with_name(f"{path.name}.broken-{int(path.stat().st_mtime)}")
        path.replace(aside)
        log.error("%s can't be read and is kept as %s", path, aside.name)

    def _prune(self) -> None:
        present = self._present()
        sizes = {day: self._size(day) for day in present}
        while len(present) > 1 and (len(present) > self._table.days_max or sum(sizes.values()) > self._table.bytes_max):
            sizes.pop(present[0])
            self._forget(present.pop(0))
        if present and sizes[present[-1]] > self._table.bytes_max and not self._table.locked:
            database = self._database(present[-1])
            with database:
                database.execute(
                    "DELETE FROM rows WHERE rowid <= (SELECT min(rowid) + (max(rowid) - min(rowid)) / 4 FROM rows)"
                )

    def _size(self, day: str) -> int:
        """Bytes in use."""
        database = self._database(day)
        pages, free, size = (
            int(database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _forget(self, day: str) -> None:
        database = self._open.pop(day, None)
        if database is not None:
            database.close()
        if self._folder is not None:
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self._path(day).with_name(f"{self._path(day).name}{end}").unlink()
            log.info("%s of %s is deleted: it has become too old, or all of them too large", self._table.name, day)


class Searches:
    """Reads files from the event loop, one search at a time: each takes a thread that others want too."""

    def __init__(self, files: DayFiles) -> None:
        self._files = files
        self._alone = asyncio.Lock()

    async def page(
        self, where: Where, *, limit: int, offset: int, oldest_first: bool, counted: bool
    ) -> tuple[int, list[Row]]:
        """(how many match, 0 unless ``counted``; those of the page, as `DayFiles.read`). Raises NotReady."""

        def look() -> tuple[int, list[Row]]:
            found = self._files.read(where, limit=limit, offset=offset, oldest_first=oldest_first)
            return self._files.count(where) if counted else 0, found

        async with self._alone:
            return await asyncio.to_thread(look)


def _schema(table: Table) -> str:
    columns = ", ".join(f"{name} {type}" for name, type in table.columns.items())
    lines = [
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=NORMAL",
        f"CREATE TABLE IF NOT EXISTS rows (at REAL NOT NULL, {columns})",
        "CREATE INDEX IF NOT EXISTS rows_at ON rows (at)",
        *(f"CREATE INDEX IF NOT EXISTS rows_{name} ON rows ({name}, at)" for name in table.indexed),
    ]
    if table.unique:
        lines.append(f"CREATE UNIQUE INDEX IF NOT EXISTS rows_unique ON rows ({table.unique})")
    if table.locked:
        lines += [
            f"CREATE TRIGGER IF NOT EXISTS no_{verb} BEFORE {verb} ON rows BEGIN SELECT raise(ABORT, 'append-only'); END"
            for verb in ("UPDATE", "DELETE")
        ]
    return ";\n".join([*lines, ""])


def _clause(where: Where) -> tuple[str, tuple[object, ...]]:
    tests = ["at >= ?", "at <= ?", *([f"({where.sql})"] if where.sql else [])]
    return " AND ".join(tests), (where.since, min(where.until, 1e11), *where.values)


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(max(0.0, at), datetime.UTC).strftime("%Y-%m-%d")
