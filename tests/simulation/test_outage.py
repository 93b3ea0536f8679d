"""The shipping controller in virtual time, and a store that takes no writes, can't be reached, or loses answers."""

from __future__ import annotations

import pytest

from shoal.errors import ShoalError
from shoal.placement.model import PlacementState
from shoal.simulator.process import FLAKY, FULL, GONE, OUTAGES
from shoal.simulator.system_world import OPERATOR, SystemWorld
from shoal.store.protocol import Unavailable
from tests.simulation.playing import play

GROUP = {"name": "g", "buffer_se": 1, "max_vs_per_se": 2}


async def two_services(world: SystemWorld) -> str:
    """The engine that answers for the first."""
    await world.create("serviceenginegroup", GROUP)
    await world.service("s1", "g")
    await world.service("s2", "g")
    await world.settle()
    return owner_of(world, "s1")


def owner_of(world: SystemWorld, service: str) -> str:
    record = world.record_of(service)
    assert record is not None
    return record.placements[0].engine


def told(world: SystemWorld, name: str) -> list[str]:
    return [event.detail for event in world.controller.events_log.read({"name": name})]


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("seconds", [3.0, 400.0])
def test_an_engine_that_dies_meanwhile_is_replaced_afterwards(outage: str, seconds: float) -> None:
    async def story(world: SystemWorld) -> None:
        owner = await two_services(world)
        process = world.process
        world.lose_store(outage)
        world.kill(owner)
        await world.pass_time(seconds)
        answering = [
            name
            for name, machine in world.segment.engines.items()
            if world.segment.now < machine.lease_until and machine.addresses
        ]
        assert answering and owner not in answering, "its successor answers for what it had"
        if outage != FLAKY:
            assert owner_of(world, "s1") == owner, "nothing could be stored"
        world.lose_store("")
        await world.settle()
        assert world.process is process, "the controller has gone on"
        assert owner_of(world, "s1") != owner
        assert len(told(world, "STORE_AVAILABLE")) == len(told(world, "STORE_UNAVAILABLE"))

    play(story)


@pytest.mark.parametrize("outage", [FULL, GONE])
def test_what_is_asked_for_is_refused_at_once_and_never_done(outage: str) -> None:
    async def story(world: SystemWorld) -> None:
        await two_services(world)
        service = world.running.view.named("virtualservice", "s1")
        assert service is not None
        world.lose_store(outage)
        before = world.now
        with pytest.raises(Unavailable):
            await world.service("s3", "g")
        with pytest.raises(Unavailable):
            await world.operate(service["uuid"], "scaleout")
        with pytest.raises(ShoalError):
            await world.operate(service["uuid"], "scalein")
        assert world.now - before < 10.0
        assert "taken no changes since" in world.controller.cluster_runtime()["cluster_state"]["reason"]
        await world.pass_time(30.0)
        world.lose_store("")
        await world.pass_time(5.0)
        await world.settle()
        assert world.running.view.named("pool", "s3-pool") is None
        record = world.record_of("s1")
        assert record is not None and len(record.placements) == 1, "no request was left behind"
        assert "reason" not in world.controller.cluster_runtime()["cluster_state"]
        (why,) = told(world, "STORE_UNAVAILABLE")
        assert f"The simulated store is {outage}." in why

    play(story)


def test_the_others_are_looked_after_while_one_waits_to_be_written_down() -> None:
    """An engine connects for the first time and that can't be stored; another one dies and is started again all the same."""

    async def story(world: SystemWorld) -> None:
        owner = await two_services(world)
        world.cloud.create_s = (2.0, 2.0)
        await world.service("s3", "g")
        await world.service("s4", "g")
        await world.service("s5", "g")
        before = set(world.agents)
        while set(world.agents) == before:
            await world.pass_time(0.1)
        await world.pass_time(0.15)
        fresh = set(world.agents) - before

        def seen() -> list[bool]:
            return [world.controller.ledger.engines[engine].seen for engine in fresh]

        assert not any(seen())
        world.lose_store(FULL)
        world.kill(owner)
        await world.pass_time(900.0)
        assert not any(seen())
        assert world.segment.engines[owner].running, "starting an engine takes no store"
        assert told(world, "SE_DOWN") and told(world, "REBOOT_SE")
        world.lose_store("")
        await world.settle()
        assert all(seen())

    play(story)


def test_an_object_that_was_deleted_unheard_ends_nothing() -> None:
    """The delete is stored, its answer and the watch are lost: it is tried again by what is seen here still."""

    async def story(world: SystemWorld) -> None:
        owner = await two_services(world)
        process = world.running
        door, heard, follows = process.door, process.door.written, process.door.followed
        blind = True

        def followed() -> None:
            if blind:
                raise Unavailable("No answer.")
            follows()

        door.followed = followed  # type: ignore[method-assign]
        await world.controller.operate("serviceengine", owner, "forcedelete", {}, OPERATOR)
        await world.pass_time(10.0)
        assert world.running.view.get("serviceengine", owner) is not None, "it is not seen yet that it is gone"
        blind = False
        await world.pass_time(5.0)
        assert world.process is process and door.written == heard
        assert world.running.view.get("serviceengine", owner) is None
        await world.settle()

    play(story)


def test_a_store_that_comes_and_goes_is_told_of_in_the_end() -> None:
    async def story(world: SystemWorld) -> None:
        await two_services(world)
        for seconds in (2.0, 20.0):
            world.lose_store(FULL)
            with pytest.raises(Unavailable):
                await world.create("pool", {"name": "p"})
            await world.pass_time(seconds)
            world.lose_store("")
            await world.pass_time(5.0)
        assert len(told(world, "STORE_UNAVAILABLE")) == 1, "once a minute"
        world.lose_store(FULL)
        with pytest.raises(Unavailable):
            await world.create("pool", {"name": "p"})
        await world.pass_time(70.0)
        assert len(told(world, "STORE_UNAVAILABLE")) == 2, "it lasts"

    play(story)


def test_an_engine_that_was_retired_unheard_is_removed_all_the_same() -> None:
    async def story(world: SystemWorld) -> None:
        owner = await two_services(world)
        spare = next(id for id in world.agents if id not in (owner, owner_of(world, "s2")))
        door = world.running.door

        async def lost() -> None:
            raise Unavailable("No answer.")

        heard, door.written = door.written, lost  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await world.controller.operate("serviceengine", spare, "forcedelete", {}, OPERATOR)
        door.written = heard  # type: ignore[method-assign]
        await world.pass_time(10.0)
        assert spare not in world.agents
        await world.settle()

    play(story)


def test_a_controller_that_starts_without_its_store_says_so() -> None:
    async def story(world: SystemWorld) -> None:
        await two_services(world)
        await world.kill_controller()
        world.lose_store(GONE)
        with pytest.raises(Unavailable, match="is gone"):
            await world.start_controller()
        assert world.process is None
        await world.pass_time(5.0)
        world.lose_store("")
        await world.start_controller()
        await world.settle()

    play(story)


def test_a_migration_whose_plan_was_stored_unheard_comes_about() -> None:
    """Seen from memory nothing has happened; stored is a plan that no engine was told."""

    async def story(world: SystemWorld) -> None:
        owner = await two_services(world)
        service = world.running.view.named("virtualservice", "s1")
        assert service is not None
        for turn in range(12):
            if turn == 1:
                world.lose_store(FLAKY)
            try:
                await world.operate(service["uuid"], "migrate")
            except ShoalError:
                pass
            await world.pass_time(2.0)
        world.lose_store("")
        await world.settle()
        record = world.record_of("s1")
        assert record is not None
        assert [p.state for p in record.placements] == [PlacementState.READY]
        assert owner in world.agents

    play(story)
