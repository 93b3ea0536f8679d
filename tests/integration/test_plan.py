"""Plan and apply on a whole Shoal: what was planned came, and clients noticed what was foretold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shoal.lab.api import Api, Refusal
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

MODE = "HA_MODE_SHARED"
PROBE_S = 4.0
APPLY_AFTER_S = 1.0
DISABLE = {"replace": {"enable_state": "SE_STATE_DISABLED"}}


def test_an_engine_is_disabled_as_planned_and_no_request_fails(tmp_path: Path) -> None:
    with launched(tmp_path) as bench:
        asyncio.run(disabled(bench, Lab(bench.options.data_dir)))


async def both_up(api: Api) -> bool:
    engines = (await api.get("serviceengine"))["results"]
    states = [(await api.get(f"serviceengine/{e['uuid']}/runtime"))["oper_status"]["state"] for e in engines]
    return states == ["OPER_UP", "OPER_UP"]


async def gone(api: Api, service: str) -> bool:
    """What is asked for before it is would tell of where it was, and an engine that still drains it is none to move it to."""
    return not (await api.placement(service))["placements"]


async def disabled(bench: Bench, lab: Lab) -> None:
    async with Api(bench.url, PASSWORD) as api:
        try:
            await bench.prepare(lab, api, (MODE,))
            await api.until("the buffer's engine is up", lambda: both_up(api), 20.0)
            service = bench.services[MODE]
            owner = (await api.placed(service["uuid"], 1))["answers"]
            path = f"serviceengine/{(await api.get(f'serviceengine?name={owner}'))['results'][0]['uuid']}"
            stale = await api.call("PATCH", f"{path}?plan=true", DISABLE)
            await api.call("PATCH", f"virtualservice/{service['uuid']}", {"replace": {"enabled": False}})
            with pytest.raises(Refusal, match=r"412.*is disabled now"):
                await api.call("PATCH", f"{path}?apply={stale['id']}", DISABLE)
            await api.until("it is off its engine", lambda: gone(api, service["uuid"]), 20.0)
            await api.call("PATCH", f"virtualservice/{service['uuid']}", {"replace": {"enabled": True}})
            owner = (await api.placed(service["uuid"], 1))["answers"]
            path = f"serviceengine/{(await api.get(f'serviceengine?name={owner}'))['results'][0]['uuid']}"

            plan = await api.call("PATCH", f"{path}?plan=true", DISABLE)
            (vip,) = plan["groups"][0]["vips"]
            assert vip["owner_before"] == owner and vip["interruption"] == "handover"
            probing = asyncio.create_task(lab.probe("client", service["address"], 80, PROBE_S))
            await asyncio.sleep(APPLY_AFTER_S)
            await api.call("PATCH", f"{path}?apply={plan['id']}", DISABLE)
            probed = await probing
            found = await api.placed(service["uuid"], 1)
            assert found["answers"] == vip["owner_after"] != owner
            assert len(probed.starts) > 200 and not probed.failed()
        finally:
            await lab.close()
