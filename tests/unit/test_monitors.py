"""Health monitors that can't be run: said when written, seen in the runtime, never the end of the traffic."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.controller.desired import pool_part
from shoal.engine.haproxy import monitors
from shoal.objects import views
from shoal.objects.views import view
from tests.api_world import ControlledWorld, controlled_world

SIP = {"name": "sip", "type": "HEALTH_MONITOR_SIP"}
PING = {"name": "ping", "type": "HEALTH_MONITOR_PING"}


def _web(request: str) -> dict[str, object]:
    return {"http_request": request, "http_response_code": ["HTTP_2XX"]}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def test_a_pool_is_served_without_a_monitor_that_cannot_be_run(world: ControlledWorld) -> None:
    await world.service()
    made = await world.client.post("/api/healthmonitor", json=SIP)
    assert "HEALTH_MONITOR_SIP is not run yet" in made.headers["x-shoal-warning"]
    pool = (await world.get("/api/pool"))["results"][0]
    add = {"add": {"health_monitor_refs": ["/api/healthmonitor?name=sip"]}}
    reply = await world.client.patch(f"/api/pool/{pool['uuid']}", json=add)
    assert reply.status_code == 200
    assert reply.headers["x-shoal-warning"].endswith("the pool is served without sip.")

    stored = world.view.get("pool", pool["uuid"])
    assert stored is not None and len(stored["health_monitor_refs"]) == 1
    part = pool_part(world.view, view(stored, views.Pool))
    assert monitors.check(part) == monitors.Check()

    runtime = await world.get(f"/api/pool/{pool['uuid']}/runtime")
    assert any("SIP can't be run yet" in reason for reason in runtime["oper_status"]["reason"])


async def test_monitors_beside_one_that_cannot_be_run_are_run(world: ControlledWorld) -> None:
    await world.post("/api/healthmonitor", SIP)
    refs = ["/api/healthmonitor?name=sip", "/api/healthmonitor?name=System-TCP"]
    pool = await world.post("/api/pool", {"name": "p", "health_monitor_refs": refs})
    part = pool_part(world.view, view(world.view.get("pool", pool["uuid"]) or {}, views.Pool))
    assert [monitor.name for monitor in part.monitors] == ["System-TCP"]


async def test_what_only_udp_is_checked_by_is_said_of_a_pool_that_tcp_uses(world: ControlledWorld) -> None:
    made = await world.service()
    await world.post("/api/healthmonitor", PING)
    pool = (await world.get("/api/pool"))["results"][0]
    add = {"add": {"health_monitor_refs": ["/api/healthmonitor?name=ping"]}}
    reply = await world.client.patch(f"/api/pool/{pool['uuid']}", json=add)
    assert "PING are run for UDP ports only: TCP is served without ping." in reply.headers["x-shoal-warning"]
    profiles = {
        "network_profile_ref": "/api/networkprofile?name=System-UDP-Fast-Path",
        "application_profile_ref": "/api/applicationprofile?name=System-L4-Application",
    }
    await world.call("PATCH", f"/api/virtualservice/{made['uuid']}", 200, json={"replace": profiles})
    reply = await world.client.patch(f"/api/pool/{pool['uuid']}", json={"replace": {"default_server_port": 53}})
    assert reply.status_code == 200 and "PING" not in reply.headers.get("x-shoal-warning", "")
    stored = world.view.get("pool", pool["uuid"])
    assert [m.kind for m in pool_part(world.view, view(stored or {}, views.Pool)).monitors] == ["PING"]


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
