"""Tenants: an object stays in its own, and refers to its own and admin's (reference: api.md 3, 4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.intent import SYSTEM
from tests.api_world import ControlledWorld, controlled_world

T1 = {"X-Avi-Tenant": "t1"}
EVERY = {"X-Avi-Tenant": "*"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        await world.post("/api/tenant", {"name": "t1"})
        await world.post("/api/tenant", {"name": "t2"})
        yield world


@pytest.mark.parametrize("form", ["/api/tenant?name=t2", "/api/tenant/?name=admin"])
@pytest.mark.parametrize("headers", [T1, EVERY])
async def test_an_object_stays_in_its_tenant(world: ControlledWorld, form: str, headers: dict[str, str]) -> None:
    made = await world.post("/api/pool", {"name": "p"}, headers=T1)
    path = f"/api/pool/{made['uuid']}"
    step = {"op": "replace", "path": "/tenant_ref", "value": form}
    for method, body in (
        ("PUT", {**made, "tenant_ref": form}),
        ("PATCH", {"replace": {"tenant_ref": form}}),
        ("PATCH", {"json_patch": [step]}),
    ):
        reply = await world.call(method, path, 400, json=body, headers=headers)
        assert reply["problems"][0]["path"] == "tenant_ref" and "can't be moved" in reply["error"]
    same = {"name": "p", "tenant_ref": "/api/tenant?name=t1", "description": "x"}
    await world.call("PUT", path, 200, json=same, headers=headers)


async def test_an_object_of_another_tenant_is_not_found_by_uuid_either(world: ControlledWorld) -> None:
    monitor = {"name": "m", "type": "HEALTH_MONITOR_TCP"}
    theirs: Any = await world.post("/api/healthmonitor", monitor, headers={"X-Avi-Tenant": "t2"})
    for reference in (
        f"/api/healthmonitor/{theirs['uuid']}",
        theirs["url"],
        "/api/healthmonitor?name=m",
        "/api/healthmonitor?name=m&tenant=t2",
    ):
        for headers in (T1, {"X-Avi-Tenant": "admin"}):
            body = {"name": "p", "health_monitor_refs": [reference]}
            reply = await world.post("/api/pool", body, 400, headers=headers)
            assert "no HealthMonitor is found" in reply["error"]
    body = {"name": "p", "health_monitor_refs": [theirs["url"]]}
    assert "t2" not in (await world.post("/api/pool", body, 400, headers=T1))["error"].replace(theirs["url"], "")
    reply = await world.post("/api/pool", {**body, "tenant_ref": "/api/tenant?name=t1"}, 400, headers=EVERY)
    assert "belongs to tenant t2" in reply["error"]


async def test_own_and_admins_objects_are_found_in_every_form(world: ControlledWorld) -> None:
    own = await world.post("/api/healthmonitor", {"name": "m", "type": "HEALTH_MONITOR_TCP"}, headers=T1)
    admins = (await world.get("/api/healthmonitor", name="System-TCP"))["results"][0]
    refs = [own["url"], admins["url"], "/api/healthmonitor?name=System-HTTP"]
    body = {"name": "p", "health_monitor_refs": refs, "tenant_ref": "/api/tenant?name=t1"}
    made = await world.post("/api/pool", body, headers=EVERY)
    assert len(made["health_monitor_refs"]) == 3 and made["tenant_ref"].endswith("#t1")


async def test_an_engine_of_a_tenants_group_can_be_disabled(world: ControlledWorld) -> None:
    group = await world.post("/api/serviceenginegroup", {"name": "g"}, headers=T1)
    body = {"name": "e", "se_group_ref": f"/api/serviceenginegroup/{group['uuid']}"}
    engine = (await world.intent.create("serviceengine", body, SYSTEM)).doc
    off = {"replace": {"enable_state": "SE_STATE_DISABLED"}}
    await world.call("PATCH", f"/api/serviceengine/{engine['uuid']}", 200, json=off)
