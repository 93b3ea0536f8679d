"""Another writer on the same records: what is insisted on is written, and nobody sees the ledger half read."""

from __future__ import annotations

import asyncio

import pytest

from shoal.controller.ledger import Changes, Ledger
from shoal.controller.records import EngineRecord, VipRecord
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Conflict, Listing


class SlowStore(MemoryStore):
    async def list(self, prefix: str) -> Listing:
        await asyncio.sleep(0.001)
        return await super().list(prefix)


async def two_writers() -> tuple[Ledger, Ledger, EngineRecord]:
    store = SlowStore()
    one, other = Ledger(store), Ledger(store)
    await one.load()
    engine = one.new_engine("g", "Avi", 0.0, host="", why="")
    await one.write(Changes(engines={engine.id: engine}, vips={("g", "v/0"): VipRecord(id="v/0", group="g")}))
    await other.load()
    await other.write(Changes(engine_fields={engine.id: {"name": "renamed"}}))
    return one, other, engine


async def test_what_is_insisted_on_is_added_to_what_another_has_written() -> None:
    one, other, engine = await two_writers()
    with pytest.raises(Conflict):
        await one.write(Changes(engine_fields={engine.id: {"created": True}}))
    await one.insist(Changes(engine_fields={engine.id: {"created": True}}))
    assert (one.engines[engine.id].name, one.engines[engine.id].created) == ("renamed", True)
    await other.insist(Changes(engines={engine.id: None}))
    await one.insist(Changes(engine_fields={engine.id: {"seen": True}}))
    assert engine.id not in one.engines, "it is not made again by a field of it"


async def test_nobody_sees_the_ledger_half_read() -> None:
    one, _, engine = await two_writers()
    reading = asyncio.create_task(one.load())
    while not reading.done():
        assert list(one.engines) == [engine.id] and list(one.vips) == ["g"]
        await asyncio.sleep(0)


async def test_two_writers_give_no_rank_twice() -> None:
    one, other, _ = await two_writers()
    await one.load()

    def made(ledger: Ledger) -> Changes:
        engine = ledger.new_engine("g", "Avi", 0.0, host="", why="")
        return Changes(engines={engine.id: engine})

    mine, late, theirs = made(one), made(one), made(other)
    await other.write(theirs)
    with pytest.raises(Conflict):
        await one.write(mine)
    await one.load()
    with pytest.raises(Conflict):
        await one.write(mine)
    await one.write(late)
    await one.write(made(one))
    await other.load()
    ranks = [engine.rank for engine in other.engines.values()]
    assert len(ranks) == len(set(ranks)) == 4
