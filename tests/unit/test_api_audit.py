"""The audit trail as events: who changed what, from where, from what to what (reference: api.md 7)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from shoal.controller import audit
from shoal.controller.clock import SystemClock
from shoal.controller.day_files import Where
from shoal.controller.journal import Journal
from shoal.placement.model import Decision, Plan, Snapshot
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Transaction
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
    assert update["changes"] == {"default_server_port": [80, 81], "description": ["mine", None]}
    delete, create = found["results"][0]["changes"], found["results"][2]["changes"]
    assert create["description"] == [None, "mine"] and create["name"] == [None, "web"]
    assert delete["default_server_port"] == [81, None] and "uuid" not in delete
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


async def test_the_trail_outlives_the_controller_and_holds_no_secret(world: World, tmp_path: Path) -> None:
    made = await world.post("/api/authprofile", {"name": "a", "type": "AUTH_PROFILE_LDAP", "ldap": _ldap("s3cret")})
    body = {"replace": {"ldap": _ldap("an0ther")}}
    await world.call("PATCH", f"/api/authprofile/{made['uuid']}", 200, json=body)
    for _ in range(2):  # what is there already is not taken twice
        again = Journal(tmp_path / "logs", SystemClock())
        await again.catch_up(world.store)
        count, found = await again.search(Where(), limit=10)
        assert count == 2 and [event["obj_name"] for event in found] == ["a", "a"]
    said = str([record.value for record in (await world.store.list(audit.AUDITS)).records]) + str(found)
    assert "<sensitive>" in said and "s3cret" not in said and "an0ther" not in said


async def test_large_values_are_cut(world: World) -> None:
    await world.post("/api/pool", {"name": "large", "description": "x" * 50_000})
    (event,) = (await world.get("/api/analytics/logs", type=2, filter="eq(obj_name,large)"))["results"]
    kept = event["changes"]["description"][1]
    assert len(kept) < audit.VALUE_BYTES_MAX + 50 and kept.endswith("(50002 bytes)")


async def test_everything_is_exported_in_order(world: World) -> None:
    await changed_pool(world)
    answer = await world.client.get("/api/analytics/logs?type=2&format=jsonl&filter=eq(module,config)")
    found = [msgspec.json.decode(line) for line in answer.text.splitlines()]
    assert [event["event_id"] for event in found] == ["CONFIG_CREATE", "CONFIG_UPDATE", "CONFIG_DELETE"]
    assert answer.headers["content-type"].startswith("application/jsonl")
    await world.get("/api/analytics/logs", 400, type=2, format="xml")


async def test_another_tenant_sees_none_of_it(world: World) -> None:
    for name in ("red", "blue"):
        await world.post("/api/tenant", {"name": name})
        body = {"name": "web", "description": f"secret of {name}"}
        await world.call("POST", "/api/pool", 201, json=body, headers={"X-Avi-Tenant": name})
    query = "/api/analytics/logs?type=2&page_size=200"
    red = await world.call("GET", query, 200, headers={"X-Avi-Tenant": "red"})
    assert red["count"] == 1 and "secret of red" in str(red) and "blue" not in str(red)
    every = await world.call("GET", query, 200, headers={"X-Avi-Tenant": "*"})
    assert "secret of red" in str(every) and "secret of blue" in str(every)


async def test_the_journal_can_only_be_appended_to(world: World, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "logs", SystemClock())
    await changed_pool(world)
    await journal.catch_up(world.store)
    (file,) = (tmp_path / "logs").glob("journal-*.db")
    assert file.stat().st_mode & 0o77 == 0
    with sqlite3.connect(file) as database:
        for statement in ("DELETE FROM rows", "UPDATE rows SET user = 'nobody'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


async def test_a_broken_file_is_set_aside(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    journal = Journal(folder, SystemClock())
    await changed_pool(world)
    await journal.catch_up(world.store)
    (file,) = folder.glob("journal-*.db")
    for rest in folder.glob("journal-*.db-*"):
        rest.unlink()
    file.write_bytes(b"no database" * 1_000)
    again = Journal(folder, SystemClock())
    await again.catch_up(world.store)
    count, _ = await again.search(Where(), limit=10)
    assert count == 3 and len(list(folder.glob("*.broken-*"))) == 1


def test_decisions_are_noted_with_their_reasons() -> None:
    journal = Journal(None, SystemClock())
    decision = Decision(vip="vsvip-1/0", what="promote", engine="se-b", why="se-a is down", revision=7)
    snapshot = SimpleNamespace(
        engines=(SimpleNamespace(id="se-b", name="B"),), vips=(SimpleNamespace(id="vsvip-1/0", name="shop"),)
    )
    plan = SimpleNamespace(decisions=(decision,), group="g")
    journal.decided(cast(Snapshot, snapshot), cast(Plan, plan), 5.0)
    _, (found,) = asyncio.run(journal.search(Where(), limit=10))
    assert found["event_id"] == "PLACEMENT_DECISION" and found["event_description"] == "shop: promote B: se-a is down"
    assert found["decision"]["revision"] == 7 and found["objects"]["vip"] == "vsvip-1/0"


def _ldap(password: str) -> dict[str, Any]:
    return {
        "server": ["10.0.0.9"],
        "settings": {"admin_bind_dn": "cn=x", "user_id_attribute": "uid", "password": password},
    }


async def test_old_records_leave_the_store_also_those_of_an_earlier_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "AUDITS_KEPT_MAX", 10)
    monkeypatch.setattr(audit, "PRUNE_EVERY", 4)
    store = MemoryStore()
    keys = [f"{audit.AUDITS}{number:03d}" for number in range(36)]
    await store.commit(Transaction(puts=tuple((key, b"") for key in keys[:12])))
    trail = audit.Trail(store)
    for key in keys[12:]:
        await store.commit(Transaction(puts=((key, b""),)))
        trail.written(key, audit.Record(at=0.0, user="u", operation="CREATE", type="Pool"))
        await asyncio.sleep(0.001)
    assert [record.key for record in (await store.list(audit.AUDITS)).records] == keys[-10:]
