"""The shipping controller in virtual time: an engine that was deleted, and that its cloud has not removed yet, comes back."""

from __future__ import annotations

from shoal.clouds.protocol import CloudError
from shoal.simulator.system_world import OPERATOR, SystemWorld
from tests.simulation.playing import play, settings_of
from tests.simulation.test_storm import speakers

GROUP = {"name": "g", "max_vs_per_se": 4, "buffer_se": 1}


def peers(world: SystemWorld, engine: str) -> set[str]:
    """Whom the engine is told to tell what it holds."""
    return {peer.id for peer in settings_of(world, engine).peers}


def test_one_that_comes_back_by_an_old_plan_gives_way_as_soon_as_it_is_met() -> None:
    """The owner of now was made later, so the old plan does not know it; it has to know the old one."""

    async def story(world: SystemWorld) -> None:
        await world.create("serviceenginegroup", GROUP)
        await world.service("s", "g")
        await world.settle()
        former = sorted(world.agents)
        (address,) = speakers(world)
        (old,) = world.segment.speakers(address)
        removed, stays = world.cloud.delete, {old}

        async def delete(engine_id: str) -> None:
            if engine_id in stays:
                raise CloudError("The simulated cloud is busy.")
            await removed(engine_id)

        world.cloud.delete = delete  # type: ignore[method-assign]
        for engine in former:
            world.part(engine)
            world.kill(engine)
            await world.controller.operate("serviceengine", engine, "forcedelete", {}, OPERATOR)
        await world.pass_time(20.0)
        (now,) = world.segment.speakers(address)
        assert now not in former and old in world.agents
        assert old in peers(world, now)

        others = [engine for engine in world.agents if engine != old]
        for engine in others:
            world.segment.cut(old, engine, True)
        await world.cloud.restart(old)
        await world.pass_time(5.0)
        assert set(world.segment.speakers(address)) == {old, now}, "they are apart"
        for engine in others:
            world.segment.cut(old, engine, False)
        await world.pass_time(0.2)
        assert world.segment.speakers(address) == [now]

        stays.clear()
        await world.pass_time(15.0)
        assert old not in world.agents and old not in peers(world, now)
        await world.settle()

    play(story)
