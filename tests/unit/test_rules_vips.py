"""VIPs and networks: addresses that can be served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_world import World, api_world, warnings_of


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
