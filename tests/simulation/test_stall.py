"""The shipping controller in virtual time: it does not run for a while, and its engines serve and fail over meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from shoal.controller.fleet import Live
from shoal.simulator.system_world import SystemWorld
from shoal.wire.messages import Status
from tests.simulation.playing import play
from tests.simulation.test_storm import events, group_uuid, placements, speakers

GROUP = {"name": "many", "max_vs_per_se": 4, "buffer_se": 1}


async def two_engines(world: SystemWorld) -> tuple[str, str]:
    """One with a virtual service, and one that would take it over; too few for a storm."""
    await world.create("serviceenginegroup", GROUP)
    await world.service("s", "many")
    await world.settle()
    record = world.record_of("s")
    assert record is not None and len(world.agents) == len(record.succession) == 2
    first, second = record.succession
    return first, second


@pytest.mark.parametrize("seconds", [2.5, 5.0, 12.0, 300.0])
def test_nobody_is_judged_by_what_was_not_heard(seconds: float) -> None:
    async def story(world: SystemWorld) -> None:
        engines = await two_engines(world)
        before, answering = placements(world), speakers(world)
        for _ in range(3):
            world.stop_controller(seconds)
            await world.pass_time(seconds + 20.0)
            assert (placements(world), speakers(world)) == (before, answering)
        assert set(world.agents) == set(engines)
        for name in ("SE_DOWN", "SE_STORM_STARTED"):
            assert not events(world, name), name
        told = events(world, "CONTROLLER_STALLED")
        assert 1 <= len(told) <= 3 and told[0].startswith(f"the controller did not run for {seconds:.1f} s")

    play(story)


def test_the_engines_go_on_meanwhile_and_what_they_say_waits() -> None:
    """Of the simulator itself: all of them were made, and so started, by the process that is stopped."""

    async def story(world: SystemWorld) -> None:
        engines = await two_engines(world)
        said = dict.fromkeys(engines, 0)

        def counted(engine: str, status: Callable[[], Status]) -> Callable[[], Status]:
            def call() -> Status:
                said[engine] += 1
                return status()

            return call

        for engine in engines:
            agent = world.agents[engine]
            agent._status = counted(engine, agent._status)  # type: ignore[method-assign]
        read = world.controller.fleet.reported
        order: list[str] = []

        def reported(live: Live, status: Status) -> None:
            order.append(live.id)
            read(live, status)

        world.controller.fleet.reported = reported  # type: ignore[method-assign]

        async def sleeper() -> None:
            await asyncio.sleep(5.0)
            order.append("slept")

        sleeping = world.running._task(sleeper())
        await world.pass_time(0.5)
        order.clear()
        world.stop_controller(10.0)
        await world.pass_time(9.9)
        assert min(said.values()) >= 9 and not order
        await world.pass_time(0.2)
        assert all(order.count(engine) >= 9 for engine in engines) and sleeping.done()
        assert order[0] == "slept", "the worse order: what is due looks before what was said is read"

    play(story)


def test_many_that_were_not_heard_are_no_storm() -> None:
    async def story(world: SystemWorld) -> None:
        await two_engines(world)
        await world.patch("serviceenginegroup", group_uuid(world), buffer_se=4)
        await world.settle()
        assert len(world.agents) == 5
        world.stop_controller(20.0)
        await world.pass_time(40.0)
        assert not events(world, "SE_STORM_STARTED") and not events(world, "SE_DOWN")

    play(story)


@pytest.mark.parametrize("later_s", [-3.0, 0.5])
def test_one_that_died_meanwhile_or_just_after_is_replaced_all_the_same(later_s: float) -> None:
    async def story(world: SystemWorld) -> None:
        first, second = await two_engines(world)
        (address,) = speakers(world)
        world.stop_controller(10.0)
        await world.pass_time(10.0 + later_s)
        world.kill(first)
        await world.pass_time(1.0)
        assert world.segment.speakers(address) == [second]
        await world.pass_time(30.0)
        await world.settle()
        record = world.record_of("s")
        assert record is not None and record.succession[0] == second and record.succession[1] != first
        assert len(events(world, "SE_DOWN")) == 1

    play(story)


def test_one_that_had_fallen_silent_before_is_judged_all_the_same() -> None:
    async def story(world: SystemWorld) -> None:
        first, _ = await two_engines(world)
        await world.pass_time(20.0)
        world.part(first)
        world.freeze(first)
        await world.pass_time(1.0)
        world.stop_controller(2.0)
        await world.pass_time(8.0)
        assert len(events(world, "SE_DOWN")) == 1

    play(story)
