"""A group of two engines amid a migrate: the one that is left takes the address back when the other one dies, with no controller,
and the connections that it drains live on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shoal.lab.api import Api, engine_name
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.kept import Kept
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

GROUP = {"name": "two", "max_se": 2, "buffer_se": 1, "vs_scalein_timeout": 60}
CONNECTIONS = 10
OUTAGE_MS_MAX = 500.0
PROBE_S = 2.0


def test_who_drains_a_service_takes_it_back(tmp_path: Path) -> None:
    with launched(tmp_path) as bench:
        asyncio.run(story(bench))


async def story(bench: Bench) -> None:
    async with Lab(bench.options.data_dir) as lab:
        async with Api(bench.url, PASSWORD) as api:
            service, kept, owner = await migrated(lab, api)
        bench.kill_controller()
        probing = asyncio.create_task(lab.probe("client", service["address"], 80, PROBE_S))
        await asyncio.sleep(0.8)
        lab.kill(owner)
        probed = await probing
        assert 0 < probed.outage_ms() <= OUTAGE_MS_MAX
        assert len(probed.starts) > 200 and probed.late_answers_ms() <= 20.0
        assert await asyncio.to_thread(kept.ask) == kept.first == {"web1": CONNECTIONS}
        kept.close()


async def migrated(lab: Lab, api: Api) -> tuple[dict[str, str], Kept, str]:
    """(the service, its connections on the engine that is left, who owns it now)."""
    backend = await lab.backend("web1")
    await lab.node("client")
    await api.post("serviceenginegroup", GROUP)
    profile = {"application_profile_ref": "/api/applicationprofile?name=System-L4-Application"}
    group = {"se_group_ref": "/api/serviceenginegroup?name=two"}
    service = await api.service("web", [(backend.address, backend.port)], **profile, **group)
    former = (await api.placed(service["uuid"], 1))["answers"]
    kept = await asyncio.to_thread(Kept, lab, service["address"], "connections", 80, CONNECTIONS)

    async def armed() -> bool:
        found = await api.placement(service["uuid"])
        names = [engine_name(reference) for reference in found["succession"]]
        return bool(
            found["armed"] and len(names) == 2 and found["answers"] == names[0] != former and names[1] == former
        )

    await api.until("the buffer's engine is its successor", lambda: two(api, service["uuid"]), 20.0)
    await api.post(f"virtualservice/{service['uuid']}/migrate", {"vip_id": "0"})
    await api.until("the other engine owns it, and the former one would take it back", armed, 20.0)
    found = await api.placement(service["uuid"])
    assert sorted(p["state"] for p in found["placements"]) == ["draining", "ready"]
    return service, kept, found["answers"]


async def two(api: Api, service: str) -> bool:
    found = await api.placement(service)
    return bool(found["armed"] and len(found["succession"]) == 2)
