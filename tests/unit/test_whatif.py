"""What-if: the request's errors, times, margins kept current, and what people read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from shoal.controller.reconciler import Reconciler
from shoal.controller.whatif.margins import UNREST_S_MAX, Margins
from shoal.errors import Invalid
from shoal.objects import load
from shoal.placement import plan
from shoal.placement.margin import margin, worst
from shoal.placement.outage import Outage, Times, outage
from shoal.placement.outcome import Fate, How
from shoal.placement.whatif import fail
from shoal.shell import whatif
from shoal.shell.client import Client
from shoal.shell.complete import Choices
from shoal.shell.session import Session
from tests.api_world import Clock, ControlledWorld, controlled_world
from tests.scenarios.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


GROUP = {"group": "Default-Group"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"fail_engine": ["a"]}, "fail_engine: unknown member. Did you mean fail_engines?"),
        ({"fail_engines": "a"}, "fail_engines: a is not allowed: must be a list of names, not a string."),
        ({"fail_engines": ["nobody"]}, "fail_engines: nobody is not allowed: there is no such service engine."),
        ({"fail_any": 0}, "fail_any: 0 is not allowed: must be a whole number, 1..1000."),
        ({"fail_any": True}, "fail_any: True is not allowed"),
        ({**GROUP, "fail_any": 3}, "fail_any: 3 is not allowed: Default-Group has 0 engines."),
        ({**GROUP, "fail_hosts": ["h9"]}, "fail_hosts: h9 is not allowed: no engine of Default-Group is there."),
        ({"add": -1}, "add: -1 is not allowed"),
        ({"set": ["x"]}, "set: ['x'] is not allowed: must be an object, not a list."),
        ({"set": {"buffer_se": 1}}, "must be <type>:<name>.<field>"),
        ({"set": {"pool:p.name": "x"}}, "placement follows from no such type"),
        ({"set": {"serviceenginegroup:Defalt-Group.buffer_se": 1}}, "Did you mean Default-Group?"),
        ({"set": {"serviceenginegroup:Default-Group.bufer_se": 1}}, "unknown field. Did you mean buffer_se?"),
        ({"set": {"serviceenginegroup:Default-Group.buffer_se": "many"}}, "must be a whole number"),
        ({"set": {"serviceenginegroup:Default-Group.max_se": 5000}}, "max_se: 5000 is not allowed: must be 0..1000"),
        ({"group": 7}, "group: must be a name, not a number."),
    ],
)
async def test_a_wrong_question_is_refused_in_words(world: ControlledWorld, body: Any, words: str) -> None:
    assert words in (await world.post("/api/whatif", body, 400))["error"]


async def test_what_is_not_there_and_what_is_no_question(world: ControlledWorld) -> None:
    assert "no service engine group nowhere" in (await world.post("/api/whatif", {"group": "nowhere"}, 404))["error"]
    assert "No service engine group has engines yet" in (await world.post("/api/whatif", {}, 404))["error"]
    assert "POST" in (await world.get("/api/whatif", 405))["error"]
    assert (await world.stranger().post("/api/whatif", json=GROUP)).status_code == 401


async def test_an_edit_is_tried_and_not_made(world: ControlledWorld) -> None:
    await world.service()
    edit = {"serviceenginegroup:Default-Group.ha_mode": "ha_mode_shared_pair"}
    before = world.view.revision
    found = await world.post("/api/whatif", {"group": "Default-Group", "set": edit, "add": 2}, 200)
    assert world.view.revision == before
    assert found["virtualservices"]["added"] == 2 and found["stays_up"]
    assert found["margin"]["after"]["of_engines"] == found["engines"]["made"] >= 2, "active/active, by its presets"
    assert found["verdict"][0].startswith("Everything stays up, nothing is interrupted")


TIMES = Times(detection_ms=300, turn_ms=130, create_ms=900)


@pytest.mark.parametrize(
    ("how", "turns", "times", "wanted"),
    [
        (How.KEPT, 0, TIMES, Outage(0, 0)),
        (How.TAKEN, 0, TIMES, Outage(20, 320)),
        (How.TAKEN, 2, TIMES, Outage(280, 580)),
        (How.PLACED, 0, TIMES, Outage(304, 1404)),
        (How.MADE, 0, TIMES, Outage(1204, 2304)),
        (How.MADE, 0, Times(detection_ms=300, turn_ms=130, create_ms=900, witnessed=False), Outage(1204, 4004)),
        (How.MADE, 0, Times(detection_ms=300, turn_ms=130), Outage(304, None)),
        (How.NEVER, 0, TIMES, Outage(304, None)),
    ],
)
def test_how_long_a_vip_is_not_answered(how: How, turns: int, times: Times, wanted: Outage) -> None:
    fate = Fate(vip="v", name="v", origin=("a",), before=("a",), at_once=(), after=(), how=how, turns=turns)
    assert outage(fate, times) == wanted


# --- margins ---


class Planned:
    """As much of a reconciler as margins look at."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.snapshots: dict[str, Any] = {}
        self.plans: dict[str, Any] = {}
        self.plan()

    def plan(self) -> None:
        self.snapshots["g"] = self.world.snapshot()
        self.plans["g"] = plan(self.snapshots["g"], self.world.now)


async def test_a_margin_follows_the_group_and_is_thought_about_once() -> None:
    world = World(max_vs_per_se=4, buffer_se=1)
    world.add(*(f"V{n}" for n in range(8)))
    planned, clock = Planned(world), Clock()
    margins = Margins(cast(Reconciler, planned), clock)
    assert margins.document("g", str) == {}
    assert await margins.look() > 0
    found = margins.document("g", str)
    assert found["current"] and found["stays_up"]["engines"] == 1 and found["of_engines"] == 3
    assert len(found["stays_up"]["broken_by"]) == 2
    planned.plan()
    assert await margins.look() == 0, "nothing has changed"
    world.edit(buffer_se=2)
    planned.plan()
    assert not margins.document("g", str)["current"]
    await margins.look()
    found = margins.document("g", str)
    assert found["current"] and found["stays_up"]["engines"] == 2


async def test_a_group_that_does_not_come_to_rest_is_thought_about_in_the_end() -> None:
    world = World(max_vs_per_se=4, buffer_se=1)
    world.add("V1")
    world.makes = False
    world.fail("SE1", "SE2", settle=False)
    world.step()
    planned, clock = Planned(world), Clock()
    margins = Margins(cast(Reconciler, planned), clock)
    assert await margins.look() == 0
    clock.s += UNREST_S_MAX
    assert await margins.look() > 0
    assert margins.document("g", str)["stays_up"]["engines"] == 1, "as it will be when engines are made"


# --- what people type and read ---


@pytest.mark.parametrize(
    "line", ["fail_engine a,b fail_any 2 set x:y.z=1", "--fail-engine=a --fail-engine b --fail-any 2 --set x:y.z=1"]
)
def test_words_become_a_request(line: str) -> None:
    body = whatif.body_of(whatif.pairs_of(line.split()))
    assert body == {"fail_engines": ["a", "b"], "fail_any": 2, "set": {"x:y.z": "1"}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fail_engin a", "unknown word. Did you mean fail_engine?"),
        ("fail_any", "a value is required after it. whatif fail_any <number>"),
        ("add many", "must be a whole number"),
        ("set x", "must be <type>:<name>.<field>=<value>"),
    ],
)
def test_wrong_words_are_told(line: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        whatif.body_of(whatif.pairs_of(line.split()))


class Names:
    """A client that knows two engines."""

    tenant = "admin"

    cloud = ""

    def begun(self, type: str, text: str, within_s: float = 0.0) -> tuple[list[str], int]:
        return (["se-a", "se-b"], 2) if type == "serviceengine" else ([], 0)


def test_the_shell_completes_it() -> None:
    choices = Choices(Session(cast(Client, Names()), load(), "n"))
    assert {"fail_engine", "fail_any", "set", "drain_host", "all"} <= {c.word for c in choices.next("whatif ")}
    assert [c.word for c in choices.next("whatif fail_engine ")] == ["se-a", "se-b"]
    assert [c.word for c in choices.next("whatif all fail_engine se-")] == ["se-a", "se-b"]
    assert [c.word for c in choices.next("whatif fail_any ")] == ["NUMBER"]
    assert "fail_host" in {c.word for c in choices.next("whatif fail_engine se-a ")}


def test_a_legacy_pair_survives_either_engine_and_not_both() -> None:
    world = World(
        ha_mode="HA_MODE_LEGACY_ACTIVE_STANDBY",
        max_se=2,
        buffer_se=0,
        min_scaleout_per_vs=2,
        max_scaleout_per_vs=2,
    )
    world.add("A", "B")
    active = world.primary("A")
    outcome = fail(world.snapshot(), [active], world.now)
    assert outcome.stays_up and outcome.keeps_capacity and len(outcome.interrupted) == 2
    assert {fate.how for fate in outcome.fates} == {How.TAKEN}
    found = margin(world.snapshot(), world.now)
    assert (found.stays_up.engines, found.stays_up.exact) == (1, True)
    both = worst(world.snapshot(), 2, world.now)
    assert both.exact and both.down == ("A", "B")
