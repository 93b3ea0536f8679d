"""Changes past the caps of a transaction: all or nothing, wherever they are cut short."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.errors import NotReady
from shoal.store import large
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Condition, Conflict, Record, Transaction

KEYS = 300
PUTS = tuple((f"/intent/pool/{n:04d}", b"new") for n in range(KEYS))


class Cut(MemoryStore):
    """Breaks down at the ``after``-th commit from now: before it, or with ``late`` right after it."""

    after: int | None = None
    late = False

    async def commit(self, transaction: Transaction) -> int:
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                if self.late:
                    await super().commit(transaction)
                raise NotReady("The disk is full.")
        return await super().commit(transaction)


async def stored(store: MemoryStore) -> dict[str, bytes]:
    return {record.key: record.value for record in (await store.list("/")).records}


async def begun() -> Cut:
    store = Cut()
    for at in range(0, KEYS, 100):
        await store.commit(Transaction(puts=tuple((f"/intent/pool/{n:04d}", b"old") for n in range(at, at + 100))))
    await store.commit(Transaction(puts=(("/name/gone", b""),)))
    return store


async def test_it_is_whole_and_leaves_nothing_beside() -> None:
    store = await begun()
    revision = await large.commit(store, Transaction(puts=PUTS, deletes=("/name/gone",)), "1")
    assert await stored(store) == dict(PUTS)
    last: Record | None = await store.get(PUTS[-1][0])
    assert last is not None and last.version == revision, "the last key is there at the revision told"


async def test_a_condition_that_does_not_hold_changes_nothing() -> None:
    store = await begun()
    before = await stored(store)
    with pytest.raises(Conflict):
        await large.commit(store, Transaction(conditions=(Condition("/name/gone", 0),), puts=PUTS), "1")
    await large.finish(store)
    assert await stored(store) == before


@pytest.mark.parametrize("late", [False, True])
async def test_cut_short_anywhere_it_is_all_or_nothing_once_finished(late: bool) -> None:
    outcomes = set()
    for after in range(100):
        store = await begun()
        before = await stored(store)
        store.late, store.after = late, after
        try:
            await large.commit(store, Transaction(puts=PUTS, deletes=("/name/gone",)), "1")
        except NotReady:
            pass
        else:
            break
        store.after = None
        await large.finish(store)
        found = await stored(store)
        assert found in (before, dict(PUTS)), f"half of it is there after {after} commits"
        outcomes.add(found == before)
        revision = (await store.list("")).revision
        await large.finish(store)
        assert (await store.list("")).revision == revision, "finished again it writes nothing"
    assert outcomes == {True, False}
    assert after > 5


async def test_a_value_of_the_largest_size_is_taken() -> None:
    store = MemoryStore()
    puts: Any = tuple((f"/intent/pool/{n}", b"x" * 1_000_000) for n in range(5))
    await large.commit(store, Transaction(puts=puts), "1")
    assert await stored(store) == dict(puts)
