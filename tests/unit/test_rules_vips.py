"""VIPs and networks: addresses that can be served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_world import World, api_world, warnings_of

FIELDS = ("ip_address", "ip6_address")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


def vip(address: str, name: str = "v") -> dict[str, Any]:
    return {"name": name, "vip": [{"ip_address": {"addr": address, "type": "V4"}}]}


@pytest.mark.parametrize(
    "address, why",
    [
        ("0.0.0.0", "stands for no particular address"),
        ("0.1.2.3", "stands for no particular address"),
        ("127.0.0.1", "loopback"),
        ("224.0.0.5", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("169.254.1.1", "link-local"),
        ("10.9.0.0", "network address of 10.9.0.0/24"),
        ("10.9.0.255", "broadcast address of 10.9.0.0/24"),
    ],
)
async def test_a_vip_is_the_address_of_one_machine(world: World, address: str, why: str) -> None:
    problem = (await world.post("/api/vsvip", vip(address), 400))["problems"][0]
    assert problem["path"] == "vip[0].ip_address.addr" and problem["value"] == address and why in problem["why"]


@pytest.mark.parametrize(
    "address, why",
    [
        ("::", "stands for no particular address"),
        ("::1", "loopback"),
        ("ff02::5", "multicast"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "has a scope"),
        ("4000::1", "reserved"),
        ("::ffff:10.9.0.5", "is an IPv4 address in IPv6 form"),
        ("fd00:9::", "subnet-router anycast address of fd00:9::/112"),
        ("10.9.0.5", "must be an IPv6 address"),
        ("fd00:9::g", "must be an IPv6 address"),
    ],
)
async def test_an_ipv6_vip_is_the_address_of_one_machine(world: World, address: str, why: str) -> None:
    body = {"name": "v", "vip": [{"ip6_address": {"addr": address, "type": "V6"}}]}
    problem = (await world.post("/api/vsvip", body, 400))["problems"][0]
    assert problem["path"] == "vip[0].ip6_address.addr" and problem["value"] == address and why in problem["why"]


async def test_the_type_of_an_address_is_that_of_its_text(world: World) -> None:
    body = {"name": "v", "vip": [{"ip6_address": {"addr": "fd00:9::5", "type": "V4"}}]}
    problem = (await world.post("/api/vsvip", body, 400))["problems"][0]
    assert problem["path"] == "vip[0].ip6_address.type" and problem["why"] == "is V4, and fd00:9::5 is IPv6"


async def test_an_ipv6_address_has_one_spelling_and_one_vsvip(world: World) -> None:
    both = {"ip_address": {"addr": "10.9.0.5", "type": "V4"}, "ip6_address": {"addr": "FD00:9:0::00AB", "type": "V6"}}
    made = await world.post("/api/vsvip", {"name": "v", "vip": [both]}, 201)
    assert made["vip"][0]["ip6_address"]["addr"] == "fd00:9::ab"
    again = {"name": "w", "vip": [{"ip6_address": {"addr": "fd00:9:0:0:0:0:0:ab", "type": "V6"}}]}
    assert "fd00:9::ab is the address of VsVip v already" in str(await world.post("/api/vsvip", again, 409))
    twice = {"name": "x", "vip": [{"ip6_address": {"addr": a, "type": "V6"}} for a in ("fd00:9::c", "FD00:9::C")]}
    assert "an address is given twice" in str(await world.post("/api/vsvip", twice, 400))


@pytest.mark.parametrize(
    "type, wanted",
    [
        ("V4_ONLY", {"ip_address": "10.9.0.1"}),
        ("V6_ONLY", {"ip6_address": "fd00:9::1"}),
        ("V4_V6", {"ip_address": "10.9.0.1", "ip6_address": "fd00:9::1"}),
    ],
)
async def test_addresses_are_allocated_in_the_families_asked_for(
    world: World, type: str, wanted: dict[str, str]
) -> None:
    vip = {"auto_allocate_ip": True, "auto_allocate_ip_type": type}
    made = await world.post("/api/vsvip", {"name": "v", "vip": [vip]}, 201)
    assert {field: made["vip"][0][field]["addr"] for field in FIELDS if field in made["vip"][0]} == wanted
    written = await world.client.put(f"/api/vsvip/{made['uuid']}", json={"name": "v", "vip": [{"vip_id": "0", **vip}]})
    assert {field: written.json()["vip"][0][field]["addr"] for field in wanted} == wanted, "it keeps them"
    other = await world.post("/api/vsvip", {"name": "w", "vip": [vip]}, 201)
    assert all(other["vip"][0][field]["addr"] != address for field, address in wanted.items())


async def test_a_network_without_the_family_allocates_none_of_it(world: World) -> None:
    prefix = {"ip_addr": {"addr": "10.7.0.0", "type": "V4"}, "mask": 24}
    network = await world.post("/api/network", {"name": "n", "configured_subnets": [{"prefix": prefix}]}, 201)
    vip = {"auto_allocate_ip": True, "auto_allocate_ip_type": "V6_ONLY"}
    vip["ipam_network_subnet"] = {"network_ref": network["url"]}
    assert "has no IPv6 subnet" in str(await world.post("/api/vsvip", {"name": "v", "vip": [vip]}, 400))


async def test_an_allocation_stays_in_the_subnet_asked_for(world: World) -> None:
    subnets = [{"prefix": {"ip_addr": {"addr": f"fd00:{n}::", "type": "V6"}, "mask": 112}} for n in (7, 8)]
    network = await world.post("/api/network", {"name": "n", "configured_subnets": subnets}, 201)
    wanted = {"network_ref": network["url"], "subnet6": subnets[1]["prefix"]}
    vip = {"auto_allocate_ip": True, "auto_allocate_ip_type": "V6_ONLY", "ipam_network_subnet": wanted}
    made = await world.post("/api/vsvip", {"name": "v", "vip": [vip]}, 201)
    assert made["vip"][0]["ip6_address"] == {"addr": "fd00:8::1", "type": "V6"}


async def test_a_pool_has_each_ipv6_server_once_in_one_spelling(world: World) -> None:
    def pool(*addresses: str) -> dict[str, Any]:
        return {"name": "p", "servers": [{"ip": {"addr": a, "type": "V6"}, "port": 80} for a in addresses]}

    assert "is servers[0] again" in str(await world.post("/api/pool", pool("fd00::1", "FD00:0::1"), 400))
    assert "link-local" in str(await world.post("/api/pool", pool("fe80::1"), 400))
    made = await world.post("/api/pool", pool("FD00::1", "fd00::2"), 201)
    assert [server["ip"]["addr"] for server in made["servers"]] == ["fd00::1", "fd00::2"]


async def test_a_vip_outside_of_all_networks_is_taken_with_a_warning(world: World) -> None:
    outside = await world.client.post("/api/vsvip", json=vip("10.8.0.5"))
    assert outside.status_code == 201
    assert "10.8.0.5 lies in no configured network" in warnings_of(outside)[0]
    inside = await world.client.post("/api/vsvip", json=vip("10.9.0.5", "w"))
    assert inside.status_code == 201 and not warnings_of(inside)


async def test_a_network_has_subnets_that_are_some(world: World) -> None:
    prefix = {"ip_addr": {"addr": "ten.nine", "type": "V4"}, "mask": 24}
    reply = await world.post("/api/network", {"name": "n", "configured_subnets": [{"prefix": prefix}]}, 400)
    assert reply["problems"][0]["path"] == "configured_subnets[0].prefix"


async def test_a_range_is_of_its_subnets_family(world: World) -> None:
    prefix = {"ip_addr": {"addr": "fd00:7::", "type": "V6"}, "mask": 112}
    ends = {"begin": {"addr": "fd00:7::10", "type": "V6"}, "end": {"addr": "10.0.0.9", "type": "V4"}}
    subnet = {"prefix": prefix, "static_ip_ranges": [{"range": ends}]}
    reply = await world.post("/api/network", {"name": "n", "configured_subnets": [subnet]}, 400)
    assert reply["problems"][0]["path"] == "configured_subnets[0].static_ip_ranges[0].end.addr"
