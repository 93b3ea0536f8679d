"""An address is given away again only when no engine can answer for it any more, in virtual time.

That two engines never answer for one address is watched all the time (`ownership_world.World.check`).
"""

from __future__ import annotations

from typing import Any

import pytest

from shoal.errors import Refused
from shoal.simulator.system_world import OPERATOR, SystemWorld
from tests.simulation.playing import play

ADDRESS, OTHER = "10.9.63.1", "10.9.63.2"
SOON_S = 4.0
LONG_S = 40.0
"""An engine that is cut off has been given up by then."""


async def group(world: SystemWorld, name: str = "g", **fields: Any) -> str:
    made = await world.create("serviceenginegroup", {"name": name, "max_vs_per_se": 4, "buffer_se": 1, **fields})
    return str(made["uuid"])


async def remove(world: SystemWorld, name: str) -> None:
    for type, suffix in (("virtualservice", ""), ("vsvip", "-vip"), ("pool", "-pool")):
        found = world.running.view.named(type, f"{name}{suffix}")
        assert found is not None
        await world.delete(type, found["uuid"])


def address_of(world: SystemWorld, name: str) -> str:
    found = world.running.view.named("vsvip", f"{name}-vip")
    assert found is not None
    return str(found["vip"][0]["ip_address"]["addr"])


def reason(world: SystemWorld, name: str) -> str:
    found = world.running.view.named("virtualservice", name)
    assert found is not None
    return str(world.controller.read("virtualservice", found["uuid"], "runtime")["oper_status"]["reason"])


async def owner_cut_off(world: SystemWorld) -> str:
    """The owner of ``web`` on `ADDRESS` loses the controller, serves on, and web is deleted. The engine's id."""
    await group(world)
    await world.service("web", "g", address=ADDRESS)
    await world.settle()
    (owner,) = world.segment.speakers(ADDRESS)
    world.part(owner)
    await remove(world, "web")
    return owner


def test_an_address_chosen_by_an_operator_waits_for_an_engine_that_is_cut_off() -> None:
    async def story(world: SystemWorld) -> None:
        owner = await owner_cut_off(world)
        await world.service("next", "g", address=ADDRESS)
        await world.pass_time(LONG_S)
        assert world.segment.speakers(ADDRESS) == [owner], "it still serves what it was told"
        record = world.record_of("next")
        assert record is not None and not record.placements
        name = world.controller.ledger.engines[owner].name
        assert f"{ADDRESS} was the address of another VsVip before, and {name} may still answer for it" in reason(
            world, "next"
        )
        world.join(owner)
        await world.pass_time(SOON_S)
        await world.settle()
        record = world.record_of("next")
        assert record is not None and world.segment.speakers(ADDRESS) == [record.succession[0]]
        assert (await world.store.list("/freed/")).records == ()

    play(story)


def test_the_controller_chooses_another_address_meanwhile_and_that_one_later() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world)
        await world.service("web", "g")
        await world.settle()
        freed = address_of(world, "web")
        (owner,) = world.segment.speakers(freed)
        world.part(owner)
        await remove(world, "web")
        await world.pass_time(SOON_S)
        await world.service("second", "g")
        assert address_of(world, "second") != freed
        await world.kill_controller()
        await world.start_controller()
        await world.service("third", "g")
        assert freed not in (address_of(world, name) for name in ("second", "third")), "a new controller knows it, too"
        world.join(owner)
        await world.pass_time(SOON_S)
        await world.service("fourth", "g")
        assert address_of(world, "fourth") == freed

    play(story)


def test_where_all_engines_answer_an_address_is_given_away_again_at_once() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world)
        await world.service("web", "g", address=ADDRESS)
        await world.settle()
        await remove(world, "web")
        await world.service("next", "g", address=ADDRESS)
        await world.pass_time(1.5)
        assert len(world.segment.speakers(ADDRESS)) == 1
        await world.settle()

    play(story)


def test_a_dead_engine_that_is_waited_for_is_started_again_at_once() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world)
        await world.service("web", "g", address=ADDRESS)
        await world.settle()
        (owner,) = world.segment.speakers(ADDRESS)
        world.kill(owner)
        await remove(world, "web")
        await world.service("next", "g", address=ADDRESS)
        await world.pass_time(20.0)
        assert world.segment.engines[owner].running, "long before crashed_se_reboot"
        record = world.record_of("next")
        assert record is not None and world.segment.speakers(ADDRESS) == [record.succession[0]]

    play(story)


def test_an_engine_deleted_by_force_is_waited_for_no_longer() -> None:
    async def story(world: SystemWorld) -> None:
        owner = await owner_cut_off(world)
        await world.service("next", "g", address=ADDRESS)
        await world.pass_time(LONG_S)
        assert world.segment.speakers(ADDRESS) == [owner]
        await world.running.serve(world.controller.operate("serviceengine", owner, "forcedelete", {}, OPERATOR))
        await world.pass_time(SOON_S)
        (speaker,) = world.segment.speakers(ADDRESS)
        assert speaker != owner
        await world.settle()

    play(story)


def test_a_service_keeps_its_address_while_the_one_it_is_to_have_is_not_free() -> None:
    async def story(world: SystemWorld) -> None:
        owner = await owner_cut_off(world)
        await world.service("next", "g", address=OTHER)
        await world.pass_time(LONG_S)
        found = world.running.view.named("vsvip", "next-vip")
        assert found is not None
        entry = [{"vip_id": "0", "ip_address": {"addr": ADDRESS, "type": "V4"}}]
        with pytest.raises(Refused, match="was the address of another VsVip before"):
            await world.patch("vsvip", found["uuid"], vip=entry)
        assert world.segment.speakers(OTHER)
        world.join(owner)
        await world.pass_time(SOON_S)
        await world.patch("vsvip", found["uuid"], vip=entry)
        await world.pass_time(SOON_S)
        assert len(world.segment.speakers(ADDRESS)) == 1 and not world.segment.speakers(OTHER)

    play(story)


def test_a_service_that_moves_to_another_group_waits_for_engines_of_the_former_one() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, "old")
        new = await group(world, "new")
        service = await world.service("web", "old", address=ADDRESS)
        await world.settle()
        (owner,) = world.segment.speakers(ADDRESS)
        world.part(owner)
        await world.patch("virtualservice", service["uuid"], se_group_ref=f"/api/serviceenginegroup/{new}")
        await world.pass_time(LONG_S)
        assert world.segment.speakers(ADDRESS) == [owner]
        assert "was served by another group before" in reason(world, "web")
        world.join(owner)
        await world.pass_time(SOON_S)
        await world.settle()
        (speaker,) = world.segment.speakers(ADDRESS)
        assert world.controller.ledger.engines[speaker].group == new

    play(story)
