"""How many of a server's monitors suffice, and who looks for whom."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest

from shoal.engine.monitors import runners
from shoal.engine.monitors.checks import Checks, Health
from shoal.wire.desired import Pool, Server, ServerId, Service
from shoal.wire.monitors import Monitor

CLOSED = 9
"""A port where nobody listens."""
GOOD, BAD, WORSE = (
    Monitor(name=name, kind="TCP", interval_s=1, fall=1, port=port)
    for name, port in (("good", 0), ("bad", CLOSED), ("worse", CLOSED + 1))
)


def service(id: str, port: int, monitors: tuple[Monitor, ...], least: int = 0) -> Service:
    server = Server(name="s", address="127.0.0.1", port=port)
    pool = Pool(id="p", name="p", servers=(server,), monitors=monitors, monitors_min=least)
    return Service(id=id, name=id, vip="v", addresses=("10.0.0.1",), enabled=True, mode="tcp", listeners=(), pool=pool)


class Listening:
    """A server that counts who comes."""

    def __init__(self) -> None:
        self.came = 0
        self.port = 0

    async def __aenter__(self) -> Listening:
        async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.came += 1
            writer.close()

        self._server = await asyncio.start_server(come, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()


async def judged(services: list[Service], until: Callable[[dict[ServerId, str]], bool]) -> dict[ServerId, str]:
    changed = asyncio.Event()
    checks = Checks(changed.set)
    running = asyncio.create_task(checks.run())
    checks.want(services)
    try:
        async with asyncio.timeout(5):
            while not until(found := checks.verdicts(services)):
                await changed.wait()
                changed.clear()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return found


@pytest.mark.parametrize(("least", "ill"), [(1, False), (2, True)])
async def test_a_server_is_up_while_as_many_monitors_pass_as_must(least: int, ill: bool) -> None:
    async with Listening() as server:
        one = service("one", server.port, (GOOD, BAD, WORSE), least)
        assert one.pool is not None and runners.by_haproxy(one.pool) == ()
        found = await judged([one], lambda verdicts: bool(verdicts))
        assert {bool(why) for why in found.values()} == {ill}


def test_haproxy_runs_those_that_all_must_pass() -> None:
    for least in (0, 2, 3):
        pool = service("one", 80, (GOOD, BAD), least).pool
        assert pool is not None and runners.by_haproxy(pool) == (GOOD, BAD)


@pytest.mark.parametrize(("apart", "came"), [(False, 1), (True, 2)])
async def test_pools_share_a_look_unless_each_is_to_have_its_own(apart: bool, came: int) -> None:
    asks = Monitor(name="m", kind="TCP", interval_s=60, maintenance="closed", apart=apart)
    async with Listening() as server:
        both = [service(id, server.port, (asks,)) for id in ("one", "two")]
        await judged(both, lambda verdicts: len(verdicts) == 2)
        assert server.came == came


@pytest.mark.parametrize(("quick", "after_s"), [(True, 0.0), (False, 1.0)])
async def test_a_server_is_looked_at_as_soon_as_it_is_there_or_after_the_interval(quick: bool, after_s: float) -> None:
    asks = Monitor(name="m", kind="TCP", interval_s=1, fall=1, quick=quick, maintenance="closed")
    began = time.monotonic()
    await judged([service("one", CLOSED, (asks,))], lambda verdicts: any(verdicts.values()))
    assert time.monotonic() - began >= after_s


def test_the_first_look_alone_decides_of_a_quick_start_only() -> None:
    for quick, decided in ((True, True), (False, False)):
        asks = Monitor(name="m", kind="TCP", fall=2, quick=quick)
        pool = service("one", 80, (asks,)).pool
        assert Health(asks).note("it is closed") is decided
        assert pool is not None and bool(runners.by_haproxy(pool)) is quick
