"""What the controller answers about how things stand: always of the present, in virtual time on the shipping code."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.errors import Invalid
from shoal.simulator.system_world import SystemWorld
from shoal.wire import messages
from shoal.wire.guard import Desired
from tests.simulation.playing import play, settings_of


async def group(world: SystemWorld, **more: Any) -> str:
    body = {"name": "g", "buffer_se": 0, "vs_scalein_timeout": 30, **more}
    return str((await world.create("serviceenginegroup", body))["uuid"])


def read(world: SystemWorld, service: dict[str, Any], what: str) -> Any:
    return world.controller.read("virtualservice", service["uuid"], what)


def states(world: SystemWorld, service: dict[str, Any]) -> str:
    (status,) = read(world, service, "scaleoutstatus")
    return str(status["state"])


def test_a_full_group_says_so_once_its_engine_is_up() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=1, max_vs_per_se=2)
        services = [await world.service(f"s{number}", "g") for number in range(3)]
        await world.pass_time(0.01)
        assert "creating" in str(world.controller.read("serviceenginegroup", uuid, "placement/ineligible"))
        await world.pass_time(5.0)
        late = services[-1]
        asked = [world.controller.read("serviceenginegroup", uuid, "placement/ineligible")["vips"][0]]
        asked.append(read(world, late, "placement")["vips"][0]["considered"])
        for answer in asked:
            assert "2 of max_vs_per_se 2 slots used" in str(answer)
            assert "creating" not in str(answer)
        runtime = read(world, late, "runtime")
        assert runtime["oper_status"]["state"] == "OPER_RESOURCES"
        assert "max_se 1 is reached" in runtime["oper_status"]["reason"][0]

    play(story)


def test_an_answer_follows_an_edit_that_changes_the_reason_only() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=1, max_vs_per_se=1)
        services = [await world.service(f"s{number}", "g") for number in range(2)]
        await world.pass_time(5.0)
        engine = next(iter(world.controller.ledger.engines))
        await world.patch("serviceengine", engine, enable_state="SE_STATE_DISABLED_FOR_PLACEMENT")
        await world.pass_time(1.0)
        (late,) = read(world, services[-1], "placement")["vips"]
        assert late["decisions"][-1]["excluded"] == {"disabled": 1}
        assert late["considered"]["engines"][0]["verdict"] == "disabled"
        ineligible = world.controller.read("serviceenginegroup", uuid, "placement/ineligible")["vips"][0]
        assert ineligible["ineligible"][0]["rule"] == "disabled"

    play(story)


def test_a_service_that_cannot_be_placed_raises_an_event_with_the_reason_once() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=1, max_vs_per_se=1)
        for number in range(2):
            await world.service(f"s{number}", "g")
        await world.pass_time(40.0)
        (event,) = world.controller.events_log.read({"name": "VS_INITIAL_PLACEMENT_FAILED"})
        reason = "s1: no engine has room and none can be made: max_se 1 is reached"
        assert event.detail == reason

    play(story)


def test_a_service_that_lost_its_last_engine_raises_awaiting() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=1, max_vs_per_se=1)
        await world.service("s", "g")
        await world.pass_time(5.0)
        world.cloud.failures = 1000
        world.kill(next(iter(world.controller.ledger.engines)))
        await world.pass_time(20.0)
        events = world.controller.events_log.read({"name": "VS_AWAITING_SE"})
        assert any("the last creation failed" in event.detail for event in events)

    play(story)


def test_a_scale_in_is_under_way_until_its_drain_has_ended() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, min_scaleout_per_vs=1, max_se=3)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        await world.operate(service["uuid"], "scaleout")
        await world.pass_time(10.0)
        assert states(world, service) == "SCALEOUT_SUCCESS"
        for agent in world.agents.values():
            agent.drain_s = (8.0, 9.0)
        await world.operate(service["uuid"], "scalein")
        assert states(world, service) == "SCALEIN_AWAITING_SE_PRE_RELEASE"
        await world.pass_time(2.0)
        assert states(world, service) == "SCALEIN_AWAITING_SE_RELEASE"
        (status,) = read(world, service, "scaleoutstatus")
        assert "keeps its connections" in status["reason"][0]
        (detail,) = read(world, service, "runtime/detail")
        assert detail["vip_runtime"][0]["progress_percent"] in range(3, 20)  # 2 of 30 s
        await world.pass_time(30.0)
        assert states(world, service) == "SCALEIN_SUCCESS"

    play(story)


@pytest.mark.parametrize(
    ("drain_s", "timeout_s", "at_least_s", "at_most_s"),
    [(3.0, 20, 3.0, 6.0), (1000.0, 20, 20.0, 22.0), (1000.0, 0, 0.0, 2.0)],
)
def test_a_drain_ends_with_its_last_connection_or_at_the_time_out(
    drain_s: float, timeout_s: int, at_least_s: float, at_most_s: float
) -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=3, vs_scalein_timeout=timeout_s)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        await world.operate(service["uuid"], "scaleout")
        await world.pass_time(10.0)
        for agent in world.agents.values():
            agent.drain_s = (drain_s, drain_s)
        began = world.now
        await world.operate(service["uuid"], "scalein")
        (record,) = next(iter(world.controller.ledger.vips.values())).values()
        while len(record.placements) > 1:
            await world.pass_time(0.1)
            (record,) = next(iter(world.controller.ledger.vips.values())).values()
            assert world.now - began < 60
        assert at_least_s <= world.now - began <= at_most_s

    play(story)


def test_engines_are_told_the_way_of_replies() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world)
        await world.service("s", "g")
        await world.pass_time(5.0)
        for mode, through_primary in ((0, False), (1, True), (2, False)):
            await world.patch("serviceenginegroup", uuid, se_tunnel_mode=mode)
            await world.pass_time(1.0)
            for engine in world.controller.ledger.engines:
                settings = settings_of(world, engine)
                assert settings.return_through_primary == through_primary
                assert Desired.of(settings, ()).return_through_primary == through_primary

    play(story)


def test_engines_are_told_how_often_to_announce_anew() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world)
        await world.service("s", "g")
        await world.pass_time(5.0)
        for changes, every_s in (
            ({}, 0),
            ({"gratarp_permanent_periodicity": 5}, 0),
            ({"enable_gratarp_permanent": True}, 300),
            ({"gratarp_permanent_periodicity": 30}, 1800),
            ({"enable_gratarp_permanent": False}, 0),
        ):
            await world.patch("serviceenginegroup", uuid, **changes)
            await world.pass_time(1.0)
            for engine in world.controller.ledger.engines:
                settings = settings_of(world, engine)
                assert settings.announce_every_s == every_s
                assert Desired.of(settings, ()).announce_every_s == every_s

    play(story)


def test_a_migrate_names_its_two_halves() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=3)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        for agent in world.agents.values():
            agent.drain_s = (8.0, 9.0)
        await world.operate(service["uuid"], "migrate", to_new_se=True)
        seen = []
        for _ in range(80):
            await world.pass_time(0.1)
            seen.append(states(world, service))
        assert list(dict.fromkeys(seen))[:2] == [
            "MIGRATE_SCALEOUT_CREATING_SE",
            "MIGRATE_SCALEOUT_AWAITING_SE_PROGRAMMING",
        ]
        assert "MIGRATE_SCALEIN_AWAITING_SE_RELEASE" in seen
        await world.pass_time(30.0)
        assert states(world, service) == "MIGRATE_SUCCESS"

    play(story)


def test_a_renamed_engine_is_called_by_its_new_name() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=2)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        engine = next(iter(world.controller.ledger.engines))
        await world.patch("serviceengine", engine, name="edge-1")
        await world.pass_time(1.0)
        assert read(world, service, "runtime")["vip_summary"][0]["service_engine"][0]["name"] == "edge-1"
        world.kill(engine)
        await world.pass_time(5.0)
        assert world.controller.events_log.read({"name": "SE_DOWN"})[0].detail.startswith("edge-1:")

    play(story)


def test_what_is_served_otherwise_than_asked_for_is_shown() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=2, min_scaleout_per_vs=2)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        note = messages.PartProblem(f"service/{service['uuid']}", "The pool uses least connections.")
        for engine, agent in world.agents.items():
            root = world.controller.fleet.live(engine).applied
            agent._say(messages.Applied(root=root, how="none", took_ms=1.0, notes=(note,)))
        await world.pass_time(0.5)
        for what in ("runtime", "placement"):
            assert read(world, service, what)["notes"] == [note.why]
        runtime = world.controller.read("serviceengine", next(iter(world.agents)), "runtime")
        assert runtime["notes"] == {note.part: note.why}
        for agent in world.agents.values():
            agent._say(messages.Applied(root="", how="none", took_ms=1.0))
        await world.pass_time(0.5)
        assert read(world, service, "runtime")["notes"] == []

    play(story)


def test_the_detection_in_force_is_shown_and_reaches_the_engines() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=2)
        await world.service("s", "g")
        await world.pass_time(5.0)
        shown = world.controller.read("serviceenginegroup", uuid, "runtime")["failure_detection"]
        assert (shown["heartbeat_interval_ms"], shown["heartbeat_misses"], shown["detection_ms"]) == (100, 3, 300)
        with pytest.raises(Invalid, match="dp_hb_timeout_count: 2 is not allowed: must be 3"):
            await world.patch("serviceenginegroup", uuid, dp_hb_timeout_count=2)
        await world.patch("serviceenginegroup", uuid, aggressive_failure_detection=True)
        await world.pass_time(2.0)
        shown = world.controller.read("serviceenginegroup", uuid, "runtime")["failure_detection"]
        assert (shown["mode"], shown["lease_ms"], shown["detection_ms"]) == ("aggressive", 50, 75)
        for engine in world.segment.engines.values():
            assert engine.state.timing.heartbeat_interval_ms == 25

    play(story)


def test_aggressive_detection_takes_over_sooner() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=2, buffer_se=1, aggressive_failure_detection=True)
        await world.service("s", "g")
        await world.pass_time(1.0)
        await world.settle()
        (vip,) = world.running.view.all("vsvip")
        address = vip["vip"][0]["ip_address"]["addr"]
        (owner,) = world.segment.speakers(address)
        world.freeze(owner)
        await world.pass_time(0.15)
        (heir,) = world.segment.speakers(address)
        assert heir != owner

    play(story)
