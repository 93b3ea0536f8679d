"""Static routes before a packet flows: what is refused, and what engines get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.routes import routes_part
from shoal.wire.desired import Routes, StaticRoute
from tests.api_world import ControlledWorld, controlled_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


def address(text: str) -> dict[str, str]:
    return {"addr": text, "type": "V6" if ":" in text else "V4"}


def route(prefix: str = "10.50.0.0/16", hop: str = "10.0.0.1", **more: Any) -> dict[str, Any]:
    first, _, mask = prefix.partition("/")
    return {"route_id": "1", "prefix": {"ip_addr": address(first), "mask": int(mask)}, "next_hop": address(hop), **more}


async def put(world: ControlledWorld, status: int, *routes: dict[str, Any]) -> Any:
    vrf = (await world.get("/api/vrfcontext?name=global"))["results"][0]
    return await world.call("PUT", f"/api/vrfcontext/{vrf['uuid']}", status, json={**vrf, "static_routes": routes})


@pytest.mark.parametrize(
    "routes, path",
    [
        ([route("10.50.0.0/33")], "static_routes[0].prefix.mask"),
        ([route("10.50.0.300/16")], "static_routes[0].prefix.ip_addr.addr"),
        ([route("224.0.0.0/8")], "static_routes[0].prefix"),
        ([route(hop="fd00::1")], "static_routes[0].next_hop.addr"),
        ([route(hop="0.0.0.0")], "static_routes[0].next_hop"),
        ([route("fd00:5::/64", "fe80::1")], "static_routes[0].next_hop"),
        ([route(if_name="eth0/../x")], "static_routes[0].if_name"),
        ([route(), route("10.60.0.0/16")], "static_routes[1].route_id"),
    ],
)
async def test_what_no_engine_could_follow_is_refused(
    world: ControlledWorld, routes: list[dict[str, Any]], path: str
) -> None:
    reply = await put(world, 400, *routes)
    assert [problem["path"] for problem in reply["problems"]] == [path], reply


async def test_engines_get_networks_whatever_bits_of_a_host_were_given(world: ControlledWorld) -> None:
    default = route("0.0.0.0/0", "10.0.0.2", route_id="2", if_name="eth0")
    shown = await put(world, 200, route("10.50.7.9/16"), default, route("fd00:5::/64", "fd00::1", route_id="3"))
    assert routes_part(world.view, shown["uuid"]) == Routes(
        id=shown["uuid"],
        name="global",
        routes=(
            StaticRoute(id="1", prefix="10.50.0.0/16", next_hop="10.0.0.1"),
            StaticRoute(id="2", prefix="0.0.0.0/0", next_hop="10.0.0.2", interface="eth0"),
            StaticRoute(id="3", prefix="fd00:5::/64", next_hop="fd00::1"),
        ),
    )
    await put(world, 200)
    assert routes_part(world.view, shown["uuid"]) is None
