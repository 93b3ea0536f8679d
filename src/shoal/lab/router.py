"""A router that engines announce VIPs to: BIRD with BFD on the engines' segment, equal-cost routes in the kernel, clients
behind it. ``resilient``: established flows keep their engine while it lives (Linux's resilient next-hop groups), which
BIRD does not do by itself; ``python -m shoal.lab.router`` is what does it, inside the router.

VIPs are reached by announced routes alone: without one they are unreachable from there.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.clouds.fabric import ip
from shoal.clouds.namespaces import LAB
from shoal.errors import NotReady

if TYPE_CHECKING:
    from .network import Lab

AS = 65000
ENGINES_AS = 65001
ROUTER_SIDE, CLIENT_SIDE = "198.51.100.1", "198.51.100.2"
LEARNED_TABLE = 100
"""Where BIRD puts the routes that resilient groups are made from."""
BUCKETS = 256
IDLE_S = 2
"""A bucket without a packet for so long may go to another engine."""
STARTED_WITHIN_S = 5.0
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/fib_multipath_hash_policy": "1",  # by addresses and ports
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/eth0/send_redirects": "0",
}


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """``clients``: the lab node behind it."""

    address: str
    clients: str
    namespace: str
    socket: str
    resilient: bool

    async def next_hops(self, vip: str) -> tuple[str, ...]:
        """The engines' addresses that it sends the VIP's packets to now."""
        return (await routes(self.namespace, "main", self.namespace)).get(vip, ())

    async def until(self, vip: str, engines: int, seconds: float = 15.0) -> tuple[str, ...]:
        """Wait until so many engines announce the VIP. Raises NotReady."""
        async with asyncio.timeout(seconds + 5):
            deadline = asyncio.get_running_loop().time() + seconds
            while len(found := await self.next_hops(vip)) != engines:
                if asyncio.get_running_loop().time() > deadline:
                    raise NotReady(f"{len(found)} engines announce {vip} instead of {engines}: {', '.join(found)}.")
                await asyncio.sleep(0.01)
            return found


async def make(lab: Lab, *, resilient: bool = False, secret: str = "", bfd_ms: int = 100) -> Router:
    """Raises CloudError, NotReady."""
    names = lab.fabric.addressing
    address = await lab.node("router")
    namespace, behind = names.namespace(LAB + "router"), await lab.bare("behind")
    await ip("-n", namespace, "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", behind)
    batch = [f"addr add {ROUTER_SIDE}/24 dev eth1", "link set eth1 up"]
    batch += [f"route replace unreachable {vips}" for vips in names.vip_networks if vips.version == 4]
    await ip("-n", namespace, batch=batch)
    await ip(
        "-n",
        behind,
        batch=[
            "link set lo up",
            f"addr add {CLIENT_SIDE}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {ROUTER_SIDE}",
        ],
    )
    for name, value in SYSCTLS.items():
        command = lab.fabric.enter(LAB + "router", "sh", "-c", f"echo {value} > /proc/sys/{name}")
        await asyncio.to_thread(subprocess.run, command, check=True)
    # Engines know no way to the clients' network but this router's own address.
    masquerade = "table ip lab { chain post { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }"
    nft = lab.fabric.enter(LAB + "router", "nft", masquerade)
    await asyncio.to_thread(subprocess.run, nft, check=True)
    folder = lab.folder("router")
    (folder / "bird.conf").write_text(configuration(address, str(names.network), resilient, secret, bfd_ms))
    socket = str(folder / "bird.ctl")
    lab.run("router", "bird", "-f", "-c", str(folder / "bird.conf"), "-s", socket)
    if resilient:
        lab.start("router", "shoal.lab.router")
    deadline = asyncio.get_running_loop().time() + STARTED_WITHIN_S
    while not Path(socket).exists():
        if asyncio.get_running_loop().time() > deadline:
            raise NotReady("The lab's BIRD does not start.", hint="Is Debian's package bird2 installed?")
        await asyncio.sleep(0.01)
    return Router(address=address, clients="behind", namespace=namespace, socket=socket, resilient=resilient)


def configuration(address: str, engines: str, resilient: bool, secret: str, bfd_ms: int) -> str:
    table = f"kernel table {LEARNED_TABLE};" if resilient else ""
    password = f'password "{secret}";' if secret else ""
    timers = f"min rx interval {bfd_ms} ms; min tx interval {bfd_ms} ms; multiplier 3;"
    return f"""log stderr all;
router id {address};
protocol device {{ }}
protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; merge paths on limit 64; {table} }}
protocol bfd {{ }}
protocol bgp engines {{
  local {address} as {AS};
  neighbor range {engines} as {ENGINES_AS};
  dynamic name "engine";
  direct;
  bfd {{ {timers} }};
  {password}
  error wait time 1, 5;
  ipv4 {{ import all; export none; }};
}}
"""


async def routes(where: str, table: str, namespace: str) -> dict[str, tuple[str, ...]]:
    """Of single addresses: address -> the next hops."""
    found = json.loads(await ip("-n", namespace, "-4", "-j", "route", "show", "table", table) or "[]")
    groups = json.loads(await ip("-n", namespace, "-j", "nexthop") or "[]")
    return {route["dst"]: hops for route in found if "/" not in route["dst"] and (hops := _hops(route, groups))}


def _hops(route: dict[str, Any], groups: list[dict[str, Any]]) -> tuple[str, ...]:
    if "nhid" in route:
        by_id = {one["id"]: one for one in groups}
        members = by_id.get(route["nhid"], {}).get("group", [{"id": route["nhid"]}])
        return tuple(sorted(by_id[m["id"]]["gateway"] for m in members if "gateway" in by_id.get(m["id"], {})))
    several = [hop["gateway"] for hop in route.get("nexthops", ()) if "gateway" in hop]
    return tuple(sorted(several or [route["gateway"]] if several or "gateway" in route else []))


class Groups:
    """Resilient next-hop groups of this machine's kernel, one for each learned route. The first id is 1."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._there: dict[str, tuple[str, ...]] = {}

    def follow(self, learned: dict[str, tuple[str, ...]]) -> None:
        for vip in sorted(self._there.keys() | learned.keys()):
            hops = learned.get(vip, ())
            if hops == self._there.get(vip, ()):
                continue
            if hops:
                for hop in hops:
                    _ip("nexthop", "replace", "id", str(self._id(hop)), "via", hop, "dev", "eth0")
                group = str(self._id(vip))
                members = "/".join(str(self._id(hop)) for hop in hops)
                kind = f"type resilient buckets {BUCKETS} idle_timer {IDLE_S} unbalanced_timer 0"
                _ip("nexthop", "replace", "id", group, "group", members, *kind.split())
                _ip("route", "replace", vip, "nhid", group)
                self._there[vip] = hops
            else:
                _ip("route", "del", vip)
                del self._there[vip]

    def _id(self, name: str) -> int:
        return self._ids.setdefault(name, len(self._ids) + 1)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _learned() -> list[dict[str, Any]]:
    """The table is not there before its first route."""
    command = ["ip", "-4", "-j", "route", "show", "table", str(LEARNED_TABLE)]
    done = subprocess.run(command, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 and done.stdout else []
    return found


def main() -> None:
    """Inside the router's namespace, until it is killed."""
    groups = Groups()
    with subprocess.Popen(["ip", "-4", "monitor", "route"], stdout=subprocess.PIPE) as monitor:
        assert monitor.stdout is not None
        while True:
            found = _learned()
            groups.follow({route["dst"]: hops for route in found if (hops := _hops(route, []))})
            if not os.read(monitor.stdout.fileno(), 65536):
                return


if __name__ == "__main__":
    main()
