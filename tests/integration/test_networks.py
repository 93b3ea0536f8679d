"""Static routes, VLANs and VRFs of engines, by real packets. The tests are in the order of one world's life."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.clouds.fabric import processes_in
from shoal.lab.api import Api, Refusal, engine_name, ip_address
from shoal.lab.trials import PASSWORD

from .network_world import (
    BEHIND,
    GROUP,
    OTHER,
    OTHER_NETWORK,
    TAGGED_NETWORK,
    TAGGED_VIP,
    VLAN,
    World,
    vlan_interface,
    world,
)

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


ASKS = """
import socket, sys, time
from shoal.observe.frames import question
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0x0806))
while True:
    s.send(question(sys.argv[2], s.getsockname()[4])); time.sleep(0.005)
"""
OUTAGE_MS_MAX = 1200.0
"""As for any VIP; its figures are in docs/performance.md. A busy machine takes some more."""


def runs(pid: int, program: str) -> bool:
    return program in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("networks")) as made:
        yield made


@pytest.fixture
async def api(made: World) -> AsyncIterator[Api]:
    async with Api(made.bench.url, PASSWORD) as api:
        yield api


async def set_routes(api: Api, *routes: dict[str, Any]) -> None:
    vrf = (await api.get("vrfcontext?name=global"))["results"][0]
    await api.call("PATCH", f"vrfcontext/{vrf['uuid']}", {"replace": {"static_routes": list(routes)}})


def route(id: str, prefix: str, hop: str, **more: str) -> dict[str, Any]:
    address, _, mask = prefix.partition("/")
    wanted = {"ip_addr": ip_address(address), "mask": int(mask)}
    return {"route_id": id, "prefix": wanted, "next_hop": ip_address(hop), **more}


async def routes_of(made: World, engine: str) -> list[str]:
    shown = await made.inside(engine, "ip", "-4", "route", "show", "proto", "91")
    return [" ".join(line.split()[:3]) for line in shown.splitlines()]


async def test_clients_behind_a_router_are_answered_by_a_static_route_alone(made: World, api: Api) -> None:
    vip, uuid = made.service["address"], made.service["uuid"]
    owner = (await api.placement(uuid))["answers"]
    assert not await made.reaches("behind", vip)

    await set_routes(api, route("1", f"{BEHIND}/24", made.router))

    async def routed() -> bool:
        return await routes_of(made, owner) == [f"{BEHIND}/24 via {made.router}"]

    await api.until("the engine has the route", routed)
    assert await made.reaches("behind", vip)


async def test_routes_outlive_the_agent_and_whoever_takes_over_has_them(made: World, api: Api) -> None:
    found = await api.placement(made.service["uuid"])
    made.lab.kill_some(found["answers"], "shoal.engine\0")
    assert await routes_of(made, found["answers"]) and await made.reaches("behind", made.service["address"])
    heirs = [engine_name(reference) for reference in found["succession"]]
    assert len(heirs) > 1
    for heir in heirs:
        assert await routes_of(made, heir)


async def test_a_route_that_this_engine_can_not_follow_is_told_and_the_others_count(made: World, api: Api) -> None:
    uuid = made.service["uuid"]
    owner = (await api.placement(uuid))["answers"]
    engine = (await api.get(f"serviceengine?name={owner}"))["results"][0]["uuid"]
    good, shared = route("1", f"{BEHIND}/24", made.router), route("4", "203.0.113.0/24", made.router)
    other = route("5", "203.0.113.0/24", made.backend.address)
    nowhere, nothing = (
        route("2", "192.0.2.0/25", "192.0.2.200"),
        route("3", "192.0.2.128/25", made.router, if_name="e9"),
    )
    await set_routes(api, good, nowhere, nothing, shared, other)

    async def told() -> str:
        problems = (await api.get(f"serviceengine/{engine}/runtime"))["problems"]
        return next((why for part, why in problems.items() if part.startswith("routes/")), "")

    why = await api.until("the engine says what it can't do", told)
    assert "192.0.2.0/25 can't be reached by 192.0.2.200: no interface of this engine" in why
    assert "route 3: this engine has no interface e9" in why
    found = await made.inside(owner, "ip", "-4", "route", "show", "proto", "91")
    assert found.count("nexthop via") == 2 and "192.0.2" not in found

    await set_routes(api, good)

    async def well() -> bool:
        return not await told() and len(await routes_of(made, owner)) == 1

    await api.until("only the good one is there", well)


# --- gateways ---


async def test_who_loses_its_gateway_hands_over_and_nobody_notices(made: World, api: Api) -> None:
    """The router is there, and this engine's pings do not come through: an uplink that is dead beyond its own port."""
    vrf = (await api.get("vrfcontext?name=global"))["results"][0]["uuid"]
    watch = {"gateway_ip": ip_address(made.router), "gateway_monitor_interval": 100}
    watch |= {"gateway_monitor_fail_threshold": 3, "gateway_monitor_success_threshold": 3}
    await api.call("PATCH", f"vrfcontext/{vrf}", {"replace": {"gateway_mon": [watch]}})
    engines = (await api.get("serviceengine"))["results"]
    assert len(engines) == 2

    async def seen(up: bool, *among: str) -> bool:
        runtimes = [await api.get(f"serviceengine/{e['uuid']}/runtime") for e in engines if e["name"] in among]
        return all([g["up"] for g in runtime["gateways"]] == [up] == [runtime["gateway_up"]] for runtime in runtimes)

    names = [engine["name"] for engine in engines]
    await api.until("both engines, the idle one too, reach it", lambda: seen(True, *names))
    owner = (await api.placement(made.service["uuid"]))["answers"]
    (other,) = (name for name in names if name != owner)
    await made.lab.node("near")  # not behind the router
    probing = asyncio.create_task(made.lab.probe("near", made.service["address"], 80, 6.0))
    await asyncio.sleep(1.0)
    neighbour = (made.router, "dev", "eth0")
    nowhere = ("lladdr", "02:00:00:00:00:01", "nud", "permanent")
    await made.inside(owner, "ip", "neigh", "replace", *neighbour, *nowhere)
    try:
        await api.until("it is lost", lambda: seen(False, owner))
        assert await seen(True, other)

        async def moved() -> bool:
            found = await api.placement(made.service["uuid"])
            return bool(found["answers"] == other and len(found["placements"]) == 1)

        await api.until("the other one serves", moved)
        probed = await probing
        assert len(probed.starts) > 500 and not probed.failed(), [start.why for start in probed.failed()]
        (event,) = (await api.get("analytics/logs?type=2&filter=eq(event_id,se_gateway_heartbeat_failed)"))["results"]
        assert f"{owner}: gateway {made.router} does not answer" in str(event)
        engine = next(engine["uuid"] for engine in engines if engine["name"] == owner)
        assert "others do" in (await api.get(f"serviceengine/{engine}/placement"))["answer"]
    finally:
        await made.inside(owner, "ip", "neigh", "del", *neighbour)
    await api.until("it is reached again", lambda: seen(True, *names))
    await api.call("PATCH", f"vrfcontext/{vrf}", {"delete": {"gateway_mon": []}})
    await api.until("nobody asks any more", lambda: _unwatched(api, engines))


async def _unwatched(api: Api, engines: list[dict[str, Any]]) -> bool:
    runtimes = [await api.get(f"serviceengine/{engine['uuid']}/runtime") for engine in engines]
    return not any(runtime["gateways"] for runtime in runtimes)


# --- VLANs ---


async def test_a_vip_in_a_vlan_is_answered_for_there_and_nowhere_else(made: World, api: Api) -> None:
    await made.tag(api)
    service = made.tagged = await made.serve(api, "tagged", TAGGED_VIP)
    owner = (await api.placed(service["uuid"], 1))["answers"]
    assert await made.reaches("tagged", TAGGED_VIP)

    assert TAGGED_VIP in await made.inside(owner, "ip", "-o", "addr", "show", "dev", f"eth0.{VLAN}")
    assert TAGGED_VIP not in await made.inside(owner, "ip", "-o", "addr", "show", "dev", "eth0")
    await made.run("router", "ip", "addr", "add", f"{TAGGED_NETWORK}.8/24", "dev", "eth0")
    assert not await made.reaches("router", TAGGED_VIP)
    assert await made.reaches("router", made.service["address"])


async def test_flows_are_spread_over_engines_tag_and_all(made: World, api: Api) -> None:
    uuid = made.tagged["uuid"]
    await api.post(f"virtualservice/{uuid}/scaleout", {"vip_id": "0"})
    found = await api.placed(uuid, 2)
    engines = [engine_name(placement["se_ref"]) for placement in found["placements"]]
    before = [await made.taken(engine) for engine in engines]
    for _ in range(3):
        assert await made.reaches("tagged", TAGGED_VIP)
    after = [await made.taken(engine) for engine in engines]
    assert all(now - then > 30 for then, now in zip(before, after, strict=True)), (before, after)
    await api.post(f"virtualservice/{uuid}/scalein", {"vip_id": "0"})
    await api.placed(uuid, 1)


async def test_a_killed_guard_lets_go_of_packet_sockets_last(made: World, api: Api) -> None:
    """The kernel takes some 15 ms for each, and lets go of the highest descriptor first: the end of sessions and of what
    fences the VIP is not to wait for them, on however many VLANs the guard speaks."""
    owner = (await api.placement(made.tagged["uuid"]))["answers"]
    (guard,) = [pid for pid in processes_in(made.lab.fabric.addressing.namespace(owner)) if runs(pid, "engine.guard")]
    inodes = {line.split()[-1] for line in Path(f"/proc/{guard}/net/packet").read_text().splitlines()[1:]}
    packet: list[int] = []
    others: list[int] = []
    for entry in Path(f"/proc/{guard}/fd").iterdir():
        target = entry.readlink().name
        if target.startswith("socket:"):
            (packet if target[8:-1] in inodes else others).append(int(entry.name))
    netlink_of_addresses = min(others)
    assert len(packet) == 4, "ARP and ND, on the data interface and on the VLAN"
    assert max(packet) < min(set(others) - {netlink_of_addresses}), (packet, others)


async def test_a_frozen_owner_falls_silent_in_its_vlan_and_another_takes_over(made: World, api: Api) -> None:
    """What its kernel says is fenced there as well: the client asks all the time."""
    asks = made.lab.run("tagged", sys.executable, "-c", ASKS, f"eth0.{VLAN}", TAGGED_VIP)
    owner = (await api.placement(made.tagged["uuid"]))["answers"]
    probing = asyncio.create_task(made.lab.probe("tagged", TAGGED_VIP, 80, 2.5))
    await asyncio.sleep(0.8)
    made.lab.freeze(owner)
    probed = await probing
    made.lab.thaw(owner)
    asks.terminate()
    assert 0 < probed.outage_ms() < OUTAGE_MS_MAX and probed.starts[-1].ok, probed.outage_ms()
    assert len({heard.mac for heard in probed.arp}) == 2
    assert probed.late_answers_ms() == 0

    async def one() -> bool:
        found = await api.placement(made.tagged["uuid"])
        return found["armed"] and found["answers"] not in ("", owner)

    await api.until("it is whole again", one)


async def test_a_vip_moves_between_interfaces_as_vlans_come_and_go(made: World, api: Api) -> None:
    """The guard follows what it is told, with the VIP held all the time."""
    await made.run("tagged", "ip", "route", "add", f"{OTHER_NETWORK}.50", "dev", "eth0")
    moves = await made.serve(api, "moves", f"{OTHER_NETWORK}.50")
    owner = (await api.placed(moves["uuid"], 1))["answers"]
    assert await made.reaches("tagged", f"{OTHER_NETWORK}.50")  # untagged
    await made.run("tagged", "ip", "route", "del", f"{OTHER_NETWORK}.50", "dev", "eth0")
    await made.plug(OTHER, OTHER_NETWORK)
    await made.tag(api, (VLAN, TAGGED_NETWORK), (OTHER, OTHER_NETWORK))

    async def there() -> bool:
        probed = await made.lab.probe("tagged", f"{OTHER_NETWORK}.50", 80, 0.1)
        return not probed.failed()

    await api.until("it is in the VLAN now", there)
    with pytest.raises(Refusal, match=r"moves-vip.*SE_STATE_DISABLED first"):
        await made.tag(api, (VLAN, TAGGED_NETWORK))
    await api.call("DELETE", f"virtualservice/{moves['uuid']}")
    await api.call("DELETE", f"vsvip/{moves['vsvip_ref'].partition('#')[0].rpartition('/')[2]}")
    await made.tag(api, (VLAN, TAGGED_NETWORK))

    async def gone() -> bool:
        return f"eth0.{OTHER}" not in await made.inside(owner, "ip", "-o", "link", "show")

    await api.until("the interface is gone", gone)
    assert await made.reaches("tagged", TAGGED_VIP)


async def test_an_address_of_two_vrfs_is_served_by_engines_of_two_groups(made: World, api: Api) -> None:
    """Each in a VLAN of its own, by the servers of its own."""
    await api.post("vrfcontext", {"name": "blue"})
    await api.post("serviceenginegroup", {**GROUP, "name": "blue", "max_se": 1, "buffer_se": 0})
    second = await made.lab.backend("web2")
    first = await api.service("starts", [(second.address, 80)], se_group_ref="/api/serviceenginegroup?name=blue")
    owner = (await api.placed(first["uuid"], 1))["answers"]
    vip = {
        "name": "blue-vip",
        "vrf_context_ref": "/api/vrfcontext?name=blue",
        "vip": [{"vip_id": "0", "ip_address": ip_address(TAGGED_VIP)}],
    }
    await api.post("vsvip", vip)
    body = {
        "vsvip_ref": "/api/vsvip?name=blue-vip",
        "pool_ref": "/api/pool?name=starts-pool",
        "services": [{"port": 80}],
    }
    blue = {"name": "blue", "se_group_ref": "/api/serviceenginegroup?name=blue", **body}
    with pytest.raises(Refusal, match="same service engine group"):
        await api.post("virtualservice", {**blue, "se_group_ref": "/api/serviceenginegroup?name=nets"})

    engine = (await api.get(f"serviceengine?name={owner}"))["results"][0]
    wanted = vlan_interface(OTHER, f"{TAGGED_NETWORK}.30") | {"vrf_ref": "/api/vrfcontext?name=blue"}
    engine["data_vnics"][0]["vlan_interfaces"] = [wanted]
    await api.call("PATCH", f"serviceengine/{engine['uuid']}", {"replace": {"data_vnics": engine["data_vnics"]}})
    service = await api.post("virtualservice", blue)
    await api.placed(service["uuid"], 1)
    await made.guest("guest", OTHER, f"{TAGGED_NETWORK}.9")

    async def answered() -> bool:
        return [await made.ask(node, TAGGED_VIP) for node in ("tagged", "guest")] == ["web1", "web2"]

    await api.until("each VRF is answered by its own servers", answered)


async def test_a_fast_path_reaches_servers_in_a_vlan_by_the_address_there(made: World, api: Api) -> None:
    """They know no other network: an answer proves it."""
    made.lab.start("guest", "shoal.lab.backend", f"{TAGGED_NETWORK}.9", "80", "guest")
    await made.run("guest", "ip", "addr", "flush", "dev", "eth0")
    group = (await api.get("serviceenginegroup?name=blue"))["results"][0]["uuid"]
    pool = {"servers": [{"ip": ip_address(f"{TAGGED_NETWORK}.9"), "port": 80}], "vrf_ref": "/api/vrfcontext?name=blue"}
    await api.post("pool", {"name": "fast-pool", **pool})
    vip = [{"vip_id": "0", "ip_address": ip_address(f"{TAGGED_NETWORK}.60")}]
    await api.post("vsvip", {"name": "fast-vip", "vrf_context_ref": "/api/vrfcontext?name=blue", "vip": vip})
    profile = {"network_profile_ref": "/api/networkprofile?name=System-TCP-Fast-Path"}
    references = {"vsvip_ref": "/api/vsvip?name=fast-vip", "pool_ref": "/api/pool?name=fast-pool"}
    body = {"name": "fast", "services": [{"port": 80}], "se_group_ref": f"/api/serviceenginegroup/{group}"}
    service = await api.post("virtualservice", {**body, **profile, **references})
    await api.placed(service["uuid"], 1)
    await made.guest("asker", OTHER, f"{TAGGED_NETWORK}.8")

    async def answered() -> bool:
        return await made.ask("asker", f"{TAGGED_NETWORK}.60") == "guest"

    await api.until("the server has answered", answered)


async def test_an_engine_that_replaces_another_is_in_its_vlans_and_takes_over(made: World, api: Api) -> None:
    prefix = {"ip_addr": ip_address(f"{TAGGED_NETWORK}.0"), "mask": 24}
    ends = {"begin": ip_address(f"{TAGGED_NETWORK}.200"), "end": ip_address(f"{TAGGED_NETWORK}.210")}
    mine = {"prefix": prefix, "static_ip_ranges": [{"range": ends, "type": "STATIC_IPS_FOR_SE"}]}
    await api.post("network", {"name": "tagged", "configured_subnets": [mine]})
    uuid = made.tagged["uuid"]
    owner = (await api.placement(uuid))["answers"]
    heir = next(e for e in (engine_name(r) for r in (await api.placement(uuid))["succession"]) if e != owner)
    gone = (await api.get(f"serviceengine?name={heir}"))["results"][0]["uuid"]
    await api.call("DELETE", f"serviceengine/{gone}")

    async def replaced() -> str:
        found = await api.placement(uuid)
        names = [engine_name(reference) for reference in found["succession"]]
        return names[1] if found["armed"] and len(names) > 1 and names[1] != heir else ""

    taker = await api.until("a new engine is to take over", replaced, 30.0)
    made.lab.kill(owner)

    async def there() -> bool:
        return (await api.placement(uuid))["answers"] == taker and await made.ask("tagged", TAGGED_VIP) == "web1"

    await api.until("the new engine has taken over", there)
