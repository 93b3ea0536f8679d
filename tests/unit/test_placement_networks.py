"""Placement networks: VIPs and servers that need engines in networks, from the objects to the reasons people read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.placement.explain import records, sentences
from shoal.placement.model import Need
from tests.api_world import ControlledWorld, controlled_world

Document = dict[str, Any]


def prefix(text: str) -> Document:
    address, _, mask = text.partition("/")
    return {"ip_addr": {"addr": address, "type": "V6" if ":" in address else "V4"}, "mask": int(mask)}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    """Two engines, one of them in VLAN 100, and a network that is there."""
    async with controlled_world(tmp_path) as world:
        await world.service("web")
        await world.staged(2)
        await world.post("/api/network", {"name": "dmz", "configured_subnets": [{"prefix": prefix("10.100.0.0/24")}]})
        engine = (await world.get("/api/serviceengine"))["results"][0]
        network = {"ip": prefix("10.100.0.21/24"), "mode": "STATIC"}
        vlan = {"if_name": "eth0.100", "vlan_id": 100, "vnic_networks": [network]}
        engine["data_vnics"][0]["vlan_interfaces"] = [vlan]
        await world.call("PUT", f"/api/serviceengine/{engine['uuid']}", 200, json=engine)
        yield world


async def change(world: ControlledWorld, type: str, which: str, /, status: int = 200, **fields: Any) -> Document:
    document = (await world.get(f"/api/{type}", name=which))["results"][0]
    found: Document = await world.call("PUT", f"/api/{type}/{document['uuid']}", status, json={**document, **fields})
    return found


async def needs(world: ControlledWorld) -> tuple[Need, ...]:
    """Of the service, by a plan that looks only at what has changed."""
    group = world.view.named("serviceenginegroup", "Default-Group")
    assert group is not None
    await world.controller.reconciler.reconcile(group["uuid"])
    (vip,) = world.controller.reconciler.snapshots[group["uuid"]].vips
    return vip.needs


async def said(world: ControlledWorld) -> list[str]:
    """Why the service is where it is, or would be."""
    group = world.view.named("serviceenginegroup", "Default-Group")
    assert group is not None
    present = world.controller.reconciler.present(group["uuid"])
    assert present is not None
    (vip,) = present.vips
    nowhere = [type(vip)(id=vip.id, name=vip.name, slots=1, created=0.0, addresses=vip.addresses, needs=vip.needs)]
    asked = type(present)(revision=1, group=present.group, engines=present.engines, vips=tuple(nowhere))
    return [line for one in records(asked, 0.0, vip.id) for line in sentences(one.decision, one.judged)]


async def test_engines_outside_of_a_vips_network_are_not_eligible_and_the_network_is_named(
    world: ControlledWorld,
) -> None:
    assert not any("interface" in line for line in await said(world))
    wanted = [{"network_ref": "/api/network?name=dmz"}]
    vip = {"vip_id": "0", "ip_address": {"addr": "10.9.0.5", "type": "V4"}, "placement_networks": wanted}
    await change(world, "vsvip", "web-vip", vip=[vip])
    assert await needs(world) == (Need("dmz", ("10.100.0.0/24",)),)
    first, second = [engine["name"] for engine in (await world.get("/api/serviceengine"))["results"]]
    text = "\n".join(await said(world))
    assert f"is placed on {first}" in text or first in text.splitlines()[0], text
    ids = {e["name"]: e["uuid"] for e in (await world.get("/api/serviceengine"))["results"]}
    assert f"Not {ids[second]}: it has no interface in dmz (network)." in text


async def test_what_servers_need_counts_as_well_and_follows_pool_and_network(world: ControlledWorld) -> None:
    assert await needs(world) == ()
    wanted = {"network_ref": "/api/network?name=dmz", "subnet": prefix("10.100.0.0/24")}
    await change(world, "pool", "web-pool", placement_networks=[wanted])
    assert await needs(world) == (Need("dmz", ("10.100.0.0/24",)),)
    await change(world, "network", "dmz", name="edge")
    assert await needs(world) == (Need("edge", ("10.100.0.0/24",)),)
    await change(world, "virtualservice", "web", ign_pool_net_reach=True)
    assert await needs(world) == ()
    await change(world, "virtualservice", "web", ign_pool_net_reach=False)
    assert await needs(world) == (Need("edge", ("10.100.0.0/24",)),)
    await change(world, "pool", "web-pool", placement_networks=[])
    assert await needs(world) == ()


@pytest.mark.parametrize(
    "wanted, path",
    [
        ({}, "vip[0].placement_networks[0]"),
        (
            {"subnet": {"ip_addr": {"addr": "10.100.0.300", "type": "V4"}, "mask": 24}},
            "vip[0].placement_networks[0].subnet",
        ),
        ({"network_ref": "/api/network?name=bare"}, "vip[0].placement_networks[0].network_ref"),
    ],
)
async def test_a_network_that_no_interface_can_be_known_by_is_refused(
    world: ControlledWorld, wanted: Document, path: str
) -> None:
    await world.post("/api/network", {"name": "bare"})
    vip = {"vip_id": "0", "ip_address": {"addr": "10.9.0.5", "type": "V4"}, "placement_networks": [wanted]}
    reply = await change(world, "vsvip", "web-vip", status=400, vip=[vip])
    assert [problem["path"] for problem in reply["problems"]] == [path], reply
