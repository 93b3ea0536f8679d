"""What every store promises. Each test runs against every implementation of `shoal.store.protocol.Store`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from shoal.errors import Invalid, NotReady, TooLarge
from shoal.store import protocol
from shoal.store.memory import MemoryStore
from shoal.store.protocol import (
    TRANSACTION_BYTES_MAX,
    TRANSACTION_OPERATIONS_MAX,
    VALUE_BYTES_MAX,
    Batch,
    Change,
    Compacted,
    Condition,
    Conflict,
    Record,
    Transaction,
)
from shoal.store.sqlite import SqliteStore


class HandClock:
    """A clock the test turns."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


Store = MemoryStore | SqliteStore
Make = Callable[..., Awaitable[Store]]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["memory", "sqlite"])
async def make(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[Make]:
    made: list[Store] = []

    async def build(*, history_revisions_max: int = 10_000) -> Store:
        store: Store
        if request.param == "memory":
            store = MemoryStore(now=clock, history_revisions_max=history_revisions_max)
        else:
            path = tmp_path / f"{len(made)}.db"
            store = await SqliteStore.open(path, now=clock, history_revisions_max=history_revisions_max)
        contract: protocol.Store = store  # the type checker's part of the contract
        assert contract is store
        made.append(store)
        return store

    yield build
    for store in made:
        await store.close()


@pytest.fixture
async def store(make: Make) -> Store:
    return await make()


async def put(store: Store, key: str, value: bytes = b"x") -> int:
    return await store.commit(Transaction(puts=((key, value),)))


async def delete(store: Store, *keys: str) -> int:
    return await store.commit(Transaction(deletes=keys))


async def take(store: Store, prefix: str, since: int, count: int) -> list[Batch]:
    batches: list[Batch] = []
    async with asyncio.timeout(10), aclosing(store.watch(prefix, since)) as watch:
        async for batch in watch:
            batches.append(batch)
            if len(batches) == count:
                break
    return batches


# --- reading and writing ---


async def test_an_empty_store_has_revision_0_and_no_keys(store: Store) -> None:
    listing = await store.list("")
    assert (listing.records, listing.revision) == ((), 0)
    assert await store.get("/a") is None


async def test_a_put_is_read_back_with_its_versions(store: Store) -> None:
    first = await put(store, "/a", b"1")
    second = await put(store, "/a", b"2")
    assert second == first + 1
    assert await store.get("/a") == Record("/a", b"2", version=second, created=first)


async def test_a_key_made_again_after_its_deletion_is_new(store: Store) -> None:
    await put(store, "/a")
    await delete(store, "/a")
    again = await put(store, "/a")
    assert await store.get("/a") == Record("/a", b"x", version=again, created=again)


@pytest.mark.parametrize("value", [b"", b"\x00", bytes(range(256)), "ä".encode(), b"\xff\xfe"])
async def test_values_are_bytes_and_come_back_unchanged(store: Store, value: bytes) -> None:
    revision = await put(store, "/binary", value)
    record = await store.get("/binary")
    assert record is not None and record.value == value
    [batch] = await take(store, "/binary", 0, 1)
    assert batch == Batch(revision, (Change("/binary", value, revision),))


async def test_an_empty_value_is_no_deletion(store: Store) -> None:
    await put(store, "/a", b"")
    [batch] = await take(store, "/", 0, 1)
    assert batch.changes[0].value == b""


async def test_create_only_refuses_a_key_that_exists(store: Store) -> None:
    create = Transaction(conditions=(Condition("/a", 0),), puts=(("/a", b"1"),))
    await store.commit(create)
    with pytest.raises(Conflict) as refused:
        await store.commit(create)
    assert refused.value.keys == ("/a",)


async def test_a_stale_write_is_refused_naming_the_keys_that_failed_and_writes_nothing(store: Store) -> None:
    old = await put(store, "/a", b"1")
    kept = await put(store, "/b", b"1")
    new = await put(store, "/a", b"2")
    with pytest.raises(Conflict) as refused:
        await store.commit(
            Transaction(
                conditions=(Condition("/a", old), Condition("/b", kept), Condition("/c", 7)),
                puts=(("/b", b"2"), ("/d", b"1")),
                deletes=("/a",),
            )
        )
    assert refused.value.keys == ("/a", "/c")
    listing = await store.list("/")
    assert [(r.key, r.value) for r in listing.records] == [("/a", b"2"), ("/b", b"1")]
    assert listing.revision == new


async def test_a_condition_may_name_a_key_that_is_not_written(store: Store) -> None:
    seen = await put(store, "/pool", b"p")
    refer = Transaction(conditions=(Condition("/pool", seen),), puts=(("/vs", b"v"),))
    await store.commit(refer)
    await delete(store, "/pool")
    with pytest.raises(Conflict):
        await store.commit(refer)


async def test_one_transaction_is_one_revision_and_one_batch_in_its_order(store: Store) -> None:
    await put(store, "/z", b"old")
    revision = await store.commit(Transaction(puts=(("/b", b"1"), ("/a", b"2")), deletes=("/z",)))
    [batch] = await take(store, "/", revision - 1, 1)
    assert batch == Batch(
        revision, (Change("/b", b"1", revision), Change("/a", b"2", revision), Change("/z", None, revision))
    )
    assert {r.version for r in (await store.list("/")).records} == {revision}


async def test_deleting_what_is_not_there_is_no_error_and_no_change(store: Store) -> None:
    before = await put(store, "/a")
    assert await delete(store, "/none") == before
    assert await store.commit(Transaction()) == before
    after = await store.commit(Transaction(puts=(("/b", b""),), deletes=("/none",)))
    assert after == before + 1
    [batch] = await take(store, "/", before, 1)
    assert [change.key for change in batch.changes] == ["/b"]


async def test_lists_are_ordered_by_key_whatever_the_order_of_writing(store: Store) -> None:
    keys = ["/p/b", "/p/a", "/p/ä", "/p/Z", "/p/10", "/p/9", "/p/𝄞", "/p/\uffff"]
    for key in keys:
        await put(store, key)
    assert [r.key for r in (await store.list("/p/")).records] == sorted(keys, key=lambda key: key.encode())


async def test_a_prefix_means_exactly_that(store: Store) -> None:
    for key in ["/a", "/a/", "/a/1", "/a/2", "/a0", "/ab", "/ab/1", "/b", "/a/\U0010ffff1", "/a/%_*"]:
        await put(store, key)
    assert [r.key for r in (await store.list("/a/")).records] == ["/a/", "/a/%_*", "/a/1", "/a/2", "/a/\U0010ffff1"]
    assert [r.key for r in (await store.list("/ab")).records] == ["/ab", "/ab/1"]
    assert len((await store.list("")).records) == 10
    assert (await store.list("/c")).records == ()


async def test_a_listing_shows_one_revision(store: Store) -> None:
    """Two keys always written together are never seen apart."""

    async def write() -> None:
        for number in range(50):
            value = str(number).encode()
            await store.commit(Transaction(puts=(("/a", value), ("/b", value))))

    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(write())
        while not writer.done():
            listing = await store.list("/")
            assert len({r.value for r in listing.records}) <= 1
            assert all(r.version <= listing.revision for r in listing.records)


# --- caps ---


async def test_what_is_at_the_caps_is_taken(store: Store) -> None:
    await put(store, "/a", bytes(VALUE_BYTES_MAX))
    await store.commit(Transaction(puts=tuple((f"/{n}", b"") for n in range(TRANSACTION_OPERATIONS_MAX))))
    assert len((await store.list("/")).records) == TRANSACTION_OPERATIONS_MAX + 1


@pytest.mark.parametrize(
    ("transaction", "cap"),
    [
        (Transaction(puts=(("/a", bytes(VALUE_BYTES_MAX + 1)),)), VALUE_BYTES_MAX),
        (
            Transaction(puts=(("/a", bytes(VALUE_BYTES_MAX)), ("/b", bytes(VALUE_BYTES_MAX)))),
            TRANSACTION_BYTES_MAX,
        ),
        (Transaction(puts=tuple((f"/{n}", b"") for n in range(129))), TRANSACTION_OPERATIONS_MAX),
        (Transaction(deletes=tuple(f"/{n}" for n in range(129))), TRANSACTION_OPERATIONS_MAX),
        (Transaction(conditions=tuple(Condition(f"/{n}", 0) for n in range(129))), TRANSACTION_OPERATIONS_MAX),
    ],
)
async def test_past_a_cap_the_message_names_it_and_nothing_is_written(
    store: Store, transaction: Transaction, cap: int
) -> None:
    with pytest.raises(TooLarge, match=str(cap)):
        await store.commit(transaction)
    assert (await store.list("")).revision == 0


@pytest.mark.parametrize(
    "transaction",
    [
        Transaction(puts=(("", b""),)),
        Transaction(puts=(("/a", b"1"), ("/a", b"2"))),
        Transaction(puts=(("/a", b"1"),), deletes=("/a",)),
        Transaction(puts=(("/\ud800", b""),)),
    ],
)
async def test_a_malformed_transaction_is_refused_whole(store: Store, transaction: Transaction) -> None:
    with pytest.raises(Invalid):
        await store.commit(transaction)
    assert (await store.list("")).revision == 0


# --- contention and cancellation ---


async def test_200_contended_increments_all_count(store: Store) -> None:
    conflicts = 0

    async def increment() -> None:
        nonlocal conflicts
        while True:
            record = await store.get("/counter")
            value, version = (int(record.value), record.version) if record is not None else (0, 0)
            try:
                await store.commit(
                    Transaction(
                        conditions=(Condition("/counter", version),), puts=(("/counter", str(value + 1).encode()),)
                    )
                )
                return
            except Conflict:
                conflicts += 1

    async def increments(count: int) -> None:
        for _ in range(count):
            await increment()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(increments(10))
    record = await store.get("/counter")
    assert record is not None and record.value == b"200"
    assert record.version == 200
    assert conflicts > 0, "the increments never met: this test shows nothing"


async def test_concurrent_commits_get_revisions_of_their_own_in_the_order_of_the_history(store: Store) -> None:
    async with asyncio.TaskGroup() as tasks:
        commits = [tasks.create_task(put(store, f"/k/{n}")) for n in range(100)]
    revisions = {f"/k/{n}": task.result() for n, task in enumerate(commits)}
    assert sorted(revisions.values()) == list(range(1, 101))
    batches = await take(store, "/k/", 0, 100)
    assert [batch.revision for batch in batches] == list(range(1, 101))
    assert all(revisions[batch.changes[0].key] == batch.revision for batch in batches)


async def test_a_cancelled_commit_is_applied_whole_or_not_at_all_and_harms_no_other(store: Store) -> None:
    pairs = [
        asyncio.create_task(store.commit(Transaction(puts=((f"/a/{n}", b""), (f"/b/{n}", b""))))) for n in range(20)
    ]
    await asyncio.sleep(0)
    for task in pairs[::2]:
        task.cancel()
    results = await asyncio.gather(*pairs, return_exceptions=True)
    assert all(isinstance(result, int) for result in results[1::2])
    await put(store, "/after")
    first = {r.key[3:] for r in (await store.list("/a/")).records}
    second = {r.key[3:] for r in (await store.list("/b/")).records}
    assert first == second
    assert {str(n) for n in range(1, 20, 2)} <= first


# --- watching ---


async def test_a_watch_tells_puts_and_deletes_in_order(store: Store) -> None:
    watching = asyncio.create_task(take(store, "/w/", 0, 3))
    await put(store, "/w/a", b"1")
    await put(store, "/other", b"1")
    await put(store, "/w/a", b"2")
    await delete(store, "/w/a")
    assert await watching == [
        Batch(1, (Change("/w/a", b"1", 1),)),
        Batch(3, (Change("/w/a", b"2", 3),)),
        Batch(4, (Change("/w/a", None, 4),)),
    ]


async def test_a_watch_shows_only_its_prefix_of_a_transaction(store: Store) -> None:
    await store.commit(Transaction(puts=(("/a/1", b"1"), ("/ab", b"2"), ("/a/2", b"3"))))
    [batch] = await take(store, "/a/", 0, 1)
    assert [change.key for change in batch.changes] == ["/a/1", "/a/2"]


async def test_a_watch_resumes_from_an_old_revision_and_goes_on_live(store: Store) -> None:
    for number in range(10):
        await put(store, f"/w/{number}")
    watching = asyncio.create_task(take(store, "/w/", 4, 9))
    for number in range(10, 13):
        await put(store, f"/w/{number}")
    assert [batch.revision for batch in await watching] == list(range(5, 14))


async def test_a_watch_waits_for_a_revision_yet_to_come(store: Store) -> None:
    watching = asyncio.create_task(take(store, "", 2, 1))
    for number in range(3):
        await put(store, f"/{number}")
    assert [batch.revision for batch in await watching] == [3]


async def test_no_gap_between_list_and_watch_under_concurrent_writes_and_reconnects(store: Store) -> None:
    """Four views, each rebuilt from a listing and then kept by watches cut off again and again, end up equal."""
    writes_each = 60

    async def write(writer: int) -> None:
        for number in range(writes_each):
            key = f"/k/{(writer * 7 + number) % 11}"
            if number % 5 == 4:
                await delete(store, key)
            else:
                await put(store, key, f"{writer}.{number}".encode())

    async def follow(cut_after: int) -> dict[str, bytes]:
        listing = await store.list("/k/")
        view = {r.key: r.value for r in listing.records}
        seen = listing.revision
        while True:
            async with aclosing(store.watch("/", seen)) as watch:
                taken = 0
                async for batch in watch:
                    assert batch.revision == seen + 1, "a gap"
                    seen = batch.revision
                    for change in batch.changes:
                        if change.key == "/end":
                            return view
                        if change.value is None:
                            del view[change.key]
                        else:
                            view[change.key] = change.value
                    taken += 1
                    if taken == cut_after:
                        break

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(write(n)) for n in range(4)]
        views = [tasks.create_task(follow(cut)) for cut in (1, 3, 10, 10_000)]
        await asyncio.gather(*writers)
        await put(store, "/end")
    truth = {r.key: r.value for r in (await store.list("/k/")).records}
    assert [view.result() for view in views] == [truth] * 4


async def test_a_revision_older_than_the_history_is_compacted_and_newer_ones_are_told(make: Make) -> None:
    store = await make(history_revisions_max=5)
    for number in range(20):
        await put(store, f"/{number}")
    with pytest.raises(Compacted, match="List again"):
        await take(store, "/", 3, 1)
    assert [batch.revision for batch in await take(store, "/", 15, 5)] == [16, 17, 18, 19, 20]


async def test_a_watcher_that_is_left_behind_is_told_so_and_never_skips(make: Make) -> None:
    store = await make(history_revisions_max=5)
    async with asyncio.timeout(10), aclosing(store.watch("/", 0)) as watch:
        await put(store, "/0")
        assert (await anext(watch)).revision == 1
        for number in range(20):
            await put(store, f"/{number}")
        with pytest.raises(Compacted):
            await anext(watch)


async def test_a_cancelled_watch_ends_and_leaves_the_store_working(store: Store) -> None:
    watching = asyncio.create_task(take(store, "/", 0, 2))
    await put(store, "/a")
    await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    await put(store, "/b")
    assert len(await take(store, "/", 0, 2)) == 2


# --- leases ---


async def test_a_lease_has_one_holder_until_it_is_released(store: Store) -> None:
    mine = await store.lease("leader", "a", 5)
    assert mine is not None
    assert await store.lease("leader", "b", 5) is None
    assert await store.lease("other", "b", 5) is not None
    await mine.release()
    theirs = await store.lease("leader", "b", 5)
    assert theirs is not None
    assert not await mine.renew()
    await mine.release()
    assert await theirs.renew(), "another's release must not end it"


async def test_a_lease_lives_while_it_is_renewed_and_is_lost_when_not(store: Store, clock: HandClock) -> None:
    mine = await store.lease("leader", "a", 5)
    assert mine is not None
    for _ in range(3):
        clock.seconds += 4
        assert await mine.renew()
    clock.seconds += 4.9
    assert await store.lease("leader", "b", 5) is None
    clock.seconds += 0.1
    assert not await mine.renew(), "an expired lease is lost even if nobody took it"
    assert await store.lease("leader", "b", 5) is not None


async def test_a_holder_that_takes_its_lease_anew_loses_the_former_one(store: Store) -> None:
    former = await store.lease("leader", "a", 5)
    current = await store.lease("leader", "a", 5)
    assert former is not None and current is not None
    assert not await former.renew()
    assert await current.renew()


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf")])
async def test_a_lease_needs_a_time_to_live(store: Store, ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        await store.lease("leader", "a", ttl_s)


# --- closing ---


async def test_a_closed_store_refuses_and_its_watches_end(store: Store) -> None:
    await put(store, "/a")
    watching = asyncio.create_task(take(store, "/", 0, 2))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(NotReady, match="closed"):
        await watching
    for call in (store.get("/a"), store.list("/"), put(store, "/a"), store.lease("l", "a", 1)):
        with pytest.raises(NotReady, match="closed"):
            await call
    await store.close()
