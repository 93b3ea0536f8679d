"""Runtime, operations, inventory, logs (reference: api.md 7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api_world import HOST, World, api_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def test_runtime_with_and_without_a_slash_with_whole_urls(world: World) -> None:
    made = await world.service()
    for path in ("runtime", "runtime/", "runtime/detail/"):
        found = await world.get(f"/api/virtualservice/{made['uuid']}/{path}")
        engine = found["vip_summary"][0]["service_engine"][0]
        assert engine["url"] == f"https://{HOST}/api/serviceengine/se-0#Avi-se-0"
    await world.get(f"/api/virtualservice/{made['uuid']}/nothing", 404)
    await world.get("/api/virtualservice/none/runtime", 404)


async def test_operations_reach_the_controller_with_their_body(world: World) -> None:
    made = await world.service()
    path = f"/api/virtualservice/{made['uuid']}"
    await world.call("POST", f"{path}/scaleout", 200, json={"vip_id": "0"})
    await world.call("POST", f"{path}/scalein/", 200, json={"vip_id": "0"})
    group = (await world.get("/api/serviceenginegroup"))["results"][0]
    await world.call("POST", f"/api/serviceenginegroup/{group['uuid']}/redistribute", 200)
    assert [(type, operation, body) for type, _, operation, body in world.runtime.calls] == [
        ("virtualservice", "scaleout", {"vip_id": "0"}),
        ("virtualservice", "scalein", {"vip_id": "0"}),
        ("serviceenginegroup", "redistribute", {}),
    ]
    assert "VIP" in (await world.call("POST", f"{path}/migrate", 400, json={"vip_id": "nowhere"}))["error"]
    await world.call("POST", f"{path}/scaleout", 400, content=b"[1]")


async def test_groups_are_upgraded_in_the_vendor_s_form(world: World) -> None:
    other = await world.post("/api/serviceenginegroup", {"name": "other"})
    own = (await world.get("/api/serviceenginegroup", name="Default-Group"))["results"][0]["uuid"]
    body = {"se_group_refs": ["/api/serviceenginegroup?name=other"], "se_group_options": {"disruptive": False}}
    answer = await world.call("POST", "/api/upgrade", 200, json={**body, "skip_warnings": True})
    assert answer["status"] == "other: in progress" and len(answer["se_groups"]) == 1
    await world.call("POST", "/api/upgrade", 200, json={"system": True})
    assert {call[:3:2] for call in world.runtime.calls} == {("serviceenginegroup", "upgrade")}
    assert sorted(call[1] for call in world.runtime.calls) == sorted([own, other["uuid"], other["uuid"]])
    before = len(world.runtime.calls)
    for wrong, why in (
        ({}, "says which groups"),
        ({"se_group_refs": ["nowhere"]}, "no such service engine group"),
        ({"system": True, "image_ref": "/api/image/1"}, "no images are kept here"),
        ({"system": True, "dryrun": True}, "not tried out"),
        ({"system": True, "se_group_options": {"action_on_error": "CONTINUE_UPGRADE_OPS_ON_ERROR"}}, "put back"),
        ({"system": True, "se_group_options": {"disruptive": True}}, "emptied before"),
        ({"system": "yes"}, "true or false"),
        ({"se_group_refs": "other"}, "list of references"),
        ({"system": True, "wipe": 1}, "unknown member"),
    ):
        assert why in (await world.call("POST", "/api/upgrade", 400, json=wrong))["error"]
    assert len(world.runtime.calls) == before, "nothing began"


async def test_inventory_has_configuration_runtime_and_what_belongs_together(world: World) -> None:
    made = await world.service()
    found = await world.get("/api/virtualservice-inventory", name="web", page_size=200)
    assert found["count"] == 1
    entry = found["results"][0]
    assert entry["uuid"] == made["uuid"] and entry["config"]["name"] == "web"
    assert entry["config"]["tenant_ref"].split("/tenant/")[1] == "admin"
    assert entry["runtime"]["vip_summary"][0]["service_engine"][0]["url"].endswith("#Avi-se-0")
    assert entry["health_score"]["health_score"] == 100
    assert entry["alert"]["level"]
    pool = (await world.get("/api/pool"))["results"][0]
    assert entry["pools"] == [{"ref": pool["url"]}]
    pools = await world.get("/api/pool-inventory")
    assert pools["results"][0]["virtualservices"] == [{"ref": made["url"].partition("#")[0]}]
    groups = await world.get("/api/serviceenginegroup-inventory")
    assert groups["results"][0]["serviceengins"] == []
    assert groups["results"][0]["virtualservices"] == [{"ref": made["url"].partition("#")[0]}]


@pytest.mark.parametrize(
    "type", ["virtualservice", "pool", "poolgroup", "serviceengine", "serviceenginegroup", "vsvip", "network", "cloud"]
)
async def test_every_inventory_lists_and_shows_one(world: World, type: str) -> None:
    await world.service()
    found = await world.call("GET", f"/api/{type}-inventory/", 200, headers={"X-Avi-Tenant": "*"})
    for entry in found["results"]:
        one = await world.get(f"/api/{type}-inventory/{entry['uuid']}")
        assert one["config"]["name"] == entry["config"]["name"]
    await world.get(f"/api/{type}-inventory/none", 404)


async def test_a_vsvip_names_its_virtual_services(world: World) -> None:
    made = await world.service()
    vip = (await world.get("/api/vsvip"))["results"][0]
    assert vip["vs_refs"] == [made["url"].partition("#")[0]]


async def test_cluster_and_version(world: World) -> None:
    assert (await world.get("/api/cluster/runtime"))["cluster_state"]["state"] == "CLUSTER_UP_NO_HA"
    assert (await world.get("/api/cluster/version"))["Version"] == "22.1.3"


async def test_logs_give_events_by_name_and_only_events(world: World) -> None:
    everything = await world.get("/api/analytics/logs", type=2)
    assert everything["count"] == 3 and everything["percent_remaining"] == 0
    some = await world.get("/api/analytics/logs", type=2, filter="eq(event_id,[se_down,se_up])")
    assert [event["event_id"] for event in some["results"]] == ["SE_DOWN", "SE_UP"]
    paged = await world.get("/api/analytics/logs", type=2, page_size=10_000)
    assert len(paged["results"]) == 3
    assert (await world.get("/api/analytics/logs", type=1))["count"] == 0


async def test_the_timeline_is_asked_for_by_seconds_and_by_a_services_name_or_uuid(world: World) -> None:
    made = await world.service()
    assert await world.get("/api/analytics/incident") == {"seconds": 60.0, "service": ""}
    for wanted in (made["name"], made["uuid"]):
        found = await world.get("/api/analytics/incident", since=90, virtualservice=wanted)
        assert found == {"seconds": 90.0, "service": made["uuid"]}
    assert "since" in (await world.get("/api/analytics/incident", 400, since="-1"))["error"]
    await world.get("/api/analytics/incident", 404, virtualservice="none")
    await world.call("POST", "/api/analytics/incident", 405)
