"""The margin against failures as events: lost once, back once, also over a restart of the controller."""

from __future__ import annotations

from shoal.controller.clock import SystemClock
from shoal.controller.events import EventLog
from shoal.controller.margin import Margins
from shoal.placement.model import Buffer, Event, Group, Plan, Snapshot
from shoal.simulator.system_world import SystemWorld
from shoal.store.memory import MemoryStore
from tests.simulation.playing import play
from tests.simulation.test_answers import group

MARGIN = ["VS_SE_HA_COMPROMISED", "VS_SE_HA_ACTIVE"]


def told(world: SystemWorld) -> list[tuple[str, str]]:
    """Oldest first."""
    found = world.controller.events_log.read({"name": MARGIN})
    return [(event.name, event.detail) for event in reversed(found)]


def test_a_buffer_that_is_lost_is_told_once_and_once_when_it_is_back() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=2, max_vs_per_se=2, buffer_se=1)
        for number in range(4):
            await world.service(f"s{number}", "g")
            await world.pass_time(15.0)
        assert told(world) == [("VS_SE_HA_COMPROMISED", "1 of 2 buffer slots are free and max_se 2 is reached")]
        await world.patch("serviceenginegroup", uuid, max_se=4)
        await world.pass_time(20.0)
        assert told(world)[1:] == [("VS_SE_HA_ACTIVE", "2 buffer slots are free, 2 are needed")]
        await world.pass_time(60.0)
        assert len(told(world)) == 2

    play(story)


def test_a_service_on_several_engines_that_has_one_left_is_told_and_when_it_has_two_again() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=3, min_scaleout_per_vs=2)
        await world.service("s", "g")
        await world.pass_time(10.0)
        assert told(world) == []
        world.kill(next(iter(world.controller.ledger.engines)))
        await world.pass_time(20.0)
        lost, back = told(world)
        assert lost[0] == "VS_SE_HA_COMPROMISED" and "alone, 2 are wanted" in lost[1]
        assert back[0] == "VS_SE_HA_ACTIVE" and "s is served by 2 engines again" in back[1]

    play(story)


def test_a_service_that_is_given_fewer_engines_than_it_wants_says_so_once() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=1, min_scaleout_per_vs=2)
        service = await world.service("s", "g")
        await world.pass_time(60.0)
        (event,) = world.controller.events_log.read({"name": "VS_SCALEOUT_DONE_AWAITING_MORE_SE"})
        text = "s is on 1 of 2 engines: no engine has room and none can be made: max_se 1 is reached"
        assert event.detail == text
        assert event.objects["virtualservice"] == service["uuid"], "so that it is among the service's events"
        assert told(world) == []

    play(story)


async def test_what_was_lost_before_a_restart_is_told_when_it_is_back() -> None:
    group = Group(id="g", name="g", max_vs_per_se=2, max_se=2)
    snapshot = Snapshot(revision=1, group=group)

    def planned(free: int) -> Plan:
        events = (Event(name=MARGIN[0], detail="1 of 2"),) if free < 2 else ()
        buffer = Buffer(slots=4, used=4 - free, free=free, needed=2)
        return Plan(group="g", revision=1, vips=(), events=events, buffer=buffer)

    log = EventLog(MemoryStore(), SystemClock())
    assert [event.name for event in Margins(log).told(snapshot, planned(1), {})] == MARGIN[:1]
    log.add(MARGIN[0], "1 of 2", serviceenginegroup="g")
    assert Margins(log).told(snapshot, planned(1), {}) == ()
    assert [event.name for event in Margins(log).told(snapshot, planned(2), {})] == MARGIN[1:]
