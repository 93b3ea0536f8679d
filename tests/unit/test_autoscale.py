"""Pools grow and shrink by alerts, between their policy's bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.alerts.watch import Alerts
from shoal.controller.autoscale import IN, OUT, Autoscale, by_load, chosen_servers
from shoal.controller.capacity import Capacities, Whole
from shoal.controller.clock import SystemClock
from tests.api_world import HERE, ControlledWorld, controlled_world

Document = dict[str, Any]


class World:
    """A virtual service whose pool has two servers and a reserve of two."""

    def __init__(self, world: ControlledWorld) -> None:
        self.world = world
        events = world.controller.events_log
        self.alerts = Alerts(world.view, world.intent, events, world.controller.metrics, SystemClock(), HERE)
        self.scale = Autoscale(world.view, world.intent, events, SystemClock())

    async def build(self) -> None:
        self.service = await self.world.service()
        for name in ("busy", "idle"):
            rule = {"sys_event_rule": [{"event_id": "SE_DOWN"}], "event_match_filter": ""}
            body = {"name": name, "source": "EVENT_LOGS", "category": "REALTIME", "alert_rule": rule, "throttle": 0}
            await self.world.post("/api/alertconfig", body)
        policy = {
            "name": "by-load",
            "min_size": 2,
            "max_size": 3,
            "scaleout_alertconfig_refs": ["/api/alertconfig?name=busy"],
            "scalein_alertconfig_refs": ["/api/alertconfig?name=idle"],
            "scaleout_cooldown": 0,
        }
        await self.world.post("/api/serverautoscalepolicy", policy)
        servers = [
            {"ip": {"addr": f"10.0.0.{number}", "type": "V4"}, "port": 80, "enabled": number < 3}
            for number in (1, 2, 3, 4)
        ]
        self.pool = self.service["pool_ref"].rpartition("/")[2].partition("#")[0]
        fields = {"servers": servers, "autoscale_policy_ref": "/api/serverautoscalepolicy?name=by-load"}
        reply = await self.world.client.patch(f"/api/pool/{self.pool}", json={"replace": fields})
        assert reply.status_code == 200, reply.text

    def enabled(self) -> list[str]:
        document = self.world.view.get("pool", self.pool) or {}
        return [server["ip"]["addr"][-1] for server in document["servers"] if server["enabled"]]

    def events(self) -> list[str]:
        found = self.world.controller.events_log.read({})
        return [event.name for event in reversed(found) if event.name.startswith("SERVER_AUTOSCALE")]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with controlled_world(tmp_path) as world:
        made = World(world)
        await made.build()
        yield made


async def test_a_pool_grows_from_its_reserve_and_shrinks_within_its_bounds(made: World) -> None:
    assert await made.scale.scale(made.pool, OUT) == 1
    assert made.enabled() == ["1", "2", "3"]
    assert await made.scale.scale(made.pool, OUT) == 0, "max_size"
    assert await made.scale.scale(made.pool, IN) == 1
    assert made.enabled() == ["1", "2"]
    assert await made.scale.scale(made.pool, IN) == 0, "the cooldown: nobody is told of that"
    assert made.events() == ["SERVER_AUTOSCALE_OUT", "SERVER_AUTOSCALE_FAILED", "SERVER_AUTOSCALE_IN"]


async def test_alerts_about_a_pool_or_its_service_scale_it_and_others_do_not(made: World) -> None:
    by_name = {one["name"]: one["uuid"] for one in made.world.view.all("alertconfig")}
    made.alerts.on_alert = made.scale.alert
    running = asyncio.create_task(made.scale.run())
    try:
        made.scale.alert(by_name["busy"], {"pool": "pool-other"})
        made.scale.alert(by_name["busy"], {"serviceengine": "se-1"})
        await asyncio.sleep(0.05)
        assert made.enabled() == ["1", "2"]
        made.scale.alert(by_name["busy"], {"virtualservice": made.service["uuid"]})
        async with asyncio.timeout(5):
            while made.enabled() != ["1", "2", "3"]:
                await asyncio.sleep(0.01)
        # Both alerts go by this event; of the two directions, what is to come out is what it was.
        event = made.world.controller.events_log.add("SE_DOWN", "an event about the pool", pool=made.pool)
        made.alerts.event(event)
        async with asyncio.timeout(5):
            while made.enabled() != ["1", "2"]:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_somebody_elses_write_is_not_undone(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool is written between the look at it and the write."""
    before = dict(made.world.view.get("pool", made.pool) or {})
    stale = {**before, "_last_modified": str(int(before["_last_modified"]) - 1)}
    documents = [stale, stale, before]
    get = made.world.view.get

    def seen(type: str, uuid: str) -> Document | None:
        return documents.pop(0) if type == "pool" and documents else get(type, uuid)

    monkeypatch.setattr(made.scale, "_view", Seen(made.world.view, seen))
    assert await made.scale.scale(made.pool, OUT) == 1
    assert documents == [] and made.enabled() == ["1", "2", "3"]


class Seen:
    """A view that is behind."""

    def __init__(self, view: Any, get: Any) -> None:
        self._view, self.get = view, get

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


@pytest.mark.parametrize(
    ("enabled", "policy", "direction", "chosen"),
    [
        ("++--", {"max_scaleout_adjustment_step": 5}, OUT, [2, 3]),
        ("++--", {"max_scaleout_adjustment_step": 5, "max_size": 3}, OUT, [2]),
        ("+-+-", {}, OUT, [1]),
        ("++", {}, OUT, []),
        ("+++", {"max_scalein_adjustment_step": 5}, IN, [1, 2]),
        ("+++-", {"max_scalein_adjustment_step": 5, "min_size": 2}, IN, [2]),
        ("+", {}, IN, []),
        ("--", {}, IN, []),
    ],
)
def test_who_comes_and_who_goes(enabled: str, policy: Document, direction: str, chosen: list[int]) -> None:
    pool = {"servers": [{"enabled": one == "+"} for one in enabled]}
    found, why = chosen_servers(pool, policy, direction)
    assert found == chosen and bool(why) is (not chosen)


@pytest.mark.parametrize(
    ("load", "capacity", "servers", "direction"),
    [
        (100, 119, 2, OUT),
        (100, 121, 2, ""),
        (0, 0, 2, ""),
        (5, 0, 2, OUT),
        (100, 500, 4, IN),
        (100, 150, 4, ""),
        (100, 230, 2, ""),
        (100, 250, 2, IN),
        (0, 100, 2, IN),
        (1000, None, 2, ""),
    ],
)
def test_a_pool_grows_when_it_gets_tight_and_gives_up_what_is_not_missed(
    load: float, capacity: float | None, servers: int, direction: str
) -> None:
    found, why = by_load({"intelligent_autoscale": True}, Whole(load, capacity), servers)
    assert found == direction and bool(why) is bool(direction)
    assert by_load({"intelligent_scaleout_margin": 50}, Whole(100, 149), 2)[0] == OUT
    assert by_load({"intelligent_scalein_margin": 99}, Whole(100, 190), 4)[0] == ""


async def test_load_enables_servers_without_an_alert(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (policy,) = made.world.view.all("serverautoscalepolicy")
    capacities = made.world.controller.capacities
    monkeypatch.setattr(Capacities, "whole", lambda self, pool: Whole(100.0, 105.0))
    running = asyncio.create_task(made.scale.run())
    try:
        made.scale.look(capacities)
        await asyncio.sleep(0.05)
        assert made.enabled() == ["1", "2"], "nobody asked for that"
        url = f"/api/serverautoscalepolicy/{policy['uuid']}"
        reply = await made.world.client.patch(url, json={"replace": {"intelligent_autoscale": True}})
        assert reply.status_code == 200
        made.scale.look(capacities)
        async with asyncio.timeout(5):
            while made.enabled() != ["1", "2", "3"]:
                await asyncio.sleep(0.01)
        assert made.events() == ["SERVER_AUTOSCALE_OUT"]
        reply = await made.world.client.patch(f"/api/pool/{made.pool}", json={"replace": {"description": "x"}})
        assert "capacity_estimation" in reply.headers["x-shoal-warning"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
