"""Real connections load one engine, and what was on it moves by itself, on what HAProxy and the kernel counted."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

INTERVAL_S = 10
"""The shortest that acts: two messages of counters."""
CAPACITY, HIGH, HEAVY, LIGHT = 50, 60, 20, 16
PATIENCE_S = 60.0
HOLD = """
import http.client, sys, time
address, count = sys.argv[1], int(sys.argv[2])
links = [http.client.HTTPConnection(address, 80, timeout=5) for _ in range(count)]
while True:
    for link in links:
        try:
            link.request("GET", "/")
            link.getresponse().read()
        except (OSError, http.client.HTTPException):
            link.close()
    time.sleep(0.5)
"""
"""Keeps so many connections open, and opens again what is cut."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with launched(tmp_path) as bench:
        yield bench


@contextlib.contextmanager
def held(lab: Lab, address: str, count: int) -> Iterator[None]:
    command = lab.fabric.enter("lab-client", sys.executable, "-c", HOLD, address, str(count))
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_loaded_engine_is_relieved_by_itself(bench: Bench) -> None:
    async def check() -> None:
        lab = Lab(bench.options.data_dir)
        try:
            async with Api(bench.url, PASSWORD) as api:
                await run(api, lab)
        finally:
            await lab.close()

    asyncio.run(check())


async def run(api: Api, lab: Lab) -> None:
    backend = await lab.backend("web")
    await lab.node("client")
    group = (await api.get("serviceenginegroup?name=Default-Group"))["results"][0]["uuid"]
    rules = {
        "auto_rebalance": True,
        "auto_rebalance_interval": INTERVAL_S,
        "auto_rebalance_criteria": ["SE_AUTO_REBALANCE_OPEN_CONNS"],
        "auto_rebalance_capacity_per_se": [CAPACITY],
        "max_cpu_usage": HIGH,
        "min_cpu_usage": 20,
        "min_se": 2,
        "vs_scalein_timeout": 1,
    }
    services = {}
    for name in ("one", "two", "three"):
        services[name] = await api.service(name, [(backend.address, backend.port)])
        await api.placed(services[name]["uuid"], 1)
        await api.until("both engines are up", lambda: both_up(api, group), PATIENCE_S)
    services, before = await by_part(api, services)
    await api.call("PATCH", f"serviceenginegroup/{group}", {"replace": rules})
    with held(lab, services["heavy"]["address"], HEAVY), held(lab, services["light"]["address"], LIGHT):
        await moved(api, services, before)
        await at_rest(api, group, before)


async def by_part(api: Api, services: dict[str, dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Two share an engine: the heavy and the light one. Which these are depends on which engine was up first."""
    engines = {name: await holder(api, made) for name, made in services.items()}
    other = next(name for name in engines if list(engines.values()).count(engines[name]) == 1)
    heavy, light = (name for name in engines if name != other)
    names = {"heavy": heavy, "light": light, "other": other}
    assert engines[heavy] == engines[light] != engines[other]
    return {part: services[name] for part, name in names.items()}, {p: engines[name] for p, name in names.items()}


async def both_up(api: Api, group: str) -> bool:
    return bool((await api.get(f"serviceenginegroup/{group}/runtime"))["num_se_up"] == 2)


async def holder(api: Api, service: dict[str, Any]) -> str:
    (placement,) = (await api.placement(service["uuid"]))["placements"]
    return str(placement["se_ref"].rpartition("#")[2])


async def moved(api: Api, services: dict[str, Any], before: dict[str, str]) -> None:
    """36 connections are more than 60 % of 50, neither has 70 % of the packets: the heavier one migrates."""

    async def done() -> bool:
        placements = (await api.placement(services["heavy"]["uuid"]))["placements"]
        names = [p["se_ref"].rpartition("#")[2] for p in placements]
        return names == [before["other"]]

    await api.until("heavy is on the other engine", done, PATIENCE_S)
    (event,) = [e for e in await events(api) if e["event_id"].startswith("REBALANCE_")]
    assert event["event_id"] == "REBALANCE_VS_MIGRATE"
    assert event["objects"]["virtualservice"] == services["heavy"]["uuid"]
    why, heavy = event["event_description"], services["heavy"]["name"]
    said = re.match(rf"{before['heavy']} has (\d+) open connections \(\d+ % of 50\), above 60 %: {heavy} makes ", why)
    assert said and 30 < int(said[1]) <= HEAVY + LIGHT, why  # a mean, in which the first connections may be missing
    decisions = (await api.placement(services["heavy"]["uuid"]))["decisions"]
    assert why in [decision["why"] for decision in decisions if decision["what"] == "rebalance_migrate"]


async def at_rest(api: Api, group: str, before: dict[str, str]) -> None:
    """The next look with figures of the new placement finds nothing to do."""

    async def calm() -> Any:
        found = (await api.get(f"serviceenginegroup/{group}/runtime"))["auto_rebalance"]
        levels = {engine["name"]: engine for engine in found["engines"]}
        loads = {name: round(engine["load"].get("open_conns", 0)) for name, engine in levels.items()}
        return found if loads == {before["heavy"]: LIGHT, before["other"]: HEAVY} else None

    found = await api.until("both engines have their part", calm, PATIENCE_S)
    assert found["decided"] == "nothing" and found["why"] == "every engine is between the marks"
    assert {engine["level"] for engine in found["engines"]} == {"between"}
    packets = [engine["load"]["pps"] for engine in found["engines"]]
    assert min(packets) > 10, "the kernel's counters came too"
    assert len([e for e in await events(api) if e["event_id"].startswith("REBALANCE_")]) == 1


async def events(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("analytics/logs?type=2&page_size=200"))["results"]
    return found
