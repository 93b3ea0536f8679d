"""The engines of a group are started anew one after another, and nobody who is served notices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from shoal.clouds.protocol import EngineHandle
from shoal.errors import Refused
from shoal.placement.model import EngineState
from shoal.simulator.history import Shape
from shoal.simulator.system_world import OPERATOR, SystemWorld
from shoal.simulator.trial import begin
from tests.simulation.playing import play

ELASTIC = ("HA_MODE_SHARED", "HA_MODE_SHARED_PAIR")
PAIR = "HA_MODE_LEGACY_ACTIVE_STANDBY"
WITHIN_S = 200.0


async def groups(world: SystemWorld, *modes: str) -> dict[str, str]:
    """A group of each mode, by mode, its services placed."""
    await begin(world, Shape(services=3, modes=modes))
    return {found["ha_mode"]: found["uuid"] for found in world.running.view.all("serviceenginegroup") if
            found["name"].startswith("g-")}  # fmt: skip


async def upgrade(world: SystemWorld, group: str, **body: Any) -> str:
    answer = await world.controller.operate("serviceenginegroup", group, "upgrade", body, OPERATOR)
    return str(answer["status"])


def engines(world: SystemWorld, group: str) -> dict[str, int]:
    """How often each was started."""
    machines = world.segment.engines
    known = world.controller.ledger.engines_of(group)
    return {e.id: machines[e.id].incarnation for e in known if e.seen and e.id in machines}


def addresses(world: SystemWorld, group: str) -> list[str]:
    records = world.controller.ledger.vips[group].values()
    documents = [world.running.view.get("vsvip", record.id.partition("/")[0]) or {} for record in records]
    return [vip["ip_address"]["addr"] for document in documents for vip in document["vip"]]


def shown(world: SystemWorld, group: str) -> dict[str, Any]:
    found: dict[str, Any] = world.controller.read("serviceenginegroup", group, "runtime")["upgrade"]
    return found


async def followed(
    world: SystemWorld,
    group: str,
    at: Callable[[float], Awaitable[None]] | None = None,
    restarted: Sequence[float] = (),
) -> tuple[int, float]:
    """Until it is over: the most engines away at once, and the longest that an address was silent (s)."""
    started, end, away_most = world.now, world.now + WITHIN_S, 0
    silent: dict[str, float] = {}
    longest = 0.0
    while True:
        if at is not None:
            await at(world.now - started)
        if world.process is not None:
            if not shown(world, group) or shown(world, group)["state"] == "SUSPENDED":
                return away_most, longest
            states = [world.controller.fleet.state(id) for id in engines(world, group)]
            if not restarted or world.now - restarted[-1] > 2.0:  # else it may not have heard of all yet
                away_most = max(away_most, sum(state is not EngineState.UP for state in states))
            for address in addresses(world, group):
                if world.segment.speakers(address):
                    silent.pop(address, None)
                else:
                    longest = max(longest, world.now - silent.setdefault(address, world.now))
        assert world.now < end, world.segment.explain(f"the upgrade is not over: {shown(world, group)}")
        await world.pass_time(0.02)


@pytest.mark.parametrize("mode", [*ELASTIC, PAIR])
def test_engines_are_upgraded_one_after_another_and_nobody_notices(mode: str) -> None:
    async def story(world: SystemWorld) -> None:
        group = (await groups(world, mode))[mode]
        before = engines(world, group)
        assert "0 of" in await upgrade(world, group)
        away, silent = await followed(world, group)
        after = engines(world, group)
        assert all(after[id] == before[id] + 1 for id in before), world.segment.explain("not all were started anew")
        assert away <= 1 and silent <= 0.02, (away, silent)
        assert shown(world, group) == {}
        await world.settle()
        states = {(world.running.view.get("serviceengine", id) or {})["enable_state"] for id in before}
        assert states == {"SE_STATE_ENABLED"}
        events = [event.name for event in world.controller.events_log.read({})]
        assert events.count("UPGRADE_SE_START") == len(before)

    play(story, 1)


@pytest.mark.parametrize("after_s", [0.3, 1.0, 2.5, 5.0, 9.0])
def test_a_controller_that_starts_goes_on_where_the_last_one_was(after_s: float) -> None:
    async def story(world: SystemWorld) -> None:
        group = (await groups(world, "HA_MODE_SHARED_PAIR"))["HA_MODE_SHARED_PAIR"]
        before = engines(world, group)
        await upgrade(world, group)
        killed: list[float] = []

        async def crash(since: float) -> None:
            if since >= after_s and not killed:
                await world.kill_controller()
                await world.pass_time(1.0)
                await world.start_controller()
                killed.append(world.now)

        away, _ = await followed(world, group, crash, killed)
        after = engines(world, group)
        assert killed and all(after[id] > before[id] for id in before)
        assert away <= 1
        await world.settle()

    play(story, 1)


def test_what_can_not_move_suspends_the_rest_and_keeps_serving() -> None:
    """No buffer, and no engine more may be made: the first engine can't be emptied."""

    async def story(world: SystemWorld) -> None:
        body = {"name": "full", "max_se": 2, "max_vs_per_se": 1, "buffer_se": 0}
        group = (await world.create("serviceenginegroup", body))["uuid"]
        for name in ("one", "two"):
            await world.service(name, "full")
        await world.pass_time(10.0)
        before = engines(world, group)
        await upgrade(world, group)
        world.segment.note("asked")
        await world.pass_time(400.0)
        found = shown(world, group)
        assert found["state"] == "SUSPENDED" and "still serves" in found["why"], found
        assert engines(world, group) == before
        assert all(len(world.segment.speakers(address)) == 1 for address in addresses(world, group))
        states = {(world.running.view.get("serviceengine", id) or {})["enable_state"] for id in before}
        assert states == {"SE_STATE_ENABLED"}
        await world.patch("serviceenginegroup", group, max_se=3)
        await upgrade(world, group)
        await followed(world, group)
        assert all(count > before[id] for id, count in engines(world, group).items() if id in before)

    play(story, 1)


def test_it_is_stopped_and_goes_on_when_asked_again() -> None:
    async def story(world: SystemWorld) -> None:
        group = (await groups(world, "HA_MODE_SHARED"))["HA_MODE_SHARED"]
        before = engines(world, group)
        with pytest.raises(Refused, match="not being upgraded"):
            await upgrade(world, group, stop=True)
        await upgrade(world, group)
        while not shown(world, group)["se_done"]:
            await world.pass_time(0.1)
        assert "stopped" in await upgrade(world, group, stop=True)
        await world.pass_time(30.0)
        counts = [after - before[id] for id, after in engines(world, group).items() if id in before]
        assert 0 in counts and max(counts) == 1
        await upgrade(world, group)
        await followed(world, group)
        assert all(after == before[id] + 1 for id, after in engines(world, group).items() if id in before)

    play(story, 1)


def test_an_engine_is_not_started_anew_while_it_is_to_take_over() -> None:
    """It serves nothing, so there is nothing to move; one of those that are to take over instead applies slowly."""
    named: list[str] = []

    async def story(world: SystemWorld) -> None:
        body = {"name": "g", "max_vs_per_se": 4, "buffer_se": 2, "max_se": 3}
        group = (await world.create("serviceenginegroup", body))["uuid"]
        await world.service("s", "g")
        await world.settle()
        record = world.record_of("s")
        assert record is not None and len(record.succession) == 3
        world.set_lag(record.succession[-1], (0.4, 0.4))
        restart = world.cloud.restart

        async def watched(engine_id: str) -> EngineHandle:
            now = world.record_of("s")
            assert now is not None
            ruling = now.succession if world.controller.fleet.armed(now) else now.in_force
            named.extend(e for e in ruling if e == engine_id)
            return await restart(engine_id)

        world.cloud.restart = watched  # type: ignore[method-assign]
        await upgrade(world, group)
        await followed(world, group)
        assert shown(world, group) == {}
        assert {engine for engine, starts in engines(world, group).items() if starts == 2} == set(record.succession)
        assert named == []

    play(story)


def test_an_engine_that_somebody_enables_in_its_turn_suspends_it() -> None:
    async def story(world: SystemWorld) -> None:
        group = (await groups(world, "HA_MODE_SHARED"))["HA_MODE_SHARED"]
        await upgrade(world, group)
        while (found := shown(world, group))["step"] != "is being emptied" or not found["se_done"]:
            await world.pass_time(0.05)
        name = found["se_now"]
        id = next(e.id for e in world.controller.ledger.engines_of(group) if e.name == name)
        await world.pass_time(0.3)
        await world.patch("serviceengine", id, enable_state="SE_STATE_ENABLED")
        await world.pass_time(2.0)
        assert shown(world, group)["why"] == f"{name} was enabled by somebody while it was being emptied"

    play(story, 1)


@pytest.mark.parametrize(("upgrade_s", "scalein_s"), [(20, 5), (5, 20), (400, 5)])
def test_connections_to_an_engine_that_is_upgraded_have_their_own_timeout(upgrade_s: int, scalein_s: int) -> None:
    """Also where that is longer than other steps of an upgrade may take."""

    async def story(world: SystemWorld) -> None:
        timeouts = {"vs_scalein_timeout": scalein_s, "vs_scalein_timeout_for_upgrade": upgrade_s}
        group = (await world.create("serviceenginegroup", {"name": "g", **timeouts}))["uuid"]
        await world.service("one", "g")
        await world.settle()
        for agent in world.agents.values():
            agent.drain_s = (1000.0, 1000.0)
        (record,) = world.controller.ledger.vips[group].values()
        serving = world.controller.ledger.engines[record.placements[0].engine].name
        await upgrade(world, group)
        while shown(world, group)["se_now"] != serving:
            await world.pass_time(0.1)
        began = world.now
        while (found := shown(world, group))["step"] == "is being emptied":
            await world.pass_time(0.1)
        assert found["state"] == "IN_PROGRESS", found
        assert upgrade_s <= world.now - began < upgrade_s + 3

    play(story, 1)


def test_an_engine_says_whether_it_runs_the_controllers_version(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: SystemWorld) -> None:
        group = (await groups(world, PAIR))[PAIR]
        engine = next(iter(engines(world, group)))
        assert world.controller.read("serviceengine", engine, "runtime")["at_curr_ver"] is False
        monkeypatch.setattr("shoal.controller.runtime.serviceengine.__version__", "simulated")
        assert world.controller.read("serviceengine", engine, "runtime")["at_curr_ver"] is True

    play(story, 1)
