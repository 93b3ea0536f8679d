"""Trees of objects written as one transaction (reference: api.md 7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.errors import NotReady
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Conflict, Transaction
from tests.api_world import World, api_world, controlled_world

Document = dict[str, Any]
SERVERS = [{"ip": {"addr": f"10.0.0.{n}", "type": "V4"}, "port": 80} for n in (1, 2)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


def service(name: str = "web", **more: Any) -> Document:
    data = {
        "name": name,
        "services": [{"port": 80}],
        "vsvip_ref_data": {"name": f"{name}-vip", "vip": [{"auto_allocate_ip": True}]},
        "pool_ref_data": {
            "name": f"{name}-pool",
            "servers": SERVERS,
            "health_monitor_refs_data": [
                {"name": f"{name}-tcp", "type": "HEALTH_MONITOR_TCP", "tcp_monitor": {}},
                {"name": f"{name}-ping", "type": "HEALTH_MONITOR_PING"},
            ],
        },
    }
    return {"model_name": "VirtualService", "data": {**data, **more}}


async def names(world: World, *types: str, **params: Any) -> list[str]:
    found = [await world.get(f"/api/{type}", **params) for type in types]
    return [document["name"] for page in found for document in page["results"]]


ALL = ("virtualservice", "vsvip", "pool")


async def test_a_tree_is_made_and_linked(world: World) -> None:
    made = await world.post("/api/macro", service())
    assert made["url"].endswith("#web") and made["pool_ref"].endswith("#web-pool")
    pool = await world.get("/api/pool", name="web-pool", include_name="")
    assert [r.partition("#")[2] for r in pool["results"][0]["health_monitor_refs"]] == ["web-tcp", "web-ping"]
    vip = await world.get("/api/vsvip", name="web-vip")
    assert vip["results"][0]["vip"][0]["ip_address"]["addr"] == "10.9.0.1"
    log = await world.get("/api/analytics/logs", type="2", filter="eq(event_id,config_create)")
    assert {"web", "web-vip", "web-pool", "web-tcp", "web-ping"} <= {e.get("obj_name") for e in log["results"]}
    revision = world.view.revision
    await world.post("/api/macro", service("other"))
    assert world.view.revision == revision + 1  # one transaction


async def test_what_one_object_of_a_tree_is_refused_with_undoes_all(world: World) -> None:
    await world.post("/api/pool", {"name": "web-pool"})
    refused = await world.post("/api/macro", service(), 409)
    assert "web-pool" in refused["error"]
    assert await names(world, *ALL) == ["web-pool"]

    wrong = service("bad")
    wrong["data"]["pool_ref_data"]["health_monitor_refs_data"][1]["send_intervall"] = 3
    refused = await world.post("/api/macro", wrong, 400)
    assert refused["problems"][0]["path"] == "data.pool_ref_data.health_monitor_refs_data[1].send_intervall"
    wrong = service("bad", services=[])
    refused = await world.post("/api/macro", wrong, 400)
    assert refused["problems"][0]["path"] == "data.services"
    assert await names(world, *ALL) == ["web-pool"]
    assert not await names(world, "healthmonitor", **{"name.startswith": "bad"})


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "model_name"),
        ({"model_name": "Pool"}, "data"),
        ({"model_name": "Pool", "data": []}, "data"),
        ({"model_name": 5, "data": {}}, "model_name"),
        ({"model_name": "Pool", "data": {"name": "p"}, "dat": 1}, "dat"),
        ({"model_name": "Pool", "data": {"name": ["p"]}}, "data.name"),
        (
            {"model_name": "Pool", "data": {"name": "p", "health_monitor_refs_data": {}}},
            "data.health_monitor_refs_data",
        ),
        (
            {"model_name": "Pool", "data": {"name": "p", "health_monitor_refs_data": [3]}},
            "data.health_monitor_refs_data[0]",
        ),
        ({"model_name": "Pool", "data": {"name": "p", "nothing_ref_data": {}}}, "data.nothing_ref_data"),
    ],
)
async def test_what_is_no_tree_is_told_with_its_place(world: World, body: Document, path: str) -> None:
    refused = await world.post("/api/macro", body, 400)
    assert path in [problem["path"] for problem in refused["problems"]]
    assert not await names(world, *ALL)


async def test_unknown_models_and_methods(world: World) -> None:
    await world.post("/api/macro", {"model_name": "Nothing", "data": {}}, 404)
    await world.post("/api/macro", {"model_name": "SystemConfiguration", "data": {}}, 404)
    await world.call("GET", "/api/macro", 405)
    await world.post("/api/macro?plan=true", service(), 400)
    assert not await names(world, *ALL)


async def test_a_tree_is_replaced_by_name_and_uuid(world: World) -> None:
    made = await world.post("/api/macro", service())
    changed = service(enabled=False)
    changed["data"]["vsvip_ref_data"]["vip"] = [{"vip_id": "0", "ip_address": {"addr": "10.9.0.77", "type": "V4"}}]
    changed["data"]["pool_ref_data"]["servers"] = SERVERS[:1]
    again = await world.call("PUT", "/api/macro", 200, json=changed)
    assert again["uuid"] == made["uuid"] and again["pool_ref"] == made["pool_ref"] and again["enabled"] is False
    pool = await world.get("/api/pool", name="web-pool")
    assert len(pool["results"][0]["servers"]) == 1 and pool["count"] == 1
    renamed = service()
    renamed["data"] |= {"uuid": made["uuid"], "name": "renamed"}
    again = await world.call("PUT", "/api/macro", 200, json=renamed)
    assert again["uuid"] == made["uuid"] and again["name"] == "renamed"
    assert await names(world, *ALL) == ["renamed", "web-vip", "web-pool"]
    await world.call("PUT", "/api/macro", 404, json=service("none"))
    await world.call("PUT", "/api/macro", 404, json=service(uuid="virtualservice-none"))
    assert await names(world, *ALL) == ["renamed", "web-vip", "web-pool"]


async def test_deleting_a_tree_leaves_what_others_use_and_what_is_the_systems(world: World) -> None:
    made = await world.post("/api/macro", service())
    await world.post("/api/serviceenginegroup", {"name": "g"})
    more = {"se_group_ref": "/api/serviceenginegroup?name=g", "application_profile_name": "System-HTTP"}
    await world.post("/api/macro", service("two", **more))
    shared = {"name": "sharer", "health_monitor_refs": ["/api/healthmonitor?name=web-ping"]}
    await world.post("/api/pool", shared)
    profiles = await names(world, "applicationprofile", "networkprofile", "analyticsprofile")
    gone = {"model_name": "VirtualService", "data": {"uuid": made["uuid"]}}
    await world.call("DELETE", "/api/macro", 204, json=gone)
    assert await names(world, *ALL) == ["two", "two-vip", "two-pool", "sharer"]
    monitors = await names(world, "healthmonitor")
    assert "web-ping" in monitors and "web-tcp" not in monitors
    await world.call("DELETE", "/api/macro", 204, json={"model_name": "VirtualService", "data": {"name": "two"}})
    assert await names(world, *ALL) == ["sharer"]
    assert await names(world, "serviceenginegroup") == ["Default-Group", "g"]
    assert await names(world, "applicationprofile", "networkprofile", "analyticsprofile") == profiles
    await world.call("DELETE", "/api/macro", 404, json={"model_name": "VirtualService", "data": {"name": "two"}})
    await world.post("/api/macro", service("two"))  # addresses, ports and names are free again
    vips = (await world.get("/api/vsvip"))["results"]
    assert [vip["vip"][0]["ip_address"]["addr"] for vip in vips] == ["10.9.0.1"]


async def test_the_root_that_others_refer_to_stays_with_all_below(world: World) -> None:
    await world.post("/api/macro", service())
    gone = {"model_name": "Pool", "data": {"name": "web-pool"}}
    refused = await world.call("DELETE", "/api/macro", 400, json=gone)
    assert "referred by: ['VirtualService web']" in refused["error"]
    assert "web-tcp" in await names(world, "healthmonitor")


async def test_a_tree_belongs_to_the_tenant_of_its_root(world: World) -> None:
    await world.post("/api/tenant", {"name": "blue"})
    blue = {"X-Avi-Tenant": "blue"}
    await world.post("/api/macro", service(), headers=blue)
    assert await names(world, *ALL) == []
    await world.post("/api/macro", service("named", tenant_ref="/api/tenant?name=blue"))
    assert await names(world, *ALL) == []
    found = await world.call("GET", "/api/pool", 200, headers=blue)
    assert [pool["name"] for pool in found["results"]] == ["web-pool", "named-pool"]
    uuid = found["results"][0]["uuid"]
    for method in ("PUT", "DELETE"):
        await world.call(method, "/api/macro", 404, json={"model_name": "Pool", "data": {"uuid": uuid, "name": "x"}})


async def test_another_writer_in_between(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tree was made from has changed when it is stored: it is made again, from what is there now."""
    commit, met = MemoryStore.commit, 0

    async def once_late(store: MemoryStore, transaction: Transaction) -> int:
        nonlocal met
        met += 1
        if met == 1:
            raise Conflict(("/name/pool/admin/-/x",))
        return await commit(store, transaction)

    monkeypatch.setattr(MemoryStore, "commit", once_late)
    await world.post("/api/macro", service())
    assert met == 2 and await names(world, *ALL) == ["web", "web-vip", "web-pool"]

    async def always(store: MemoryStore, transaction: Transaction) -> int:
        raise Conflict(("/name/pool/admin/-/x",))

    monkeypatch.setattr(MemoryStore, "commit", always)
    refused = await world.post("/api/macro", service("late"), NotReady.status)
    assert "Try again" in refused["error"]
    assert await names(world, *ALL) == ["web", "web-vip", "web-pool"]


async def test_more_than_one_transaction_holds_is_refused_whole(world: World) -> None:
    monitors = await names(world, "healthmonitor")
    many = [{"name": f"m{n}", "type": "HEALTH_MONITOR_PING"} for n in range(45)]
    tree = {"model_name": "Pool", "data": {"name": "p", "health_monitor_refs_data": many}}
    refused = await world.post("/api/macro", tree, 413)
    assert "128" in refused["error"]
    assert not await names(world, "pool") and await names(world, "healthmonitor") == monitors


async def test_addresses_of_trees_under_way_are_not_given_twice(world: World) -> None:
    tree = service()
    tree["data"]["vsvip_ref_data"]["vip"] = [{"vip_id": str(n), "auto_allocate_ip": True} for n in range(3)]
    await world.post("/api/macro", tree)
    found = await world.get("/api/vsvip")
    addresses = [vip["ip_address"]["addr"] for vip in found["results"][0]["vip"]]
    assert addresses == ["10.9.0.1", "10.9.0.2", "10.9.0.3"]
    await world.post("/api/macro", service("next"))
    found = await world.get("/api/vsvip", name="next-vip")
    assert found["results"][0]["vip"][0]["ip_address"]["addr"] == "10.9.0.4"


async def test_trees_that_come_together_share_a_transaction_and_fail_apart(world: World) -> None:
    await world.post("/api/pool", {"name": "taken-pool"})
    revision = world.view.revision
    wanted = ["taken" if n == 3 else f"s{n}" for n in range(12)]
    bodies = [service(name) for name in wanted]
    bodies[5]["data"]["services"] = []
    replies = await asyncio.gather(*(world.client.post("/api/macro", json=body) for body in bodies))
    statuses = {name: reply.status_code for name, reply in zip(wanted, replies, strict=True)}
    assert statuses == {**dict.fromkeys(wanted, 201), "taken": 409, "s5": 400}
    assert world.view.revision - revision < 10
    found = await world.get("/api/vsvip", page_size=100)
    addresses = [vip["vip"][0]["ip_address"]["addr"] for vip in found["results"]]
    assert len(set(addresses)) == len(addresses) == 10
    assert await names(world, "virtualservice") == [name for name, status in statuses.items() if status == 201]


async def test_two_trees_of_one_name_that_come_together(world: World) -> None:
    replies = await asyncio.gather(*(world.client.post("/api/macro", json=service()) for _ in range(4)))
    assert sorted(reply.status_code for reply in replies) == [201, 409, 409, 409]
    assert await names(world, *ALL) == ["web", "web-vip", "web-pool"]


async def test_trees_that_do_not_fit_one_transaction_together_are_made_one_by_one(world: World) -> None:
    def large(number: int) -> Document:
        monitors = [{"name": f"m{number}-{n}", "type": "HEALTH_MONITOR_PING"} for n in range(30)]
        return {"model_name": "Pool", "data": {"name": f"p{number}", "health_monitor_refs_data": monitors}}

    replies = await asyncio.gather(*(world.client.post("/api/macro", json=large(n)) for n in range(4)))
    assert [reply.status_code for reply in replies] == [201] * 4
    assert await names(world, "pool") == ["p0", "p1", "p2", "p3"]


class StillAnswered:
    """Some engine has not confirmed yet that it is gone."""

    def planned(self, vip: str, address: str, besides: str = "") -> bool:
        return True

    def engines(self, vip: str, address: str, besides: str = "") -> dict[str, str]:
        return {}


async def test_what_a_deleted_tree_frees_is_given_to_nobody_yet(tmp_path: Path) -> None:
    async with controlled_world(tmp_path) as world:
        world.intent.rules.freed.answering = StillAnswered()
        await world.post("/api/macro", service())
        tree = {"model_name": "VirtualService", "data": {"name": "web"}}
        removal = world.client.request("DELETE", "/api/macro", json=tree)
        replies = await asyncio.gather(
            removal, world.client.post("/api/macro", json=service("next"))
        )  # one transaction
        assert [reply.status_code for reply in replies] == [204, 201]
        await world.post("/api/macro", service("later"))
        found = await world.get("/api/vsvip")
        addresses = {vip["name"]: vip["vip"][0]["ip_address"]["addr"] for vip in found["results"]}
        assert addresses == {"next-vip": "10.9.0.2", "later-vip": "10.9.0.3"}
