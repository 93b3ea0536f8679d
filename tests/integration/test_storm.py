"""The controller loses every engine from sight while all of them serve: nothing moves, and nothing when they are back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD
from shoal.system import WIRE_PORT
from tests.integration.private_shoal import prepared

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

CUT = f"""table netdev storm {{
  chain out {{ type filter hook egress device host0 priority 0; tcp sport {WIRE_PORT} drop; tcp dport {WIRE_PORT} drop; }}
  chain in {{ type filter hook ingress device host0 priority 0; tcp sport {WIRE_PORT} drop; tcp dport {WIRE_PORT} drop; }}
}}
"""
"""Between the controller and its engines, and nowhere else: on the fabric's side of the host's link."""
HELD_S = 6.0


async def nft(lab: Lab, rules: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", lab.fabric.addressing.fabric, "nft", "-f", "-"), stdin=asyncio.subprocess.PIPE
    )
    await child.communicate(rules.encode())
    assert child.returncode == 0


async def events(api: Api, name: str) -> list[str]:
    found = await api.get(f"analytics/logs?type=2&page_size=100&filter=eq(event_id,{name})")
    return [str(event["event_description"]) for event in found["results"]]


def test_a_controller_cut_off_from_engines_that_serve_moves_nothing(tmp_path: Path) -> None:
    with prepared(tmp_path) as bench:
        asyncio.run(cut_and_heal(bench.url, Lab(bench.options.data_dir), bench.services))


async def cut_and_heal(url: str, lab: Lab, services: dict[str, dict[str, Any]]) -> None:
    async with Api(url, PASSWORD) as api:

        async def stand() -> list[Any]:
            found = [await api.placement(service["uuid"]) for service in services.values()]
            return [(f["placements"], f["generation"], f["succession"], f["answers"]) for f in found]

        engines = [engine["uuid"] for engine in (await api.get("serviceengine"))["results"]]
        before = await stand()
        probing = [
            asyncio.create_task(lab.probe("client", service["address"], 80, 20.0)) for service in services.values()
        ]
        await nft(lab, CUT)
        try:
            await api.until("the controller suspects itself", lambda: events(api, "SE_STORM_STARTED"), 10.0)
            await asyncio.sleep(HELD_S)
            assert await stand() == before
            states = [(await api.get(f"serviceengine/{e}/runtime"))["oper_status"]["state"] for e in engines]
            assert set(states) == {"OPER_PARTITIONED"}
        finally:
            await nft(lab, "delete table netdev storm\n")
        await api.until("they are back", lambda: events(api, "SE_STORM_ENDED"), 20.0)
        assert [engine["uuid"] for engine in (await api.get("serviceengine"))["results"]] == engines
        assert await stand() == before
        assert not await events(api, "SE_DOWN")
        for probed in await asyncio.gather(*probing):
            assert not probed.failed(), "clients noticed"
        await lab.close()
