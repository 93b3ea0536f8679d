"""The shipping controller, placement and ownership in virtual time, under seeded faults."""

from __future__ import annotations

import asyncio

import pytest

from shoal.simulator.history import Shape
from shoal.simulator.kernel import Broken
from shoal.simulator.system_world import SystemWorld
from shoal.simulator.trial import begin
from shoal.wire import desired as wire
from tests.simulation.playing import play


async def two_groups(world: SystemWorld, services: int = 3) -> list[str]:
    """One group of each mode with its services, placed; returns the services' uuids."""
    shape = Shape(services=services, modes=("HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"))
    await begin(world, shape)
    return [found["uuid"] for found in world.running.view.all("virtualservice")]


def owner_of(world: SystemWorld, service: str) -> str:
    placement = world.controller.read("virtualservice", service, "placement")["vips"][0]
    name = placement["answers"]
    return next(e.id for e in world.controller.ledger.engines.values() if e.name == name)


@pytest.mark.parametrize("fault", ["kill", "freeze", "cut"])
@pytest.mark.parametrize("controller", ["up", "dead"])
def test_services_survive_an_owner_and_are_whole_again(fault: str, controller: str) -> None:
    async def story(world: SystemWorld) -> None:
        services = await two_groups(world)
        addresses = [vip["ip_address"]["addr"] for found in world.running.view.all("vsvip") for vip in found["vip"]]
        for service in services:
            owner = owner_of(world, service)
            if controller == "dead":
                await world.kill_controller()
            getattr(world, fault)(owner)
            await world.pass_time(1.0)
            wrong = {a: s for a in addresses if len(s := world.segment.speakers(a)) != 1}
            assert not wrong, world.segment.explain(f"{wrong} answer a second after the {fault} of {owner}")
            if controller == "dead":
                await world.start_controller()
            if fault == "freeze":
                world.thaw(owner)
            elif fault == "cut":
                world.heal(owner)
            await world.settle()

    play(story, 1)


def test_an_engine_that_freezes_before_it_has_said_what_it_runs_says_so_when_it_goes_on() -> None:
    async def story(world: SystemWorld) -> None:
        service, *_ = await two_groups(world)
        owner = owner_of(world, service)
        agent = world.agents[owner]
        applied = agent._on_desired

        def freezing(engine: str, vips: tuple[wire.Vip, ...]) -> None:
            applied(engine, vips)
            agent._on_desired = applied
            asyncio.get_running_loop().call_soon(world.freeze, owner)

        agent._on_desired = freezing
        await world.operate(service, "scaleout")
        while agent._on_desired != applied:
            await world.pass_time(0.01)
        await world.pass_time(0.01)
        world.thaw(owner)
        await world.pass_time(0.005)
        assert world.controller.fleet.live(owner).applied == agent._applied

    play(story, 1)


def test_one_group_does_not_see_another() -> None:
    """A full group does not use the room of its neighbour, nor do failures there touch it."""

    async def story(world: SystemWorld) -> None:
        group_uuids = {}
        for name in ("full", "roomy"):
            body = {"name": name, "max_se": 2, "max_vs_per_se": 1, "buffer_se": 0}
            group_uuids[name] = (await world.create("serviceenginegroup", body))["uuid"]
        for service, group in (("one", "full"), ("two", "full"), ("other", "roomy")):
            await world.service(service, group)
        await world.pass_time(10.0)
        refused = await world.service("three", "full")
        await world.pass_time(10.0)
        groups = {e.id: e.group for e in world.controller.ledger.engines.values()}
        for name, services in (("full", 2), ("roomy", 1)):
            uuid = group_uuids[name]
            placed = [p.engine for vip in world.controller.ledger.vips[uuid].values() for p in vip.placements]
            assert len(placed) == services
            assert {groups[engine] for engine in placed} == {uuid}
        vip = world.controller.read("virtualservice", refused["uuid"], "placement")["vips"][0]
        assert vip["placements"] == []

    play(story, 1)


def test_a_broken_promise_is_noticed() -> None:
    """The simulator itself: a second engine that answers, whatever it was told, does not pass."""

    async def story(world: SystemWorld) -> None:
        services = await two_groups(world, services=1)
        owner = owner_of(world, services[0])
        (address,) = world.segment.engines[owner].addresses
        rogue = next(engine for engine in world.segment.engines.values() if engine.name != owner)
        rogue.addresses[address] = "none of its VIPs"
        rogue.lease_until = world.now + 10.0
        await world.pass_time(8.0)  # what nobody said is found by the full look, once in some hundred messages

    with pytest.raises(Broken, match="both answer"):
        play(story, 6)


def test_ten_minutes_without_a_fault_changes_nothing() -> None:
    async def story(world: SystemWorld) -> None:
        services = await two_groups(world, services=1)
        before = {service: owner_of(world, service) for service in services}
        await world.pass_time(600.0)
        assert {service: owner_of(world, service) for service in services} == before

    play(story, 4)


def test_a_wall_clock_that_jumps_moves_nothing() -> None:
    async def story(world: SystemWorld) -> None:
        services = await two_groups(world, services=1)
        before = {service: owner_of(world, service) for service in services}
        for jump in (3600.0, -7200.0):
            world.clock.offset_s += jump
            await world.pass_time(30.0)
            assert {service: owner_of(world, service) for service in services} == before

    play(story, 5)
