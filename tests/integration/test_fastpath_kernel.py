"""The fast path of one engine in a real kernel: the test's own namespace is the engine, others are client and servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from shoal.engine.fastpath import conntrack, netfilter, rules
from shoal.engine.fastpath.carrier import CUT_AGAIN_AFTER_S, Carrier, Outcome
from shoal.engine.fastpath.plan import OURS, TCP
from shoal.engine.monitors.checks import Checks
from shoal.engine.weights import Weights
from shoal.lab import backend
from shoal.wire import policy
from shoal.wire.counters import Counts, ServiceCounts
from shoal.wire.desired import Interface, Listener, Monitor, Pool, Server, ServerId, Service
from shoal.wire.monitors import DnsQuestion
from shoal.wire.networks import Layer, Networks, packed
from shoal.wire.policy import Action, Allow, Close, Limit, Rule

from .private_host import private_host

pytestmark = pytest.mark.root

NODES = {"client": 10, "b1": 101, "b2": 102}
ENGINE, VIP, VIP6 = "10.66.0.2", "10.66.0.100", "fd66::100"
FLOWS, FEW = 48, 4
"""No more than a client opens at once: of sockets closed before, the kernel may take a port, and with it a flow, again."""
SHORT_PORT = 5020
"""Its flows may be idle for a second."""
TCP_PORT, TCP_SHORT_PORT, GATED_PORT = 8000, 8020, 8030
WELL = (
    Monitor(name="ping", kind="PING", interval_s=1, timeout_s=1),
    Monitor(
        name="dns", kind="DNS", interval_s=1, timeout_s=1, asks=DnsQuestion(name="a.example"), response="192.0.2.1"
    ),
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
            Listener(port=TCP_PORT, port_end=TCP_PORT + 10, fast=True, idle_s=300),
            Listener(port=TCP_SHORT_PORT, port_end=TCP_SHORT_PORT, fast=True, idle_s=1),
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

    def narrow(self) -> None:
        """The way to the client, to 60 Mbit/s."""
        limit = ["tbf", "rate", "60mbit", "burst", "64k", "limit", "200k"]
        subprocess.run(["tc", "-n", f"{self.prefix}wire", "qdisc", "add", "dev", "client", "root", *limit], check=True)

    def start(self, node: str, module: str, *words: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", self.prefix + node, sys.executable, "-m", module, *words]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.children.append(child)
        return child

    async def send(self, address: str = VIP, count: int = FLOWS, port: int = 5003) -> dict[str, int]:
        child = self.start("client", "shoal.lab.datagrams", address, str(port), str(count))
        found: dict[str, int] = json.loads((await asyncio.to_thread(child.communicate))[0])
        return found

    async def connect(self, address: str = VIP, count: int = FLOWS, port: int = TCP_PORT, *how: str) -> dict[str, int]:
        child = self.start("client", "shoal.lab.connections", address, str(port), str(count), *how)
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

    def __init__(self, world: World, module: str = "datagrams", port: int = 5000, address: str = VIP) -> None:
        self._child = world.start("client", f"shoal.lab.{module}", address, str(port), str(FLOWS), "keep")

    async def told(self) -> dict[str, int]:
        assert self._child.stdout is not None
        found: dict[str, int] = json.loads(await asyncio.to_thread(self._child.stdout.readline))
        return found

    async def ask(self) -> dict[str, int]:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        return await self.told()

    def close(self) -> None:
        self._child.kill()


Built = TypeVar("Built", bound=World)


@contextlib.contextmanager
def built(made: Built) -> Iterator[Built]:
    with private_host():
        try:
            made.build()
            yield made
        finally:
            made.destroy()


@pytest.fixture
def world() -> Iterator[World]:
    with built(World()) as made:
        yield made


class Checked(Carrier):
    """With the monitors that the agent runs beside it."""

    def __init__(self) -> None:
        self.checks = Checks(self.look)
        super().__init__(ENGINE, "eth0", self.checks)

    async def apply(
        self,
        services: Mapping[str, Service],
        beside: Iterable[Interface] = (),
        networks: Mapping[str, Networks] | None = None,
    ) -> Outcome:
        self.checks.want(services.values())
        return await super().apply(services, beside, networks)

    @property
    def ill(self) -> dict[ServerId, str]:
        return self.checks.ill(self._services.values())


@contextlib.asynccontextmanager
async def agent() -> AsyncIterator[Checked]:
    """Killed at the end: what it put into the kernel stays."""
    made = Checked()
    tasks = [asyncio.create_task(made.run()), asyncio.create_task(made.checks.run())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler, *ports: int) -> AsyncIterator[None]:
    """At the VIP, in the engine itself. What is open at the end is cut."""
    writers: list[asyncio.StreamWriter] = []

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await handler(reader, writer)

    servers = [await asyncio.start_server(handled, VIP, port) for port in ports]
    try:
        yield
    finally:
        for server in servers:
            server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await backend._http("own", reader, writer)


async def until_ill(carrier: Checked, ill: set[str]) -> None:
    async with asyncio.timeout(5):
        while {id.server for id in carrier.ill} != ill:
            await asyncio.sleep(0.01)


async def test_both_families_are_served_by_ratio_counted_and_checked(world: World) -> None:
    async with agent() as carrier:
        outcome = await carrier.apply(service())
        assert (outcome.problems, outcome.notes) == ({}, {})
        await world.send(count=FEW, port=SHORT_PORT)
        assert conntrack.flows().total() == FEW
        await asyncio.sleep(1.5)  # by then each server was asked by PING and DNS
        assert carrier.ill == {} and not conntrack.flows(), "what is over pins nobody"
        assert await world.send() == {"b1": FLOWS // 4, "b2": FLOWS * 3 // 4}
        assert await world.send(VIP6) == {"b1-six": FLOWS // 4, "b2-six": FLOWS * 3 // 4}
        assert await carrier.busy() == {VIP, VIP6}
        (counted,) = await carrier.counted((ServiceCounts("one", Counts()),))
        assert counted.counts.packets_in == counted.counts.packets_out == 2 * FLOWS + FEW
        assert dict(counted.pools[0].servers)["b2"].bytes_in == (FLOWS + FEW) * 3 // 4 * (28 + len("who?"))
        assert counted.counts.connections == counted.counts.open + FEW
        assert counted.counts.open == 2 * FLOWS

        ip("-n", f"{world.prefix}b1", "link set eth0 down")
        await until_ill(carrier, {"b1", "b1-six"})
        assert set(await world.send()) == {"b2"}
        await carrier.apply(service(servers=()))  # all are drained: they keep what they have, new flows are refused
        assert await world.send(count=3) == {"": 3}
        await carrier.stop()
    assert not conntrack.flows()
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    assert b"shoal_fast" not in await asyncio.to_thread(subprocess.check_output, ["nft", "list", "tables"])


async def test_an_agent_that_starts_again_finds_the_flows_of_the_one_before(world: World) -> None:
    async with agent() as carrier:
        await carrier.apply(service(monitors=()))
        kept = Kept(world)
        assert await kept.told() == {"b1": FLOWS // 4, "b2": FLOWS * 3 // 4}
    async with agent() as carrier:
        await carrier.apply(service(monitors=(), servers=without("b1", enabled=False)))
        assert await kept.ask() == {"same": FLOWS, "moved": 0, "lost": 0}
        assert "b1" not in await world.send()
    async with agent() as carrier:
        await carrier.apply(service(monitors=(), servers=without("b1")))
        assert await kept.ask() == {"same": FLOWS * 3 // 4, "moved": FLOWS // 4, "lost": 0}
        await carrier.stop()


async def test_tcp_without_a_proxy(world: World) -> None:
    quarter = {"b1": FLOWS // 4, "b2": FLOWS * 3 // 4}
    async with agent() as carrier:
        assert (await carrier.apply(service(monitors=()))).problems == {}
        assert await world.connect(port=TCP_PORT + 7) == quarter
        assert sum((await world.connect(VIP6)).values()) == FLOWS
        short = Kept(world, "connections", TCP_SHORT_PORT)
        assert await short.told() == quarter
        kept = Kept(world, "connections", TCP_PORT)
        assert await kept.told() == quarter
        flows = conntrack.flows()
        assert sum(count for mark, count in flows.items() if mark & TCP) == 2 * FLOWS, "those that are over don't count"
        (counted,) = await carrier.counted((ServiceCounts("one", Counts()),))
        assert (counted.counts.connections, counted.counts.open) == (4 * FLOWS, 2 * FLOWS)

        await carrier.apply(service(monitors=(), servers=without("b1", enabled=False)))
        assert await kept.ask() == quarter and (await world.connect()).keys() == {"b2"}
        carrier.heed({ServerId("one", POOL.id, "b2")})
        await asyncio.sleep(0.2)
        assert await kept.ask() == quarter, "a connection to a server that is down is its ends' own matter"
        assert await world.connect(count=3) == {"refused": 3}
        carrier.heed(())
        await asyncio.sleep(1.2)
        assert await short.ask() == {"reset": FLOWS}, "they were idle for too long"
    async with agent() as carrier:
        await carrier.apply(service(monitors=(), servers=without("b1", enabled=False)))
        assert await kept.ask() == quarter, "another agent finds them"
        await carrier.apply(service(monitors=(), servers=without("b1"), graceful_disable_s=0))
        assert await kept.ask() == {"reset": FLOWS // 4, "b2": FLOWS * 3 // 4}
        assert await asyncio.to_thread(conntrack.close, {VIP}) > FLOWS * 3 // 4
        assert await kept.ask() == {"reset": FLOWS}
        await carrier.stop()


async def test_so_many_connections_a_second_keep_their_port_for_as_long_as_their_server_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "WAITS_PER_S", 1)
    monkeypatch.setattr(rules, "WAITS_BURST", 10)
    async with agent() as carrier:
        await carrier.apply(service(monitors=()))
        for number, all_at_most in enumerate((rules.ALL_WAIT_BURST, 8)):
            monkeypatch.setattr(rules, "ALL_WAIT_PER_S", 1)
            monkeypatch.setattr(rules, "ALL_WAIT_BURST", all_at_most)
            if number:  # a limit is made anew with its table
                await carrier.stop()
                await asyncio.sleep(2 * CUT_AGAIN_AFTER_S)
                await carrier.apply(service(monitors=()))
            assert sum((await world.connect()).values()) == FLOWS
            await asyncio.sleep(rules.HASTE_S + 1)
            kept = len(list(netfilter.answers(conntrack.dump("tcp"))))
            most = min(2 * 10, all_at_most)
            assert most <= kept <= most + 4, "of two servers; a few more came later"
        await carrier.stop()


async def test_connections_of_the_engine_itself_to_the_same_servers_take_not_all_ports(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "OWN_WAIT_PER_S", 1)
    monkeypatch.setattr(rules, "OWN_WAIT_BURST", 10)
    async with agent() as carrier:
        await carrier.apply(service(monitors=()))
        for _ in range(FLOWS):
            reader, writer = await asyncio.open_connection(f"10.66.0.{NODES['b1']}", 80)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            await reader.read()
            writer.close()
        await asyncio.sleep(rules.HASTE_S + 1)
        kept = len(list(netfilter.answers(netfilter.request(conntrack.GET, b"", dump=True))))
        assert 10 <= kept <= 14, "as HAProxy's; a few more came later"
        await carrier.stop()


def rule(phase: str, action: Action, *clients: str) -> Rule:
    tests = (policy.Test(of="client", values=clients),) if clients else ()
    return Rule(name="r", phase=phase, tests=tests, actions=(action,))


def gated(*rules: Rule, fast: bool = True, **changes: Any) -> dict[str, Service]:
    base = service(monitors=(), servers=SERVERS[:2])
    port = Listener(port=GATED_PORT, port_end=GATED_PORT, fast=fast)
    return {"one": msgspec.structs.replace(base["one"], listeners=(port,), rules=rules, **changes)}


async def test_connections_are_allowed_refused_and_counted(world: World) -> None:
    five = Limit(count=5, period_s=3600, then=Close())
    each = msgspec.structs.replace(five, by_client=True)
    deny = rule(policy.CONNECTION, Close(), "10.66.0.0/28")
    some = msgspec.structs.replace(rule(policy.CONNECTION, five, "10.66.0.10"), actions=(five, Allow()))
    lists = {
        "here": Networks(layers=(Layer((packed(["10.66.0.0/28", "fd66::/64"]),)),)),
        "there": Networks(layers=(Layer((packed(["2001:db8::/32"]),)),)),
    }
    listed = msgspec.structs.replace(deny, tests=(policy.Test(of="client", lists=("there", "here")),))
    elsewhere = policy.Test(of="client", lists=("there",))
    async with agent() as carrier:
        async with listening(own, GATED_PORT):
            for fast in (True, False):
                answered = {"b1", "b2"} if fast else {"own"}
                for rules, good in (
                    ((rule(policy.ADMISSION, five),), 5),
                    ((rule(policy.ADMISSION, each),), 5),
                    ((rule(policy.CONNECTION, Allow(), "10.66.0.10"), deny, rule(policy.ADMISSION, five)), 5),
                    ((some, rule(policy.CONNECTION, Close())), 5),
                    ((rule(policy.ADMISSION, five), listed), 0),
                    ((rule(policy.ADMISSION, each), msgspec.structs.replace(listed, tests=(elsewhere,))), 5),
                    ((deny,), 0 if fast else 8),  # without a limit HAProxy's own rules decide
                ):
                    assert (await carrier.apply(gated(*rules, fast=fast), networks=lists)).problems == {}
                    found = await world.connect(count=8, port=GATED_PORT)
                    assert found.pop("refused", 0) == 8 - good, (fast, rules)
                    assert sum(found.values()) == good and (not good or found.keys() <= answered)
        lacking = await carrier.apply(gated(rule(policy.ADMISSION, five), listed), networks={"here": lists["here"]})
        assert "lists of networks that are not here" in lacking.problems["one"]
        assert (await world.connect(count=2, port=GATED_PORT)) == {"refused": 2}, "it is not served without its rules"


async def test_a_client_that_exceeds_its_limit_by_far_is_punished(world: World) -> None:
    each = Limit(count=10, period_s=1, by_client=True, punishes=True, then=Close())
    async with agent() as carrier, listening(own, GATED_PORT):
        plain = rule(policy.ADMISSION, msgspec.structs.replace(each, punishes=False))
        assert (await carrier.apply(gated(plain, fast=False))).problems == {}
        assert (await world.connect(count=40, port=GATED_PORT))["refused"] >= 25
        await asyncio.sleep(1.1)
        assert (await world.connect(count=5, port=GATED_PORT)) == {"own": 5}, "its second is over"
        assert (await carrier.apply(gated(rule(policy.ADMISSION, each), fast=False))).problems == {}
        assert (await world.connect(count=5, port=GATED_PORT)) == {"own": 5}
        assert (await world.connect(count=40, port=GATED_PORT))["refused"] >= 30
        await asyncio.sleep(1.1)
        found = await world.connect(count=5, port=GATED_PORT)
        assert found["refused"] >= 4, "a tenth of ten is one"


class Listening:
    """A node, and what arrives there of the packets to and from b1, though it is for others."""

    def __init__(self, node: str) -> None:
        self._nft = ["ip", "netns", "exec", node, "nft"]
        count = f"""table ip seen {{
          counter to {{ }}
          counter from {{ }}
          chain arriving {{
            type filter hook prerouting priority 0;
            ip daddr 10.66.0.{NODES["b1"]} tcp dport 80 counter name to
            ip saddr 10.66.0.{NODES["b1"]} tcp sport 80 counter name from
          }}
        }}"""
        subprocess.run([*self._nft, "-f", "-"], input=count.encode(), check=True)

    def seen(self) -> list[int]:
        """Packets to b1 and from it since it was last asked."""
        text = subprocess.run([*self._nft, "-j", "reset", "counters"], check=True, capture_output=True).stdout
        found = {one["counter"]["name"]: one["counter"]["packets"] for one in json.loads(text)["nftables"][1:]}
        return [found["to"], found["from"]]


async def test_a_machine_that_listens_gets_what_servers_get_and_say(world: World) -> None:
    seen = Listening(f"{world.prefix}client").seen

    async def asked() -> None:
        """As HAProxy asks servers."""
        reader, writer = await asyncio.open_connection(f"10.66.0.{NODES['b1']}", 80)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1")
        writer.close()

    copied = service(monitors=(), servers=without("b2"))
    copied = {id: msgspec.structs.replace(one, copies_to=("10.66.0.10",)) for id, one in copied.items()}
    async with agent() as carrier:
        assert (await carrier.apply(copied)).problems == {}
        await asked()
        out, back = seen()
        assert out >= 4 and back >= 3, "each packet of a connection, handshake and end"
        assert await world.connect(count=8) == {"b1": 8}
        out, back = seen()
        assert out >= 8 * 3 and back >= 8 * 3, "of the fast path, too"
        await carrier.apply(service(monitors=(), servers=without("b2")))
        await asked()
        assert seen() == [0, 0]
        await carrier.stop()


async def test_flows_at_a_time_and_throughput_are_bounded(world: World) -> None:
    async with agent() as carrier:
        await carrier.apply(gated(connections_max=10))
        kept = Kept(world, "connections", GATED_PORT)
        assert (await kept.told())["refused"] == FLOWS - 10
        kept.close()
        await asyncio.sleep(0.2)
        assert await world.connect(count=8, port=GATED_PORT) == {"b1": 2, "b2": 6}, "those that are over don't count"
        await carrier.apply(service(monitors=(), servers=SERVERS[:2], connections_max=7))
        kept = Kept(world, "connections", TCP_PORT)
        assert await kept.told() == {"b1": 7, "b2": 7, "refused": FLOWS - 14}
        kept.close()


async def test_servers_see_the_engine_a_pool_of_addresses_or_the_client(world: World) -> None:
    pool = tuple(f"10.66.0.{number}" for number in (201, 202))
    for address in pool:
        ip(f"addr add {address}/32 dev eth0")  # as the guard of the VIP's owner does
    for name in ("b1", "b2"):
        ip(f"-n {world.prefix}{name} route add 10.66.0.{NODES['client']}/32 via {VIP}")
    made = service(monitors=())["one"]
    assert made.pool is not None
    async with agent() as carrier:
        for changes, seen in (
            ({}, {ENGINE: FLOWS}),
            ({"sources": pool}, dict.fromkeys(pool, FLOWS // 2)),
            ({"sources": (VIP, VIP6)}, {VIP: FLOWS}),
            ({"sources": (VIP6,)}, {ENGINE: FLOWS}),
            ({"sources": pool, "keeps_client": True}, {f"10.66.0.{NODES['client']}": FLOWS}),
            ({"pool": msgspec.structs.replace(made.pool, service_port=True)}, {"refused": FLOWS}),
        ):
            assert (await carrier.apply({"one": msgspec.structs.replace(made, **changes)})).problems == {}
            assert await world.connect(VIP, FLOWS, TCP_PORT, "clients") == seen
        client, vip, source, *servers = map(socket.inet_aton, ("10.66.0.9", VIP, pool[0], "10.66.0.7", "10.66.0.8"))
        for server in (servers[0], servers[0], servers[1]):  # as another engine tells of them; the client comes again
            told = conntrack.Connection(OURS | TCP | 5, (client, 5000, vip, TCP_PORT), (server, 80, source, 6000))
            conntrack.put([told], 60)
            assert list(conntrack.established({told.mark})) == [told]
        at_80 = Listener(port=80, port_end=81, fast=True, idle_s=300)
        own = msgspec.structs.replace(
            made, listeners=(at_80,), pool=msgspec.structs.replace(made.pool, service_port=True)
        )
        await carrier.apply({"one": own})
        assert await world.connect(VIP, FLOWS, 80, "clients") == {ENGINE: FLOWS}


async def test_services_share_a_full_link_by_their_weights(world: World) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        writer.transport.abort()

    def weighing(**weights: int) -> list[Service]:
        base = service(monitors=())["one"]
        ports = {name: Listener(port=9000 + n, port_end=9000 + n) for n, name in enumerate(weights)}
        return [
            msgspec.structs.replace(base, id=name, listeners=(ports[name],), weight=weight)
            for name, weight in weights.items()
        ]

    async def share(name: str, other: str) -> float:
        child = world.start("client", "shoal.lab.downloads", VIP, "1.6", *["9000", "9001"] * 4)
        found: dict[str, int] = json.loads((await asyncio.to_thread(child.communicate))[0])
        return found[name] / max(1, found[other])

    def there() -> tuple[bool, bool]:
        shown = subprocess.run(
            ["tc", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
        ).stdout
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        return "htb" in shown, "shoal_weights" in tables

    async with listening(pour, 9000, 9001):
        world.narrow()
        weights = Weights("eth0")
        assert (await weights.want(weighing(a=1, b=4), 50), there()) == ("", (True, True))
        assert 2.8 < await share("9001", "9000") < 5.2
        killed = Weights("eth0")  # what its agent left is another's to change
        assert (await killed.want(weighing(a=8, b=2), 50), there()) == ("", (True, True))
        assert 2.8 < await share("9000", "9001") < 5.2
        for wanted, link_mbit in ((weighing(a=3, b=3), 50), (weighing(a=1, b=4), 0)):
            assert (await killed.want(weighing(a=1, b=4), 50), there()) == ("", (True, True))
            assert (await killed.want(wanted, link_mbit), there()) == ("", (False, False))
