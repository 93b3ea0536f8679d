"""Placement documents: the answer in words, every engine judged as it was at the decision, what would help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shoal.controller.history import OBJECTS_MAX, SNAPSHOTS_MAX, History
from shoal.controller.runtime import placement, reasons
from shoal.placement.model import Group, Snapshot, Vip
from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play
from tests.simulation.test_answers import group, read


def vip(world: SystemWorld, service: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = read(world, service, "placement")["vips"][0]
    return found


def test_the_engines_are_judged_as_they_were_when_it_was_decided() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=3, max_vs_per_se=5)
        await world.service("first", "g")
        await world.pass_time(6.0)
        service = await world.service("second", "g")
        await world.pass_time(6.0)
        for number in range(4):
            await world.service(f"later{number}", "g")
            await world.pass_time(3.0)
        found = vip(world, service)
        considered, (decision,) = found["considered"], found["decisions"]
        assert (considered["as_of_now"], considered["note"]) == (False, "")
        assert considered["revision"] == decision["revision"] and considered["at"] == decision["at"]
        verdicts = {e["serviceengine"]: (e["verdict"], e["slots_used"]) for e in considered["engines"]}
        assert verdicts[decision["serviceengine"]][0] == "chosen"
        assert sum(used for _, used in verdicts.values()) <= 1, "what came later does not count"
        assert set(verdicts) <= {record.name for record in world.controller.ledger.engines.values()}

    play(story)


def test_a_decision_whose_snapshot_is_gone_is_told_as_of_now() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=2)
        await world.service("first", "g")
        await world.pass_time(6.0)
        service = await world.service("second", "g")
        await world.pass_time(6.0)
        revision = vip(world, service)["decisions"][-1]["revision"]
        world.controller.reconciler.history.forget(uuid)
        fresh = vip(world, service)["considered"]
        assert fresh["as_of_now"]
        assert fresh["note"] == f"recomputed as things stand now, revision {revision} is gone"
        assert "holds_vip" in {engine["verdict"] for engine in fresh["engines"]}

    play(story)


def test_the_answer_says_who_serves_and_who_is_next() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=2, buffer_se=1)
        service = await world.service("web", "g")
        await world.pass_time(0.05)
        assert read(world, service, "placement")["answer"].startswith("web is not served: ")
        assert "is being made (for web: no running engine has room)" in read(world, service, "placement")["answer"]
        await world.pass_time(10.0)
        names = [record.name for record in world.controller.ledger.engines_of(uuid)]
        answer = read(world, service, "placement")["answer"]
        assert answer == f"web is served by {names[0]}. {names[1]} takes over when {names[0]} fails."
        await world.patch("virtualservice", service["uuid"], enabled=False)
        await world.pass_time(60.0)
        assert read(world, service, "placement")["answer"] == "web is disabled."

    play(story)


def test_a_stuck_service_and_its_group_say_what_would_help() -> None:
    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=1, max_vs_per_se=1, buffer_se=1)
        for name in ("a", "b", "c"):
            service = await world.service(name, "g")
        await world.pass_time(6.0)
        last = vip(world, service)
        assert last["would_help"] == "Raise max_se to 3, or max_vs_per_se to 3."
        assert last["remedies"][0] == {"field": "max_se", "value": 3, "serviceengine": "", "text": "raise max_se to 3"}
        found = world.controller.read("serviceenginegroup", uuid, "placement/summary")
        assert found["answer"].startswith("g: 2 of 3 VIPs are not served; the buffer is lost: ")
        assert found["short_would_help"]["would_help"] == "Raise max_se to 3, or max_vs_per_se to 3."
        assert [one["virtualservices"] for one in found["short"]] == [["b"], ["c"]]
        assert "serviceengines" not in found
        (engine,) = world.controller.read("serviceenginegroup", uuid, "placement/detail")["serviceengines"]
        assert engine["answer"].endswith("serves 1 VIP (1 of 1 slots). It is full.")
        await world.patch("serviceenginegroup", uuid, max_se=3)
        await world.pass_time(10.0)
        assert vip(world, service)["would_help"] == "" and vip(world, service)["served"]

    play(story)


def test_history_is_bounded_by_number_and_by_size() -> None:
    def snapshot(revision: int, vips: int) -> Snapshot:
        one = Vip(id="v", name="v", slots=1, created=0.0)
        return Snapshot(revision=revision, group=Group(id="g", name="g"), vips=(one,) * vips)

    history = History()
    for revision in range(2 * SNAPSHOTS_MAX):
        history.keep("g", snapshot(revision, 1), float(revision))
    assert history.find("g", SNAPSHOTS_MAX - 1, SNAPSHOTS_MAX - 1.0) is None
    assert history.find("g", SNAPSHOTS_MAX, float(SNAPSHOTS_MAX)) is not None
    assert history.find("g", SNAPSHOTS_MAX, 0.0) is None, "the same revision at another time is another plan"
    for revision in range(1000, 1003):
        history.keep("g", snapshot(revision, OBJECTS_MAX // 2), 0.0)
    assert history.find("g", 1000, 0.0) is None and history.find("g", 1002, 0.0) is not None
    history.keep("g", snapshot(2000, OBJECTS_MAX + 1), 0.0)
    assert history.find("g", 2000, 0.0) is not None, "the last one is kept whatever its size"
    assert history.find("g", 1002, 0.0) is None


def test_why_each_engine_can_not_take_a_vip_is_thought_about_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    aside: list[object] = []

    async def to_thread(work: Callable[..., Any], *values: Any) -> Any:
        aside.append(work)
        return work(*values)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)

    async def story(world: SystemWorld) -> None:
        uuid = await group(world, max_se=2, max_vs_per_se=1, buffer_se=0)
        for name in ("one", "two", "three"):
            await world.service(name, "g")
        await world.pass_time(10.0)
        aside.clear()  # of what was written
        found = await world.controller.look("serviceenginegroup", uuid, "placement/ineligible")
        assert aside == [reasons.lines]
        assert found == world.controller.read("serviceenginegroup", uuid, "placement/ineligible")
        first, *rest = found["vips"]
        assert first["short"] and first["virtualservices"] == ["three"], "those that lack engines come first"
        assert [row["rule"] for row in first["ineligible"]] == ["no_room", "no_room"]
        assert not any(vip["short"] for vip in rest) and found["left_out"] == 0
        monkeypatch.setattr(placement, "INELIGIBLE_MAX", 2)
        found = await world.controller.look("serviceenginegroup", uuid, "placement/ineligible")
        assert [vip["virtualservices"] for vip in found["vips"]] == [["three"]] and found["left_out"] == 2

    play(story)
