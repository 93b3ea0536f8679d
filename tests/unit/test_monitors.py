"""Health monitors that can't be run: said when written, seen in the runtime, never the end of the traffic."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.controller.desired import pool_part
from shoal.controller.monitors import monitor_part, withheld
from shoal.controller.permissions import Rights
from shoal.controller.rules import Change, Rules
from shoal.engine.haproxy import monitors
from shoal.errors import Invalid
from shoal.objects import views
from shoal.objects.views import view
from shoal.wire.monitors import Shared
from tests.api_world import ControlledWorld, controlled_world

SCTP = {"name": "sctp", "type": "HEALTH_MONITOR_SCTP"}


def _web(request: str) -> dict[str, object]:
    return {"http_request": request, "http_response_code": ["HTTP_2XX"]}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def test_a_pool_is_served_without_a_monitor_that_cannot_be_run(world: ControlledWorld) -> None:
    await world.service()
    made = await world.client.post("/api/healthmonitor", json=SCTP)
    assert "HEALTH_MONITOR_SCTP is not run yet" in made.headers["x-shoal-warning"]
    pool = (await world.get("/api/pool"))["results"][0]
    add = {"add": {"health_monitor_refs": ["/api/healthmonitor?name=sctp"]}}
    reply = await world.client.patch(f"/api/pool/{pool['uuid']}", json=add)
    assert reply.status_code == 200
    assert reply.headers["x-shoal-warning"].endswith("the pool is served without sctp.")

    stored = world.view.get("pool", pool["uuid"])
    assert stored is not None and len(stored["health_monitor_refs"]) == 1
    part = pool_part(world.view, view(stored, views.Pool))
    assert monitors.check(part) == monitors.Check()

    runtime = await world.get(f"/api/pool/{pool['uuid']}/runtime")
    assert any("SCTP can't be run yet" in reason for reason in runtime["oper_status"]["reason"])


async def test_monitors_beside_one_that_cannot_be_run_are_run(world: ControlledWorld) -> None:
    await world.post("/api/healthmonitor", SCTP)
    refs = ["/api/healthmonitor?name=sctp", "/api/healthmonitor?name=System-TCP"]
    pool = await world.post("/api/pool", {"name": "p", "health_monitor_refs": refs})
    part = pool_part(world.view, view(world.view.get("pool", pool["uuid"]) or {}, views.Pool))
    assert [monitor.name for monitor in part.monitors] == ["System-TCP"]


@pytest.mark.parametrize(
    ("question", "path"),
    [
        (None, "dns_monitor"),
        ({"query_name": "a b"}, "dns_monitor.query_name"),
        ({"query_name": "www.example.org", "record_type": "DNS_RECORD_AXFR"}, "dns_monitor.record_type"),
    ],
)
async def test_a_dns_question_that_cannot_be_asked_is_refused(
    world: ControlledWorld, question: dict[str, str] | None, path: str
) -> None:
    body = {"name": "m", "type": "HEALTH_MONITOR_DNS"} | ({"dns_monitor": question} if question else {})
    reply = await world.post("/api/healthmonitor", body, 400)
    assert reply["problems"][0]["path"] == path


SCRIPT = {"name": "m", "type": "HEALTH_MONITOR_EXTERNAL", "external_monitor": {"command_code": "echo up"}}


def scripted(**fields: str) -> dict[str, object]:
    return {**SCRIPT, "external_monitor": {"command_code": "echo up", **fields}}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"name": "m", "type": "HEALTH_MONITOR_EXTERNAL"}, "external_monitor"),
        (scripted(command_code=" "), "external_monitor.command_code"),
        (scripted(command_parameters="'open"), "external_monitor.command_parameters"),
        (scripted(command_variables="USER=a LD_PRELOAD=/tmp/x"), "external_monitor.command_variables"),
        (scripted(command_variables="novalue"), "external_monitor.command_variables"),
        ({"name": "m", "type": "HEALTH_MONITOR_IMAP", "imap_monitor": {"folder": "a\r\nb"}}, "imap_monitor.folder"),
        ({"name": "m", "type": "HEALTH_MONITOR_LDAP"}, "ldap_monitor"),
    ],
)
async def test_what_cannot_be_run_is_refused(world: ControlledWorld, body: dict[str, object], path: str) -> None:
    reply = await world.post("/api/healthmonitor", body, 400)
    assert reply["problems"][0]["path"] == path


async def test_only_a_superuser_says_what_runs_on_engines(world: ControlledWorld) -> None:
    await world.post("/api/healthmonitor", SCRIPT)
    rights = Rights(levels={"PERMISSION_HEALTHMONITOR": 2})
    change = Change(type="healthmonitor", uuid="healthmonitor-1", raw={}, document=dict(SCRIPT), rights=rights)
    with pytest.raises(Invalid, match="superuser"):
        Rules(world.view).check(change)


async def test_secrets_reach_the_engine_in_plain_text_and_nobody_else(world: ControlledWorld) -> None:
    body = {
        "name": "m",
        "type": "HEALTH_MONITOR_RADIUS",
        "radius_monitor": {"username": "u", "password": "geheim", "shared_secret": "noch geheimer"},
    }
    await world.post("/api/healthmonitor", body)
    stored = next(one for one in world.view.all("healthmonitor") if one["name"] == "m")
    assert "geheim" not in str(stored)
    part = monitor_part(world.view, stored, world.intent._secrets.unseal)
    assert (part.user, part.password, part.asks) == ("u", "geheim", Shared(secret="noch geheimer"))
    assert monitor_part(world.view, stored, withheld).password == ""


@pytest.mark.parametrize("request_text", ["nonsense", "GET /\x00 HTTP/1.0", "GET / HTTP/1.0\r\nHo st: x", "G" * 3000])
async def test_a_request_that_cannot_be_sent_is_refused_when_written(world: ControlledWorld, request_text: str) -> None:
    body = {"name": "m", "type": "HEALTH_MONITOR_HTTP", "http_monitor": _web(request_text)}
    reply = await world.post("/api/healthmonitor", body, 400)
    assert reply["problems"][0]["path"] == "http_monitor.http_request"


@pytest.mark.parametrize(
    "request_text", ["", "HEAD /x HTTP/1.1\\r\\nHost: a.example", "GET / HTTP/1.0\r\nA: b\r\n\r\n"]
)
async def test_requests_as_people_write_them_are_taken(world: ControlledWorld, request_text: str) -> None:
    body = {"name": "m", "type": "HEALTH_MONITOR_HTTP", "http_monitor": _web(request_text)}
    await world.post("/api/healthmonitor", body)
