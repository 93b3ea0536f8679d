"""PATCH and references: an entry is the same however it is named (reference: api.md 5.3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_world import World, api_world

FORMS = [
    "/api/healthmonitor?name=System-HTTP",
    "/api/healthmonitor/?name=System-HTTP",
    "https://elsewhere.example/api/healthmonitor/{uuid}#System-HTTP",
    "/api/healthmonitor/{uuid}",
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def monitor(world: World) -> Any:
    return (await world.get("/api/healthmonitor", name="System-HTTP"))["results"][0]


@pytest.mark.parametrize("form", FORMS)
async def test_a_reference_is_added_once_and_removed_in_whatever_form(world: World, form: str) -> None:
    known = await monitor(world)
    reference = form.format(**known)
    path = f"/api/pool/{(await world.post('/api/pool', {'name': 'p'}))['uuid']}"
    add = {"add": {"health_monitor_refs": [reference]}}
    once = await world.call("PATCH", path, 200, json=add)
    assert once["health_monitor_refs"] == [known["url"] + "#System-HTTP"]
    again = await world.call("PATCH", path, 200, json=add)
    assert {**again, "_last_modified": ""} == {**once, "_last_modified": ""}
    gone = await world.call("PATCH", path, 200, json={"delete": {"health_monitor_refs": [reference]}})
    assert "health_monitor_refs" not in gone


async def test_a_list_that_names_an_object_twice_holds_it_once(world: World) -> None:
    forms = [form.format(**await monitor(world)) for form in FORMS]
    made = await world.post("/api/pool", {"name": "p", "health_monitor_refs": forms})
    path = f"/api/pool/{made['uuid']}"
    put = await world.call("PUT", path, 200, json={"name": "p", "health_monitor_refs": forms})
    replaced = await world.call("PATCH", path, 200, json={"replace": {"health_monitor_refs": forms}})
    step = {"op": "add", "path": "/health_monitor_refs/-", "value": forms[0]}
    stepped = await world.call("PATCH", path, 200, json={"json_patch": [step]})
    assert [len(d["health_monitor_refs"]) for d in (made, put, replaced, stepped)] == [1, 1, 1, 1]


async def test_an_entry_that_is_a_message_is_known_by_what_it_refers_to(world: World) -> None:
    await world.post("/api/pool", {"name": "p"})
    path = f"/api/poolgroup/{(await world.post('/api/poolgroup', {'name': 'g'}))['uuid']}"
    member = {"pool_ref": "/api/pool?name=p"}
    await world.call("PATCH", path, 200, json={"add": {"members": [member]}})
    group = await world.call("PATCH", path, 200, json={"add": {"members": [{**member, "ratio": 3}]}})
    assert [m["ratio"] for m in group["members"]] == [3]
    left = await world.call("PATCH", path, 200, json={"delete": {"members": [member]}})
    assert "members" not in left


async def test_a_reference_that_leads_nowhere_is_refused_when_added(world: World) -> None:
    path = f"/api/pool/{(await world.post('/api/pool', {'name': 'p'}))['uuid']}"
    add = {"add": {"health_monitor_refs": ["/api/healthmonitor?name=none"]}}
    reply = await world.call("PATCH", path, 400, json=add)
    assert reply["problems"][0]["path"] == "health_monitor_refs"


@pytest.mark.parametrize("operator", ["add", "delete"])
@pytest.mark.parametrize("value", [5, True, "text", {"ip": "10.0.0.1"}])
async def test_what_one_operator_put_where_a_list_belongs_is_refused_and_not_added_to(
    world: World, operator: str, value: Any
) -> None:
    server = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}
    path = f"/api/pool/{(await world.post('/api/pool', {'name': 'p', 'servers': [server]}))['uuid']}"
    reply = await world.call("PATCH", path, 400, json={"replace": {"servers": value}, operator: {"servers": [server]}})
    assert reply["problems"][0]["path"] == "servers"
    assert (await world.get(path))["servers"]


async def test_null_is_no_list_to_delete_from(world: World) -> None:
    """Found by the property tests: it was a fault of the server."""
    path = f"/api/pool/{(await world.post('/api/pool', {'name': 'p'}))['uuid']}"
    reply = await world.call("PATCH", path, 200, json={"replace": {"servers": None}, "delete": {"servers": [{}]}})
    assert "servers" not in reply


async def test_a_list_that_is_emptied_is_left_out_of_answers(world: World) -> None:
    server = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}
    path = f"/api/pool/{(await world.post('/api/pool', {'name': 'p', 'servers': [server]}))['uuid']}"
    emptied = await world.call("PATCH", path, 200, json={"replace": {"servers": [], "health_monitor_refs": []}})
    for document in (emptied, await world.get(path)):
        assert "servers" not in document and "health_monitor_refs" not in document
