"""Requests that failed, were slow or are looked at by chance reach the controller as HAProxy saw them (root)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.wire import messages
from shoal.wire.client_logs import ClientLogs, Line, LogPolicy, parse
from shoal.wire.counters import Counters
from shoal.wire.desired import Service

from .engine_lab import VIP, Lab, engine, service, settings, vip
from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]
MANY = 60
"""Fewer than the kernel holds between two readings."""


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    with private_host():
        async with engine(tmp_path) as made:
            yield made


def logged(**policy: Any) -> Service:
    return msgspec.structs.replace(service(), log=LogPolicy(**policy))


async def serving(lab: Lab, one: Service) -> None:
    await lab.controller.push(settings(), vip(), one)
    await lab.controller.hear(messages.Ownership, lambda m: m.owner)


async def heard(lab: Lab, accept: Callable[[str, Line], bool]) -> Line:
    """The first such line, and why it was written."""

    def first(message: ClientLogs) -> Line | None:
        lines = ((one.why, parse(one.line)) for one in message.logged if one.service == "one")
        return next((line for why, line in lines if line is not None and accept(why, line)), None)

    found = first(await lab.controller.hear(ClientLogs, lambda m: first(m) is not None))
    assert found is not None
    return found


async def test_failed_and_slow_requests_are_told_of_and_few_others(lab: Lab) -> None:
    await serving(lab, logged(slow_ms=300, every_slow=True, sampled_of=1_000_000))
    for _ in range(20):
        await lab.get()
    for backend in lab.backends.values():
        backend.hold.clear()
    waiting = asyncio.create_task(lab.get())
    await asyncio.sleep(0.4)
    for backend in lab.backends.values():
        backend.hold.set()
    await waiting
    slow = await heard(lab, lambda why, line: why == "slow")
    assert slow.status == 200 and slow.response_ms >= 300 and slow.us >= 300_000 and slow.vip == VIP
    assert slow.rest == "GET / HTTP/1.1" and slow.server in ("a", "b")
    for backend in lab.backends.values():
        await backend.stop()
    assert (await lab.get())[0] == 503
    failed = await heard(lab, lambda why, line: why == "failed")
    assert failed.status == 503 and failed.client and failed.at > slow.at
    lines = [one for m in lab.controller.heard if isinstance(m, ClientLogs) for one in m.logged]
    assert {one.why for one in lines} == {"slow", "failed"}


async def test_every_request_counts_for_the_percentiles_of_full_logs_across_a_reload(lab: Lab) -> None:
    full = logged(full=True, full_per_s=1)
    await serving(lab, full)

    async def requests() -> None:
        for _ in range(MANY // 10):
            await asyncio.gather(*(lab.get() for _ in range(10)))

    def whole(message: Counters) -> bool:
        return any(sum(count for _, count in one.latency) == 2 * MANY for one in message.services)

    await requests()
    await lab.controller.push(settings(), vip(), full, service("extra", port=81))
    await requests()
    found = await lab.controller.hear(Counters, whole)
    (one,) = [one for one in found.services if one.id == "one"]
    assert sum(count for pool in one.pools for _, buckets in pool.responses for _, count in buckets) == 2 * MANY
    assert one.counts.requests == 2 * MANY
    sent = [line for m in lab.controller.heard if isinstance(m, ClientLogs) for line in m.logged]
    assert 1 <= len(sent) <= 10  # one a second


async def talk() -> bytes:
    """What comes back on a new connection, which is closed then."""
    reader, writer = await asyncio.open_connection(VIP, 80)
    try:
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        return await reader.read(100)
    finally:
        writer.close()


async def test_connections_of_a_tcp_service_are_logged_when_no_server_takes_them(lab: Lab) -> None:
    await serving(lab, msgspec.structs.replace(logged(sampled_of=1), mode="tcp"))
    assert await talk()
    good = await heard(lab, lambda why, line: why == "")
    assert not good.http and good.total_ms >= 0 and good.bytes_out > 0 and good.status == 0
    for backend in lab.backends.values():
        await backend.stop()
    with contextlib.suppress(ConnectionResetError):
        assert await talk() == b""
    failed = await heard(lab, lambda why, line: why == "failed")
    assert failed.termination == "SC" and failed.bytes_out == 0
