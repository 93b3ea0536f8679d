"""The shipping controller in virtual time: somebody deletes an engine behind its back."""

from __future__ import annotations

from shoal.clouds.protocol import EngineHandle, EngineSpec
from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play
from tests.simulation.test_storm import events, speakers

GROUP = {"name": "g", "max_vs_per_se": 4, "buffer_se": 1}


async def begun(world: SystemWorld) -> str:
    """The engine that answers for the one service."""
    await world.create("serviceenginegroup", GROUP)
    await world.create("serviceenginegroup", {**GROUP, "name": "other"})
    await world.service("s", "g")
    await world.settle()
    record = world.record_of("s")
    assert record is not None
    return record.succession[0]


def test_its_record_goes_and_another_is_made() -> None:
    async def story(world: SystemWorld) -> None:
        first = await begun(world)
        (address,) = speakers(world)
        await world.cloud.delete(first)
        await world.pass_time(1.0)
        assert len(world.segment.speakers(address)) == 1, "its successor answers"
        assert first in world.controller.ledger.engines, "a list that lacks it once may be wrong"
        await world.pass_time(9.0)
        assert first not in world.controller.ledger.engines
        assert world.running.view.get("serviceengine", first) is None
        (told,) = events(world, "DELETING_SE")
        assert "somebody else has deleted it" in told
        await world.settle()
        assert len(world.agents) == 2

    play(story)


def test_a_service_that_leaves_its_group_does_not_wait_for_it() -> None:
    """It can't answer for the address any more, which an engine that is only out of sight could for an hour."""

    async def story(world: SystemWorld) -> None:
        first = await begun(world)
        service = world.running.view.named("virtualservice", "s")
        assert service is not None
        await world.cloud.delete(first)
        await world.patch("virtualservice", service["uuid"], se_group_ref="/api/serviceenginegroup?name=other")
        await world.pass_time(20.0)
        await world.settle()
        record = world.record_of("s")
        assert record is not None and record.placements

    play(story)


def test_one_is_not_deleted_because_the_cloud_can_not_be_asked() -> None:
    async def story(world: SystemWorld) -> None:
        first = await begun(world)
        world.part(first)
        world.reset(first)
        for _ in range(20):
            world.lose_cloud(True)
            await world.pass_time(1.0)
            world.lose_cloud(False)
            await world.pass_time(1.0)
        assert first in world.controller.ledger.engines and not events(world, "DELETING_SE")
        world.join(first)
        await world.pass_time(5.0)
        await world.settle()
        assert first in world.agents

    play(story)


def test_what_is_listed_again_within_seconds_stays() -> None:
    async def story(world: SystemWorld) -> None:
        first = await begun(world)
        known = world.cloud._engines
        for _ in range(5):
            world.part(first)
            world.reset(first)
            handle = known.pop(first)
            await world.pass_time(4.0)
            known[first] = handle
            await world.pass_time(1.0)
        assert first in world.controller.ledger.engines and not events(world, "DELETING_SE")

    play(story)


def test_one_that_connects_while_a_list_without_it_is_on_its_way_stays() -> None:
    async def story(world: SystemWorld) -> None:
        first = await begun(world)
        listed, lists = world.cloud.engines, 0

        async def slow() -> list[EngineHandle]:
            nonlocal lists
            lists += 1
            without = [handle for handle in await listed() if lists > 2 or handle.id != first]
            await world.clock.sleep(6.0)
            return without

        world.cloud.engines = slow  # type: ignore[method-assign]
        world.part(first)
        world.reset(first)
        await world.pass_time(8.0)  # the first list has come, the second is on its way
        world.join(first)
        await world.pass_time(30.0)
        assert first in world.controller.ledger.engines and not events(world, "DELETING_SE")

    play(story)


def test_one_that_goes_before_it_was_seen_is_not_made_again_and_again() -> None:
    async def story(world: SystemWorld) -> None:
        await begun(world)
        made = world.cloud.make

        async def make(spec: EngineSpec) -> EngineHandle:
            handle = await made(spec)
            await world.cloud.delete(spec.id)
            return handle

        world.cloud.make = make  # type: ignore[method-assign]
        found = next(g for g in world.running.view.all("serviceenginegroup") if g["name"] == "g")
        await world.patch("serviceenginegroup", found["uuid"], buffer_se=2)
        before = len(events(world, "CREATING_SE"))
        await world.pass_time(120.0)
        assert 1 <= len(events(world, "CREATING_SE")) - before <= 4

    play(story)
