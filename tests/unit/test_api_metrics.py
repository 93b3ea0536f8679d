"""The shapes of measured history (reference: api.md 7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.api import prometheus
from shoal.api.metrics import POINTS_MAX
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from tests.api_world import HOST, World, api_world

PATH = "/api/analytics/metrics"
SECONDS = 30


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def measured(world: World) -> tuple[str, str]:
    """20 requests a second, a tenth of them 404, for half a minute. (uuid of the virtual service, of its pool)"""
    made = await world.service()
    pool = (await world.get("/api/pool"))["results"][0]["uuid"]
    for number in range(SECONDS // 5 + 1):
        counts = Counts(
            open=4,
            connections=50 * number,
            requests=100 * number,
            responses_2xx=90 * number,
            responses_4xx=10 * number,
            bytes_in=1_000 * number,
            bytes_out=9_000 * number,
            response_ms=500 * number,
            timed=100 * number,
        )
        service = ServiceCounts(made["uuid"], counts, (PoolCounts(pool, (("10.0.0.1:80", counts),)),))
        message = Counters(
            epoch="e", number=number + 1, at_ms=5_000 * number, engine=EngineCounts(), services=(service,)
        )
        world.metrics.take("se-1", message)
        world.clock.s += 5
    world.clock.s += 5
    return made["uuid"], pool


async def test_one_entitys_series(world: World) -> None:
    service, _ = await measured(world)
    names = "l4_client.avg_bandwidth,l7_client.avg_complete_responses,l7_client.pct_response_errors"
    found = await world.get(f"{PATH}/virtualservice/{service}", metric_id=names, step=5, limit=4)
    assert {k: found[k] for k in ("metric_id", "step", "limit", "entity_uuid")} == {
        "metric_id": names,
        "step": 5,
        "limit": 4,
        "entity_uuid": service,
    }
    values = {s["header"]["name"]: [point["value"] for point in s["data"]] for s in found["series"]}
    assert values["l4_client.avg_bandwidth"] == pytest.approx([16_000] * 4, rel=1e-3)
    assert values["l7_client.avg_complete_responses"] == pytest.approx([20] * 4, rel=1e-3)
    assert values["l7_client.pct_response_errors"] == pytest.approx([10] * 4, rel=1e-3)
    header = found["series"][0]["header"]
    assert header["units"] == "BITS_PER_SECOND" and header["entity_uuid"] == service
    assert header["statistics"]["num_samples"] == 4
    assert found["start"] < found["stop"] and found["start"] == found["series"][0]["data"][0]["timestamp"]
    assert len(found["start"]) == len("2024-01-01T00:00:00")


async def test_missing_data_is_padded_or_left_out(world: World) -> None:
    service, _ = await measured(world)
    asked: dict[str, Any] = {"metric_id": "l4_client.avg_open_conns", "step": 5, "limit": 60}
    padded = (await world.get(f"{PATH}/virtualservice/{service}", **asked))["series"][0]
    assert len(padded["data"]) == 60
    assert padded["data"][0] == {"timestamp": padded["data"][0]["timestamp"], "value": 0.0, "is_null": True}
    plain = (await world.get(f"{PATH}/virtualservice/{service}", **asked, pad_missing_data="false"))["series"][0]
    assert [point["value"] for point in plain["data"]] == pytest.approx([4.0] * len(plain["data"]), rel=1e-3)
    assert 5 <= len(plain["data"]) <= 7
    assert padded["header"]["statistics"] == plain["header"]["statistics"]


async def test_a_collection_answers_by_request_and_entity(world: World) -> None:
    service, pool = await measured(world)
    requests = [
        {
            "id": "q1",
            "entity_uuid": "*",
            "metric_id": "l4_client.avg_bandwidth,l4_client.max_open_conns",
            "step": 300,
            "limit": 1,
            "serviceengine_uuid": "*",
        },
        {"id": "q2", "entity_uuid": pool, "metric_id": "l7_server.avg_resp_latency", "step": 5, "limit": 2, "obj_id": "*"},
        {"metric_id": "controller_stats.avg_cpu_usage", "limit": 1},
    ]  # fmt: skip
    path = f"{PATH}/collection?pad_missing_data=false&include_refs=true"
    found = (await world.post(path, {"metric_requests": requests}, 200))["series"]
    assert found.keys() == {"q1", "q2", "2"}
    bandwidth, most = found["q1"][service]
    assert bandwidth["header"]["name"] == "l4_client.avg_bandwidth"
    assert bandwidth["header"]["virtualservice_ref"] == f"https://{HOST}/api/virtualservice/{service}#web"
    assert bandwidth["data"][0]["value"] == pytest.approx(16_000, rel=1e-3)
    assert most["data"][0]["value"] == 4
    (latency,) = found["q2"][pool]
    assert (latency["header"]["obj_id"], latency["header"]["units"]) == ("10.0.0.1:80", "MILLISECONDS")
    assert latency["header"]["pool_ref"].endswith(f"{pool}#web-pool")
    assert [point["value"] for point in latency["data"]] == pytest.approx([5, 5], rel=1e-3)


async def test_a_time_range(world: World) -> None:
    service, _ = await measured(world)
    stop = world.clock.now() - 20
    path = f"{PATH}/virtualservice/{service}"
    asked: dict[str, Any] = {"metric_id": "l7_client.sum_total_requests", "step": 5, "limit": 100}
    whole = (await world.get(path, **asked))["series"][0]["data"]
    assert sum(point["value"] for point in whole) == pytest.approx(100 * SECONDS // 5, rel=1e-3)
    part = (await world.get(path, **asked, start=stop - 10, stop=stop))["series"][0]["data"]
    assert len(part) in (1, 2) and all(point["value"] == pytest.approx(100, rel=1e-3) for point in part)
    iso = await world.get(path, **asked, start="2023-11-14T22:13:00Z")
    assert iso["series"][0]["data"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"metric_id": "l4_client.avg_bandwith"}, "Did you mean l4_client.avg_bandwidth?"),
        ({}, "must name 1 to 100 metrics"),
        ({"metric_id": "se_stats.avg_cpu_usage"}, "Ask metrics/serviceengine"),
        ({"metric_id": "l4_client.avg_bandwidth", "step": 7}, "multiple of 5"),
        ({"metric_id": "l4_client.avg_bandwidth", "limit": 0}, "must be 1 to 1000"),
        ({"metric_id": "l4_client.avg_bandwidth", "limit": "x"}, "whole number"),
        ({"metric_id": "l4_client.avg_bandwidth", "start": "soon"}, "ISO 8601"),
        ({"metric_id": "l4_client.avg_bandwidth", "serviceengine_uuid": "se-1"}, "summed over all engines"),
    ],
)
async def test_what_can_not_be_answered_is_refused_in_words(world: World, asked: dict[str, Any], words: str) -> None:
    made = await world.service()
    for path in (f"{PATH}/virtualservice/{made['uuid']}", f"{PATH}/virtualservice"):
        assert words in (await world.get(path, 400, **asked))["error"]


async def test_refusals_of_a_collection_name_the_request(world: World) -> None:
    good = {"metric_id": "l4_client.avg_bandwidth", "entity_uuid": "*"}
    path = f"{PATH}/collection"
    for requests in ([], None, [good] * 51, ["x"]):
        assert "metric_requests" in (await world.post(path, {"metric_requests": requests}, 400))["error"]
    bad = [good, good | {"metric_id": "l4_client.nothing"}]
    assert "metric_requests[1].metric_id" in (await world.post(path, {"metric_requests": bad}, 400))["error"]
    same = [good | {"id": "a"}, good | {"id": "a"}]
    assert "same id" in (await world.post(path, {"metric_requests": same}, 400))["error"]
    nowhere = [good | {"entity_uuid": "virtualservice-none"}]
    await world.post(path, {"metric_requests": nowhere}, 404)
    await world.call("GET", path, 405)
    await world.call("POST", f"{PATH}/pool", 405)
    for gone in ("nothing", "virtualservice/none", "virtualservice/a/b"):
        await world.get(f"{PATH}/{gone}", 404, metric_id="l4_client.avg_bandwidth")


async def test_an_answer_is_bounded(world: World) -> None:
    for number in range(3):
        await world.service(f"web{number}", f"10.9.0.{number + 5}")
    many = {"metric_id": "l4_client.avg_bandwidth", "entity_uuid": "*", "limit": 1_000, "step": 5}
    requests = [many | {"id": str(number)} for number in range(50)]
    body = {"metric_requests": requests[: POINTS_MAX // 3_000 // 2]}
    await world.post(f"{PATH}/collection?pad_missing_data=false", body, 200)
    names = ",".join(f"l7_client.avg_resp_{n}xx" for n in range(1, 6))
    body = {"metric_requests": [request | {"metric_id": names} for request in requests]}
    assert "Lower the limit" in (await world.post(f"{PATH}/collection", body, 400))["error"]


async def test_all_metrics_are_listed(world: World) -> None:
    found = await world.get("/api/analytics/metric_id")
    by_name = {metric["name"]: metric for metric in found["results"]}
    assert found["count"] == len(by_name) > 50
    assert by_name["se_if.avg_bandwidth"]["entity_types"] == ["SE_METRICS_ENTITY"]
    for name in ("l4_client.avg_complete_conns", "l7_client.avg_resp_4xx", "se_stats.avg_cpu_usage"):
        assert name in by_name


async def test_another_tenants_series_are_not_shown(world: World) -> None:
    service, _ = await measured(world)
    await world.post("/api/tenant", {"name": "other"})
    asked = {"metric_id": "l4_client.avg_bandwidth"}
    headers = {"X-Avi-Tenant": "other"}
    await world.call("GET", f"{PATH}/virtualservice/{service}", 404, params=asked, headers=headers)
    found = await world.call("GET", f"{PATH}/virtualservice", 200, params=asked, headers=headers)
    assert found["series"] == []


async def test_prometheus_reads_only_what_the_caller_may_see(world: World) -> None:
    service, pool = await measured(world)
    stranger = world.stranger()
    assert (await stranger.get("/metrics")).status_code == 401
    await stranger.aclose()
    reply = await world.client.get("/metrics")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain")
    assert service not in reply.text  # its engine is no object here
    await world.call("POST", "/metrics", 405)
    names = prometheus.Names({"se-1": "Avi-se-1"}, {service: "web"}, {pool: "web-pool"}, {"se-1"})
    text = prometheus.text(world.metrics.counted(), names).decode()
    labels = f'serviceengine="Avi-se-1",uuid="{service}",virtualservice="web"'
    assert f"shoal_virtualservice_requests_total{{{labels}}} 600.0" in text
    assert f'pool="web-pool",pool_uuid="{pool}",server="10.0.0.1:80",serviceengine="Avi-se-1"}} 540.0' in text
    assert 'shoal_serviceengine_cpu_seconds_total{serviceengine="Avi-se-1"} 0.0' in text
