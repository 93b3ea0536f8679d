"""Networks beside the engines' own: clients behind a router, and in VLANs of the engines' bridge."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shoal.clouds.fabric import ip
from shoal.clouds.namespaces import LAB
from shoal.lab.api import Api, ip_address
from shoal.lab.network import Backend, Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

GROUP = {"name": "nets", "ha_mode": "HA_MODE_SHARED", "max_se": 2, "buffer_se": 1, "vs_scalein_timeout": 2}
BEHIND, ROUTER_SIDE, CLIENT_SIDE = "198.51.100.0", "198.51.100.1", "198.51.100.2"
VLAN, TAGGED_NETWORK, TAGGED_VIP = 100, "10.100.0", "10.100.0.50"
OTHER, OTHER_NETWORK = 200, "10.101.0"
LOOK_S = 0.3


class World:
    """A service on the engines' own network, and clients (lab node ``behind``) that have to come by a router."""

    lab: Lab
    backend: Backend
    router: str
    service: dict[str, Any]
    tagged: dict[str, Any]
    """A service in `VLAN`."""
    _tagged_at: str

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def make(self) -> None:
        self.lab = Lab(self.bench.options.data_dir)
        self.backend = await self.lab.backend("web1")
        await self._route()
        async with Api(self.bench.url, PASSWORD) as api:
            await api.post("serviceenginegroup", GROUP)
            self.service = await self.serve(api, "web")
            await api.placed(self.service["uuid"], 1)

    async def serve(self, api: Api, name: str, address: str = "") -> dict[str, Any]:
        """A service of the group; ``address`` "" = one of the engines' own network."""
        vip = {"ip_address": ip_address(address)} if address else {"auto_allocate_ip": True}
        servers = [(self.backend.address, self.backend.port)]
        return await api.service(name, servers, vip=vip, se_group_ref="/api/serviceenginegroup?name=nets")

    async def tag(self, api: Api, *vlans: tuple[int, str]) -> None:
        """Every engine, and the lab's node ``tagged``, in these VLANs (`VLAN` at first, which makes the node)."""
        if not vlans:
            vlans = ((VLAN, TAGGED_NETWORK),)
            self._tagged_at = await self.lab.node("tagged")
            await self.plug(VLAN, TAGGED_NETWORK)
        for number, engine in enumerate((await api.get("serviceengine"))["results"], 20):
            (vnic,) = engine["data_vnics"]
            vnic["vlan_interfaces"] = [vlan_interface(id, f"{network}.{number}") for id, network in vlans]
            await api.call("PATCH", f"serviceengine/{engine['uuid']}", {"replace": {"data_vnics": [vnic]}})

    async def plug(self, vlan: int, network: str) -> None:
        """The node ``tagged`` into a VLAN."""
        await self.lab.fabric.plug(LAB + "tagged", self._tagged_at, vlan)
        await self.run("tagged", "ip", "addr", "add", f"{network}.9/24", "dev", f"eth0.{vlan}")

    async def guest(self, name: str, vlan: int, address: str) -> None:
        """A node in a VLAN."""
        own = await self.lab.node(name)
        await self.lab.fabric.plug(LAB + name, own, vlan)
        await self.run(name, "ip", "addr", "add", f"{address}/24", "dev", f"eth0.{vlan}")

    async def ask(self, node: str, address: str) -> str:
        """What the node is answered by HTTP."""
        asks = f"import urllib.request as u; print(u.urlopen('http://{address}/', timeout=1).read().decode().strip())"
        try:
            return (await self.run(node, sys.executable, "-c", asks)).strip()
        except subprocess.CalledProcessError:
            return ""

    async def taken(self, engine: str) -> int:
        """Connections that the engine has taken so far."""
        lines = (await self.inside(engine, "cat", "/proc/net/snmp")).splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(values[names.index("PassiveOpens")])

    async def _route(self) -> None:
        names = self.lab.fabric.addressing
        self.router = await self.lab.node("router")
        namespace, behind = names.namespace(LAB + "router"), await self.lab.bare("behind")
        await ip("-n", namespace, "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", behind)
        await ip("-n", namespace, batch=[f"addr add {ROUTER_SIDE}/24 dev eth1", "link set eth1 up"])
        lines = ["link set lo up", f"addr add {CLIENT_SIDE}/24 dev eth0", "link set eth0 up"]
        await ip("-n", behind, batch=[*lines, f"route add default via {ROUTER_SIDE}"])
        await self.run("router", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    async def run(self, node: str, *command: str) -> str:
        """In a lab node."""
        return await self.inside(LAB + node, *command)

    async def inside(self, engine: str, *command: str) -> str:
        enter = self.lab.fabric.enter(engine, *command)
        done = await asyncio.to_thread(subprocess.run, enter, check=True, capture_output=True, text=True)
        return done.stdout

    async def reaches(self, node: str, address: str) -> bool:
        """Whether the node gets answers from the address. New connections every 5 ms for a moment: all or none."""
        probed = await self.lab.probe(node, address, 80, LOOK_S)
        failed = len(probed.failed())
        assert failed in (0, len(probed.starts)), [start.why for start in probed.failed()]
        return not failed


def vlan_interface(vlan: int, address: str) -> dict[str, Any]:
    network = {"ip": {"ip_addr": ip_address(address), "mask": 24}, "mode": "STATIC"}
    return {"if_name": f"eth0.{vlan}", "vlan_id": vlan, "vnic_networks": [network]}


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    with launched(folder) as bench:
        made = World(bench)
        try:
            asyncio.run(made.make())
            yield made
        finally:
            asyncio.run(made.lab.close())
