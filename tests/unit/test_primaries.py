"""A primary pool that went down stays out of its group until somebody makes it primary again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.wire import messages
from shoal.wire.desired import Service, decode_part
from tests.api_world import ControlledWorld, controlled_world, lead_to_group

POOLS = ("first", "second", "third")


class World:
    """A virtual service with a group of three pools, each of a lower priority than the one before, on one engine."""

    def __init__(self, world: ControlledWorld) -> None:
        self.world = world

    async def build(self) -> None:
        made = await self.world.service()
        self.service = made["uuid"]
        self.pools = await self.world.pools(POOLS)
        members = [{"pool_ref": self.pools[name]["url"], "priority_label": str(9 - n)} for n, name in enumerate(POOLS)]
        body = {"name": "g", "members": members, "deactivate_primary_pool_on_down": True}
        self.group = await self.world.post("/api/poolgroup", body)
        await lead_to_group(self.world, made, self.group)
        (name,) = await self.world.staged(1)
        engines = self.world.controller.ledger.engines
        self.engine = next(id for id, engine in engines.items() if engine.name == name)
        await self.world.run(lambda: self.told() is not None)

    def told(self) -> Service | None:
        part = self.world.controller.compiler.parts(self.engine).get(f"service/{self.service}")
        found = decode_part(part.data) if part is not None else None
        return found if isinstance(found, Service) and found.groups else None

    def taking(self) -> list[str]:
        """The pools that engines are told to use, in their order."""
        service = self.told()
        assert service is not None
        names = {pool["uuid"]: name for name, pool in self.pools.items()}
        members = sorted(service.groups[0].members, key=lambda one: -one.priority)
        return [names[one.pool] for one in members if one.ratio > 0]

    async def seen(self, **states: str) -> None:
        """The engine reports, and the controller looks."""
        service = self.told()
        assert service is not None
        by_id = {pool.id: pool for pool in service.pools}
        servers = tuple(
            messages.ServerState(service=service.id, pool=uuid, server=by_id[uuid].servers[0].name, state=state)
            for name, state in states.items()
            if (uuid := self.pools[name]["uuid"])
        )
        live = self.world.controller.fleet.live(self.engine)
        report = messages.Status(root="", haproxy=True, link=True, servers=servers)
        self.world.controller.fleet.reported(live, report)
        await self.world.controller.primaries.look()

    async def make_primary(self, pool: str, status: int = 200) -> Any:
        url = f"/api/poolgroup/{self.group['uuid']}/enable_primary_pool/clear"
        return await self.world.post(url, {"pool_uuid": pool}, status)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with controlled_world(tmp_path) as world:
        made = World(world)
        await made.build()
        yield made


async def test_what_went_down_stays_out_until_it_is_made_primary(made: World) -> None:
    await made.seen(first="up", second="up", third="up")
    assert made.taking() == list(POOLS)
    await made.seen(first="down", second="up", third="up")
    await made.seen(first="up", second="up", third="up")
    assert made.taking() == ["second", "third"]
    runtime = await made.world.get(f"/api/poolgroup/{made.group['uuid']}/runtime")
    assert "first went down, and gets nothing until it is made primary again" in runtime["oper_status"]["reason"][0]
    events = [event.name for event in made.world.controller.events_log.read({})]
    assert events.count("POOL_DEACTIVATED") == 1
    await made.world.restart()
    await made.world.controller.primaries.load()
    await made.world.run(lambda: made.told() is not None)
    assert made.taking() == ["second", "third"], "another controller knows it, too"
    await made.make_primary(made.pools["first"]["uuid"])
    assert made.taking() == list(POOLS)


async def test_any_pool_may_be_made_primary_and_nothing_else(made: World) -> None:
    await made.make_primary(made.pools["third"]["uuid"])
    assert made.taking() == ["third"]
    assert "pool_uuid" in str(await made.make_primary("pool-nowhere", 400))
    reply = await made.world.client.post(f"/api/poolgroup/{made.group['uuid']}/enable_primary_pool/clear", json={})
    assert reply.status_code == 400
    off = {"replace": {"deactivate_primary_pool_on_down": False}}
    assert (await made.world.client.patch(f"/api/poolgroup/{made.group['uuid']}", json=off)).status_code == 200
    await made.world.controller.primaries.look()
    assert made.taking() == list(POOLS), "the group has them all again"
    assert "is off" in str(await made.make_primary(made.pools["third"]["uuid"], 400))


@pytest.mark.parametrize(
    "states",
    [
        {"first": "down", "second": "down", "third": "down"},
        {"first": "up", "second": "down", "third": "up"},
        {},
    ],
)
async def test_nothing_is_given_up_that_nothing_else_stands_in_for(made: World, states: dict[str, str]) -> None:
    await made.seen(**states)
    assert made.taking() == list(POOLS)


async def test_a_pool_whose_servers_are_not_known_yet_did_not_go_down(made: World) -> None:
    url = f"/api/pool/{made.pools['first']['uuid']}"
    assert (await made.world.client.patch(url, json={"replace": {"servers": []}})).status_code == 200
    await made.world.run(lambda: (one := made.told()) is not None and any(not pool.servers for pool in one.pools))
    await made.seen(second="up", third="up")
    assert made.taking() == list(POOLS)
