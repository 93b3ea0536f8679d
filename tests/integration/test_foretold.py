"""What a what-if foretells comes when real engines are killed. More of it: ``scripts/bench foretold``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from shoal.lab.api import Api
from shoal.lab.foretold import Foretold
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(150)]

SEEDS = (1, 3)
"""Both elastic modes; two engines of three killed at once; one VIP that must wait."""
FAULTS = 2


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with launched(tmp_path_factory.mktemp("foretold")) as bench:
        yield bench


def command(bench: Bench, *options: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "shoal", "whatif", "--controller", bench.url, *options, "--json"],
        env={**os.environ, "SHOAL_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_it_comes_as_foretold(bench: Bench) -> None:
    lab = Lab(bench.options.data_dir)

    async def play() -> None:
        async with Api(bench.url, PASSWORD) as api:
            played = await asyncio.gather(*(Foretold(api, lab, seed).run(FAULTS) for seed in SEEDS))
            compared = [one for some in played for one in some]
            assert [one.differences for one in compared] == [()] * len(SEEDS) * FAULTS
            assert sum(one.touched for one in compared) > 0

    asyncio.run(play())


def test_the_command_and_the_margin_of_a_running_group(bench: Bench) -> None:
    async def prepare() -> None:
        async with Api(bench.url, PASSWORD) as api:
            service = await api.service("web", [("192.0.2.1", 80)])
            await api.placed(service["uuid"], 1)
            (group,) = (await api.get("serviceenginegroup?name=Default-Group"))["results"]

            async def known() -> bool:
                margin = (await api.get(f"serviceenginegroup/{group['uuid']}/runtime"))["ha_margin"]
                return bool(margin and margin["current"] and margin["stays_up"]["engines"] == 1)

            await api.until("the margin is known", known, 20.0)

    asyncio.run(prepare())
    status, found = command(bench, "--group", "Default-Group", "--fail-any", "2")
    assert status == 3 and found["worst_of"]["exact"] and found["virtualservices"]["waiting"] == ["web"]
    status, found = command(bench, "--group", "Default-Group", "--fail-any", "1")
    assert status == 0 and found["stays_up"]
    assert found["verdict"][0].startswith("Any 1 engine may fail, and everything stays up")
