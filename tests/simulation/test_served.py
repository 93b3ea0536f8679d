"""VS_UP and VS_DOWN say whether engines serve a virtual service, once each time, also over a restart of the controller."""

from __future__ import annotations

from typing import Any

from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play


def told(world: SystemWorld) -> list[str]:
    """``shop VS_UP``, ``shop VS_DOWN``, ... in order."""
    found = [e for e in reversed(world.controller.events_log.read({})) if e.name in ("VS_UP", "VS_DOWN")]
    return [f"{event.detail.partition(':')[0]} {event.name}" for event in found]


async def placed(world: SystemWorld, **group: Any) -> tuple[str, dict[str, Any]]:
    """(engine that answers, service)"""
    await world.create("serviceenginegroup", {"name": "g", **group})
    service = await world.service("web", "g")
    await world.settle()
    record = world.record_of("web")
    assert record is not None
    return record.placements[0].engine, service


def test_a_service_is_up_and_down_as_engines_serve_it() -> None:
    async def story(world: SystemWorld) -> None:
        engine, service = await placed(world, max_se=1, buffer_se=0)
        await world.service("shop", "g", vip="web", port=81)
        await world.settle()
        assert told(world) == ["web VS_UP"]
        world.cloud.failures = 1
        world.kill(engine)
        await world.pass_time(3.0)
        assert told(world)[1:] == ["web VS_DOWN", "shop VS_DOWN"]
        down = world.controller.events_log.read({"name": "VS_DOWN", "object": service["uuid"]})
        assert [event.level for event in down] == ["error"]
        assert down[0].detail.startswith("web: no engine serves it: ")
        await world.pass_time(60.0)
        assert told(world)[3:] == ["web VS_UP", "shop VS_UP"]
        await world.patch("virtualservice", service["uuid"], enabled=False)
        await world.settle()
        assert len(told(world)) == 5  # the other one is still served, and this one is not meant to be

    play(story)


def test_a_takeover_and_a_move_take_nothing_down_and_what_is_disabled_is_not_down() -> None:
    async def story(world: SystemWorld) -> None:
        engine, service = await placed(world, max_se=3, buffer_se=1)
        world.kill(engine)
        await world.settle()
        await world.operate(service["uuid"], "migrate")
        await world.settle()
        assert told(world) == ["web VS_UP"]
        await world.patch("virtualservice", service["uuid"], enabled=False)
        await world.settle()
        assert told(world) == ["web VS_UP"]
        await world.patch("virtualservice", service["uuid"], enabled=True)
        await world.settle()
        assert told(world) == ["web VS_UP", "web VS_UP"]

    play(story)


def test_a_controller_that_starts_tells_of_what_changed_alone() -> None:
    async def story(world: SystemWorld) -> None:
        engine, _ = await placed(world, max_se=1, buffer_se=0)
        await world.kill_controller()
        await world.start_controller()
        await world.pass_time(20.0)
        assert told(world) == ["web VS_UP"]
        world.cloud.failures = 100
        world.kill(engine)
        await world.pass_time(3.0)
        await world.kill_controller()
        await world.start_controller()  # it starts the dead engine again
        await world.pass_time(60.0)
        assert told(world) == ["web VS_UP", "web VS_DOWN", "web VS_UP"]

    play(story)
