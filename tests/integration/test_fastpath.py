"""Fast paths of a whole Shoal, UDP and TCP: real engines, real packets."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from shoal.lab.api import Api, engine_name
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.kept import Kept
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

DATAGRAMS = 2_000
HEADERS_BYTES = 28
"""Of IPv4 and UDP."""
FLOWS = 60
PORT = 5300
TCP_PORT = 5301
MONITOR = {
    "name": "quick-udp",
    "type": "HEALTH_MONITOR_UDP",
    "send_interval": 1,
    "receive_timeout": 1,
    "successful_checks": 1,
    "failed_checks": 2,
    "udp_monitor": {"udp_request": "well?", "udp_response": "dns"},
}
HTTP_MONITOR = {
    **{field: value for field, value in MONITOR.items() if not field.startswith("udp")},
    "name": "quick-http",
    "type": "HEALTH_MONITOR_HTTP",
    "http_monitor": {"http_request": "GET / HTTP/1.0", "http_response_code": ["HTTP_2XX"]},
}
ASKED_WITHIN_S = 4.0
"""A new owner of several engines asks all of them whose a connection is."""
DETECTED_WITHIN_S = 6.0
"""Two checks of an interval and a time-out, half a second until HAProxy's word is read, and what a busy machine needs."""
TCP_FAST_PATH = "/api/networkprofile?name=System-TCP-Fast-Path"
PROFILE = {
    "name": "short",
    "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH", "udp_fast_path_profile": {"session_idle_timeout": 3}},
}


def pool_of(service: dict[str, Any]) -> str:
    return str(service["pool_ref"].partition("#")[0].rpartition("/")[2])


class World:
    def __init__(self, bench: Bench, lab: Lab, api: Api) -> None:
        self.bench, self.lab, self.api = bench, lab, api
        self.made: dict[str, Any] = {}
        self.servers: list[str] = []
        self.both = False
        """Whether this machine has IPv6."""

    @property
    def address(self) -> str:
        return str(self.made["address"])

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address, str(self.made["address6"])) if self.both else (self.address,)

    async def build(self) -> None:
        backends = [await self.lab.backend(name) for name in ("dns1", "dns2")]
        self.servers = [f"{b.address}:{b.port}" for b in backends]
        await self.lab.node("client")
        for monitor in (MONITOR, HTTP_MONITOR):
            await self.api.post("healthmonitor", monitor)
        await self.api.post("networkprofile", PROFILE)
        group = {"name": "udp", "max_se": 4, "vs_scalein_timeout": 5, "ha_mode": "HA_MODE_SHARED"}
        await self.api.post("serviceenginegroup", group)
        servers = [
            {"ip": {"addr": address, "type": kind}, "port": b.port, "ratio": ratio}
            for kind, field in (("V4", "address"), ("V6", "address6"))
            for b, ratio in zip(backends, (1, 3), strict=True)
            if (address := getattr(b, field))
        ]
        self.both = bool(backends[0].address6)
        self.made = await self.api.service(
            "dns",
            [],
            pool={"servers": servers, "health_monitor_refs": ["/api/healthmonitor?name=quick-udp"]},
            services=[{"port": PORT}, {"port": TCP_PORT, "override_network_profile_ref": TCP_FAST_PATH}],
            network_profile_ref="/api/networkprofile?name=short",
            se_group_ref="/api/serviceenginegroup?name=udp",
            vip={"auto_allocate_ip": True, "auto_allocate_ip_type": "V4_V6" if self.both else "V4_ONLY"},
        )
        tcp = {"name": "web", "services": [{"port": PORT}], "vsvip_ref": "/api/vsvip?name=dns-vip"}
        same = {"pool_ref": "/api/pool?name=dns-pool", "se_group_ref": "/api/serviceenginegroup?name=udp"}
        await self.api.post("virtualservice", {**tcp, **same})
        await self.api.placed(self.made["uuid"], 1)

    @property
    def pool(self) -> str:
        return pool_of(self.made)

    async def send(self, count: int, address: str = "", port: int = PORT) -> dict[str, int]:
        """Each from a port of its own: who answered how many."""
        words = (address or self.address, str(port), str(count))
        child = self.lab.start("client", "shoal.lab.datagrams", *words, output=subprocess.PIPE)
        out, _ = await asyncio.to_thread(child.communicate)
        self.lab._children.remove(child)
        found: dict[str, int] = json.loads(out)
        return found

    async def get(self) -> str:
        """Over TCP, the same address and port."""
        script = (
            f"import urllib.request as u; print(u.urlopen('http://{self.address}:{PORT}/', timeout=3).read().decode())"
        )
        command = self.lab.fabric.enter("lab-client", sys.executable, "-c", script)
        done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
        return str(done.stdout.strip())

    async def change_pool(self, enabled: bool = True, uuid: str = "", **fields: object) -> None:
        """``enabled``: the first server. ``uuid``: another pool than its own."""
        path = f"pool/{uuid or self.pool}"
        pool = await self.api.get(path) | fields
        pool["servers"][0]["enabled"] = enabled
        await self.api.call("PUT", path, pool)

    async def state(self, number: int) -> str:
        for server in await self.api.get(f"pool/{self.pool}/runtime/server"):
            if f"{server['ip_addr']['addr']}:{server['port']}" == self.servers[number]:
                return str(server["oper_status"]["state"])
        return ""

    def flows(self, engine: str) -> int:
        """What the engine's kernel tracks."""
        command = self.lab.fabric.enter(engine, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    def backend(self, name: str) -> int:
        """The pid of a backend's server."""
        return next(c.pid for c in self.lab._children if isinstance(c.args, list) and c.args[-1] == name)


def keep(world: World, address: str = "", module: str = "datagrams", port: int = PORT) -> Kept:
    return Kept(world.lab, address or world.address, module, port, FLOWS)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with launched(tmp_path_factory.mktemp("udp")) as bench:
        yield bench


def test_a_udp_service_from_its_first_datagram_to_the_death_of_its_owner(bench: Bench) -> None:
    async def check() -> None:
        lab = Lab(bench.options.data_dir)
        try:
            async with Api(bench.url, PASSWORD) as api:
                world = World(bench, lab, api)
                await world.build()
                await every_datagram_is_answered_by_ratio(world)
                await a_dead_server_loses_its_clients(world)
                await world.change_pool(health_monitor_refs=["/api/healthmonitor?name=quick-http"])
                await a_dead_server_loses_its_clients(world)
                await a_disabled_server_keeps_its_flows_and_gets_no_new_ones(world)
                await the_owner_dies(world)
                await flows_stay_while_engines_come_and_go(world)
                await servers_see_an_address_that_fails_over_with_the_vip(world)
                await servers_answer_clients_themselves(world)
        finally:
            await lab.close()

    asyncio.run(check())


async def every_datagram_is_answered_by_ratio(world: World) -> None:
    rules = "cat /proc/sys/net/bridge/bridge-nf-call-* 2>/dev/null || :"
    command = ["ip", "netns", "exec", world.lab.fabric.addressing.fabric, "sh", "-c", rules]
    asked = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    assert set(asked.stdout.split()) <= {"0"}, "what is a switch here looks at no rules of iptables"
    answers = await world.send(DATAGRAMS)
    assert answers.keys() == {"dns1", "dns2"} and sum(answers.values()) == DATAGRAMS
    assert abs(answers["dns1"] - DATAGRAMS // 4) <= DATAGRAMS // 50, answers
    assert await world.get() in ("dns1", "dns2")

    async def told_up() -> bool:
        runtime = await world.api.runtime(world.made["uuid"])
        assert runtime["ports"] == [f"{PORT}/udp", f"{TCP_PORT}/tcp"]
        return bool(runtime["oper_status"]["state"] == "OPER_UP")

    await world.api.until("the controller has heard that it is up", told_up, 5.0)
    path = f"virtualservice/{world.made['uuid']}"

    async def counted(metric: str) -> float:
        query = f"metric_id={metric}&step=5&limit=60"
        found = await world.api.get(f"analytics/metrics/{path}?{query}")
        return sum(float(point["value"]) for series in found["series"] for point in series["data"])

    async def all_flows() -> bool:
        return await counted("l4_client.sum_finished_conns") > 0.9 * DATAGRAMS

    await world.api.until("the flows are counted", all_flows, 20.0)
    flows = await counted("l4_client.sum_finished_conns")
    assert flows <= DATAGRAMS, "and some of the client's ports came twice within the idle time-out"
    for way, text in (("rx", "who?"), ("tx", "dns1 who?")):
        octets, packets = await counted(f"l4_client.avg_{way}_bytes"), await counted(f"l4_client.avg_{way}_pkts")
        assert octets / packets == pytest.approx(HEADERS_BYTES + len(text))


async def a_dead_server_loses_its_clients(world: World) -> None:
    kept = keep(world)
    assert kept.first.keys() == {"dns1", "dns2"}
    assert kept.ask() == {"same": FLOWS, "moved": 0, "lost": 0}
    os.kill(world.backend("dns2"), signal.SIGSTOP)
    end = time.monotonic() + DETECTED_WITHIN_S
    while (now := await asyncio.to_thread(kept.ask))["lost"] and time.monotonic() < end:
        pass
    assert now == {"same": kept.first["dns1"], "moved": kept.first["dns2"], "lost": 0}
    kept.close()

    async def down() -> bool:
        return await world.state(1) == "OPER_DOWN"

    await world.api.until("the dead server is seen to be down", down, 5.0)
    os.kill(world.backend("dns2"), signal.SIGCONT)

    async def up() -> bool:
        return await world.state(1) == "OPER_UP" and "dns2" in await world.send(8)

    await world.api.until("the server is back", up, 5.0)


async def a_disabled_server_keeps_its_flows_and_gets_no_new_ones(world: World) -> None:
    kept = keep(world)
    await world.change_pool(enabled=False)

    async def drained() -> bool:
        return (await world.send(20)).keys() == {"dns2"}

    await world.api.until("the disabled server gets no new flows", drained, 5.0)
    assert kept.ask() == {"same": FLOWS, "moved": 0, "lost": 0}
    await world.change_pool(enabled=False, graceful_disable_timeout=0)

    async def moved() -> bool:
        return await asyncio.to_thread(kept.ask) == {"same": kept.first["dns2"], "moved": kept.first["dns1"], "lost": 0}

    await world.api.until("nothing is left to the disabled server", moved, 5.0)
    kept.close()
    await world.change_pool(enabled=True, graceful_disable_timeout=1)


async def the_owner_dies(world: World) -> None:
    """Flows are balanced afresh by the successor."""
    owner = (await world.api.placed(world.made["uuid"], 1))["answers"]
    kept = keep(world)
    world.lab.kill(owner)
    await asyncio.sleep(0.5)
    now = await asyncio.to_thread(kept.ask)
    assert now["lost"] == 0, now
    answers = await world.send(100)
    assert answers.keys() == {"dns1", "dns2"} and sum(answers.values()) == 100
    kept.close()


async def flows_stay_while_engines_come_and_go(world: World) -> None:
    await world.api.placed(world.made["uuid"], 1)
    connections = [keep(world, address, "connections", TCP_PORT) for address in world.addresses]
    for one in connections:
        assert one.first == {"dns1": FLOWS // 4, "dns2": FLOWS * 3 // 4}
    kept = [*(keep(world, address) for address in world.addresses), *connections]  # datagrams' flows are soon forgotten
    await world.api.post(f"virtualservice/{world.made['uuid']}/scaleout", {"vip_id": "0"})
    placed = await world.api.placed(world.made["uuid"], 2)
    engines = [engine_name(placement["se_ref"]) for placement in placed["placements"]]
    await all_stay(kept)
    sent = await asyncio.gather(*(world.send(DATAGRAMS, address) for address in world.addresses))
    tracked = [world.flows(engine) for engine in engines]
    for answers in sent:
        assert answers.keys() == {"dns1", "dns2"} and sum(answers.values()) == DATAGRAMS
        assert abs(answers["dns1"] - DATAGRAMS // 4) <= DATAGRAMS // 20, answers
    assert min(tracked) > len(sent) * DATAGRAMS // 3, f"each engine carries about a half: {tracked}"
    kept += [keep(world, address) for address in world.addresses]
    await all_stay(kept)
    await world.api.post(f"virtualservice/{world.made['uuid']}/scaleout", {"vip_id": "0"})
    await world.api.placed(world.made["uuid"], 3)
    await all_stay(kept)
    for flows in kept:
        flows.close()
    await world.api.post(f"virtualservice/{world.made['uuid']}/scalein", {"vip_id": "0"})
    await world.api.placed(world.made["uuid"], 2)
    for address in world.addresses:
        answers = await world.send(100, address)
        assert sum(answers.values()) == 100 and "" not in answers


async def all_stay(kept: list[Kept]) -> None:
    for flows in kept:
        assert await asyncio.to_thread(flows.ask) in ({"same": FLOWS, "moved": 0, "lost": 0}, flows.first)


async def servers_see_an_address_that_fails_over_with_the_vip(world: World) -> None:
    api = world.api
    await api.post("serviceenginegroup", {"name": "one", "max_se": 2, "max_scaleout_per_vs": 1, "buffer_se": 1})
    source = str(ipaddress.ip_address(world.address) + 40)
    profile = {"type": "PROTOCOL_TYPE_TCP_FAST_PATH", "tcp_fast_path_profile": {"session_idle_timeout": 300}}
    await api.post("networkprofile", {"name": "mirrored", "connection_mirror": True, "profile": profile})
    made = await api.service(
        "snat",
        [(address, int(port)) for address, _, port in (one.rpartition(":") for one in world.servers)],
        se_group_ref="/api/serviceenginegroup?name=one",
        network_profile_ref="/api/networkprofile?name=mirrored",
        snat_ip=[{"addr": source, "type": "V4"}],
    )

    async def seen() -> dict[str, int]:
        child = world.lab.start("client", "shoal.lab.connections", made["address"], "80", "20", "clients", output=-1)
        out, _ = await asyncio.to_thread(child.communicate)
        world.lab._children.remove(child)
        found: dict[str, int] = json.loads(out)
        return found

    async def served() -> bool:
        return await seen() == {source: 20}

    owner = (await api.placed(made["uuid"], 1))["answers"]
    await api.until("servers see the pool's address", served, 5.0)
    kept = keep(world, made["address"], "connections", 80)

    async def armed() -> str | None:
        found = await api.placement(made["uuid"])
        return next((name for one in found["succession"] if (name := engine_name(one)) != owner), None)

    successor = await api.until("the engine that is kept as buffer is its successor", armed)

    async def mirrored() -> bool:
        return world.flows(successor) >= FLOWS

    await api.until("the successor knows the connections", mirrored, 5.0)
    world.lab.kill(owner)
    await asyncio.sleep(0.5)
    assert await seen() == {source: 20}
    assert await asyncio.to_thread(kept.ask) == kept.first, "connections outlive their engine"
    kept.close()


async def servers_answer_clients_themselves(world: World) -> None:
    """Their connections go on where engines come, go and die: all choose the same server."""
    api, lab = world.api, world.lab
    group = {"name": "direct", "max_se": 3, "min_scaleout_per_vs": 1, "vs_scalein_timeout": 1, "buffer_se": 1}
    await api.post("serviceenginegroup", group)
    for kind in ("tcp", "udp"):
        returned = {"dsr_profile": {"dsr_type": "DSR_TYPE_L2"}}
        profile = {"type": f"PROTOCOL_TYPE_{kind.upper()}_FAST_PATH", f"{kind}_fast_path_profile": returned}
        await api.post("networkprofile", {"name": f"direct-{kind}", "profile": profile})
    servers = [one.rpartition(":")[0] for one in world.servers]
    made = await api.service(
        "direct",
        [(address, 81) for address in servers],
        services=[{"port": 81}, {"port": 85, "override_network_profile_ref": "/api/networkprofile?name=direct-udp"}],
        se_group_ref="/api/serviceenginegroup?name=direct",
        network_profile_ref="/api/networkprofile?name=direct-tcp",
    )
    vip = str(made["address"])
    for name in ("dns1", "dns2"):
        await lab.takes_part(name, vip)
        for port in (81, 85):
            await lab.serve(name, port, vip)
    await api.placed(made["uuid"], 1)
    kept = [keep(world, vip, "connections", 81), keep(world, vip, "datagrams", 85)]
    assert all(one.first.keys() == {"dns1", "dns2"} for one in kept)

    async def allow(enabled: bool) -> None:
        """The first server; while it is not, its flows are where no hash would have them."""
        await world.change_pool(enabled, pool_of(made), graceful_disable_timeout=-1)
        await asyncio.sleep(1)

    await allow(False)
    await api.post(f"virtualservice/{made['uuid']}/scaleout", {"vip_id": "0"})
    await all_stay(kept)
    placed = await api.placed(made["uuid"], 2)
    await asyncio.sleep(ASKED_WITHIN_S)
    await all_stay(kept)
    await allow(True)
    lab.kill(placed["answers"])
    await asyncio.sleep(0.5)
    assert sum((await world.send(20, vip, 85)).values()) == 20
    await api.placed(made["uuid"], 2)
    await asyncio.sleep(ASKED_WITHIN_S)
    await all_stay(kept)
    runtime = await api.get(f"virtualservice/{made['uuid']}/runtime")
    assert "every engine has to choose the same server" in str(runtime)
    for one in kept:
        one.close()
