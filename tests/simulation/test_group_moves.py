"""A virtual service is moved to another group (reference: elastic-ha 3.1, 5.4), in virtual time."""

from __future__ import annotations

from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play

SETTLED_S = 20.0


def test_a_service_that_moves_to_another_group_is_served_there_alone_without_its_surplus() -> None:
    async def story(world: SystemWorld) -> None:
        groups = [
            await world.create("serviceenginegroup", {"name": name, "max_vs_per_se": 4, "se_deprovision_delay": 1})
            for name in ("old", "new")
        ]
        service = await world.service("web", "old")
        await world.settle()
        await world.operate(service["uuid"], "scaleout")
        await world.settle()
        engines = set(world.agents)
        address = world.running.view.all("vsvip")[0]["vip"][0]["ip_address"]["addr"]
        await world.patch(
            "virtualservice", service["uuid"], se_group_ref=f"/api/serviceenginegroup/{groups[1]['uuid']}"
        )
        await world.pass_time(SETTLED_S)
        await world.settle()
        (record,) = world.controller.ledger.vips[groups[1]["uuid"]].values()
        assert record.requested == 1 and record.user_factor == 0, "the surplus is dropped"
        assert not world.controller.ledger.vips.get(groups[0]["uuid"])
        (speaker,) = world.segment.speakers(address)
        assert speaker not in engines, "an engine of the new group answers, and none of the old one"
        await world.pass_time(200.0)
        assert not engines & set(world.agents), "the old ones are idle, and go"

    play(story)
