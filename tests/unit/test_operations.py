"""Operations and runtime members on the real controller, with engines that are made and never serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.ledger import Changes
from shoal.wire import messages
from tests.api_world import ControlledWorld, StillClock, controlled_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def placed(world: ControlledWorld) -> Any:
    """A virtual service whose VIP waits for an engine that has been made."""
    service = await world.service()
    await world.run(lambda: any(world.view.get("serviceengine", engine) for engine in holders(world)))
    return service


def holders(world: ControlledWorld) -> list[str]:
    vips = [vip for group in world.controller.ledger.vips.values() for vip in group.values()]
    return [placement.engine for vip in vips for placement in vip.placements]


def holder(world: ControlledWorld) -> Any:
    (engine,) = holders(world)
    return world.view.get("serviceengine", engine)


class SilentEngine:
    """It says hello, and then only takes what it is sent."""

    def __init__(self, engine: str) -> None:
        self._hello = messages.Hello(
            wire_version=messages.WIRE_VERSION, engine=engine, software="", incarnation="", address="", mac="", root=""
        )
        self._greeted = False
        self.states: list[messages.State] = []

    async def receive(self) -> messages.FromEngine:
        if self._greeted:
            await asyncio.Event().wait()
        self._greeted = True
        return self._hello

    async def send(self, message: messages.FromController) -> None:
        if isinstance(message, messages.State):
            self.states.append(message)

    async def close(self) -> None: ...


async def test_a_virtual_service_shows_its_runtime_members_and_takes_them_back(world: ControlledWorld) -> None:
    service = await placed(world)
    path = f"/api/virtualservice/{service['uuid']}"
    whole = await world.get(path)
    assert whole["version"] > 0 and whole["self_se_election"] is False
    (vip,) = whole["vip_runtime"]
    assert vip["vip_id"] == "0" and vip["se_list"][0]["se_ref"].startswith(
        "https://ctl.example:9443/api/serviceengine/"
    )
    assert "vip_runtime" not in service
    await world.call("PUT", path, 200, json=whole)
    assert (await world.get(path, fields="enabled")).keys() == {"uuid", "name", "url", "enabled"}
    stored = world.view.get("virtualservice", service["uuid"]) or {}
    assert not {"vip_runtime", "version", "self_se_election"} & stored.keys()


async def test_resync_sends_everything_again(world: ControlledWorld) -> None:
    service = await placed(world)
    path = f"/api/virtualservice/{service['uuid']}/resync"
    assert (await world.post(path, {}, 200))["status"] == "sent again to none"
    engine = holder(world)
    link = SilentEngine(engine["uuid"])
    controller = world.controller
    task = asyncio.create_task(controller.attend(link, f"shoal://engine/{engine['uuid']}"))
    await world.run(lambda: any(part.id.startswith("service/") for s in link.states for part in s.manifest.parts))
    before = link.states[-1]
    assert (await world.post(path, {}, 200))["status"] == f"sent again to {engine['name']}"
    await asyncio.sleep(0.05)
    after = link.states[-1]
    assert after is not before and after.manifest == before.manifest
    assert {id for id, _ in after.inline} == {part.id for part in after.manifest.parts}
    reply = await world.post(path, {"se_ref": ["/api/serviceengine/none"]}, 400)
    assert "no such service engine" in reply["error"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_engine_is_made_on_no_host_that_does_not_exist(world: ControlledWorld) -> None:
    service = await placed(world)
    body, before = {"vip_id": "0", "to_host_ref": "host-99"}, set(world.controller.ledger.engines)
    reply = await world.post(f"/api/virtualservice/{service['uuid']}/scaleout", body, 400)
    assert "to_host_ref: host-99 is not allowed: no such host There are: " in reply["error"].replace(". ", " ")
    assert set(world.controller.ledger.engines) == before


async def test_what_cannot_be_done_is_refused_with_what_to_do_instead(world: ControlledWorld) -> None:
    service = await placed(world)
    engine = holder(world)
    group, pool = service["se_group_ref"], service["pool_ref"]
    for reference, operation, words in (
        (service["url"], "rotatekeys", "other ones each day"),
        (service["url"], "switchover", "Use migrate."),
        (f"/api/serviceengine/{engine['uuid']}", "switchover", "Disable the service engine"),
        (group, "redistribute", "migrate"),
        (group, "endstorm", "has no storm"),
        (pool, "scaleout", "add servers"),
        (pool, "scalein", "delete servers"),
    ):
        path = reference.partition("#")[0].removeprefix("https://ctl.example:9443")
        assert words in (await world.post(f"{path}/{operation}", {}, 400))["error"]


async def test_an_engine_that_serves_is_not_deleted_and_an_idle_one_is(world: ControlledWorld) -> None:
    await placed(world)
    engine = holder(world)
    reply = await world.call("DELETE", f"/api/serviceengine/{engine['uuid']}", 400)
    assert reply["error"].startswith(f"Cannot delete, {engine['name']} serves web.")
    ledger = world.controller.ledger
    group = engine["se_group_ref"].rpartition("/")[2]
    spare = ledger.new_engine(group, "Spare", 0.0, host="", why="by hand")
    await ledger.write(Changes(engines={spare.id: spare}))
    await world.run(lambda: world.view.get("serviceengine", spare.id))
    await world.call("DELETE", f"/api/serviceengine/{spare.id}", 204)
    await world.get(f"/api/serviceengine/{spare.id}", 404)
    assert spare.id not in ledger.engines
    await world.run(lambda: any(e.name == "DELETED_SE" for e in world.controller.events_log.read({"object": spare.id})))


async def test_pools_and_servers_say_when_they_changed_last(world: ControlledWorld) -> None:
    await placed(world)
    (pool,) = world.view.all("pool")
    engine, fleet = holder(world)["uuid"], world.controller.fleet

    async def changed_at() -> tuple[int, int]:
        summary = await world.get(f"/api/pool/{pool['uuid']}/runtime")
        (server,) = await world.get(f"/api/pool/{pool['uuid']}/runtime/server")
        return tuple(d["oper_status"]["last_changed_time"]["secs"] for d in (summary, server))

    written = int(pool["_last_modified"]) // 1_000_000
    assert await changed_at() == (written, written)
    ledger = world.controller.ledger
    await ledger.write(Changes(engine_fields={engine: {"seen": True}}))
    live = fleet.live(engine)
    live.heard_at = fleet.clock.monotonic()
    for now, state, expected in ((2e9, "up", 2e9), (3e9, "up", 2e9), (4e9, "down", 4e9), (5e9, "down", 4e9)):
        fleet.clock = _At(now)
        state_of = messages.ServerState(service="s", pool=pool["uuid"], server="10.0.0.1:80", state=state)
        fleet.reported(live, messages.Status(root="", haproxy=True, link=True, servers=(state_of,)))
        assert await changed_at() == (expected, expected)


class _At(StillClock):
    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now
