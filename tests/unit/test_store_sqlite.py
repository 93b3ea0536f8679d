"""What only a store on a disk can promise: kill -9, restarts, and clear words when the file is no good."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from shoal.errors import NotReady
from shoal.store import history, sqlite
from shoal.store.protocol import Batch, Compacted, Condition, Conflict, Transaction, Unavailable
from shoal.store.sqlite import SqliteStore

CHILD = """
import asyncio, sys
from shoal.store.protocol import Transaction
from shoal.store.sqlite import SqliteStore

async def write(store, numbers):
    for number in numbers:
        value = str(number).encode()
        revision = await store.commit(Transaction(puts=((f"/a/{number}", value), ("/last", value), (f"/b/{number}", value))))
        print(number, revision, flush=True)

async def main(path, first, writers):
    store = await SqliteStore.open(path)
    async with asyncio.TaskGroup() as tasks:
        for writer in range(writers):
            tasks.create_task(write(store, range(first + writer, first + 1000, writers)))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


async def write_and_kill(path: Path, first: int, writers: int, acknowledged_before_kill: int) -> dict[int, int]:
    """Run the child until it has acknowledged so many writes, kill it, return number -> revision of all it told."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(path), str(first), str(writers), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines: list[bytes] = []
    try:
        async with asyncio.timeout(60):
            while len(lines) < acknowledged_before_kill:
                line = await child.stdout.readline()
                assert line, "the child ended by itself"
                lines.append(line)
    finally:
        child.send_signal(signal.SIGKILL)
    lines += (await child.stdout.read()).splitlines(keepends=True)
    assert await child.wait() == -signal.SIGKILL
    whole = [line.split() for line in lines if line.endswith(b"\n")]
    return {int(number): int(revision) for number, revision in whole}


@pytest.mark.parametrize("writers", [1, 16])
async def test_kill_9_amid_1000_writes_loses_nothing_acknowledged_and_leaves_nothing_half(
    tmp_path: Path, writers: int
) -> None:
    chance = random.Random(writers)
    path = tmp_path / "shoal.db"
    acknowledged: dict[int, int] = {}
    for round_number in range(3):
        acknowledged |= await write_and_kill(path, round_number * 1000, writers, chance.randrange(1, 900))
        store = await SqliteStore.open(path)
        listing = await store.list("/")
        versions = {r.key: r.version for r in listing.records}
        values = {r.key: r.value for r in listing.records}
        for number, revision in acknowledged.items():
            assert versions[f"/a/{number}"] == revision, f"write {number} was acknowledged and is not there"
        first = {key[3:]: version for key, version in versions.items() if key.startswith("/a/")}
        second = {key[3:]: version for key, version in versions.items() if key.startswith("/b/")}
        assert first == second, "a transaction is half there"
        assert versions["/last"] == max(first.values()) == listing.revision
        assert first[values["/last"].decode()] == listing.revision
        async with aclosing(store.watch("/", 0)) as watch:
            told = [await anext(watch) for _ in range(listing.revision)]
        assert [batch.revision for batch in told] == list(range(1, listing.revision + 1))
        assert all(len(batch.changes) == 3 for batch in told)
        await store.close()


async def test_every_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    """kill -9 leaves the kernel's cache alone; what a power cut needs is this setting (2 = FULL)."""
    store = await SqliteStore.open(tmp_path / "shoal.db")
    settings = [store._writer._connection.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]
    await store.close()


async def put(store: SqliteStore, key: str, value: bytes = b"x") -> int:
    return await store.commit(Transaction(puts=((key, value),)))


# --- restarts ---


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "shoal.db")
    await put(store, "/a", b"1")
    last = await put(store, "/b", b"2")
    await store.commit(Transaction(deletes=("/a",)))
    before = await store.list("/")
    await store.close()

    store = await SqliteStore.open(tmp_path / "shoal.db")
    assert await store.list("/") == before
    assert await put(store, "/c") == before.revision + 1
    with pytest.raises(Conflict):
        await store.commit(Transaction(conditions=(Condition("/b", last - 1),), deletes=("/b",)))
    async with aclosing(store.watch("/", 1)) as watch:
        assert [(await anext(watch)).revision for _ in range(3)] == [2, 3, 4]
    await store.close()


async def test_the_revision_survives_even_when_every_key_is_gone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "shoal.db", history_revisions_max=1)
    for _ in range(5):
        await put(store, "/a")
    revision = await store.commit(Transaction(deletes=("/a",)))
    await store.close()
    store = await SqliteStore.open(tmp_path / "shoal.db", history_revisions_max=1)
    assert (await store.list("")).revision == revision == 6
    assert await put(store, "/a") == 7
    await store.close()


async def test_history_on_the_disk_is_bounded_by_revisions_and_by_bytes(tmp_path: Path) -> None:
    path = tmp_path / "shoal.db"
    store = await SqliteStore.open(path, history_revisions_max=20)
    for number in range(100):
        await put(store, f"/{number % 3}")
    await store.close()
    assert 20 <= rows(path) <= 40
    store = await SqliteStore.open(path, history_bytes_max=50_000)
    for _ in range(20):
        await put(store, "/large", bytes(10_000))
    await store.close()
    assert 1 <= rows(path) <= 5
    store = await SqliteStore.open(path)
    with pytest.raises(Compacted):
        async with aclosing(store.watch("/", 100)) as watch:
            await anext(watch)
    await store.close()


def rows(path: Path) -> int:
    connection = sqlite3.connect(path)
    count = connection.execute("SELECT count(*) FROM history").fetchone()[0]
    connection.close()
    return int(count)


async def test_a_slow_watcher_reads_on_from_the_disk_and_costs_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECENT_REVISIONS_MAX", 4)
    monkeypatch.setattr(sqlite, "PAGE_BATCHES_MAX", 7)
    monkeypatch.setattr(history, "PAGE_BATCHES_MAX", 3)
    store = await SqliteStore.open(tmp_path / "shoal.db")
    async with asyncio.timeout(10), aclosing(store.watch("/k", 0)) as watch:
        await put(store, "/k")
        told: list[Batch] = [await anext(watch)]
        for number in range(100):
            await put(store, "/k" if number % 2 else "/other")
        assert len(store._history._batches) == 4
        while told[-1].revision < 101:
            told.append(await anext(watch))
            if len(told) == 10:
                await put(store, "/k")
        told.append(await anext(watch))
    assert [batch.revision for batch in told] == [1, *range(3, 102, 2), 102]
    await store.close()


async def test_leases_do_not_outlive_the_process_that_held_them(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "shoal.db")
    assert await store.lease("leader", "a", 3600) is not None
    await store.close()
    store = await SqliteStore.open(tmp_path / "shoal.db")
    assert await store.lease("leader", "b", 1) is not None
    await store.close()


# --- the file is no good ---


async def test_a_second_controller_is_told_who_has_the_database(tmp_path: Path) -> None:
    path = tmp_path / "shoal.db"
    store = await SqliteStore.open(path)
    with pytest.raises(NotReady, match=rf"shoal\.db is in use by another controller \(process {os.getpid()}\)"):
        await SqliteStore.open(path)
    await put(store, "/still/works")
    await store.close()
    await (await SqliteStore.open(path)).close()


async def test_a_full_disk_refuses_the_write_and_only_that_and_recovers(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "shoal.db", bytes_max=1_000_000)
    await put(store, "/a", b"1")
    large, small = await asyncio.gather(
        put(store, "/large", bytes(900_000)), put(store, "/small", b"2"), return_exceptions=True
    )
    assert isinstance(large, Unavailable)
    assert "shoal.db" in large.message and "full" in large.message and "Free space" in large.hint
    assert small == 2
    assert [r.key for r in (await store.list("")).records] == ["/a", "/small"]
    assert await put(store, "/b") == 3
    await store.close()


async def test_after_damage_under_way_nothing_is_written_until_a_restart(tmp_path: Path) -> None:
    """Nobody knows what the disk holds then."""
    path = tmp_path / "shoal.db"
    store = await SqliteStore.open(path)
    for number in range(300):
        await put(store, f"/{number}", bytes(2000))
    await store.close()
    store = await SqliteStore.open(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    foreign = sqlite3.connect(path)  # its write makes the store look at the file again instead of its cache
    foreign.execute("PRAGMA user_version = 1")
    foreign.close()
    with pytest.raises(NotReady, match=r"shoal\.db: it is damaged"):
        await put(store, "/5", b"new")
    with pytest.raises(NotReady, match=r"shoal\.db: it is damaged"):
        await put(store, "/6", b"new")
    await store.close()


@pytest.mark.parametrize("size", [12, 4096, 40_000])
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "shoal.db"
    path.write_bytes(b"no database " * (size // 12))
    content = path.read_bytes()
    with pytest.raises(NotReady, match=r"shoal\.db.*(not a SQLite database|damaged)"):
        await SqliteStore.open(path)
    assert path.read_bytes() == content
    with pytest.raises(NotReady, match="SQLite"):  # and the lock was let go
        await SqliteStore.open(path)


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shoal.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    content = path.read_bytes()
    with pytest.raises(NotReady, match="not one of Shoal's"):
        await SqliteStore.open(path)
    assert path.read_bytes() == content


async def test_a_database_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shoal.db"
    await (await SqliteStore.open(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NotReady, match="format 99"):
        await SqliteStore.open(path)


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"none/shoal\.db\.lock can't be opened"):
        await SqliteStore.open(tmp_path / "none" / "shoal.db")


async def test_a_database_that_is_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "shoal.db").mkdir()
    with pytest.raises(NotReady, match=r"shoal\.db can't be opened for writing"):
        await SqliteStore.open(tmp_path / "shoal.db")


async def test_the_database_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "shoal.db")
    await put(store, "/a")
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name
    await store.close()


# --- the event loop ---


async def test_the_event_loop_goes_on_while_the_disk_works(tmp_path: Path) -> None:
    """A foreign program holds the write lock: the commit waits, everything else does not."""
    path = tmp_path / "shoal.db"
    store = await SqliteStore.open(path)
    await put(store, "/a", b"1")
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(put(store, "/a", b"2"))
    for _ in range(20):
        record = await store.get("/a")
        assert record is not None and record.value == b"1"
    assert not waiting.done()
    foreign.execute("ROLLBACK")
    foreign.close()
    assert await waiting == 2
    await store.close()


async def test_commits_that_wait_when_the_store_closes_are_finished(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "shoal.db")
    commits = [asyncio.create_task(put(store, f"/{n}")) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert sorted(await asyncio.gather(*commits)) == list(range(1, 51))
