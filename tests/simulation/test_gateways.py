"""Gateways that engines lose, on the shipping controller in virtual time: what moves, what stays, and what is said of it."""

from __future__ import annotations

import pytest

from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play

LEGACY, SHARED, PAIR = "HA_MODE_LEGACY_ACTIVE_STANDBY", "HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"


def on(world: SystemWorld) -> list[str]:
    record = world.record_of("web")
    assert record is not None
    return [placement.engine for placement in record.placements]


def told(world: SystemWorld, name: str) -> list[str]:
    return [event.detail for event in reversed(world.controller.events_log.read({"name": name}))]


@pytest.mark.parametrize("mode", [SHARED, PAIR, LEGACY])
def test_who_loses_the_gateway_that_others_reach_is_emptied(mode: str) -> None:
    async def story(world: SystemWorld) -> None:
        await world.create("serviceenginegroup", {"name": "g", "ha_mode": mode, "vs_scalein_timeout": 2})
        await world.service("web", "g")
        await world.settle()
        engine = on(world)[0]
        world.set_gateway(engine, False)
        await world.pass_time(15.0)
        assert engine not in on(world)
        await world.settle()
        record = world.controller.ledger.engines[engine]
        if mode == LEGACY:
            text = f"web: served with no standby, {record.name} does not reach gateway 10.0.0.1"
            assert text in told(world, "VS_SE_HA_COMPROMISED")
        else:
            assert record.migrate_state == "FINISHED"
        (lost,) = told(world, "SE_GATEWAY_HEARTBEAT_FAILED")
        assert lost == f"{record.name}: gateway 10.0.0.1 does not answer (no answer within 1 s)"
        runtime = world.controller.read("serviceengine", engine, "runtime")
        assert runtime["gateway_up"] is False
        assert "does not reach gateway 10.0.0.1" in runtime["oper_status"]["reason"][0]
        answer = world.controller.read("serviceengine", engine, "placement")["answer"]
        assert answer.endswith("It does not reach gateway 10.0.0.1, others do: what it has moves to them.")
        assert told(world, "VS_DOWN") == []

        world.set_gateway(engine, True)
        await world.pass_time(3.0)
        assert world.controller.ledger.engines[engine].migrate_state == ""
        assert told(world, "SE_GATEWAY_HEARTBEAT_SUCCESS") == [f"{record.name}: gateway 10.0.0.1 answers again"]
        assert world.controller.read("serviceengine", engine, "runtime")["gateway_up"] is True
        assert engine not in on(world)  # nothing goes back by itself

    play(story)


def test_a_gateway_that_nobody_reaches_moves_nothing() -> None:
    async def story(world: SystemWorld) -> None:
        await world.create("serviceenginegroup", {"name": "g", "max_se": 3})
        await world.service("web", "g")
        await world.settle()
        before = on(world)
        for engine in world.agents:
            world.set_gateway(engine, False)
        await world.pass_time(30.0)
        assert on(world) == before and told(world, "MIGRATE_SE_STARTED") == []
        assert len(told(world, "SE_GATEWAY_HEARTBEAT_FAILED")) == len(world.agents)

    play(story)


def test_the_last_that_is_left_serves_without_its_gateway() -> None:
    """The one that reached it dies: now nobody does, and one without is better than none."""

    async def story(world: SystemWorld) -> None:
        await world.create("serviceenginegroup", {"name": "g", "ha_mode": LEGACY, "vs_scalein_timeout": 2})
        await world.service("web", "g")
        await world.settle()
        world.cloud.failures = 1000
        engine = on(world)[0]
        world.set_gateway(engine, False)
        await world.pass_time(15.0)
        (other,) = on(world)
        assert other != engine
        world.kill(other)
        await world.pass_time(15.0)
        assert engine in on(world)

    play(story)


def test_an_engine_without_its_gateway_is_no_heir_and_gets_nothing_new() -> None:
    async def story(world: SystemWorld) -> None:
        group = await world.create("serviceenginegroup", {"name": "g", "max_se": 3, "buffer_se": 1})
        await world.service("web", "g")
        await world.settle()
        record = world.record_of("web")
        assert record is not None
        heir = record.succession[1]
        world.set_gateway(heir, False)
        await world.pass_time(15.0)
        record = world.record_of("web")
        assert record is not None and heir not in record.succession
        report = world.controller.read("serviceenginegroup", group["uuid"], "placement/ineligible")
        assert "it does not reach gateway 10.0.0.1, others do" in str(report)

    play(story)
