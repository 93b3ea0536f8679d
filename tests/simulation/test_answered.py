"""Who answers while lists of successors change: the last one that was armed rules, whoever missed it; and that nobody answers is
seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from shoal.controller.records import VipRecord
from shoal.ownership import state as known
from shoal.simulator.kernel import Broken
from shoal.simulator.system_world import SystemWorld
from shoal.simulator.virtual_time import VirtualLoop
from shoal.wire.desired import Vip
from tests.simulation.playing import play, play_in
from tests.simulation.test_storm import speakers

GROUP = {"name": "g", "max_vs_per_se": 4, "buffer_se": 2, "max_se": 3}


async def served(world: SystemWorld, group: dict[str, Any] = GROUP) -> tuple[str, VipRecord]:
    """(the service's uuid, its placement)"""
    await world.create("serviceenginegroup", group)
    service = await world.service("s", "g")
    await world.settle()
    return str(service["uuid"]), placement(world)


def placement(world: SystemWorld) -> VipRecord:
    record = world.record_of("s")
    assert record is not None
    return record


def views(world: SystemWorld, vip: str) -> dict[str, tuple[tuple[str, ...], int, bool]]:
    """Engine -> (the list it acts upon, its version, whether that is the newest it knows)."""
    found = ((engine.name, engine.state.vips.get(vip)) for engine in world.segment.engines.values())
    return {
        name: (view.succession, view.list_version, view.list_version == view.vip.list_version)
        for name, view in found
        if view is not None
    }


def test_an_engine_that_starts_again_amid_a_change_knows_the_list_in_force() -> None:
    """The list it was told last is not armed, as one of its engines is frozen; the one before it is."""

    async def story(world: SystemWorld) -> None:
        service, record = await served(world)
        assert len(record.succession) == 3
        owner, heir, last = record.succession
        world.freeze(last)
        await world.operate(service, "scaleout")
        await world.pass_time(0.6)
        later = placement(world)
        assert (later.in_force, later.in_force_version) == (
            record.succession,
            record.list_version,
        )
        assert views(world, record.id)[heir] == (record.succession, record.list_version, False)
        (address,) = speakers(world)
        await world.kill_controller()
        world.kill(heir)
        await world.cloud.restart(heir)
        await world.pass_time(3.0)
        assert views(world, record.id)[heir] == (record.succession, record.list_version, False)
        world.kill(owner)
        await world.pass_time(1.0)
        assert world.segment.speakers(address) == [heir]

    play(story)


def test_a_list_that_was_never_armed_is_never_in_force() -> None:
    async def story(world: SystemWorld) -> None:
        service, record = await served(world)
        world.freeze(record.succession[-1])
        for operation in ("scaleout", "scalein"):
            await world.operate(service, operation)
            await world.pass_time(0.2)
        later = placement(world)
        assert later.list_version > record.list_version + 1
        assert (later.in_force, later.in_force_version) == (record.succession, record.list_version)

    play(story)


def test_who_is_struck_from_a_list_takes_over_until_the_next_is_armed() -> None:
    """It is disabled; of the two that are left one owns the VIP and the other is frozen, so it can't agree to anything."""

    async def story(world: SystemWorld) -> None:
        _, record = await served(world)
        owner, heir, last = record.succession
        world.freeze(last)
        await world.patch("serviceengine", heir, enable_state="SE_STATE_DISABLED")
        await world.pass_time(0.6)
        later = placement(world)
        assert (later.succession, later.in_force) == ((owner, last), record.succession)
        assert views(world, record.id)[heir] == (record.succession, record.list_version, False)
        (address,) = speakers(world)
        await world.kill_controller()
        world.kill(owner)
        await world.pass_time(1.0)
        assert world.segment.speakers(address) == [heir]
        world.thaw(last)
        await world.start_controller()
        await world.settle()
        assert heir not in views(world, record.id)

    play(story)


def test_who_is_disabled_by_force_is_in_no_list_any_more() -> None:
    async def story(world: SystemWorld) -> None:
        _, record = await served(world)
        _, heir, last = record.succession
        world.freeze(last)
        await world.patch("serviceengine", heir, enable_state="SE_STATE_DISABLED_FORCE")
        await world.pass_time(0.6)
        assert heir in placement(world).in_force
        assert not world.controller.fleet.armed(placement(world))
        assert heir not in views(world, record.id)

    play(story)


class Told(SystemWorld):
    """Notes of which VIPs an engine was told a list that is not armed."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        super().__init__(loop, seed)
        self.unarmed: list[tuple[str, str]] = []
        told = self.witness.told

        def note(engine: str, vips: Iterable[Vip]) -> None:
            told(engine, vips)
            self.unarmed += [(engine, vip.id) for vip in vips if not vip.armed]

        self.witness.told = note  # type: ignore[method-assign]


async def restarted(world: SystemWorld, without: str) -> None:
    """Another controller, which has heard of all engines but one."""
    await world.kill_controller()
    world.part(without)
    await world.start_controller()
    await world.pass_time(1.5)
    heard_of = world.controller.fleet.heard_of
    assert [engine for engine in world.agents if not heard_of(engine)] == [without]


async def greeted(world: SystemWorld, engine: str) -> None:
    while not world.controller.fleet.heard_of(engine):
        await world.pass_time(0.001)


def test_what_was_armed_stays_so_through_a_restart_of_the_controller() -> None:
    """Those that say hello prove it; nobody is told of the list anew."""

    async def story(world: Told) -> None:
        _, record = await served(world)
        heir = record.succession[1]
        world.unarmed.clear()
        await restarted(world, without=heir)
        assert world.controller.fleet.armed(record)
        world.join(heir)
        await greeted(world, heir)
        assert world.controller.fleet.armed(record)
        await world.settle()
        assert placement(world) == record
        assert not world.unarmed

    play_in(Told, story)


def test_an_engine_that_lost_what_was_armed_is_told_so_at_once() -> None:
    """Not of a list before it: the others do not go by that any more."""

    async def story(world: Told) -> None:
        _, record = await served(world)
        heir = record.succession[1]
        world.kill(heir)
        world.wipe(heir)
        world.unarmed.clear()
        await restarted(world, without=heir)
        world.join(heir)
        await greeted(world, heir)
        await world.settle()
        assert views(world, record.id)[heir] == (record.succession, record.list_version, True)
        assert not world.unarmed

    play_in(Told, story)


@pytest.mark.parametrize("restart", [True, False])
def test_who_has_left_a_vip_is_not_told_of_it_again(restart: bool) -> None:
    """Neither by a controller that does not know yet that the list without it is armed, nor as another engine loses its disk."""

    async def story(world: SystemWorld) -> None:
        _, record = await served(world)
        owner, heir, last = record.succession
        await world.patch("serviceengine", heir, enable_state="SE_STATE_DISABLED")
        await world.settle()
        told: list[str] = []
        world.agents[heir]._on_desired = lambda engine, vips: told.extend(vip.id for vip in vips)
        if restart:
            await world.kill_controller()
            world.part(owner)
            world.part(last)
            await world.start_controller()
            await world.pass_time(1.5)
            assert not world.controller.fleet.armed(placement(world))
            world.join(owner)
            world.join(last)
        else:
            world.kill(last)
            world.wipe(last)
            await world.cloud.restart(last)
        await world.settle()
        assert told == []

    play(story)


def test_a_connection_that_breaks_as_a_list_is_armed_takes_nothing_back() -> None:
    """The word that it is has not reached the engine; that it runs the list counts all the same."""

    async def story(world: SystemWorld) -> None:
        service, record = await served(world)
        owner = record.succession[0]
        await world.operate(service, "scaleout")
        while not (world.controller.fleet.armed(placement(world)) and placement(world) != record):
            await world.pass_time(0.0005)
        later = placement(world)
        assert later.list_version > record.list_version
        world.reset(owner)
        fleet = world.controller.fleet
        for _ in range(2000):
            await world.pass_time(0.0005)
            assert fleet.acknowledged(owner, record.id) >= later.list_version

    play(story)


@pytest.mark.parametrize("operation", ["migrate", "scaleout"])
def test_two_engines_stand_in_for_one_another_amid_an_operation(operation: str) -> None:
    """The usual group. The one that is left still drains, the one that joins is not ready yet: either takes over."""

    async def story(world: SystemWorld) -> None:
        service, _ = await served(world, {"name": "g", "max_vs_per_se": 4, "buffer_se": 1, "max_se": 2})
        _, second = sorted(world.agents)
        for agent in world.agents.values():
            agent.drain_s = (60.0, 60.0)
        if operation == "scaleout":
            world.set_lag(second, (10.0, 10.0))
        await world.operate(service, operation)
        await world.pass_time(2.0)
        record = placement(world)
        assert {p.state.value for p in record.placements} == (
            {"draining", "ready"} if operation == "migrate" else {"ready", "assigned"}
        )
        owner, heir = record.succession
        (address,) = speakers(world)
        assert world.segment.speakers(address) == [owner]
        await world.kill_controller()
        world.kill(owner)
        await world.pass_time(1.0)
        assert world.segment.speakers(address) == [heir]
        await world.start_controller()
        await world.settle()

    play(story)


def test_that_no_successor_takes_over_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: SystemWorld) -> None:
        _, record = await served(world)
        await world.kill_controller()
        monkeypatch.setattr(known, "claimable_at", lambda state, view, now: float("inf"))
        world.kill(record.succession[0])
        await world.pass_time(5.0)

    with pytest.raises(Broken, match="its engines should have seen to it within") as found:
        play(story)
    assert found.value.rule == "answered"
