"""What a health score is made of, and what costs how much."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller import health
from shoal.controller.health import NOTHING, Loss, Score, Traffic, Usual
from shoal.controller.metrics import Metrics
from shoal.controller.pki import self_signed_default
from shoal.objects.views import AnalyticsProfile
from shoal.wire.counters import Counters, Counts, EngineCounts, ServiceCounts
from shoal.wire.latency import BUCKETS, bucket_of
from tests.api_world import World, api_world

PROFILE = AnalyticsProfile()


def traffic(*, fast: int = 0, tolerable: int = 0, slow: int = 0, failed: int = 0) -> Traffic:
    times = [0.0] * BUCKETS
    for ms, count in ((10, fast), (1_000, tolerable), (5_000, slow)):
        times[bucket_of(ms * 1000)] += count
    return Traffic(requests=fast + tolerable + slow, failed=failed, times=tuple(times))


@pytest.mark.parametrize(
    "given, value",
    [
        (traffic(), 100),
        (traffic(fast=100), 100),
        (traffic(fast=100, failed=25), 75),
        (traffic(fast=80, tolerable=20), 90),
        (traffic(fast=90, slow=10), 90),
        (traffic(fast=90, slow=10, failed=50), 45),
        (Traffic(requests=10, failed=20), 0),
    ],
)
def test_performance_is_apdex_of_what_did_not_fail(given: Traffic, value: float) -> None:
    found, reasons = health.performance(given, 500, 4.0)
    assert found == pytest.approx(value, abs=0.5)
    assert bool(reasons) is (value < 100)


def test_more_failures_and_slower_answers_never_score_better() -> None:
    values = [health.performance(traffic(fast=100 - n, slow=n, failed=n), 500, 4.0)[0] for n in range(0, 101, 5)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("used, share", [(0.5, 0.0), (0.8, 0.0), (0.9, 0.5), (1.0, 1.0), (1.3, 1.0)])
def test_a_resource_costs_from_four_fifths_on(used: float, share: float) -> None:
    assert health.pressure(used, "CPU").share == pytest.approx(share)


def test_what_is_missing_costs_its_share() -> None:
    assert health.missing(1, 4, "servers are down") == Loss(0.75, "3 of 4 servers are down")
    assert health.missing(2, 2, "x") == health.missing(0, 0, "x") == NOTHING


def test_only_what_is_far_off_its_usual_course_is_unusual() -> None:
    steady = (100.0, 104.0, 96.0) * 8
    near, far = Usual("connections/s", 120.0, steady), Usual("connections/s", 200.0, steady)
    young = Usual("connections/s", 200.0, steady[:5])
    assert health.unusual([near, young]) == NOTHING
    assert health.unusual([near, far]) == Loss(0.5, "unusual: connections/s 200, usually 100")


@pytest.mark.parametrize(
    "days, own, share",
    [(90, False, 0.0), (90, True, 0.2), (20, False, 0.2), (5, False, 0.6), (5, True, 0.8), (-1, True, 1)],
)
def test_a_certificate_costs_as_its_end_comes(days: float, own: bool, share: float) -> None:
    assert health.certificate(days, PROFILE, self_signed=own, name="c").share == pytest.approx(share)


def test_the_worst_of_each_counts_and_nothing_falls_below_zero() -> None:
    score = health.scored(
        (60.0, ["40 % failed"]),
        PROFILE,
        resources=[Loss(0.4, "a"), Loss(1.0, "b")],
        anomaly=Loss(1.0, "c"),
        security=[Loss(0.2, "d"), NOTHING],
    )
    assert (score.value, score.resources, score.anomaly, score.security) == (5.0, 25, 10, 20)
    assert score.reasons == ("40 % failed", "b", "c", "d")
    assert Score(performance=10.0, security=100.0).value == 0.0


# --- over the API ---


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def shop(world: World, **more: Any) -> str:
    vip = await world.post("/api/vsvip", {"name": "v", "vip": [{"auto_allocate_ip": True}]})
    pool = await world.post("/api/pool", {"name": "p", "servers": [{"ip": {"addr": "10.1.1.1", "type": "V4"}}]})
    body = {"name": "shop", "services": [{"port": 80}], "vsvip_ref": vip["url"], "pool_ref": pool["url"], **more}
    uuid: str = (await world.post("/api/virtualservice", body))["uuid"]
    return uuid


def counted(metrics: Metrics, service: str, *, responses_5xx: int) -> None:
    for number in range(2):
        total = 100 * number
        counts = Counts(
            connections=total,
            requests=total,
            responses_2xx=total - responses_5xx * number,
            responses_5xx=responses_5xx * number,
        )
        message = Counters(
            epoch="e",
            number=number + 1,
            at_ms=5_000 * number,
            engine=EngineCounts(),
            services=(ServiceCounts(service, counts, latency=((bucket_of(1_000), total),)),),
        )
        metrics.take("se", message)


async def test_failures_show_in_the_score_over_time_and_in_the_inventory(world: World) -> None:
    uuid = await shop(world)
    counted(world.metrics, uuid, responses_5xx=30)
    found = await world.get(f"/api/analytics/healthscore/virtualservice/{uuid}", limit=1)
    ((series,)) = found["series"]
    (point,) = series["data"]
    assert point["value"] == point["performance_value"] == 70.0 and point["resources_penalty"] == 0.0
    assert point["reasons"] == ["30.0 % of 100 failed"] and series["header"]["entity_uuid"] == uuid
    part = await world.get(f"/api/analytics/healthscore/virtualservice/{uuid}", limit=1, hs_type="anomaly")
    assert part["series"][0]["data"][0]["value"] == 0.0
    entry = await world.get(f"/api/virtualservice-inventory/{uuid}")
    assert entry["health_score"]["health_score"] == 70.0


async def test_a_certificate_that_ends_soon_costs_points(world: World) -> None:
    key, pem = self_signed_default("shop.example")
    body = {"name": "own", "key": key.decode(), "certificate": {"certificate": pem.decode()}}
    made = await world.post("/api/sslkeyandcertificate", body)
    tls = {"services": [{"port": 443, "enable_ssl": True}], "ssl_key_and_certificate_refs": [made["url"]]}
    uuid = await shop(world, **tls)
    entry = await world.get(f"/api/virtualservice-inventory/{uuid}")
    assert entry["health_score"]["security_penalty"] == 20.0
    assert "is self-signed" in str(entry["health_score"]["reasons"])


async def test_scores_are_of_the_own_tenant(world: World) -> None:
    uuid = await shop(world)
    await world.post("/api/tenant", {"name": "red"})
    for path in (f"/{uuid}", ""):
        url = f"/api/analytics/healthscore/virtualservice{path}"
        found = await world.call("GET", url, 404 if path else 200, headers={"X-Avi-Tenant": "red"})
        assert uuid not in str(found.get("series"))


async def test_what_is_no_question_is_refused(world: World) -> None:
    await world.get("/api/analytics/healthscore/network", 404)
    await world.get("/api/analytics/healthscore/virtualservice", 400, step=7)
    await world.get("/api/analytics/healthscore/virtualservice", 400, hs_type="beauty")
