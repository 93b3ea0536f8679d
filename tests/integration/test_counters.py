"""What an engine counts is what was sent: also across reloads, the old worker's last requests included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from shoal.wire import messages
from shoal.wire.counters import Counters, ServiceCounts

from .engine_lab import Lab, engine, pool, servers, service, settings, vip
from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]
FEW = 7


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    with private_host():
        async with engine(tmp_path) as made:
            yield made


async def counted(
    lab: Lab, accept: Callable[[ServiceCounts], bool] = lambda one: True
) -> tuple[Counters, ServiceCounts]:
    """The next counters in which service ``one`` is so."""

    def one(message: Counters) -> ServiceCounts | None:
        return next((s for s in message.services if s.id == "one" and accept(s)), None)

    found = await lab.controller.hear(Counters, lambda m: one(m) is not None, since=len(lab.controller.heard))
    service = one(found)
    assert service is not None
    return found, service


async def owning(lab: Lab) -> None:
    await lab.controller.push(msgspec.structs.replace(settings(), count_packets=True), vip(), service())
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")


async def test_requests_are_counted_by_service_server_and_engine(lab: Lab) -> None:
    await owning(lab)
    for _ in range(FEW):
        await lab.get()
    message, one = await counted(lab, lambda s: s.counts.requests >= FEW)
    assert (one.counts.connections, one.counts.requests, one.counts.responses_2xx) == (FEW, FEW, FEW)
    assert (one.counts.timed, one.counts.open, one.counts.responses_5xx) == (FEW, 0, 0)
    assert [pool.id for pool in one.pools] == ["p"]
    servers = one.pools[0].servers
    assert sum(counts.responses_2xx for _, counts in servers) == FEW
    assert one.counts.bytes_out == sum(counts.bytes_out for _, counts in servers) > 0
    engine = message.engine
    assert engine.cpu_ms >= engine.haproxy_cpu_ms >= 0
    assert engine.memory > 10_000_000 and engine.machine_memory >= engine.machine_memory_free > 0
    assert engine.machine_ms >= engine.machine_busy_ms > 0
    assert engine.tcp_passive_opens >= FEW and engine.tx_packets > 0 and engine.threads == 1
    (packets,) = message.vips
    # to open, ask, answer and close; each counts as it goes and as it comes, as the client is on the engine itself
    assert packets.id == "v" and 2 * 7 * FEW <= packets.packets <= 2 * 14 * FEW


async def test_no_request_is_lost_or_counted_twice_by_reloads(lab: Lab) -> None:
    await owning(lab)
    lab.backends["a"].hold.clear()
    waiting = [asyncio.create_task(lab.get()) for _ in range(2)]  # one of them is held by server a
    async with asyncio.timeout(5):
        while not lab.backends["a"].seen:
            await asyncio.sleep(0.01)
    sent = 2
    only_b = service(pool=pool(servers=servers(a={"enabled": False}, b={}), graceful_disable_s=-1))
    for number in range(3):
        extra = service("extra", port=81 + number)
        assert (await lab.controller.push(settings(), vip(), only_b, extra)).how == "reload"
        assert await lab.names(FEW) == {"b"}
        sent += FEW
    _, one = await counted(lab, lambda s: s.counts.connections == sent)
    assert one.counts.open == 1 and one.counts.responses_2xx == sent - 1
    lab.backends["a"].hold.set()  # the first worker finishes what it has had all the time
    await asyncio.gather(*waiting)
    _, one = await counted(lab, lambda s: s.counts.responses_2xx == sent)
    assert (one.counts.connections, one.counts.requests, one.counts.open) == (sent, sent, 0)
