"""VLANs of engines before a packet flows: what is refused, what engines get, on which interface the guard puts a VIP."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.controller import siblings
from shoal.controller.interfaces import interfaces_part
from shoal.engine.guard.segments import Segments
from shoal.wire.desired import Interface, Interfaces
from tests.api_world import ControlledWorld, controlled_world

Document = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        await world.service("web", "10.100.0.50")
        await world.staged(2)
        yield world


def vlan(id: int = 100, *addresses: str, **more: Any) -> Document:
    networks = []
    for address in addresses or ("10.100.0.21/24",):
        text, _, mask = address.partition("/")
        ip = {"ip_addr": {"addr": text, "type": "V6" if ":" in text else "V4"}, "mask": int(mask)}
        networks.append({"ip": ip, "mode": "STATIC"})
    return {"if_name": f"eth0.{id}", "vlan_id": id, "vnic_networks": networks, **more}


async def put(world: ControlledWorld, status: int, *vlans: Document, engine: int = 0, **more: Any) -> Any:
    document = (await world.get("/api/serviceengine"))["results"][engine]
    document["data_vnics"][0]["vlan_interfaces"] = copy.deepcopy(list(vlans))
    return await world.call("PUT", f"/api/serviceengine/{document['uuid']}", status, json={**document, **more})


@pytest.mark.parametrize(
    "vlans, path",
    [
        ([vlan(0)], "vlan_id"),
        ([vlan(4095)], "vlan_id"),
        ([vlan(100, if_name="dmz")], "if_name"),
        ([vlan(100, vnic_networks=[])], "vnic_networks"),
        ([vlan(100, dhcp_enabled=True)], "dhcp_enabled"),
        ([vlan(100, "10.100.0.0/24")], "vnic_networks[0].ip"),
        ([vlan(100, "10.100.0.255/24")], "vnic_networks[0].ip"),
        ([vlan(100, "10.100.0.1/31")], "vnic_networks[0].ip.mask"),
        ([vlan(100, "10.100.0.300/24")], "vnic_networks[0].ip.ip_addr.addr"),
        ([vlan(100, "10.200.0.77/25")], "vnic_networks[0].ip"),  # the engines' own network
        ([vlan(100, "10.100.0.50/24")], "vnic_networks[0].ip"),  # a VIP
    ],
)
async def test_what_is_no_vlan_of_an_engine_is_refused(
    world: ControlledWorld, vlans: list[Document], path: str
) -> None:
    reply = await put(world, 400, *vlans)
    assert [problem["path"] for problem in reply["problems"]] == [f"data_vnics[0].vlan_interfaces[0].{path}"], reply


async def test_networks_of_one_engine_do_not_overlap_and_no_address_is_given_twice(world: ControlledWorld) -> None:
    reply = await put(world, 400, vlan(100), vlan(200, "10.100.0.130/25"))
    assert "one HAProxy and one table of routes" in reply["problems"][0]["why"]
    await put(world, 200, vlan(100), engine=1)
    reply = await put(world, 400, vlan(100))
    assert "is the address of Avi" in reply["problems"][0]["why"]
    await put(world, 200, vlan(100, "10.100.0.22/24"))
    reply = await put(world, 400, vlan(100, "10.100.0.22/24"), vlan(100, "10.101.0.22/24"))
    assert "vlan_interfaces[0], too" in reply["problems"][0]["why"]
    vip = {"vip_id": "0", "ip_address": {"addr": "10.100.0.21", "type": "V4"}}
    reply = await world.post("/api/vsvip", {"name": "theirs", "vip": [vip]}, 400)
    assert "is the address of Avi" in reply["problems"][0]["why"]


async def test_an_engine_is_in_so_many_vlans_at_most(world: ControlledWorld) -> None:
    reply = await put(world, 400, *(vlan(n, f"10.101.{n}.1/24") for n in range(1, 34)))
    assert [problem["path"] for problem in reply["problems"]] == ["data_vnics[0].vlan_interfaces"]


async def test_what_the_cloud_made_is_the_clouds(world: ControlledWorld) -> None:
    document = (await world.get("/api/serviceengine"))["results"][0]
    (vnic,) = document["data_vnics"]
    for vnics, path in (
        ([], "data_vnics"),
        ([vnic, {**vnic, "if_name": "eth1"}], "data_vnics[1]"),
        ([{**vnic, "mac_address": "02:00:00:00:00:99"}], "data_vnics[0].mac_address"),
    ):
        body = {**document, "data_vnics": vnics}
        reply = await world.call("PUT", f"/api/serviceengine/{document['uuid']}", 400, json=body)
        assert reply["problems"][0]["path"] == path


async def test_an_interface_with_vips_goes_only_when_the_engine_serves_nothing(world: ControlledWorld) -> None:
    await put(world, 200, vlan(100), vlan(200, "10.101.0.21/24"))
    await put(world, 200, vlan(100))  # no VIP is in the other
    reply = await put(world, 400)
    assert "10.100.0.0/24 has VIPs" in reply["problems"][0]["why"] and "web-vip" in reply["problems"][0]["why"]
    await put(world, 200, vlan(100), enable_state="SE_STATE_DISABLED")
    await put(world, 200)


async def test_engine_and_cloud_get_what_the_object_says(world: ControlledWorld) -> None:
    off = vlan(300, "10.103.0.21/24", enabled=False)
    shown = await put(world, 200, vlan(200, "10.101.0.21/24", "fd00:101::21/64"), vlan(100), off)
    assert interfaces_part(shown) == Interfaces(
        interfaces=(
            Interface(name="eth0.200", vlan=200, addresses=("10.101.0.21/24", "fd00:101::21/64")),
            Interface(name="eth0.100", vlan=100, addresses=("10.100.0.21/24",)),
        )
    )

    def plugged(*wanted: int) -> Callable[[], bool]:
        return lambda: world.cloud.handle(shown["uuid"]).vlans == wanted

    await world.run(plugged(100, 200))
    await put(world, 200, vlan(100))
    await world.run(plugged(100))


async def test_an_engine_that_is_made_is_in_the_vlans_of_all_others_where_there_are_addresses(
    world: ControlledWorld,
) -> None:
    group = world.view.named("serviceenginegroup", "Default-Group")
    assert group is not None
    ends = {end: {"addr": f"10.100.0.{number}", "type": "V4"} for end, number in (("begin", 50), ("end", 53))}
    mine = {"range": ends, "type": "STATIC_IPS_FOR_SE"}
    prefix = {"ip_addr": {"addr": "10.100.0.0", "type": "V4"}, "mask": 24}
    dmz = await world.post("/api/network", {"name": "dmz", "configured_subnets": [{"prefix": prefix}]})
    await put(world, 200, vlan(100, "10.100.0.51/24"))
    assert siblings.networks(world.view, group["uuid"]) == ()  # not all are in it
    await put(world, 200, vlan(100), vlan(300, "10.103.0.21/24"), engine=1)
    assert siblings.networks(world.view, group["uuid"]) == ()  # no addresses for engines
    dmz["configured_subnets"][0]["static_ip_ranges"] = [mine]
    await world.call("PUT", f"/api/network/{dmz['uuid']}", 200, json=dmz)
    assert siblings.networks(world.view, group["uuid"]) == ("10.100.0.0/24",)
    present = world.controller.reconciler.present(group["uuid"])
    assert present is not None and present.group.networks_made == ("10.100.0.0/24",)

    await world.staged(1)
    made = (await world.get("/api/serviceengine"))["results"][2]["data_vnics"][0]["vlan_interfaces"]
    assert [(one["if_name"], one["vnic_networks"][0]["ip"]["ip_addr"]["addr"]) for one in made] == [
        ("eth0.100", "10.100.0.52")  # .50 is a VIP's, .51 the first engine's
    ]
    vip = {"auto_allocate_ip": True, "ipam_network_subnet": {"network_ref": "/api/network?name=dmz"}}
    reply = await world.post("/api/vsvip", {"name": "none", "vip": [vip]}, 400)
    assert "dmz has no IPv4 subnet with addresses for VIPs" in reply["error"], reply  # its addresses are for engines


# --- VRFs ---


async def vrf_service(
    world: ControlledWorld, name: str, vrf: str, status: int = 201, group: str = "Default-Group"
) -> Any:
    """A virtual service at 10.50.0.5 in a VRF."""
    if world.view.named("vsvip", f"{name}-vip") is None:
        await world.post("/api/vrfcontext", {"name": vrf})
        vip = {"vip_id": "0", "ip_address": {"addr": "10.50.0.5", "type": "V4"}}
        reference = f"/api/vrfcontext?name={vrf}"
        await world.post("/api/vsvip", {"name": f"{name}-vip", "vip": [vip], "vrf_context_ref": reference})
    body = {"name": name, "services": [{"port": 80}], "vsvip_ref": f"/api/vsvip?name={name}-vip"}
    return await world.post(
        "/api/virtualservice", {**body, "se_group_ref": f"/api/serviceenginegroup?name={group}"}, status
    )


async def test_one_haproxy_has_an_address_once(world: ControlledWorld) -> None:
    await vrf_service(world, "red", "red")
    why = (await vrf_service(world, "blue", "blue", 400))["problems"][0]["why"]
    assert "10.50.0.5 is an address of VRF red, too, in the same service engine group" in why
    await world.post("/api/serviceenginegroup", {"name": "other"})
    why = (await vrf_service(world, "blue", "blue", 400, "other"))["problems"][0]["why"]
    assert "both would be answered for in the engines' own network" in why
    vlan_of_red = vlan(50, "10.50.0.21/24", vrf_ref="/api/vrfcontext?name=red")
    await put(world, 200, vlan_of_red)
    await vrf_service(world, "blue", "blue", group="other")


async def test_vips_in_a_vlan_are_in_its_vrf(world: ControlledWorld) -> None:
    await vrf_service(world, "red", "red")
    why = (await put(world, 400, vlan(50, "10.50.0.21/24")))["problems"][0]["why"]
    assert "red-vip: 10.50.0.5 lies in eth0.50 of" in why and "in VRF global, and the VsVip is in red" in why
    await put(world, 200, vlan(50, "10.50.0.21/24", vrf_ref="/api/vrfcontext?name=red"))
    document = (await world.get("/api/vsvip", name="red-vip"))["results"][0]
    body = {**document, "vrf_context_ref": "/api/vrfcontext?name=global"}
    reply = await world.call("PUT", f"/api/vsvip/{document['uuid']}", 400, json=body)
    assert "in VRF red, and the VsVip is in global" in reply["problems"][0]["why"]


async def test_pools_and_services_of_another_vrf_are_refused(world: ControlledWorld) -> None:
    service = await vrf_service(world, "red", "red")
    await world.post("/api/vrfcontext", {"name": "blue"})
    await world.post("/api/pool", {"name": "p", "vrf_ref": "/api/vrfcontext?name=blue"})
    url = f"/api/virtualservice/{service['uuid']}"
    reply = await world.call("PUT", url, 400, json={**service, "pool_ref": "/api/pool?name=p"})
    assert reply["problems"][0]["path"] == "pool_ref" and "p is in VRF blue" in reply["problems"][0]["why"]
    reply = await world.call("PUT", url, 400, json={**service, "vrf_context_ref": "/api/vrfcontext?name=blue"})
    assert reply["problems"][0]["path"] == "vrf_context_ref"
    pool = (await world.get("/api/pool", name="p"))["results"][0]
    pool = await world.call(
        "PUT", f"/api/pool/{pool['uuid']}", 200, json={**pool, "vrf_ref": "/api/vrfcontext?name=red"}
    )
    await world.call("PUT", url, 200, json={**service, "pool_ref": "/api/pool?name=p"})
    body = {**pool, "vrf_ref": "/api/vrfcontext?name=blue"}
    reply = await world.call("PUT", f"/api/pool/{pool['uuid']}", 400, json=body)
    assert reply["problems"][0]["path"] == "vrf_ref"


async def test_an_engine_has_the_routes_of_its_vlans_vrfs(world: ControlledWorld) -> None:
    prefix = {"ip_addr": {"addr": "10.60.0.0", "type": "V4"}, "mask": 16}
    route = {"route_id": "1", "prefix": prefix, "next_hop": {"addr": "10.101.0.1", "type": "V4"}}
    red = await world.post("/api/vrfcontext", {"name": "red", "static_routes": [route]})
    shown = await put(world, 200, vlan(200, "10.101.0.21/24", vrf_ref="/api/vrfcontext?name=red"))
    group = world.view.named("serviceenginegroup", "Default-Group")
    assert group is not None
    await world.controller.reconciler.reconcile(group["uuid"])
    parts = world.controller.compiler.parts(shown["uuid"])
    assert {"interfaces", f"routes/{red['uuid']}"} <= parts.keys()


class Addresses:
    """Notes what is put where."""

    def __init__(self) -> None:
        self.there: set[tuple[str, str]] = set()

    def add(self, interface: str, address: str) -> None:
        self.there.add((interface, address))

    def remove(self, interface: str, address: str) -> None:
        self.there.discard((interface, address))


def test_a_vip_waits_for_its_vlan_and_is_nowhere_meanwhile() -> None:
    segments = Segments.__new__(Segments)
    addresses = Addresses()
    segments._main, segments._networks, segments._beside, segments._there = "eth0", (), {}, {}
    segments._addresses = addresses  # type: ignore[assignment]
    segments._know({"eth0.2": ("10.100.0.0/24",)})
    with pytest.raises(OSError, match=r"eth0\.2 is not there yet"):
        segments.add("10.100.0.50")
    assert segments._move() == ["10.100.0.50"] and not addresses.there  # it is tried again, in vain
    segments._beside["eth0.2"] = None  # type: ignore[assignment]
    assert segments._move() == ["10.100.0.50"] and addresses.there == {("eth0.2", "10.100.0.50")}
    segments.remove("10.100.0.50")
    assert not addresses.there


def test_a_vip_is_where_its_network_is() -> None:
    segments = Segments.__new__(Segments)
    segments._main, segments._networks = "eth0", ()
    assert segments.of("10.100.0.50") == "eth0"
    segments._know({"eth0.1": ("10.0.0.0/8",), "eth0.2": ("10.100.0.0/24", "fd00:100::/64")})
    where = {address: segments.of(address) for address in ("10.100.0.50", "10.1.0.50", "fd00:100::5", "192.0.2.1")}
    assert list(where.values()) == ["eth0.2", "eth0.1", "eth0.2", "eth0"]
    assert segments.besides(where) == {"10.100.0.50", "10.1.0.50", "fd00:100::5"}
