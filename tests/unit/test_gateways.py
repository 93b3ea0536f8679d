"""Gateway monitors before a packet flows: what is refused, what engines get, and who has lost what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.gateways import gateways_part, lost, turns
from shoal.engine import gateways
from shoal.engine.gateways import GatewayWatch, on_link
from shoal.wire.desired import GatewayMonitor, Gateways
from shoal.wire.messages import GatewayState
from tests.api_world import ControlledWorld, controlled_world
from tests.unit.test_static_routes import address, route


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def put(world: ControlledWorld, status: int, **fields: Any) -> Any:
    vrf = (await world.get("/api/vrfcontext?name=global"))["results"][0]
    return await world.call("PUT", f"/api/vrfcontext/{vrf['uuid']}", status, json={**vrf, **fields})


@pytest.mark.parametrize("wrong", ["0.0.0.0", "224.0.0.1", "127.0.0.1", "fe80::1"])
async def test_what_is_no_router_is_refused(world: ControlledWorld, wrong: str) -> None:
    reply = await put(world, 400, gateway_mon=[{"gateway_ip": address(wrong)}])
    assert [problem["path"] for problem in reply["problems"]] == ["gateway_mon[0].gateway_ip"]


async def test_a_gateway_is_named_once(world: ControlledWorld) -> None:
    twice = {"gateway_ip": address("10.0.0.9")}
    reply = await put(world, 400, gateway_mon=[twice, twice])
    assert "gateway_mon[0], too" in reply["error"]


async def test_next_hops_are_watched_where_the_group_says_so(world: ControlledWorld) -> None:
    own = {"gateway_ip": address("10.0.0.9"), "gateway_monitor_interval": 200, "gateway_monitor_fail_threshold": 3}
    hops = [
        route("10.50.0.0/16", "10.0.0.9"),
        route("10.60.0.0/16", "10.0.0.8", route_id="2"),
        route("10.70.0.0/16", "10.0.0.7", route_id="3", disable_gateway_monitor=True),
        route("fd00:5::/64", "fe80::1", route_id="4", if_name="eth0"),
    ]
    how = {
        "gateway_monitor_interval": 500,
        "gateway_monitor_failure_threshold": 4,
        "gateway_monitor_success_threshold": 5,
    }
    shown = await put(world, 200, gateway_mon=[own], static_routes=hops, internal_gateway_monitor=how)
    first = GatewayMonitor(address="10.0.0.9", interval_ms=200, fall=3, rise=15)
    second = GatewayMonitor(address="10.0.0.8", interval_ms=500, fall=4, rise=5)
    third = GatewayMonitor(address="fe80::1", interval_ms=500, fall=4, rise=5, interface="eth0")

    def found(next_hops: bool) -> Gateways | None:
        return gateways_part(world.view, shown["uuid"], next_hops=next_hops)

    assert found(False) == Gateways(id=shown["uuid"], monitors=(first,))
    assert found(True) == Gateways(id=shown["uuid"], monitors=(first, second, third))
    off = {"disable_gateway_monitor": True}
    await put(world, 200, gateway_mon=[], static_routes=hops, internal_gateway_monitor=off)
    assert found(False) is None and found(True) is None


UP, UP_2 = GatewayState(address="10.0.0.9"), GatewayState(address="10.0.0.8")
DOWN = GatewayState(address="10.0.0.9", why="no answer within 1 s")


def test_lost_is_what_another_engine_reaches() -> None:
    assert lost({"a": (UP,), "b": (DOWN,), "c": (UP_2,)}) == {"b": "10.0.0.9"}
    assert lost({"a": (DOWN,), "b": (DOWN, UP_2)}) == {}
    assert lost({"a": (), "b": (DOWN,)}) == {}  # nobody knows whether it lives
    other = GatewayState(address="10.0.0.8", why="no answer within 1 s")
    each = {"a": (UP, other), "b": (DOWN, UP_2)}
    assert lost(each) == {} and lost({**each, "c": ()}) == {"a": "10.0.0.8", "b": "10.0.0.9"}


def test_turns_are_told_once() -> None:
    assert turns((), (UP,)) == [] and turns((UP,), (UP,)) == []
    assert turns((), (DOWN,)) == [DOWN] and turns((UP,), (DOWN,)) == [DOWN]
    assert turns((DOWN,), (UP,)) == [UP] and turns((DOWN,), ()) == []


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100640A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000640A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ADDRESSES = """00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000007 02 40 00 80     eth0
"""


@pytest.mark.parametrize(
    "gateway, there",
    [("10.100.0.254", True), ("10.101.0.1", False), ("fd00::1", True), ("fd00:0:0:1::1", False), ("fe80::1", True)],
)
def test_a_gateway_is_on_link_in_a_network_of_an_interface(gateway: str, there: bool) -> None:
    assert on_link(gateway, ROUTES, ADDRESSES) is there


def test_a_kernel_without_ipv6_has_no_list_of_its_addresses(tmp_path: Path) -> None:
    assert not on_link("fd00::1", "", gateways._lines(tmp_path / "if_inet6"))


async def test_one_that_is_elsewhere_is_neither_reached_nor_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def echo(address: str, interface: str) -> None:
        raise OSError(113, "No route to host")

    monkeypatch.setattr(gateways, "echo", echo)
    states: dict[str, tuple[GatewayState, ...]] = {}
    for text in ("127.0.0.1", "198.51.100.200"):
        watch = GatewayWatch(lambda: None)
        running = asyncio.create_task(watch.run())
        monitor = GatewayMonitor(address=text, interval_ms=1, fall=3, rise=3)
        monkeypatch.setattr(gateways, "on_link", lambda text, routes, addresses: text == "127.0.0.1")
        watch.want([Gateways(id="v", monitors=(monitor,))])
        await asyncio.sleep(0.1)
        running.cancel()
        states[text] = watch.states
    assert states["198.51.100.200"] == ()
    assert states["127.0.0.1"] == (GatewayState(address="127.0.0.1", why="No route to host"),)


async def test_a_gateway_is_lost_after_so_many_failures_in_a_row_and_back_after_so_many_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([*"+--+---++-++++"])
    seen: list[str] = []
    ended = asyncio.Event()

    async def asked(monitor: GatewayMonitor, within_s: float) -> str:
        try:
            answer = next(answers)
        except StopIteration:
            ended.set()
            return ""
        seen.append(answer)
        return "" if answer == "+" else "no answer"

    monkeypatch.setattr(gateways, "_asked", asked)
    told: list[tuple[int, tuple[GatewayState, ...]]] = []
    watch = GatewayWatch(lambda: told.append((len(seen), watch.states)))
    running = asyncio.create_task(watch.run())
    watch.want([Gateways(id="v", monitors=(GatewayMonitor(address="10.0.0.9", interval_ms=1, fall=3, rise=3),))])
    await ended.wait()
    assert told[:3] == [(1, (UP,)), (7, (GatewayState(address="10.0.0.9", why="no answer"),)), (13, (UP,))]
    watch.want([])
    await asyncio.sleep(0.01)
    assert watch.states == ()
    running.cancel()
