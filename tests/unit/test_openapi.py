"""The OpenAPI document says what is served: its paths are the router's, its runtime documents the controller's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.api.openapi import document
from shoal.api.routes import Route, Shows
from shoal.objects import load
from tests.api_world import ControlledWorld, controlled_world

Document = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def test_it_is_served_to_everybody_and_whole(world: ControlledWorld) -> None:
    stranger = world.stranger()
    reply = await stranger.get("/api/openapi.json")
    await stranger.aclose()
    assert reply.status_code == 200
    found = reply.json()
    assert found["openapi"] == "3.1.0"
    types = [kind for kind in load().types.values() if not kind.endpoint.endswith("-inventory")]
    for kind in types:
        assert f"/api/{kind.endpoint}" in found["paths"], kind.name
    for route in world.app.router.routes:
        if "{type}" not in route.path:
            assert (
                route.path in found["paths"] and {m.lower() for m in route.methods} <= found["paths"][route.path].keys()
            )
    ids = [operation["operationId"] for item in found["paths"].values() for operation in _operations(item)]
    assert len(set(ids)) == len(ids)
    assert set(_references(found)) <= {f"#/components/schemas/{name}" for name in found["components"]["schemas"]} | {
        "#/components/responses/Refused",
        "#/components/responses/Unauthenticated",
    }


def _operations(item: Document) -> list[Document]:
    return [operation for method, operation in item.items() if method != "parameters"]


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(item) for item in value.values()))
    return set().union(*(_references(item) for item in value)) if isinstance(value, list) else set()


async def test_what_is_below_objects_is_described_as_it_is(world: ControlledWorld) -> None:
    """Documents are read and operations done: the other method is none of either."""
    found = (await world.client.get("/api/openapi.json")).json()["paths"]
    made = await world.service()
    group = world.view.named("serviceenginegroup", "Default-Group")
    assert group is not None
    pool = made["pool_ref"].rpartition("/")[2].partition("#")[0]
    uuids = {"virtualservice": made["uuid"], "serviceenginegroup": group["uuid"], "pool": pool}
    for type, what in world.controller.below():
        item = found[f"/api/{type}/{{uuid}}/{what}"]
        if type in uuids and "get" in item:
            await world.get(f"/api/{type}/{uuids[type]}/{what}")
        elif type in uuids:
            body = {"vip_id": "none"}
            reply = await world.client.post(f"/api/{type}/{uuids[type]}/{what}", json=body)
            assert reply.status_code in (200, 400), (type, what, reply.text)
    assert "get" in found["/api/pool/{uuid}/runtime"] and "post" in found["/api/virtualservice/{uuid}/scaleout"]


async def test_an_object_has_its_identity_and_the_same_message_inside_another_has_none(world: ControlledWorld) -> None:
    found = (await world.client.get("/api/openapi.json")).json()
    answer = found["paths"]["/api/controllerproperties"]["get"]["responses"]["200"]["content"]["application/json"]
    part = {"$ref": "#/components/schemas/ControllerProperties"}
    assert answer["schema"] == {"allOf": [part, {"required": ["uuid", "url"]}]}
    held = found["components"]["schemas"]["CloudInfo"]["properties"]["controller_props"]
    assert held == part and "required" not in found["components"]["schemas"]["ControllerProperties"]


def test_what_is_sent_is_strict_and_what_is_answered_is_not() -> None:
    async def nobody(*steps: object) -> Any: ...

    routes = [Route(methods=("GET", "POST"), path="/api/{type}", answer=nobody, shows=Shows.OWN)]
    schemas = document(load(), routes, ())["components"]["schemas"]
    assert schemas["Pool.write"]["additionalProperties"] is False and "additionalProperties" not in schemas["Pool"]
    timeout = schemas["Pool.write"]["properties"]["graceful_disable_timeout"]
    assert timeout["anyOf"][0]["anyOf"] == [{"type": "integer", "minimum": 1, "maximum": 7200}, {"enum": [0, -1]}]
    key = schemas["SSLKeyAndCertificate"]["properties"]["key"]
    assert key["enum"] == ["", "<sensitive>"]


async def test_a_refused_method_says_which_are_allowed(world: ControlledWorld) -> None:
    for method, path, allowed in (
        ("GET", "/api/macro", "POST, PUT, DELETE"),
        ("DELETE", "/api/pool", "GET, POST"),
        ("POST", "/api/systemconfiguration", "GET, PUT, PATCH"),
        ("DELETE", "/api/systemconfiguration", "GET, PUT, PATCH"),
        ("POST", "/metrics", "GET"),
        ("PUT", "/api/initial-data", "GET"),
    ):
        reply = await world.client.request(method, path, json={})
        assert (reply.status_code, reply.headers["Allow"]) == (405, allowed), (method, path)
