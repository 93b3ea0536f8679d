"""?plan=true and ?apply=: said before it is done, done only if it still holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.controller.ledger import Changes
from tests.api_world import PASSWORD, ControlledWorld, controlled_world

DISABLE = {"replace": {"enable_state": "SE_STATE_DISABLED"}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def served(world: ControlledWorld, engines: int = 3) -> list[str]:
    """Two virtual services, each on an engine of its own; the paths of the engines."""
    await world.service("web", "10.9.0.5")
    await world.service("shop", "10.9.0.6")
    await world.staged(engines)
    documents = world.view.all("serviceengine")
    return [f"/api/serviceengine/{document['uuid']}" for document in documents]


def group_path(world: ControlledWorld) -> str:
    group = world.view.named("serviceenginegroup", "Default-Group")
    assert group is not None
    return f"/api/serviceenginegroup/{group['uuid']}"


async def records(world: ControlledWorld) -> dict[str, int]:
    return {record.key: record.version for record in (await world.store.list("")).records}


async def plan(world: ControlledWorld, path: str, body: Any, method: str = "PATCH", status: int = 200) -> Any:
    more = {"json": body} if body is not None else {}
    return await world.call(method, f"{path}?plan=true", status, **more)


def engine(world: ControlledWorld, path: str) -> str:
    return str((world.view.get("serviceengine", path.rpartition("/")[2]) or {})["name"])


async def test_a_disabled_engine_s_services_move_and_nothing_is_stored(world: ControlledWorld) -> None:
    first, *_ = await served(world)
    before = await records(world)
    found = await plan(world, first, DISABLE)
    assert await records(world) == before
    assert found["moves_traffic"] is True
    (group,) = found["groups"]
    (vip,) = group["vips"]
    assert vip["address"] == "10.9.0.5" and vip["virtualservices"] == ["web"]
    assert vip["from"] == [engine(world, first)] == [vip["owner_before"]] == vip["drains"]
    assert vip["to"] == [vip["owner_after"]] and vip["interruption"] == "handover"
    assert engine(world, first) in vip["why"] and "1 VIP moves to another owner" in found["sentence"]
    assert group["buffer_before"]["free"] > group["buffer_after"]["free"] >= 0


async def test_a_plan_is_applied_once_it_is_known_and_only_to_its_own_edit(world: ControlledWorld) -> None:
    first, second, _ = await served(world)
    id = (await plan(world, first, DISABLE))["id"]
    assert (await plan(world, first, DISABLE))["id"] == id
    reply = await world.call("PATCH", f"{second}?apply={id}", 400, json=DISABLE)
    assert "is one of another edit" in reply["error"]
    await world.call("PATCH", f"{first}?apply={id}", 200, json=DISABLE)
    assert (await world.get(first))["enable_state"] == "SE_STATE_DISABLED"
    reply = await world.call("PATCH", f"{first}?apply={id}", 412, json=DISABLE)
    assert "enable_state SE_STATE_ENABLED is SE_STATE_DISABLED now" in reply["error"]


async def test_several_writes_are_one_plan_and_one_transaction(world: ControlledWorld) -> None:
    first, *_ = await served(world)
    shop = world.view.named("virtualservice", "shop")
    assert shop is not None
    writes = [
        {"method": "POST", "type": "pool", "body": {"name": "fresh"}},
        {
            "method": "PATCH",
            "type": "virtualservice",
            "uuid": shop["uuid"],
            "body": {"replace": {"pool_ref": "/api/pool?name=fresh"}},
        },
        {"method": "PATCH", "type": "serviceengine", "uuid": first.rpartition("/")[2], "body": DISABLE},
    ]
    before = await records(world)
    id = (found := await plan(world, "/api/changes", {"changes": writes}, "POST"))["id"]
    assert await records(world) == before and [vip["address"] for vip in found["groups"][0]["vips"]] == ["10.9.0.5"]
    refused = [*writes, {"method": "DELETE", "type": "pool", "uuid": "nowhere"}]
    reply = await world.call("POST", "/api/changes", 404, json={"changes": refused})
    assert reply["error"].startswith("changes[3]: There is no Pool") and await records(world) == before
    await world.call("PATCH", group_path(world), 200, json={"replace": {"buffer_se": 0}})
    reply = await world.call("POST", f"/api/changes?apply={id}", 412, json={"changes": writes})
    assert "buffer_se 1 is 0 now" in reply["error"]
    done = await world.call("POST", f"/api/changes?apply={reply['plan']['id']}", 200, json={"changes": writes})
    assert [one["name"] for one in done["results"]] == ["fresh", "shop", engine(world, first)]
    assert (await world.get(first))["enable_state"] == "SE_STATE_DISABLED"
    for wrong, words in (
        ({}, "must be a list of changes"),
        ({"changes": [{"method": "PUT", "type": "pool"}]}, "changes[0].method"),
        ({"changes": [{"method": "PATCH", "type": "pool"}]}, "changes[0].uuid: is required"),
        ({"changes": [{"method": "DELETE", "type": "serviceengine", "uuid": "x"}]}, "changes[0].type"),
        ({"changes": [{"method": "POST", "type": "pool", "body": {"name": 5}}]}, "changes[0].name"),
    ):
        assert words in (await world.call("POST", "/api/changes", 400, json=wrong))["error"]


async def test_a_plan_of_an_older_state_is_refused_with_what_changed(world: ControlledWorld) -> None:
    first, second, third = await served(world)
    shop = next(s["uuid"] for s in world.view.all("virtualservice") if s["name"] == "shop")

    async def edit_group() -> None:
        await world.call("PATCH", group_path(world), 200, json={"replace": {"buffer_se": 0}})

    async def other_engine() -> None:
        await world.call("PATCH", second, 200, json={"replace": {"enable_state": "SE_STATE_DISABLED_FOR_PLACEMENT"}})

    async def engine_dies() -> None:
        world.controller.fleet.live(third.rpartition("/")[2]).gone = True

    async def service_stops() -> None:
        await world.call("PATCH", f"/api/virtualservice/{shop}", 200, json={"replace": {"enabled": False}})

    async def renamed() -> None:
        await world.call("PATCH", first, 200, json={"replace": {"name": "the-first"}})

    async def moved() -> None:
        ledger = world.controller.ledger
        ((group, vips),) = ledger.vips.items()
        id, record = next(iter(vips.items()))
        (placement,) = record.placements
        there = msgspec.structs.replace(placement, engine=third.rpartition("/")[2])
        await ledger.write(Changes(vips={(group, id): msgspec.structs.replace(record, placements=(there,))}))

    for happens, words in (
        (edit_group, "Group Default-Group was edited: buffer_se 1 is 0 now."),
        (other_engine, f"Engine {engine(world, second)} is SE_STATE_DISABLED_FOR_PLACEMENT (it was SE_STATE_ENABLED)."),
        (engine_dies, f"Engine {engine(world, third)} is down (it was up)."),
        (service_stops, "shop is disabled now."),
        (moved, f"web is on {engine(world, third)} (primary, ready) (it was on {engine(world, first)} (primary"),
        (renamed, f"serviceengine the-first was edited: name {engine(world, first)} is the-first now."),
    ):
        shown = await plan(world, first, DISABLE)
        await happens()
        before = await records(world)
        reply = await world.call("PATCH", f"{first}?apply={shown['id']}", 412, json=DISABLE)
        assert any(words in sentence for sentence in reply["changed"]), reply["changed"]
        assert words in reply["error"] and await records(world) == before
        assert reply["plan"]["id"] == (await plan(world, first, DISABLE))["id"] != shown["id"]


async def test_what_a_plan_does_not_depend_on_may_change(world: ControlledWorld) -> None:
    first, *_ = await served(world)
    id = (await plan(world, first, DISABLE))["id"]
    await world.call("PATCH", group_path(world), 200, json={"replace": {"description": "of no weight"}})
    await world.post("/api/serviceenginegroup", {"name": "another"})
    await world.call("PATCH", f"{first}?apply={id}", 200, json=DISABLE)


async def test_plans_outlive_the_controller_that_made_them(world: ControlledWorld) -> None:
    first, *_ = await served(world)
    held = (await plan(world, first, DISABLE))["id"]
    await world.restart()
    await world.call("PATCH", f"{first}?apply={held}", 200, json=DISABLE)
    enable = {"replace": {"enable_state": "SE_STATE_ENABLED"}}
    lost = (await plan(world, first, enable))["id"]
    await world.restart()
    await world.call("PATCH", group_path(world), 200, json={"replace": {"max_se": 4}})
    reply = await world.call("PATCH", f"{first}?apply={lost}", 412, json=enable)
    assert "made before a restart" in reply["error"] and reply["plan"]["id"] != lost


async def test_the_state_is_looked_at_once_more_right_before_the_write(world: ControlledWorld) -> None:
    """An engine dies while the write waits for the writer before it."""
    first, _, third = await served(world)
    id = (await plan(world, first, DISABLE))["id"]
    async with world.intent._writing:
        applied = asyncio.create_task(world.client.patch(f"{first}?apply={id}", json=DISABLE))
        await asyncio.sleep(0.3)
        assert not applied.done()
        world.controller.fleet.live(third.rpartition("/")[2]).gone = True
    reply = await applied
    assert reply.status_code == 412 and f"Engine {engine(world, third)} is down" in reply.json()["error"]
    assert (await world.get(first))["enable_state"] == "SE_STATE_ENABLED"


async def test_of_two_writers_with_one_plan_the_second_is_told(world: ControlledWorld) -> None:
    first, *_ = await served(world)
    id = (await plan(world, first, DISABLE))["id"]
    replies = await asyncio.gather(*(world.client.patch(f"{first}?apply={id}", json=DISABLE) for _ in range(2)))
    assert sorted(reply.status_code for reply in replies) == [200, 412]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PATCH", "{group}", {"replace": {"max_se": -1}}, 400),
        ("PATCH", "{group}", {"replace": {"nonsense": 1}}, 400),
        ("PUT", "{group}", {"name": "Default-Group", "_last_modified": "1"}, 412),
        ("DELETE", "{group}", None, 405),
        ("DELETE", "{engine}", None, 400),
        ("POST", "/api/virtualservice", {"name": "web"}, 400),
        ("POST", "{service}/scalein", {"vip_id": "0"}, 400),
        ("POST", "{service}/scaleout", {"vip_id": "nowhere"}, 400),
        ("POST", "{service}/rotatekeys", {}, 400),
    ],
)
async def test_what_is_refused_is_refused_in_the_same_words(
    world: ControlledWorld, method: str, path: str, body: Any, status: int
) -> None:
    first, *_ = await served(world)
    service = f"/api/virtualservice/{world.view.all('virtualservice')[0]['uuid']}"
    path = path.format(group=group_path(world), engine=first, service=service)
    proposed = await plan(world, path, body, method, status)
    task = asyncio.create_task(world.controller.run())
    real = await world.call(method, path, status, **({"json": body} if body is not None else {}))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert proposed["error"] == real["error"]


async def test_operations_have_plans(world: ControlledWorld) -> None:
    first, *_ = await served(world)
    service = world.view.all("virtualservice")[0]["uuid"]
    before = await records(world)
    out = await plan(world, f"/api/virtualservice/{service}/scaleout", {"vip_id": "0"}, "POST")
    (vip,) = out["groups"][0]["vips"]
    assert len(vip["to"]) == 1 and vip["from"] == [] and out["moves_traffic"] is False
    moved = await plan(world, f"/api/virtualservice/{service}/migrate", {"vip_id": "0"}, "POST")
    assert moved["groups"][0]["vips"][0]["interruption"] == "handover"
    assert "has moved to" in moved["groups"][0]["messages"][0]
    gone = await plan(world, f"{first}/forcedelete", {}, "POST")
    assert gone["groups"][0]["vips"][0]["interruption"] == "cut"
    assert gone["groups"][0]["engines_deleted"][0]["serviceengine"] == engine(world, first)
    assert await records(world) == before
    reply = await plan(world, f"{first}/reboot", {}, "POST", 400)
    assert "There are no plans of reboot" in reply["error"]


async def test_a_vip_that_would_be_down_is_said_so_with_what_would_help(world: ControlledWorld) -> None:
    first, second = await served(world, engines=2)
    await world.call("PATCH", group_path(world), 200, json={"replace": {"max_se": 2, "buffer_se": 0}})
    await world.call("PATCH", second, 200, json={"replace": {"enable_state": "SE_STATE_DISABLED_FOR_PLACEMENT"}})
    force = {"replace": {"enable_state": "SE_STATE_DISABLED_FORCE"}}
    found = await plan(world, first, force)
    (vip,) = found["groups"][0]["vips"]
    assert vip["interruption"] == "down" and vip["clients"].startswith("DOWN")
    assert "1 VIP is down and stays so" in found["sentence"]
    assert any("raise max_se to 3" in problem for problem in found["groups"][0]["problems"])


async def test_edits_that_move_nothing_say_so(world: ControlledWorld) -> None:
    await served(world)
    found = await plan(world, group_path(world), {"replace": {"description": "of no weight"}})
    assert found["sentence"] == "No traffic moves." and found["groups"] == []
    assert not found["moves_traffic"] and not found["changes_engines"]
    made = await plan(world, "/api/pool", {"name": "p"}, "POST")
    assert world.view.named("pool", "p") is None
    await world.post(f"/api/pool?apply={made['id']}", {"name": "p"}, 201)


async def test_a_plan_has_the_warnings_of_the_write(world: ControlledWorld) -> None:
    body = {"replace": {"max_se": 0}}
    reply = await world.client.patch(f"{group_path(world)}?plan=true", json=body)
    assert any("max_se 0 lets no engine be made" in w for w in reply.headers.get_list("x-shoal-warning"))


@pytest.mark.parametrize("query", ["plan=maybe", "plan=true&apply=plan-1"])
async def test_parameters_that_make_no_sense_are_refused(world: ControlledWorld, query: str) -> None:
    await world.call("PATCH", f"{group_path(world)}?{query}", 400, json={"replace": {"max_se": 4}})


async def test_what_has_no_plan_is_not_done_instead(world: ControlledWorld) -> None:
    first, *_ = await served(world)
    service = f"/api/virtualservice/{world.view.all('virtualservice')[0]['uuid']}"
    before = await records(world)
    for method, path, body in (
        ("PUT", "/api/useraccount", {"username": "admin", "password": "a new password", "old_password": PASSWORD}),
        ("POST", f"{service}/capture", {}),
        ("POST", f"{service}/resync", {}),
        ("POST", f"{group_path(world)}/rebalance", {"interval": 7}),
        ("POST", f"{first}/reboot", {}),
        ("POST", f"{first}/drill", {"text": "begins"}),
    ):
        for query in ("plan=true", "apply=plan-1"):
            reply = await world.call(method, f"{path}?{query}", 400, json=body)
            assert "There are no plans of" in reply["error"], (path, reply)
    assert await records(world) == before


async def test_a_switchover_and_redistributing_have_plans(world: ControlledWorld) -> None:
    legacy = {"replace": {"ha_mode": "HA_MODE_LEGACY_ACTIVE_STANDBY"}}
    await world.call("PATCH", group_path(world), 200, json=legacy)
    first, second = await served(world, 2)
    found = await plan(world, f"{first}/switchover", {}, "POST")
    (group,) = found["groups"]
    assert sorted(vip["address"] for vip in group["vips"]) == ["10.9.0.5", "10.9.0.6"]
    for vip in group["vips"]:
        assert (vip["owner_before"], vip["owner_after"]) == (engine(world, first), engine(world, second))
        assert vip["interruption"] == "handover"
    assert (await plan(world, f"{group_path(world)}/redistribute", {}, "POST"))["moves_traffic"] is False
    service = world.view.all("virtualservice")[0]["uuid"]
    found = await plan(world, f"/api/virtualservice/{service}/switchover", {"vip_id": "0"}, "POST")
    assert [vip["address"] for vip in found["groups"][0]["vips"]] == ["10.9.0.5"]
