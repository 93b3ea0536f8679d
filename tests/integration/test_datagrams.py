"""The UDP side of one engine in a real kernel: the test's own namespace is the engine, others are client and servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.engine.udp import conntrack
from shoal.engine.udp.datagrams import Datagrams
from shoal.wire.counters import Counts, ServiceCounts
from shoal.wire.desired import DnsQuestion, Listener, Monitor, Pool, Server, Service

from .private_host import private_host

pytestmark = pytest.mark.root

NODES = {"client": 10, "b1": 101, "b2": 102}
ENGINE, VIP, VIP6 = "10.66.0.2", "10.66.0.100", "fd66::100"
FLOWS, FEW = 60, 4
SHORT_PORT = 5020
"""Its flows may be idle for a second."""
WELL = (
    Monitor(name="ping", kind="PING", interval_s=1, timeout_s=1),
    Monitor(name="dns", kind="DNS", interval_s=1, timeout_s=1, dns=DnsQuestion(name="a.example"), response="192.0.2.1"),
)
SERVERS = tuple(
    Server(name=f"{name}{ending}", address=f"{net}{NODES[name]}", port=80, ratio=ratio)
    for ending, net in (("", "10.66.0."), ("-six", "fd66::"))
    for name, ratio in (("b1", 1), ("b2", 3))
)
POOL = Pool(id="p", name="p", algorithm="LB_ALGORITHM_ROUND_ROBIN", servers=SERVERS, monitors=WELL)


def ip(*words: str) -> None:
    subprocess.run(["ip", *" ".join(words).split()], check=True)


def service(**pool: Any) -> dict[str, Service]:
    made = Service(
        id="one",
        name="one",
        vip="v",
        addresses=(VIP, VIP6),
        enabled=True,
        mode="tcp",
        listeners=(
            Listener(port=5000, port_end=5010, protocol="udp"),
            Listener(port=SHORT_PORT, port_end=SHORT_PORT, protocol="udp", idle_s=1),
        ),
        pool=msgspec.structs.replace(POOL, **pool),
    )
    return {"one": made}


def without(name: str, **changes: object) -> tuple[Server, ...]:
    """The servers, ``name`` changed or, without changes, gone."""
    changed = [msgspec.structs.replace(s, **changes) if s.name == name else s for s in SERVERS]
    return tuple(s for s in changed if changes or s.name != name)


class World:
    def __init__(self) -> None:
        self.prefix = f"shtest-{uuid.uuid4().hex[:6]}-"
        self.children: list[subprocess.Popen[str]] = []

    def build(self) -> None:
        wire = f"{self.prefix}wire"
        ip("netns add", wire)
        ip(f"-n {wire} link add br0 type bridge")
        ip(f"-n {wire} link set br0 up")
        ip(f"link add eth0 type veth peer name engine netns {wire}")
        ip(f"-n {wire} link set engine master br0 up")
        self._address(None, "eth0", 2)
        ip(f"addr add {VIP}/32 dev eth0")
        ip(f"addr add {VIP6}/128 dev eth0 nodad")
        for name, number in NODES.items():
            node = f"{self.prefix}{name}"
            ip("netns add", node)
            ip(f"-n {node} link set lo up")
            ip(f"-n {node} link add eth0 type veth peer name {name} netns {wire}")
            ip(f"-n {wire} link set {name} master br0 up")
            self._address(node, "eth0", number)
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
        for name in ("b1", "b2"):
            for ending, net in (("", "10.66.0."), ("-six", "fd66::")):
                child = self.start(name, "shoal.lab.backend", f"{net}{NODES[name]}", "80", name + ending)
                assert child.stdout is not None and child.stdout.readline() == "ready\n"

    def _address(self, node: str | None, link: str, number: int) -> None:
        at = f"-n {node} " if node else ""
        ip(f"{at}link set {link} up")
        ip(f"{at}addr add 10.66.0.{number}/24 dev {link}")
        ip(f"{at}addr add fd66::{number}/64 dev {link} nodad")

    def start(self, node: str, module: str, *words: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", self.prefix + node, sys.executable, "-m", module, *words]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.children.append(child)
        return child

    async def send(self, address: str = VIP, count: int = FLOWS, port: int = 5003) -> dict[str, int]:
        child = self.start("client", "shoal.lab.datagrams", address, str(port), str(count))
        found: dict[str, int] = json.loads((await asyncio.to_thread(child.communicate))[0])
        return found

    def destroy(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()
        for name in (*NODES, "wire"):
            subprocess.run(["ip", "netns", "del", self.prefix + name], check=False, capture_output=True)


class Kept:
    """Flows of the client that stay."""

    def __init__(self, world: World) -> None:
        self._child = world.start("client", "shoal.lab.datagrams", VIP, "5000", str(FLOWS), "keep")

    async def told(self) -> dict[str, int]:
        assert self._child.stdout is not None
        found: dict[str, int] = json.loads(await asyncio.to_thread(self._child.stdout.readline))
        return found

    async def ask(self) -> dict[str, int]:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        return await self.told()


@pytest.fixture
def world() -> Iterator[World]:
    with private_host():
        made = World()
        try:
            made.build()
            yield made
        finally:
            made.destroy()


@contextlib.asynccontextmanager
async def agent() -> AsyncIterator[Datagrams]:
    """Killed at the end: what it put into the kernel stays."""
    made = Datagrams(ENGINE, "eth0")
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_ill(datagrams: Datagrams, ill: set[str]) -> None:
    async with asyncio.timeout(5):
        while {server for _, server in datagrams.ill} != ill:
            await asyncio.sleep(0.01)


async def test_both_families_are_served_by_ratio_counted_and_checked(world: World) -> None:
    async with agent() as datagrams:
        outcome = await datagrams.apply(service())
        assert (outcome.problems, outcome.notes) == ({}, {})
        await world.send(count=FEW, port=SHORT_PORT)
        assert conntrack.flows().total() == FEW
        await asyncio.sleep(1.5)  # by then each server was asked by PING and DNS
        assert datagrams.ill == {} and not conntrack.flows(), "what is over pins nobody"
        assert await world.send() == {"b1": FLOWS // 4, "b2": FLOWS * 3 // 4}
        assert await world.send(VIP6) == {"b1-six": FLOWS // 4, "b2-six": FLOWS * 3 // 4}
        assert await datagrams.busy() == {VIP, VIP6}
        (counted,) = await datagrams.counted((ServiceCounts("one", Counts()),))
        assert counted.counts.packets_in == counted.counts.packets_out == 2 * FLOWS + FEW
        assert dict(counted.servers)["b2"].bytes_in == (FLOWS + FEW) * 3 // 4 * (28 + len("who?"))
        assert counted.counts.connections == counted.counts.open + FEW
        assert 0.9 * 2 * FLOWS < counted.counts.open <= 2 * FLOWS, "some of the client's ports may come twice"

        ip("-n", f"{world.prefix}b1", "link set eth0 down")
        await until_ill(datagrams, {"b1", "b1-six"})
        assert set(await world.send()) == {"b2"}
        await datagrams.apply(service(servers=()))  # all are drained: they keep what they have, new flows are refused
        assert await world.send(count=3) == {"": 3}
        await datagrams.stop()
    assert not conntrack.flows()
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    assert b"shoal_udp" not in await asyncio.to_thread(subprocess.check_output, ["nft", "list", "tables"])


async def test_an_agent_that_starts_again_finds_the_flows_of_the_one_before(world: World) -> None:
    async with agent() as datagrams:
        await datagrams.apply(service(monitors=()))
        kept = Kept(world)
        assert await kept.told() == {"b1": FLOWS // 4, "b2": FLOWS * 3 // 4}
    async with agent() as datagrams:
        await datagrams.apply(service(monitors=(), servers=without("b1", enabled=False)))
        assert await kept.ask() == {"same": FLOWS, "moved": 0, "lost": 0}
        assert "b1" not in await world.send()
    async with agent() as datagrams:
        await datagrams.apply(service(monitors=(), servers=without("b1")))
        assert await kept.ask() == {"same": FLOWS * 3 // 4, "moved": FLOWS // 4, "lost": 0}
        await datagrams.stop()
