"""VIPs given with the virtual service itself: made into a VsVip that changes and goes with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.objects.views import uuid_of
from tests.api_world import World, api_world

PATH = "/api/virtualservice"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


def body(address: str = "10.9.0.7", **more: Any) -> dict[str, Any]:
    vip = [{"ip_address": {"addr": address, "type": "V4"}}]
    return {"name": "old", "services": [{"port": 80}], "vip": vip, **more}


def addresses(document: dict[str, Any]) -> list[str]:
    return [vip["ip_address"]["addr"] for vip in document["vip"]]


async def test_a_vip_with_the_service_is_made_changed_and_deleted_with_it(world: World) -> None:
    made = await world.post(PATH, body())
    (vsvip,) = world.view.all("vsvip")
    assert uuid_of(made["vsvip_ref"].partition("#")[0]) == vsvip["uuid"] and vsvip["name"].startswith("vsvip-old-")
    assert addresses(made) == addresses(vsvip) == ["10.9.0.7"]
    again = await world.call("PUT", f"{PATH}/{made['uuid']}", 200, json=body())
    assert again["vsvip_ref"] == made["vsvip_ref"]
    whole = await world.get(f"{PATH}/{made['uuid']}")
    whole = await world.call("PUT", f"{PATH}/{made['uuid']}", 200, json=whole)
    moved = await world.call("PUT", f"{PATH}/{made['uuid']}", 200, json={**whole, "vip": body("10.9.0.8")["vip"]})
    assert addresses(moved) == addresses(world.view.all("vsvip")[0]) == ["10.9.0.8"]
    off = {**moved, "vip": [{**moved["vip"][0], "enabled": False}]}
    await world.call("PUT", f"{PATH}/{made['uuid']}", 200, json=off)
    assert world.view.all("vsvip")[0]["vip"][0]["enabled"] is False
    assert len(world.view.all("vsvip")) == 1
    await world.call("DELETE", f"{PATH}/{made['uuid']}", 204)
    assert not world.view.all("vsvip")


async def test_an_address_is_allocated_and_kept(world: World) -> None:
    given = body(vip=[{"auto_allocate_ip": True}])
    made = await world.post(PATH, given)
    again = await world.call("PUT", f"{PATH}/{made['uuid']}", 200, json=given)
    assert addresses(made) == addresses(again) and len(world.view.all("vsvip")) == 1


async def test_all_or_nothing_is_made(world: World) -> None:
    await world.post(PATH, body(services=[{"port": 0}]), 400)
    assert not world.view.all("vsvip")
    refused = await world.post(PATH, body("224.0.0.1"), 400)
    assert refused["problems"][0]["path"] == "vip[0].ip_address.addr" and not world.view.all("vsvip")


async def test_a_vsvip_that_others_use_or_made_stays(world: World) -> None:
    made = await world.post(PATH, body())
    shared = {"name": "new", "services": [{"port": 81}], "vsvip_ref": made["vsvip_ref"]}
    other = await world.post(PATH, shared)
    await world.call("DELETE", f"{PATH}/{made['uuid']}", 204)
    assert len(world.view.all("vsvip")) == 1
    await world.call("DELETE", f"{PATH}/{other['uuid']}", 204)
    assert not world.view.all("vsvip"), "it was made for a service, and none is left"
    own = await world.post("/api/vsvip", {"name": "own", "vip": body()["vip"]})
    exported = await world.post(PATH, body(vsvip_ref=own["url"]))
    await world.post(PATH, body("10.9.0.9", name="b", services=[{"port": 82}], vsvip_ref=own["url"]), 400)
    elsewhere = body("10.9.0.9", vsvip_ref=own["url"])
    refused = await world.call("PUT", f"{PATH}/{exported['uuid']}", 400, json=elsewhere)
    assert refused["problems"][0]["path"] == "vip", "one that people made is theirs to change"
    await world.call("DELETE", f"{PATH}/{exported['uuid']}", 204)
    assert [one["name"] for one in world.view.all("vsvip")] == ["own"]


async def test_a_tree_with_such_a_service_goes_as_a_whole(world: World) -> None:
    tree = {"model_name": "VirtualService", "data": body()}
    await world.post("/api/macro", tree)
    assert len(world.view.all("vsvip")) == 1
    await world.call("DELETE", "/api/macro", 204, json={"model_name": "VirtualService", "data": {"name": "old"}})
    assert not world.view.all("vsvip") and not world.view.all("virtualservice")
