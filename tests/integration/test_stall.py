"""The controller is stopped for a while, as when its machine is paused, and its engines serve: it judges nobody by what it did
not hear. Two engines are too few for a storm, so nothing else protects them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from shoal import system
from shoal.lab.api import Api
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import prepared
from tests.integration.test_storm import events, stand

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(120)]

STOPPED_S = 6.0
"""Twice as long as the silence that convicts an engine."""
WATCHED_S = 3.0


@pytest.fixture
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

        await api.until("the service has its engine, and the buffer has one", whole, 30.0)
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
