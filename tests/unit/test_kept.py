"""A snapshot that is kept is the one that would be made anew, and says so when it was not."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shoal.controller.clock import SystemClock
from shoal.controller.desired import VipIntent
from shoal.controller.fleet import Fleet
from shoal.controller.kept import SnapshotKeeper
from shoal.controller.ledger import Changes, Ledger
from shoal.controller.records import EngineRecord, VipRecord
from shoal.controller.snapshot import build
from shoal.objects import views
from shoal.placement.model import Placement, PlacementState, Role, Snapshot
from shoal.store.memory import MemoryStore
from shoal.wire.messages import Claim, Owned

GROUP = views.ServiceEngineGroup(uuid="g", name="g")
ENGINES = {
    id: EngineRecord(id=id, name=id, rank=rank, group="g", created=True, seen=True) for rank, id in enumerate("ab")
}


def intent(id: str) -> VipIntent:
    return VipIntent(id=id, name=id, addresses=("10.0.0.1",), services=(), created=1.0)


def record(id: str, state: PlacementState = PlacementState.READY) -> VipRecord:
    placed = Placement(engine="a", role=Role.PRIMARY, state=state, since=1.0)
    return VipRecord(id=id, group="g", placements=(placed,), generation=1, succession=("a", "b"), list_version=1)


class Group:
    """Two engines and a few VIPs; what the reconciler wires is wired here."""

    def __init__(self) -> None:
        self.ledger = Ledger(MemoryStore())
        self.documents: dict[str, dict[str, Any]] = {}
        self.intents = {id: intent(id) for id in ("v", "w")}
        self.now = 100.0
        self.fleet = Fleet(
            SystemClock(),
            record=lambda engine: self.ledger.engines.get(engine),
            desired=lambda engine, having: {},
            on_change=lambda engine: None,
            on_ownership=lambda engine, message: None,
            on_vips=lambda vips: self.keeper.touch(vips),
        )
        self.keeper = SnapshotKeeper("g", self.ledger, self.fleet, self.documents.get, lambda intent, record: "")
        self.ledger.on_written = lambda changes: self.keeper.touch(vip for _, vip in changes.vips)

    async def begin(self) -> None:
        await self.ledger.load()
        await self.ledger.write(Changes(engines=dict(ENGINES), vips={("g", id): record(id) for id in ("v", "w")}))
        self.make()

    def make(self) -> tuple[list[str], list[str]]:
        """(VIPs, engines) that are new, once it is sure that all is as made from nothing."""
        snapshot, fresh, missed = self.keeper.make(1, GROUP, self.intents, self.now, retry_at=0.0, pace=lambda: None)
        assert not missed
        assert _sorted(snapshot) == _sorted(
            build(1, GROUP, self.intents.values(), self.documents.get, self.ledger, self.fleet, self.now)
        )
        return list(fresh.vips), list(fresh.engines)


def _sorted(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, vips=tuple(sorted(snapshot.vips, key=lambda vip: vip.id)))


async def test_only_what_changes_is_new() -> None:
    group = Group()
    await group.begin()
    assert group.make() == ([], [])
    await group.ledger.write(Changes(vips={("g", "v"): replace(record("v"), requested=2)}))
    assert group.make() == (["v"], [])
    group.fleet.note_runs("b", {}, {"w": 1})
    group.fleet.live("b").runs.lists = {"w": 1}
    assert group.make() == ([], []), "a list that all have is armed; one of them is not enough"
    group.fleet.live("a").runs.lists = {"w": 1}
    group.fleet.note_runs("a", {}, {"w": 1})
    assert group.make() == (["w"], [])
    group.fleet.note_owned("b", (Owned(vip="v", claim=Claim(1, 1, 2)),))
    assert group.make() == (["v"], []), "b has taken it over"
    group.documents["a"] = {"uuid": "a", "enable_state": "SE_STATE_DISABLED"}
    assert group.make() == ([], ["a"])
    await group.ledger.write(Changes(engines={"b": None}))
    assert group.make() == (["v"], ["b"]), "and is gone, with its claim"
    del group.intents["w"]
    group.keeper.touch(["w"])
    assert group.make() == (["w"], [])
    assert list(group.keeper.orphans) == ["w"]


async def test_what_drains_is_looked_at_each_time_and_a_clock_set_back_makes_all_anew() -> None:
    group = Group()
    await group.begin()
    await group.ledger.write(Changes(vips={("g", "v"): record("v", PlacementState.DRAINING)}))
    group.make()
    _, fresh, _ = group.keeper.make(1, GROUP, group.intents, group.now, retry_at=0.0, pace=lambda: None)
    assert list(fresh.looked_at) == ["v"] and not fresh.vips
    group.now = 0.5
    assert set(group.make()[0]) == {"v", "w"}, "they are placed since a time to come"


async def test_a_change_that_nobody_told_of_is_found_by_a_review() -> None:
    group = Group()
    await group.begin()
    group.ledger.vips["g"]["v"] = replace(record("v"), requested=3)
    snapshot, fresh, missed = group.keeper.make(1, GROUP, group.intents, 101.0, retry_at=0.0, pace=lambda: None)
    assert not missed and not fresh.vips
    group.keeper.review = True
    snapshot, fresh, missed = group.keeper.make(1, GROUP, group.intents, 102.0, retry_at=0.0, pace=lambda: None)
    assert missed == ["v"] and fresh.whole
    assert next(vip for vip in snapshot.vips if vip.id == "v").requested == 3
