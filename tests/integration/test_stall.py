"""What the controller makes of silence, with two engines, which are too few for a storm: it is stopped for a while itself, as when
its machine is paused, and judges nobody by that; and a machine that loses its power closes no connection."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from shoal import system
from shoal.clouds.fabric import processes_in
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.guard_lab import run
from tests.integration.private_shoal import prepared
from tests.integration.test_storm import events, stand

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(120)]

STOPPED_S = 6.0
"""Twice as long as the silence that convicts an engine."""
WATCHED_S = 3.0
WHOLE_S_MAX = 30.0
NO_POWER = "add table inet power; add chain inet power out { type filter hook output priority -500; policy drop; }"
"""Nothing leaves the machine any more, the kernel's last words for its dead processes neither."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with prepared(tmp_path_factory.mktemp("stall"), modes=["HA_MODE_SHARED"]) as bench:
        yield bench


def test_a_controller_that_was_stopped_judges_nobody_by_what_it_did_not_hear(bench: Bench) -> None:
    asyncio.run(stop_and_go_on(bench))


async def stop_and_go_on(bench: Bench) -> None:
    running = system.found(bench.options.data_dir)
    assert running is not None
    async with Api(bench.url, PASSWORD) as api:

        async def whole() -> bool:
            return len(await events(api, "SE_UP")) == 2

        await api.until("the service has its engine, and the buffer has one", whole, WHOLE_S_MAX)
        before = await stand(api, bench)
        process = os.pidfd_open(running.pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGSTOP)
            await asyncio.sleep(STOPPED_S)
        finally:
            signal.pidfd_send_signal(process, signal.SIGCONT)
            os.close(process)
        await api.until("it says that it was stopped", lambda: events(api, "CONTROLLER_STALLED"), 10.0)
        await asyncio.sleep(WATCHED_S)
        assert await stand(api, bench) == before
        for event in ("SE_DOWN", "SE_STORM_STARTED"):
            assert not await events(api, event), event
        assert len(await events(api, "CREATING_SE")) == 2


def test_a_machine_that_loses_its_power_is_dead_because_the_cloud_says_so(bench: Bench) -> None:
    asyncio.run(lose_power(bench))


async def lose_power(bench: Bench) -> None:
    fabric = Lab(bench.options.data_dir).fabric
    async with Api(bench.url, PASSWORD) as api:
        service = next(iter(bench.services.values()))
        serves = (await api.placement(service["uuid"]))["answers"]
        spare = next(e["name"] for e in (await api.get("serviceengine"))["results"] if e["name"] != serves)
        namespace = fabric.addressing.namespace(spare)
        run("ip", "netns", "exec", namespace, "nft", NO_POWER)
        for pid in processes_in(namespace):
            os.kill(pid, signal.SIGKILL)
        (told,) = await api.until("it is given up", lambda: events(api, "SE_DOWN"), 10.0)
        assert told == f"{spare}: none of its processes runs"
