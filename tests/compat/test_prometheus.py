"""``/metrics`` as Prometheus reads it: over HTTPS with basic authentication, and by its own parser."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from shoal.controller.intent import SYSTEM
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from tests.api_world import PASSWORD

from .calls import seen
from .sdk import ITS_OWN_WARNINGS, SdkController, made

pytestmark = ITS_OWN_WARNINGS
ENGINE = "se-1"


def test_the_parser_reads_what_is_scraped(controller: SdkController) -> None:
    api = controller.session(api_version="22.1.3")
    data: dict[str, Any] = {
        "name": 'quoted "web"',
        "services": [{"port": 80}],
        "vsvip_ref_data": {"name": "v", "vip": [{"auto_allocate_ip": True}]},
        "pool_ref_data": {"name": "p", "servers": [{"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}]},
    }
    service = api.post("macro", data={"model_name": "VirtualService", "data": data}).json()
    _measured(controller, service["uuid"], api.get_slug_from_uri(service["pool_ref"]))
    on = {"replace": {"portal_configuration": {"allow_basic_authentication": True}}}
    assert api.patch("systemconfiguration", data=on).status_code == 200

    url, login = f"https://127.0.0.1:{controller.port}/metrics", ("admin", PASSWORD)
    assert requests.get(url, verify=False).status_code == 401
    reply = requests.get(url, verify=False, auth=login)
    assert reply.status_code == 200 and reply.headers["Content-Type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}
    requests_of = families["shoal_virtualservice_requests"]
    assert requests_of.type == "counter" and requests_of.documentation
    sample = requests_of.samples[0]
    assert sample.name == "shoal_virtualservice_requests_total" and sample.value == 600.0
    assert sample.labels["virtualservice"] == 'quoted "web"' and sample.labels["uuid"] == service["uuid"]
    assert all(family.name.startswith("shoal_") and family.documentation for family in families.values())
    assert all(sample.value >= 0 for family in families.values() for sample in family.samples)
    made(api, "tenant", {"name": "blue"})
    other = requests.get(url, verify=False, auth=login, headers={"X-Avi-Tenant": "blue"})
    assert service["uuid"] not in other.text
    call = f"prometheus-client {version('prometheus-client')} parser"
    seen(call, "GET /metrics", "every family parsed: names, types, help, labels with quotes; basic authentication")


def _measured(controller: SdkController, service: str, pool: str) -> None:
    """An engine that is there has told 600 requests."""
    world = controller.world

    async def told() -> None:
        body = {"name": "Avi-se-1", "se_group_ref": "/api/serviceenginegroup?name=Default-Group"}
        await world.app._intent.create("serviceengine", body, SYSTEM, slug=ENGINE)
        for number, total in enumerate((0, 600)):
            counts = Counts(requests=total, responses_2xx=total, connections=total)
            of_service = ServiceCounts(service, counts, (PoolCounts(pool, (("10.0.0.1:80", counts),)),))
            at_ms = 5_000 * number
            message = Counters(epoch="e", number=number + 1, at_ms=at_ms, engine=EngineCounts(), services=(of_service,))
            world.metrics.take(ENGINE, message)
            world.clock.s += 5

    controller.ask(told)
