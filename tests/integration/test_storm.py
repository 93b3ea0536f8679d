"""The controller loses every engine from sight while all of them serve: nothing moves, and nothing when they are back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from shoal.clouds.namespaces import engines_in
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import MODES, PASSWORD, Bench
from shoal.system import WIRE_PORT
from tests.integration.private_shoal import prepared
from tests.integration.story import story

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

CUT = f"""table netdev storm {{
  chain out {{ type filter hook egress device host0 priority 0; tcp sport {WIRE_PORT} drop; tcp dport {WIRE_PORT} drop; }}
  chain in {{ type filter hook ingress device host0 priority 0; tcp sport {WIRE_PORT} drop; tcp dport {WIRE_PORT} drop; }}
}}
"""
"""Between the controller and its engines, and nowhere else: on the fabric's side of the host's link."""
STEADY_S = 3.0
"""While engines start on a busy machine the others' statuses are late, and one that was silent for two seconds before is rightly
judged before the rest."""
HELD_S = 4.0
PROBED_S = 12.0


async def nft(lab: Lab, rules: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", lab.fabric.addressing.fabric, "nft", "-f", "-"), stdin=asyncio.subprocess.PIPE
    )
    await child.communicate(rules.encode())
    assert child.returncode == 0


async def events(api: Api, name: str) -> list[str]:
    found = await api.get(f"analytics/logs?type=2&page_size=100&filter=eq(event_id,{name})")
    return [str(event["event_description"]) for event in found["results"]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with prepared(tmp_path_factory.mktemp("storm")) as bench:
        yield bench


def test_a_controller_cut_off_from_engines_that_serve_moves_nothing(bench: Bench) -> None:
    asyncio.run(cut_and_heal(bench, Lab(bench.options.data_dir)))


async def stand(api: Api, bench: Bench) -> list[Any]:
    found = [await api.placement(service["uuid"]) for service in bench.services.values()]
    return [(f["placements"], f["generation"], f["succession"], f["answers"]) for f in found]


async def cut_and_heal(bench: Bench, lab: Lab) -> None:
    async with Api(bench.url, PASSWORD) as api:
        engines = [engine["uuid"] for engine in (await api.get("serviceengine"))["results"]]
        before = await stand(api, bench)
        address = next(iter(bench.services.values()))["address"]
        await asyncio.sleep(STEADY_S)
        probing = asyncio.create_task(lab.probe("client", address, 80, PROBED_S))
        await nft(lab, CUT)
        try:
            await api.until("the controller suspects itself", lambda: events(api, "SE_STORM_STARTED"), 10.0)
            await asyncio.sleep(HELD_S)
            assert await stand(api, bench) == before, await story(api)
            states = [(await api.get(f"serviceengine/{e}/runtime"))["oper_status"]["state"] for e in engines]
            assert set(states) == {"OPER_PARTITIONED"}
        finally:
            await nft(lab, "delete table netdev storm\n")
        await api.until("they are back", lambda: events(api, "SE_STORM_ENDED"), 20.0)
        assert [engine["uuid"] for engine in (await api.get("serviceengine"))["results"]] == engines
        assert await stand(api, bench) == before, await story(api)
        assert not await events(api, "SE_DOWN")
        probed = await probing
        assert len(probed.starts) > 100 and not probed.failed(), "clients noticed"


def test_engines_that_died_with_their_controller_are_started_by_the_next_one(bench: Bench) -> None:
    lab = Lab(bench.options.data_dir)
    bench.kill_controller()
    for engine in engines_in(bench.options.data_dir, lab.fabric):
        lab.kill(engine)
    bench.launch()
    asyncio.run(whole_again(bench))


async def whole_again(bench: Bench) -> None:
    async with Api(bench.url, PASSWORD) as api:
        for mode, service in bench.services.items():
            found = await api.placed(service["uuid"], MODES[mode])
            assert found["answers"]
        assert len(await events(api, "REBOOT_SE")) >= 4
