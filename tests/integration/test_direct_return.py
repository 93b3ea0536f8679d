"""Direct server return by one engine in a real kernel: servers have the VIP's address, and answer clients themselves."""

from __future__ import annotations

import asyncio
import ipaddress
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from shoal.engine.fastpath import surroundings
from shoal.engine.fastpath.family import FAMILIES
from shoal.engine.fastpath.kept import table
from shoal.engine.fastpath.plan import Near
from shoal.lab.network import QUIET
from shoal.wire import policy
from shoal.wire.counters import Counts, ServiceCounts
from shoal.wire.desired import Interface, Listener, Server, ServerId, Service
from shoal.wire.policy import Close, Limit, Rule

from . import test_fastpath_kernel
from .test_fastpath_kernel import FLOWS, NODES, POOL, VIP, VIP6, Kept, World, agent, built, ip

pytestmark = pytest.mark.root

PORT, SHORT_PORT, UDP_PORT = 8000, 8002, 5000
SERVERS = tuple(
    Server(name=f"{name}{ending}", address=f"{net}{NODES[name]}", port=PORT)
    for ending, net in (("", "10.66.0."), ("-six", "fd66::"))
    for name in ("b1", "b2")
)
HALF_AT_LEAST = FLOWS // 5
"""Of flows that are dealt by a hash, to one server of two."""


FROM_ONE_PORT = """
import socket, struct
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends by a reset
one.bind(("", 40000))
one.settimeout(3)
one.connect(("{vip}", {port}))
one.sendall(b"GET / HTTP/1.1\\r\\nHost: lab\\r\\n\\r\\n")
print(one.recv(4096).decode().rsplit("\\n", 2)[-2])
one.close()
"""


class Direct(World):
    def build(self) -> None:
        super().build()
        for name in ("b1", "b2"):
            node = f"{self.prefix}{name}"
            ip(f"netns exec {node} sysctl -qw", *QUIET)
            ip(f"-n {node} addr add {VIP}/32 dev lo")
            ip(f"-n {node} addr add {VIP6}/128 dev lo nodad")
            for port in (PORT, SHORT_PORT, UDP_PORT):
                child = self.start(name, "shoal.lab.backend", f"{VIP},{VIP6}", str(port), name)
                assert child.stdout is not None and child.stdout.readline() == "ready\n"
        for at in ([], *(["-n", f"{self.prefix}{name}"] for name in ("b1", "b2"))):
            settled(at)


def settled(at: list[str]) -> None:
    """Who has no link-local address yet asks for nobody's MAC whose packets it hands on."""
    ends = time.monotonic() + 5
    while subprocess.check_output(["ip", "-6", *at, "address", "show", "tentative"]):
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.fixture
def world() -> Iterator[Direct]:
    with built(Direct()) as made:
        yield made


def service(*rules: Rule, **pool: Any) -> dict[str, Service]:
    made = test_fastpath_kernel.service(monitors=(), **{"servers": SERVERS, "service_port": True, **pool})["one"]
    listeners = (
        Listener(port=PORT, port_end=PORT, fast=True, idle_s=300, direct=True),
        Listener(port=SHORT_PORT, port_end=SHORT_PORT, fast=True, idle_s=1, direct=True),
        Listener(port=UDP_PORT, port_end=UDP_PORT, protocol="udp", direct=True),
    )
    return {"one": msgspec.structs.replace(made, listeners=listeners, rules=rules)}


def without(name: str, **changes: object) -> tuple[Server, ...]:
    changed = [msgspec.structs.replace(s, **changes) if s.name.startswith(name) else s for s in SERVERS]
    return tuple(s for s in changed if changes or not s.name.startswith(name))


async def test_answers_do_not_come_by_the_engine(world: Direct) -> None:
    async with agent() as carrier:
        outcome = await carrier.apply(service())
        assert outcome.problems == {}
        assert "client's address and port" in outcome.notes["one"]
        for address in (VIP, VIP6):
            found = await world.connect(address, port=PORT)
            assert found.keys() == {"b1", "b2"} and min(found.values()) >= HALF_AT_LEAST
            found = await world.send(address, port=UDP_PORT)
            assert found.keys() == {"b1", "b2"} and min(found.values()) >= HALF_AT_LEAST
        (counted,) = await carrier.counted((ServiceCounts("one", Counts()),))
        assert counted.counts.connections == 4 * FLOWS
        assert counted.counts.packets_in > 4 * FLOWS and counted.counts.packets_out == 0
        assert counted.counts.open == 2 * FLOWS, "of UDP: the connections are closed"
        assert await carrier.busy() == {VIP, VIP6}
        assert (await world.connect(VIP, 4, PORT, "clients")).keys() == {f"10.66.0.{NODES['client']}"}
        await carrier.apply(service(servers=()))
        assert await world.connect(count=3, port=PORT) == {"refused": 3}
        await carrier.stop()
    assert b"shoal_direct" not in await asyncio.to_thread(subprocess.check_output, ["nft", "list", "tables"])


@pytest.mark.parametrize("address", [VIP, VIP6])
async def test_flows_stay_with_their_servers_through_changes(world: Direct, address: str) -> None:
    async with agent() as carrier:
        await carrier.apply(service())
        kept, datagrams = Kept(world, "connections", PORT, address), Kept(world, "datagrams", UDP_PORT, address)
        first, others = await kept.told(), await datagrams.told()
        assert first.keys() == others.keys() == {"b1", "b2"}
        await carrier.apply(service(servers=without("b1", enabled=False), graceful_disable_s=-1))
        assert await kept.ask() == first and await datagrams.ask() == {"same": FLOWS, "moved": 0, "lost": 0}
        assert (await world.connect(address, port=PORT)).keys() == {"b2"}
        carrier.heed({ServerId("one", "p", name) for name in ("b2", "b2-six")})
        await asyncio.sleep(0.3)
        assert await kept.ask() == first, "a connection to a server that is down is its ends' own matter"
        carrier.heed(())
        await carrier.apply(service(servers=without("b1"), graceful_disable_s=0))
        assert await kept.ask() == {"reset": first["b1"], "b2": first["b2"]}
        told = await datagrams.ask()
        assert told["same"] == others["b2"] and told["moved"] == others["b1"]
        kept.close()
        datagrams.close()
        await carrier.stop()


@pytest.mark.parametrize("address", [VIP, VIP6])
async def test_an_agent_that_starts_again_finds_the_flows_of_the_one_before(world: Direct, address: str) -> None:
    five = Limit(count=500, period_s=1, by_client=True, then=Close())
    admitted = Rule(name="many", phase=policy.ADMISSION, tests=(), actions=(five,))
    async with agent() as carrier:
        await carrier.apply({id: msgspec.structs.replace(one, mbit_max=100) for id, one in service(admitted).items()})
        kept, datagrams = Kept(world, "connections", PORT, address), Kept(world, "datagrams", UDP_PORT, address)
        first = await kept.told()
        await datagrams.told()
    for number in range(2):
        async with agent() as carrier:
            await carrier.apply(service(servers=without("b1", enabled=False), graceful_disable_s=-1))
            assert await kept.ask() == first and await datagrams.ask() == {"same": FLOWS, "moved": 0, "lost": 0}, number
            (counted,) = await carrier.counted((ServiceCounts("one", Counts()),))
            assert (counted.counts.open, counted.counts.connections) == (2 * FLOWS, 0), (
                "what was before is counted once"
            )
            if number:
                await carrier.stop()


async def test_another_engine_chooses_the_same(world: Direct) -> None:
    """What an agent has kept is gone with its engine."""
    async with agent() as carrier:
        await carrier.apply(service())
        kept = Kept(world, "connections", PORT)
        first = await kept.told()
    for family in FAMILIES:
        await asyncio.to_thread(subprocess.run, ["nft", "delete", "table", *table(family).split()], check=True)
    async with agent() as carrier:
        await carrier.apply(service())
        assert await kept.ask() == first
        short = Kept(world, "connections", SHORT_PORT)
        first = await short.told()
        await asyncio.sleep(1.5)
        assert await short.ask() == first, "what was idle for too long is chosen again, and the same"
        await carrier.stop()


async def test_connections_are_refused_and_counted(world: Direct) -> None:
    five = Limit(count=5, period_s=3600, then=Close())
    admitted = Rule(name="five", phase=policy.ADMISSION, tests=(), actions=(five,))
    client = policy.Test(of="client", values=("10.66.0.0/28", "fd66::/64"))
    denied = Rule(name="deny", phase=policy.CONNECTION, tests=(client,), actions=(Close(),))
    async with agent() as carrier:
        for address in (VIP, VIP6):
            assert (await carrier.apply(service(admitted))).problems == {}
            found = await world.connect(address, 8, PORT)
            assert (sum(found.values()) - found["refused"], found["refused"]) == (5, 3)
            await carrier.apply(service(denied))
            assert await world.connect(address, 8, PORT) == {"refused": 8}
        await carrier.apply(service(rate=msgspec.structs.replace(five, count=1)))
        found = await world.connect(VIP, 8, PORT)
        assert found["refused"] >= 6
        await carrier.stop()


# Prints to whom the first "destination unreachable" on the server's interface is sent, within 5 s.
UNREACHABLE = """
import socket, time
heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)); heard.bind(("eth0", 0x0800))
end = time.monotonic() + 5
print("ready", flush=True)
while (left := end - time.monotonic()) > 0:
    heard.settimeout(left)
    data, sender = heard.recvfrom(2048)
    if sender[2] != socket.PACKET_OUTGOING and data[9] == 1 and data[20] == 3:
        print(socket.inet_ntoa(data[16:20])); break
"""


async def test_a_router_that_wants_smaller_packets_is_heard(world: Direct) -> None:
    """What it says comes to the VIP, thus to the engine, and is for the server that sent too much."""
    async with agent() as carrier:
        await carrier.apply(service(servers=without("b2")))
        assert await world.connect(port=PORT, count=1) == {"b1": 1}
        node = f"{world.prefix}b1"
        command = ["ip", "netns", "exec", node, "python3", "-c", UNREACHABLE]
        listener = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert listener.stdout is not None
        assert await listener.stdout.readline() == b"ready\n"
        quoted = "4500001400000000400600000a4200640a42000a1f400400"  # VIP to the client, from port 8000
        sender = f"import socket; s = socket.socket(2, 3, 1); s.sendto(bytes.fromhex('0304{0xFBFF:04x}00000514' + '{quoted}'), ('{VIP}', 0))"
        await asyncio.to_thread(
            subprocess.run, ["ip", "netns", "exec", f"{world.prefix}client", "python3", "-c", sender], check=True
        )
        assert (await listener.communicate())[0].decode() == f"{VIP}\n"
        await carrier.stop()


async def test_servers_elsewhere_are_left_out(world: Direct) -> None:
    far = (*SERVERS, Server(name="far", address="192.0.2.9", port=PORT))
    async with agent() as carrier:
        limited = msgspec.structs.replace(service(servers=far, connections_max=5)["one"], mbit_max=100)
        outcome = await carrier.apply({"one": limited})
        assert (await world.connect(port=PORT)).keys() == {"b1", "b2"}
        assert "far is in no network of the engine's" in outcome.notes["one"]
        assert "their number is not limited" in outcome.notes["one"]
        mixed = service()["one"]
        mixed = msgspec.structs.replace(
            mixed, listeners=(*mixed.listeners, Listener(port=9000, port_end=9000, fast=True))
        )
        assert "some have none" in (await carrier.apply({"one": mixed})).problems["one"]
        await carrier.stop()


async def test_a_connection_from_the_port_of_one_that_has_ended_is_a_new_one(world: Direct) -> None:
    async def connect() -> str:
        script = FROM_ONE_PORT.format(vip=VIP, port=PORT)
        command = ["ip", "netns", "exec", f"{world.prefix}client", sys.executable, "-c", script]
        return (await asyncio.to_thread(subprocess.check_output, command, text=True)).strip()

    async with agent() as carrier:
        await carrier.apply(service())
        first = await connect()
        assert first in ("b1", "b2") and await connect() == first
        await carrier.apply(service(servers=without(first, enabled=False), graceful_disable_s=-1))
        assert await connect() == {"b1": "b2", "b2": "b1"}[first]
        (counted,) = await carrier.counted((ServiceCounts("one", Counts()),))
        assert (counted.counts.open, counted.counts.connections) == (0, 3)
        await carrier.stop()


async def test_an_interface_that_is_made_anew_is_used_anew(world: Direct) -> None:
    def made() -> None:
        ip("link add d0 type veth peer name d1")
        ip("link set d0 up")
        ip("addr add 10.77.0.1/24 dev d0")

    def rules() -> str:
        return subprocess.check_output(["nft", "list", "table", "netdev", "shoal_direct"], text=True)

    beside = [Interface(name="d0", vlan=5, addresses=("10.77.0.1/24",))]
    servers = (*SERVERS, Server(name="far", address="10.77.0.9", port=PORT))
    async with agent() as carrier:
        await carrier.apply(service(), beside)
        kept = Kept(world, "connections", PORT)
        first = await kept.told()
        for _ in range(2):
            outcome = await carrier.apply(service(servers=servers), beside)
            assert "far is in no network of the engine's" in outcome.notes["one"] and not outcome.problems
            made()
            outcome = await carrier.apply(service(servers=servers), beside)
            assert "far is in" not in outcome.notes["one"] and not outcome.problems
            assert 'fwd ip to 10.77.0.9 device "d0"' in rules()
            ip("link del d0")
            made()
            await carrier.apply(service(servers=servers), beside)
            assert 'fwd ip to 10.77.0.9 device "d0"' in rules(), "not the number of the one that is gone"
            assert await kept.ask() == first
            ip("link del d0")
        await carrier.stop()


async def test_what_the_kernel_refuses_is_no_other_services_problem(
    world: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = (Near(ipaddress.ip_network("10.66.0.0/24"), "nowhere"),)
    monkeypatch.setattr(surroundings, "near", lambda interface, beside: nowhere)
    by_nat = msgspec.structs.replace(
        service()["one"], id="two", listeners=(Listener(port=8100, port_end=8100, fast=True),)
    )
    by_nat = msgspec.structs.replace(by_nat, pool=msgspec.structs.replace(POOL, monitors=()))
    async with agent() as carrier:
        outcome = await carrier.apply({**service(), "two": by_nat})
        assert outcome.problems.keys() == {"one"}
        assert (await world.connect(port=8100)).keys() == {"b1", "b2"}
        await carrier.stop()
