"""VIPs that engines announce to a router by BGP: real BIRD on both sides, clients behind the router, which knows no other
way to them. The tests are in the order of one world's life."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from click.testing import CliRunner

from shoal.lab.api import Api, engine_name
from shoal.lab.trials import PASSWORD
from shoal.shell.preflight import command

from .bgp_world import World, world

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]
CUT_MS_MAX = 450.0
"""BFD notices after 300 ms (three of 100 ms), plus what a busy machine takes. Its figure is in docs/bgp.md."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("bgp")) as made:
        yield made


@pytest.fixture
async def api(made: World) -> AsyncIterator[Api]:
    async with Api(made.bench.url, PASSWORD) as api:
        yield api


async def test_both_engines_announce_and_both_get_connections(made: World, api: Api) -> None:
    hops = await made.router.until(made.vip, 2)
    placed = (await api.placement(made.service["uuid"]))["placements"]
    engines = [engine_name(placement["se_ref"]) for placement in placed]
    assert hops == tuple(sorted([await made.address_of(engine) for engine in engines]))

    async with made.served():
        await asyncio.sleep(0.5)
    found = (await api.get("serviceengine"))["results"]
    for uuid in [engine["uuid"] for engine in found if engine["name"] in engines]:

        async def told(uuid: str = uuid) -> bool:
            runtime = await api.get(f"serviceengine/{uuid}/runtime")
            (peer,) = runtime["bgp_peers"]
            up = (peer["state"], peer["bfd"], peer["routes"]) == ("Established", "Up", 1)
            return bool(runtime["bgp_peers_up"] and up)

        await api.until("the engine says that its session and BFD are up", told, 15.0)


async def test_connections_survive_a_member_that_comes_and_one_that_drains(made: World, api: Api) -> None:
    """The resilient group keeps them when one comes; those of one that drains the others hand back to it."""
    uuid = made.service["uuid"]
    async with made.served():
        primary = await made.primary(api)
        placed = (await api.placement(uuid))["placements"]
        secondary = next(p["se_ref"] for p in placed if engine_name(p["se_ref"]) != primary)
        await api.post(f"virtualservice/{uuid}/scaleout", {"vip_id": "0"})
        await made.router.until(made.vip, 3)
        await asyncio.sleep(0.5)
        await api.post(f"virtualservice/{uuid}/scalein", {"vip_id": "0", "from_se_ref": secondary.partition("#")[0]})
        hops = await made.router.until(made.vip, 2)
        assert await made.address_of(engine_name(secondary)) not in hops
        await asyncio.sleep(2.0)
    await api.placed(uuid, 2)


async def test_a_cut_link_is_noticed_by_bfd(made: World, api: Api) -> None:
    primary = await made.primary(api)
    took = await made.cut(primary)
    await made.lab.heal(primary)
    await made.router.until(made.vip, 2, 30)
    assert took < CUT_MS_MAX


async def test_a_vip_without_servers_is_withdrawn_until_one_is_back(made: World) -> None:
    await made.lab.lose(f"lab-{made.backend.name}", to_percent=100)
    await made.router.until(made.vip, 0)
    await made.lab.mend(f"lab-{made.backend.name}")
    await made.router.until(made.vip, 2)


async def test_an_engine_without_haproxy_announces_nothing(made: World, api: Api) -> None:
    primary = await made.primary(api)
    victim = await made.address_of(primary)
    made.lab.kill_some(primary, "haproxy.cfg", "shoal.engine\0")  # nobody but the guard is left to say so
    deadline = time.monotonic() + 5
    while victim in await made.router.next_hops(made.vip):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)
    await made.router.until(made.vip, 2)


async def test_without_ecmp_the_primary_alone_announces_and_a_migration_loses_nothing(made: World, api: Api) -> None:
    await made.set(api, scaleout_ecmp=False)
    (hop,) = await made.router.until(made.vip, 1)
    before = await made.primary(api)
    assert hop == await made.address_of(before)

    async def moved() -> bool:
        return await made.primary(api) not in ("", before)

    async with made.served():
        await api.post(f"virtualservice/{made.service['uuid']}/migrate", {"vip_id": "0"})
        await api.until("it has moved", moved)
        while (await made.router.next_hops(made.vip)) != (await made.address_of(await made.primary(api)),):
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
    source = str(ipaddress.ip_address(made.vip) + 40)
    await made.set(api, snat_ip=[{"addr": source, "type": "V4"}], enable_rhi_snat=True)
    assert await made.router.until(source, 1) == await made.router.next_hops(made.vip)
    await made.set(api, enable_rhi=False)
    await made.router.until(made.vip, 0)
    assert await made.router.next_hops(source), "the one without the other"
    await made.set(api, enable_rhi=True, enable_rhi_snat=False)
    await made.router.until(source, 0)
    await made.router.until(made.vip, 1)


def test_two_engines_say_what_the_network_allows(made: World) -> None:
    """Last, as all else has to be whole meanwhile."""
    options = ["--controller", made.bench.url, "--password", PASSWORD, "--group", "bgp"]
    result = CliRunner().invoke(command, [*options, "--json"], standalone_mode=False)
    found = json.loads(result.output)
    assert found["mode"]["name"] == "layer 2, direct return", found
    assert {c["id"]: c["ok"] for c in found["checks"] if c["ok"] != "yes"} == {"tunnel_mtu": "no"}
    assert result.return_value == 0
