"""What engines know of a VIP is never newer than what is planned next, whatever became of its placement meanwhile."""

from __future__ import annotations

from shoal.controller.ledger import Changes, Ledger
from shoal.controller.records import FLOORS, EngineRecord, VipRecord
from shoal.placement.model import Placement, PlacementState, Role
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


async def test_placements_are_found_by_every_engine_they_name_also_after_a_restart() -> None:
    store = MemoryStore()
    ledger = Ledger(store)
    told: list[object] = []
    versions = [ledger.vips_written]
    ledger.on_written, ledger.on_loaded = told.append, lambda gone: told.append("loaded")
    await ledger.load()
    waits = Placement(engine="a", role=Role.SECONDARY, state=PlacementState.WAITING, since=1.0)
    serves = Placement(engine="b", role=Role.PRIMARY, state=PlacementState.READY, since=1.0)
    first = VipRecord(id="v/0", group="g", placements=(waits, serves), succession=("b", "c"))
    changes = Changes(vips={("g", "v/0"): first, ("h", "v/0"): VipRecord(id="v/0", group="h", succession=("c",))})
    await ledger.write(changes)
    assert told == ["loaded", changes]
    await ledger.write(Changes(floors_gone=("x",)))
    versions += [ledger.vips_written]
    assert versions[0] < versions[1] == versions[0] + 2, "once when it was loaded, once when placements were written"
    assert {engine: [vip.group for vip in ledger.naming(engine)] for engine in "abcd"} == {
        "a": ["g"],
        "b": ["g"],
        "c": ["g", "h"],
        "d": [],
    }
    await ledger.write(Changes(vips={("g", "v/0"): VipRecord(id="v/0", group="g", succession=("d",))}))
    for known in (ledger, later := Ledger(store)):
        if known is later:
            await later.load()
        assert {engine: [vip.group for vip in known.naming(engine)] for engine in "abcd"} == {
            "a": [],
            "b": [],
            "c": ["h"],
            "d": ["g"],
        }


async def test_engines_of_a_group_are_in_order_of_rank_whenever_one_changes() -> None:
    ledger = Ledger(MemoryStore())
    await ledger.load()
    for id, rank, group in (("a", 2, "g"), ("b", 1, "g"), ("c", 3, "h")):
        await ledger.write(Changes(engines={id: EngineRecord(id=id, name=id, rank=rank, group=group)}))
    assert [engine.id for engine in ledger.engines_of("g")] == ["b", "a"]
    await ledger.write(Changes(engine_fields={"a": {"rank": 0}}))
    assert [engine.id for engine in ledger.engines_of("g")] == ["a", "b"]
    await ledger.write(Changes(engines={"b": None}))
    assert [engine.id for engine in ledger.engines_of("g")] == ["a"]
