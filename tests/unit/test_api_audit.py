"""The audit trail as events: who changed what, from where, never to what (reference: api.md 7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.audit import Trail
from tests.api_world import World, api_world

CONFIG = "eq(event_id,[config_create,config_update,config_delete])"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def changed_pool(world: World) -> str:
    made = await world.post("/api/pool", {"name": "web", "description": "mine"})
    path = f"/api/pool/{made['uuid']}"
    body = {"replace": {"default_server_port": 81}, "delete": {"description": "mine"}}
    await world.call("PATCH", path, 200, json=body)
    await world.call("DELETE", path, 204)
    uuid: str = made["uuid"]
    return uuid


async def test_writes_are_events_newest_first(world: World) -> None:
    uuid = await changed_pool(world)
    found = await world.get("/api/analytics/logs", type=2, filter=CONFIG)
    assert found["count"] == 3 and found["percent_remaining"] == 0
    assert [event["event_id"] for event in found["results"]] == ["CONFIG_DELETE", "CONFIG_UPDATE", "CONFIG_CREATE"]
    update = found["results"][1]
    assert {name: update[name] for name in ("user", "client_ip", "tenant", "obj_type", "obj_uuid", "obj_name")} == {
        "user": "admin",
        "client_ip": "127.0.0.1",
        "tenant": "admin",
        "obj_type": "Pool",
        "obj_uuid": uuid,
        "obj_name": "web",
    }
    assert sorted(update["fields"]) == ["default_server_port", "description"]
    assert update["event_description"].startswith("admin from 127.0.0.1 changed Pool web: ")


@pytest.mark.parametrize(
    "filter, count",
    [
        ("eq(event_id,[config_create,config_update])", 2),
        ("eq(event_id,config_delete)", 1),
        ("co(all,{uuid})", 3),
        ("co(all,changed Pool web)", 1),
        ("eq(event_id,se_down)", 1),
    ],
)
async def test_filters(world: World, filter: str, count: int) -> None:
    uuid = await changed_pool(world)
    wanted = [filter.format(uuid=uuid), CONFIG] if "all" in filter else [filter]
    assert (await world.get("/api/analytics/logs", type=2, filter=wanted))["count"] == count


async def test_pages(world: World) -> None:
    await changed_pool(world)
    pages: list[Any] = [
        await world.get("/api/analytics/logs", type=2, filter=CONFIG, page_size=2, page=number) for number in (1, 2)
    ]
    assert [len(page["results"]) for page in pages] == [2, 1] and pages[0]["count"] == 3


async def test_the_trail_outlives_the_controller_and_holds_no_secret(world: World) -> None:
    await world.post("/api/authprofile", {"name": "a", "type": "AUTH_PROFILE_LDAP", "ldap": _ldap("s3cret")})
    again = Trail(world.store)
    assert [event["obj_name"] for event in await again.read({})] == ["a"]
    assert "s3cret" not in str([record.value for record in (await world.store.list("/audit/")).records])


def _ldap(password: str) -> dict[str, Any]:
    return {
        "server": ["10.0.0.9"],
        "settings": {"admin_bind_dn": "cn=x", "user_id_attribute": "uid", "password": password},
    }
