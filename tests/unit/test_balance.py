"""When groups are looked at for auto-rebalance, what is written and told, and what a restart knows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shoal.controller.balance import Balance, interval_s, shown, warnings
from shoal.controller.events import EventLog
from shoal.controller.ledger import Changes, Ledger
from shoal.controller.loads import Loads
from shoal.controller.records import EngineRecord, VipRecord
from shoal.objects import views
from shoal.placement.load import EngineLoad, Load
from shoal.placement.model import (
    Engine,
    EngineState,
    Group,
    Placement,
    PlacementState,
    RequestKind,
    Role,
    Snapshot,
    Vip,
)
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Conflict

GROUP = views.ServiceEngineGroup(uuid="g", name="g", auto_rebalance=True)


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0
        self.jumped = 0.0

    def now(self) -> float:
        return self.s + self.jumped

    def monotonic(self) -> float:
        return self.s

    async def sleep(self, seconds: float) -> None:
        self.s += seconds


class KnownLoads(Loads):
    """Tells what a test says."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.known: dict[str, EngineLoad] = {}
        self.windows: list[float] = []

    def of(self, engine, vips_of, seconds=30.0):  # type: ignore[no-untyped-def]
        self.windows.append(seconds)
        return self.known.get(engine)


class Group2:
    """Two VIPs of 45 % on one engine, an idle engine, and a controller that may start again."""

    def __init__(self) -> None:
        self.clock, self.store = Clock(), MemoryStore()
        self.group = GROUP

    async def start(self) -> None:
        self.ledger = Ledger(self.store)
        await self.ledger.load()
        self.events = EventLog(self.store, self.clock)
        self.loads = KnownLoads(self.clock)
        ids = iter(f"r{self.clock.s:.0f}-{n}" for n in range(9))
        self.balance = Balance(self.clock, self.ledger, self.loads, self.events, lambda: next(ids))
        self.heat(45)

    async def fill(self) -> None:
        engines = {f"e{n}": EngineRecord(id=f"e{n}", name=f"SE{n}", rank=n, group="g") for n in (1, 2)}
        vips = {("g", vip): VipRecord(id=vip, group="g", placements=self.placed()) for vip in ("v1", "v2")}
        await self.ledger.write(Changes(engines=dict(engines), vips=dict(vips)))

    def heat(self, percent: float) -> None:
        part = Load(cpu=percent, pps=percent)
        whole = Load(cpu=2 * percent, pps=2 * percent)
        self.loads.known = {
            "e1": EngineLoad(whole=whole, vips={"v1": part, "v2": part}),
            "e2": EngineLoad(whole=Load()),
        }

    @staticmethod
    def placed() -> tuple[Placement, ...]:
        return (Placement(engine="e1", role=Role.PRIMARY, state=PlacementState.READY, since=0),)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            revision=1,
            group=Group(id="g", name="g", max_se=2),
            engines=tuple(Engine(id=f"e{n}", name=f"SE{n}", rank=n, host="", state=EngineState.UP) for n in (1, 2)),
            vips=tuple(
                Vip(id=id, name=id, slots=1, created=0, placements=self.placed(), requested=1) for id in ("v1", "v2")
            ),
            requests=tuple(r.request for r in self.ledger.requests.get("g", {}).values()),
        )

    async def look(self) -> bool:
        return await self.balance.look(self.group, self.snapshot(), (), self.clock.now())

    async def after(self, seconds: float) -> bool:
        self.clock.s += seconds
        return await self.look()

    def done(self) -> None:
        """The operation is over, and the load as it was."""
        self.ledger.requests.clear()

    def told(self) -> list[str]:
        return [event.name for event in self.events.read({})]


@pytest.fixture
async def world() -> AsyncIterator[Group2]:
    world = Group2()
    await world.start()
    await world.fill()
    yield world
    await world.store.close()


async def test_the_first_look_comes_when_there_are_30_s_of_figures(world: Group2) -> None:
    assert not await world.look() and world.loads.windows == []
    assert world.balance.next_at(GROUP) == world.clock.now() + 30
    assert not await world.after(29.9) and world.loads.windows == []
    assert await world.after(0.1) and set(world.loads.windows) == {30.0}


async def test_a_change_is_a_request_a_record_a_reason_and_an_event(world: Group2) -> None:
    await world.look()
    assert await world.after(30)
    ((_, record),) = world.ledger.requests["g"].items()
    request = record.request
    assert (request.kind, request.vip, request.from_engine, request.to_engine) == (
        RequestKind.MIGRATE,
        "v1",
        "e1",
        "e2",
    )
    assert record.user == "auto-rebalance"
    why = "SE1 has 90 % CPU, above 80 %: v1 makes 45 % CPU of it: migrate it; SE2 goes from 0 % to 45 %"
    assert world.ledger.rebalances["g"].why == why
    (noted,) = world.ledger.vips["g"]["v1"].decisions
    assert (noted.decision.what, noted.decision.engine, noted.decision.why) == ("rebalance_migrate", "e2", why)
    (event,) = world.events.read({})
    assert (event.name, event.detail) == ("REBALANCE_VS_MIGRATE", why)
    assert event.objects["serviceengine"] == "e2" and event.objects["from_serviceengine"] == "e1"


async def test_a_change_that_another_writer_was_quicker_than_is_looked_for_again(world: Group2) -> None:
    await world.look()
    other = Ledger(world.store)
    await other.load()
    record = other.vips["g"]["v1"]
    await other.write(Changes(vips={("g", "v1"): record}))
    with pytest.raises(Conflict):
        await world.after(30)
    assert world.told() == []
    await world.ledger.load()
    assert await world.look() and world.told() == ["REBALANCE_VS_MIGRATE"]


async def test_one_change_an_interval(world: Group2) -> None:
    await world.look()
    assert await world.after(30)
    world.done()
    assert not await world.after(299.9)
    assert await world.after(0.1)


async def test_nothing_while_the_last_change_is_under_way(world: Group2) -> None:
    await world.look()
    assert await world.after(30)
    assert not await world.after(300)
    assert world.balance.seen["g"].look.why == "an operation on v1 is under way"


async def test_a_controller_that_starts_again_makes_no_second_change_in_the_interval(world: Group2) -> None:
    await world.look()
    assert await world.after(30)
    world.clock.s += 100
    await world.start()
    world.done()
    assert world.balance.next_at(GROUP) == pytest.approx(world.clock.now() + 200)
    assert not await world.after(199)
    assert await world.after(1.1)


async def test_a_controller_that_starts_late_waits_for_figures_all_the_same(world: Group2) -> None:
    await world.look()
    assert await world.after(30)
    world.clock.s += 10_000
    await world.start()
    world.done()
    assert not await world.look()
    assert await world.after(30)


async def test_a_clock_that_was_set_back_does_not_stop_it_for_long(world: Group2) -> None:
    await world.look()
    assert await world.after(30)
    world.clock.jumped = -86_400.0
    await world.start()
    world.done()
    assert not await world.look()
    assert await world.after(300)


async def test_figures_of_before_the_last_change_move_nothing(world: Group2) -> None:
    world.group = views.ServiceEngineGroup(uuid="g", name="g", auto_rebalance=True, auto_rebalance_interval=10)
    await world.look()
    assert await world.after(10)
    world.done()
    record = world.ledger.vips["g"]["v1"]
    moved = VipRecord(id="v1", group="g", placements=record.placements, changed_at=world.clock.now() + 5)
    await world.ledger.write(Changes(vips={("g", "v1"): moved}))
    assert not await world.after(10)
    assert world.balance.seen["g"].look.why == "the last change ended 5 s ago, and figures are of the last 10 s"
    assert await world.after(10)


async def test_off_a_threshold_that_is_crossed_is_only_an_event_and_only_once(world: Group2) -> None:
    world.group = views.ServiceEngineGroup(uuid="g", name="g")
    await world.look()
    for _ in range(3):
        assert not await world.after(300)
    (event,) = world.events.read({})
    assert event.name == "SE_LOAD_HIGH" and event.objects["serviceengine"] == "e1"
    assert event.detail == "SE1 has 90 % CPU, above 80 %; auto_rebalance is off, nothing is moved"
    world.heat(10)
    await world.after(300)
    world.heat(45)
    await world.after(300)
    assert world.told() == ["SE_LOAD_HIGH"] * 2
    assert world.ledger.requests == {} and world.ledger.rebalances == {}


async def test_off_silence_of_an_engine_is_no_crossing(world: Group2) -> None:
    world.group = views.ServiceEngineGroup(uuid="g", name="g")
    await world.look()
    await world.after(300)
    world.loads.known = {}
    await world.after(300)
    world.heat(45)
    await world.after(300)
    assert world.told() == ["SE_LOAD_HIGH"]


async def test_legacy_groups_are_not_looked_at(world: Group2) -> None:
    world.group = views.ServiceEngineGroup(
        uuid="g", name="g", auto_rebalance=True, ha_mode="HA_MODE_LEGACY_ACTIVE_STANDBY"
    )
    assert world.balance.next_at(world.group) is None
    assert not await world.after(10_000) and world.loads.windows == []


async def test_the_runtime_shows_the_last_look(world: Group2) -> None:
    def now() -> dict[str, object]:
        names = {"e1": "SE1", "e2": "SE2"}
        return shown(world.group, world.balance, world.ledger.rebalances.get("g"), names, world.clock.now())

    assert now()["why"] == "not looked at yet"
    await world.look()
    await world.after(30)
    found = now()
    assert found["decided"] == "migrate" and found["next_look_in_s"] == 300.0
    engines = found["engines"]
    assert isinstance(engines, list)
    assert [(e["name"], e["level"], e["percent"]) for e in engines] == [
        ("SE1", "over", {"cpu": 90.0}),
        ("SE2", "idle", {"cpu": 0.0}),
    ]
    assert found["last_change"] == {
        "at": world.clock.now(),
        "what": "migrate",
        "vip": "v1",
        "why": world.ledger.rebalances["g"].why,
    }
    world.group = views.ServiceEngineGroup(uuid="g", name="g")
    world.done()
    await world.after(300)
    found = now()
    assert found["decided"] == "nothing"
    assert str(found["why"]).startswith("auto_rebalance is off, nothing is done; it would be: SE1 has 90 % CPU")


def test_an_interval_shorter_than_two_messages_acts_as_10_s_and_says_so() -> None:
    group = views.ServiceEngineGroup(uuid="g", name="g", auto_rebalance_interval=1)
    assert interval_s(group) == 10
    assert warnings(group) == ["auto_rebalance_interval 1 acts as 10: engines tell their load every 5 s."]
    assert warnings(GROUP) == []


def test_a_criterion_without_a_capacity_is_a_warning() -> None:
    group = views.ServiceEngineGroup(uuid="g", name="g", auto_rebalance_criteria=("SE_AUTO_REBALANCE_CPS",))
    (warning,) = warnings(group)
    assert warning.startswith("SE_AUTO_REBALANCE_CPS is not looked at")
