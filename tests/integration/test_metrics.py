"""A whole Shoal with real traffic: so many requests sent, so many measured."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(240)]

REQUESTS = 500
PATIENCE_S = 60.0
SEND = """
import http.client, sys
link = http.client.HTTPConnection(sys.argv[1], 80, timeout=10)
for _ in range(int(sys.argv[2])):
    link.request("GET", "/")
    assert link.getresponse().read()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with launched(tmp_path) as bench:
        yield bench


def send(lab: Lab, address: str) -> None:
    command = lab.fabric.enter("lab-client", sys.executable, "-c", SEND, address, str(REQUESTS))
    subprocess.run(command, check=True)


async def summed(api: Api, path: str, metric: str, **more: str) -> float:
    """Over the last quarter of an hour."""
    query = "&".join(f"{name}={value}" for name, value in more.items())
    found = await api.get(f"analytics/metrics/{path}?metric_id={metric}&step=5&limit=180&{query}")
    return sum(float(point["value"]) for series in found["series"] for point in series["data"])


async def exactly(api: Api, wanted: int, path: str, metric: str, **more: str) -> None:
    async def check() -> bool:
        return abs(await summed(api, path, metric, **more) - wanted) < 0.5

    await api.until(f"{metric} of {path} is {wanted}", check, PATIENCE_S)


def test_requests_sent_are_requests_measured(bench: Bench) -> None:
    async def check() -> None:
        lab = Lab(bench.options.data_dir)
        try:
            async with Api(bench.url, PASSWORD) as api:
                backends = [await lab.backend(name) for name in ("web1", "web2")]
                await lab.node("client")
                made = await api.service("web", [(b.address, b.port) for b in backends])
                placed = await api.placed(made["uuid"], 1)
                pool = made["pool_ref"].partition("#")[0].rpartition("/")[2]
                engine = placed["placements"][0]["se_ref"].partition("#")[0].rpartition("/")[2]
                await asyncio.to_thread(send, lab, made["address"])
                service = f"virtualservice/{made['uuid']}"
                await exactly(api, REQUESTS, service, "l7_client.sum_total_responses")
                await exactly(api, REQUESTS, service, "l7_client.sum_total_requests")
                await exactly(api, 1, service, "l4_client.sum_finished_conns")
                await exactly(api, REQUESTS, f"pool/{pool}", "l7_server.sum_total_responses")
                first = f"{backends[0].address}:{backends[0].port}"
                await exactly(api, REQUESTS // 2, f"pool/{pool}", "l7_server.sum_total_responses", obj_id=first)
                assert await summed(api, service, "l7_client.pct_response_errors") == 0
                assert await summed(api, service, "l4_client.avg_bandwidth") > 0
                await reloads_lose_nothing(api, lab, made)
                # what an engine counts of its machine begins with its second report: the first requests may precede it
                machine = f"serviceengine/{engine}"
                await more_than(api, REQUESTS / 5, machine, "se_if.avg_rx_pkts")
                await more_than(api, 0, machine, "se_stats.avg_cpu_usage")
                await told_in_logs_and_score(api, lab, made, [b.address for b in backends])
        finally:
            await lab.close()

    asyncio.run(check())


async def told_in_logs_and_score(api: Api, lab: Lab, made: dict[str, Any], backends: list[str]) -> None:
    """A thousand good requests leave samples and percentiles; one that no server takes is in the log by itself."""
    service = made["uuid"]
    await more_than(api, 0, f"virtualservice/{service}", "shoal.l7_client_latency_p99")
    logs = "analytics/logs?type=1&virtualservice=web&filter=eq(method,GET)&filter=eq(response_code,200)"
    (sample, *_) = (await api.get(logs))["results"]
    assert sample["server_ip"] in backends and sample["uri_path"] == "/" and sample["vs_name"] == "web"
    assert not sample["significant"] and sample["se_name"]
    pool = made["pool_ref"].partition("#")[0].rpartition("/")[2]
    await api.call("PATCH", f"pool/{pool}", {"replace": {"enabled": False}})
    once = lab.fabric.enter("lab-client", sys.executable, "-c", SEND, made["address"], "1")

    async def logged() -> bool:
        await asyncio.to_thread(subprocess.run, once, check=True)  # whatever it answers
        found = (await api.get("analytics/logs?type=1&virtualservice=web&filter=ge(response_code,500)"))["results"]
        return bool(found) and found[0]["significant"] and found[0]["significance"].startswith("status 503")

    await api.until("the failed request is logged", logged, PATIENCE_S)
    score = await api.get(f"analytics/healthscore/virtualservice/{service}?limit=1")
    (point,) = score["series"][0]["data"]
    assert 0 <= point["value"] < 100 and point["reasons"]
    decided = await api.get("analytics/logs?type=2&filter=eq(event_id,placement_decision)&filter=co(all,web)")
    assert decided["count"] >= 1 and decided["results"][0]["decision"]["why"]
    changed = await api.get("analytics/logs?type=2&filter=eq(obj_type,pool)&filter=eq(event_id,config_update)")
    assert changed["results"][0]["changes"] == {"enabled": [True, False]}


async def more_than(api: Api, least: float, path: str, metric: str) -> None:
    async def check() -> bool:
        return await summed(api, path, metric) > least

    await api.until(f"more than {least} of {metric}", check, PATIENCE_S)


async def reloads_lose_nothing(api: Api, lab: Lab, made: dict[str, Any]) -> None:
    """Other services reload HAProxy in the midst of traffic."""
    sending = asyncio.create_task(asyncio.to_thread(send, lab, made["address"]))
    for number in range(3):
        other = await api.service(f"other{number}", [(made["address"], 80)])
        await api.placed(other["uuid"], 1)
    await sending
    service = f"virtualservice/{made['uuid']}"
    await exactly(api, 2 * REQUESTS, service, "l7_client.sum_total_responses")
