"""What engines know of a VIP is never newer than what is planned next, whatever became of its placement meanwhile."""

from __future__ import annotations

from shoal.controller.ledger import Changes, Ledger
from shoal.controller.records import FLOORS, VipRecord
from shoal.store.memory import MemoryStore


async def test_a_vip_that_is_placed_again_goes_on_counting() -> None:
    store = MemoryStore()
    ledger = Ledger(store)
    await ledger.load()
    assert (ledger.fresh_vip("g", "v/0").generation, ledger.fresh_vip("g", "v/0").list_version) == (0, 0)
    await ledger.write(Changes(vips={("g", "v/0"): VipRecord(id="v/0", group="g", generation=4, list_version=9)}))
    assert ledger.fresh_vip("h", "v/0").generation == 4, "it moves to a group while the other still has it"
    await ledger.write(Changes(vips={("g", "v/0"): None}))

    later = Ledger(store)
    await later.load()
    fresh = later.fresh_vip("h", "v/0")
    assert (fresh.group, fresh.generation, fresh.list_version) == ("h", 4, 9)
    await later.write(Changes(vips={("h", "v/0"): VipRecord(id="v/0", group="h", generation=5, list_version=10)}))
    assert (await store.list(FLOORS)).records == (), "the new placement says it itself"


async def test_of_a_vip_that_was_never_placed_or_is_no_more_nothing_is_kept() -> None:
    store = MemoryStore()
    ledger = Ledger(store)
    await ledger.load()
    await ledger.write(Changes(vips={("g", "v/0"): VipRecord(id="v/0", group="g")}))
    await ledger.write(Changes(vips={("g", "v/0"): None}))
    assert (await store.list(FLOORS)).records == ()
    await ledger.write(Changes(vips={("g", "w/0"): VipRecord(id="w/0", group="g", generation=1, list_version=1)}))
    await ledger.write(Changes(vips={("g", "w/0"): None}))
    assert list(ledger.floors) == ["w/0"]
    await ledger.write(Changes(floors_gone=("w/0",)))
    assert ledger.floors == {} and (await store.list(FLOORS)).records == ()


async def test_who_looks_by_engine_learns_of_each_write_and_load() -> None:
    store = MemoryStore()
    ledger = Ledger(store)
    seen = [ledger.vips_written]
    await ledger.load()
    seen.append(ledger.vips_written)
    await ledger.write(Changes(vips={("g", "v/0"): VipRecord(id="v/0", group="g")}))
    seen.append(ledger.vips_written)
    await ledger.write(Changes(floors_gone=("x",)))
    seen.append(ledger.vips_written)
    assert seen[0] < seen[1] < seen[2] == seen[3]
