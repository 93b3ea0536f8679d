"""The cluster's nodes and the service engines: what can be changed about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.intent import SYSTEM
from tests.api_world import ControlledWorld, controlled_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


def nodes(*lasts: int) -> list[dict[str, Any]]:
    return [{"name": f"node-{last}", "ip": {"addr": f"10.1.0.{last}", "type": "V4"}} for last in lasts]


async def test_fields_of_shoals_own_are_like_the_vendors(world: ControlledWorld) -> None:
    whole = await world.get("/api/controllerproperties")
    assert (whole["storm_window_s"], whole["moves_per_minute_max"]) == (60, 300)
    await world.call("PUT", "/api/controllerproperties", 200, json={**whole, "storm_window_s": 0})
    whole = await world.get("/api/controllerproperties")
    assert whole["storm_window_s"] == 0
    await world.call("PUT", "/api/controllerproperties", 400, json={**whole, "storm_window_s": 3601})


@pytest.mark.parametrize(
    "given, why",
    [
        (nodes(1, 2), "must be 1 node or 3 nodes"),
        (nodes(1, 2, 3, 4), "must be 1 node or 3 nodes"),
        ([], "must be 1 node or 3 nodes"),
        (nodes(1, 2, 2), "is that of 2 nodes"),
    ],
)
async def test_a_cluster_has_one_node_or_three_different_ones(
    world: ControlledWorld, given: list[dict[str, Any]], why: str
) -> None:
    whole = await world.get("/api/cluster")
    reply = await world.call("PUT", "/api/cluster", 400, json={**whole, "nodes": given})
    assert reply["problems"][0]["path"] == "nodes" and why in reply["error"]
    for good in (nodes(1, 2, 3), nodes(1)):
        await world.call("PUT", "/api/cluster", 200, json={"name": whole["name"], "nodes": good})


async def engine(world: ControlledWorld) -> Any:
    group = "/api/serviceenginegroup?name=Default-Group"
    await world.intent.create("serviceengine", {"name": "e", "se_group_ref": group}, SYSTEM)
    return (await world.get("/api/serviceengine", include_name=""))["results"][0]


async def test_an_engine_stays_in_its_group(world: ControlledWorld) -> None:
    whole = await engine(world)
    path = f"/api/serviceengine/{whole['uuid']}"
    await world.post("/api/serviceenginegroup", {"name": "other"})
    for method, body in (
        ("PATCH", {"replace": {"se_group_ref": "/api/serviceenginegroup?name=other"}}),
        ("PUT", {**whole, "se_group_ref": "/api/serviceenginegroup?name=other"}),
        ("PATCH", {"replace": {"container_mode": True}}),
    ):
        reply = await world.call(method, path, 400, json=body)
        assert "can't be changed on a service engine" in reply["error"]


async def test_an_engine_is_disabled_whole_or_in_part(world: ControlledWorld) -> None:
    whole = await engine(world)
    path = f"/api/serviceengine/{whole['uuid']}"
    same = "/api/serviceenginegroup?name=Default-Group"
    for method, body in (
        ("PUT", {**whole, "enable_state": "SE_STATE_DISABLED"}),
        ("PUT", {"name": "e", "se_group_ref": same, "enable_state": "SE_STATE_DISABLED"}),
        ("PATCH", {"replace": {"enable_state": "SE_STATE_DISABLED"}}),
    ):
        after = await world.call(method, path, 200, json=body)
        assert after["enable_state"] == "SE_STATE_DISABLED" and after["se_group_ref"] == whole["se_group_ref"]
        await world.call("PATCH", path, 200, json={"replace": {"enable_state": "SE_STATE_ENABLED"}})
