"""Service engine groups: writes that work against the mode warn, whatever way they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.controller.snapshot import group_value
from shoal.objects import views
from tests.api_world import World, api_world, warnings_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def test_a_whole_get_put_back_with_only_the_mode_changed_warns_of_all_that_stays(world: World) -> None:
    made = await world.post("/api/serviceenginegroup", {"name": "g"})
    path = f"/api/serviceenginegroup/{made['uuid']}"
    whole = await world.get(path)
    reply = await world.client.put(path, json={**whole, "ha_mode": "HA_MODE_SHARED_PAIR"})
    assert reply.status_code == 200 and reply.json()["algo"] == "PLACEMENT_ALGO_PACKED"
    words = " ".join(warnings_of(reply))
    for field in ("algo PLACEMENT_ALGO_PACKED", "min_scaleout_per_vs 1", "buffer_se is not used"):
        assert field in words


async def test_a_new_pair_with_packed_placement_warns(world: World) -> None:
    body = {"name": "g", "ha_mode": "HA_MODE_SHARED_PAIR", "algo": "PLACEMENT_ALGO_PACKED"}
    reply = await world.client.post("/api/serviceenginegroup", json=body)
    assert reply.status_code == 201
    assert any("algo PLACEMENT_ALGO_PACKED" in text for text in warnings_of(reply))


async def test_per_app_allows_two_services_on_an_engine(world: World) -> None:
    made = await world.post("/api/serviceenginegroup", {"name": "g", "per_app": True, "max_vs_per_se": 10})
    group = views.view(made, views.ServiceEngineGroup)
    assert group_value(group, retry_at=0.0, ever_used=False).max_vs_per_se == 2


async def test_a_disk_that_is_too_small_for_the_memory_is_refused(world: World) -> None:
    body = {"name": "g", "memory_per_se": 10240, "disk_per_se": 24}
    reply = await world.post("/api/serviceenginegroup", body, 400)
    assert "disk_per_se" in reply["error"] and "25" in reply["error"]
    await world.post("/api/serviceenginegroup", {**body, "disk_per_se": 25})
