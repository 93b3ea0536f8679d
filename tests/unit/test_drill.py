"""A drill on paper: what is foretold, what speaks against it, and how what came is judged."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.drill import run as runs
from shoal.drill.forecast import Buffer, Detection, Engine, Forecast, Outcome, Placement, Port, Service, Vip
from shoal.drill.guards import in_the_way, refusals
from shoal.drill.run import Drill, words_about
from shoal.drill.score import TOLERANCE_MS, Score, Seen, score
from shoal.errors import NotReady
from shoal.placement import whatif
from tests.api_world import ControlledWorld, controlled_world
from tests.scenarios.world import World

OUTCOME = Outcome(
    sentence="",
    interrupted=(),
    waiting=(),
    down=(),
    reduced=(),
    exposed=(),
    moves=1,
    engines_made=1,
    buffer=Buffer(free=10, needed=10, kept=True),
)


def engine(name: str, **more: Any) -> Engine:
    base = Engine(name=name, uuid=f"u-{name}", host="h", mac=f"m-{name}", state="up", connected=True, enabled=True)
    return msgspec.structs.replace(base, **more)


def vip(name: str = "web", **more: Any) -> Vip:
    base = Vip(
        vip=f"{name}/0",
        address="10.0.0.5",
        ports=(Port(80, "http"),),
        virtualservices=(Service(name=name, uuid=f"u-{name}"),),
        requested=1,
        placements=(Placement(serviceengine="a", state="ready"),),
        succession=("a", "b", "c"),
        armed=True,
        answers="a",
        taker="b",
    )
    return msgspec.structs.replace(base, **more)


def forecast(*vips: Vip, outcome: dict[str, Any] | None = None, **more: Any) -> Forecast:
    base = Forecast(
        serviceengine="a",
        uuid="u-a",
        group="g",
        failure_detection=Detection(detection_ms=300.0),
        serviceengines=(engine("a"), engine("b"), engine("c")),
        requests=0,
        unsettled=(),
        vips=vips or (vip(),),
        outcome=msgspec.structs.replace(OUTCOME, **(outcome or {})),
    )
    return msgspec.structs.replace(base, **more)


BOTH = (Placement(serviceengine="a", state="ready"), Placement(serviceengine="b", state="ready"))


# --- guards ---


@pytest.mark.parametrize("kind", ["kill", "freeze", "cut", "switchover"])
def test_nothing_speaks_against_a_group_that_is_whole(kind: str) -> None:
    assert refusals(forecast(), kind) == []


@pytest.mark.parametrize(
    ("why", "given", "code", "words"),
    [
        (
            "another engine is down",
            forecast(serviceengines=(engine("a"), engine("b", state="down"))),
            "failure",
            "A failure is going on: b, another engine of the group, is down",
        ),
        (
            "the engine itself is lost",
            forecast(serviceengines=(engine("a", connected=False), engine("b"))),
            "failure",
            "A failure is going on: a, this engine, is not connected",
        ),
        (
            "an engine is being made",
            forecast(serviceengines=(engine("a"), engine("b"), engine("n", state="creating"))),
            "failure",
            "n, another engine of the group, is being made",
        ),
        ("nobody answers", forecast(vip(answers="")), "failure", "Nobody answers for 10.0.0.5 (web)"),
        (
            "a successor has taken over",
            forecast(vip(answers="b")),
            "failure",
            "A takeover is going on: b answers for 10.0.0.5 (web), planned is a",
        ),
        ("an operation is in progress", forecast(requests=2), "busy", "2 operations (scale out or in, migrate)"),
        ("another VIP moves", forecast(unsettled=("10.0.0.9 (shop)",)), "busy", "not at rest: 10.0.0.9 (shop)"),
        (
            "it is being moved",
            forecast(vip(placements=(Placement(serviceengine="a", state="draining"), BOTH[1]))),
            "busy",
            "10.0.0.5 (web) is being moved, or has fewer engines than it should",
        ),
        ("it lacks an engine", forecast(vip(requested=2)), "busy", "or has fewer engines than it should"),
        ("not armed", forecast(vip(armed=False)), "not_armed", "The succession of 10.0.0.5 (web) is not armed"),
        (
            "no successor has room",
            forecast(vip(taker="")),
            "stays_down",
            "10.0.0.5 (web) would stay down: none of its successors (b, c) lives and has room",
        ),
        (
            "no successor at all",
            forecast(vip(taker="", succession=("a",))),
            "stays_down",
            "10.0.0.5 (web) would stay down: it has no successor",
        ),
        ("one that has no owner", forecast(outcome={"down": ("10.0.0.7 (x)",)}), "stays_down", "10.0.0.7 (x)"),
        (
            "an empty engine",
            forecast(vip(virtualservices=())),
            "nothing",
            "a serves nothing: there is nothing to drill",
        ),
    ],
)
def test_what_is_refused_whatever_is_forced(why: str, given: Forecast, code: str, words: str) -> None:
    (found,) = in_the_way(refusals(given, "kill"), force=True)
    assert (found.code, words in found.sentence()) == (code, True), (why, found)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"buffer": Buffer(free=3, needed=10, kept=False)}, "left without its buffer: 3 of 10 slots free"),
        ({"exposed": ("10.0.0.5 (web)",)}, "Without a nobody could take over next: 10.0.0.5 (web)"),
    ],
)
def test_a_group_left_without_margin_must_be_forced(outcome: dict[str, Any], words: str) -> None:
    found = refusals(forecast(outcome=outcome), "kill")
    assert [refusal.code for refusal in found] == ["no_margin"]
    assert words in found[0].sentence() and found[0].sentence().endswith("--force drills all the same.")
    assert in_the_way(found, force=False) == found and in_the_way(found, force=True) == []
    assert refusals(forecast(outcome=outcome), "switchover") == [], "nothing is lost by it"


def test_a_switchover_needs_an_engine_that_does_not_serve_it_yet() -> None:
    (found,) = refusals(forecast(vip(placements=BOTH, requested=2, succession=("a", "b"))), "switchover")
    assert found.code == "stays_down" and "no prepared engine beside those that serve it" in found.why
    assert forecast().taker(vip(placements=BOTH, requested=2), "switchover") == "c"


def test_a_switchover_of_one_service_is_about_that_one() -> None:
    whole = forecast(vip(), vip("shop", armed=False), vip("pair", succession=("b", "a"), placements=BOTH, answers="b"))
    assert [v.vip for v in whole.concerned("switchover", "u-web")] == ["web/0"]
    assert [v.vip for v in whole.concerned("switchover", "")] == ["web/0", "shop/0"]
    assert [v.vip for v in whole.concerned("kill", "u-web")] == ["web/0", "shop/0", "pair/0"]
    assert refusals(whole, "switchover", "u-web") == []
    assert [refusal.code for refusal in refusals(whole, "kill", "u-web")] == ["not_armed"]


# --- score ---


def judged(kind: str = "kill", one: Vip | None = None, **seen: Any) -> Score:
    given = forecast(one or vip())
    base = Seen(answers="b", arp="b", starts=400, outage_ms=20.0, late_answer_ms=0.0)
    (found,) = score(given, kind, given.vips, {"web/0": msgspec.structs.replace(base, **seen)})
    return found


@pytest.mark.parametrize(("kind", "ms"), [("kill", 20.0), ("freeze", 320.0), ("cut", 320.0), ("switchover", 0.0)])
def test_as_foretold(kind: str, ms: float) -> None:
    found = judged(kind, outage_ms=ms + TOLERANCE_MS[kind], late_answer_ms=20.0)
    assert found.as_planned and (found.predicted, found.actual, found.predicted_ms) == ("b", "b", ms)
    assert not judged(kind, outage_ms=ms + TOLERANCE_MS[kind] + 5.1).as_planned


@pytest.mark.parametrize(
    ("seen", "difference"),
    [
        (
            {"answers": "c", "arp": "c", "events": ("b is silent", "c took over 10.0.0.5 from a: b declined")},
            "c took over, b was to: c took over 10.0.0.5 from a: b declined",
        ),
        ({"answers": "c", "arp": "c"}, "c took over, b was to; the events do not tell why"),
        ({"answers": "a", "arp": "a"}, "nobody took over, b was to: a goes on answering"),
        ({"answers": "", "arp": ""}, "nobody answers for it, b was to"),
        ({"arp": "a"}, "a is the last that answered ARP, not b"),
        ({"outage_ms": 900.0}, "not answered for 900 ms, 150 at most were to be expected"),
        ({"late_answer_ms": 60.0}, "its former owner still answered 60 ms later"),
    ],
)
def test_a_difference_is_told_with_its_reason(seen: dict[str, Any], difference: str) -> None:
    assert judged(**seen).differences == (difference,)


def test_events_about_the_vip_and_the_end_of_its_taker_are_its_reasons() -> None:
    told = ("b: none of its processes runs", "bb: nothing heard", "c took over web/0 from a: a is silent", "x web/1")
    assert words_about(vip(), "b", told) == (told[0], "c took over 10.0.0.5 from a: a is silent")
    assert words_about(vip(), "", told) == ("c took over 10.0.0.5 from a: a is silent",)


def test_of_a_vip_that_the_engine_only_helps_with_the_owner_stays() -> None:
    member = vip(succession=("b", "a"), placements=BOTH, answers="b", taker="", requested=2)
    assert judged("freeze", member, answers="b").as_planned
    assert judged("freeze", member, answers="a", arp="").differences == (
        "a took over, b was to; the events do not tell why",
    )


def test_nothing_seen_is_no_success() -> None:
    (found,) = score(forecast(), "kill", [vip()], {})
    assert not found.as_planned


# --- who takes over, by the succession ---


def test_takers_are_the_first_of_the_armed_list_with_room_beside_each_other() -> None:
    world = World(max_vs_per_se=4, buffer_se=1, max_se=3)
    world.add("one", "two", "three", "four", "five", "six")
    snapshot = world.snapshot()
    owner = snapshot.vips[0].succession[0]
    takers = whatif.takers(snapshot, owner)
    owned = [v for v in snapshot.vips if v.succession[0] == owner]
    assert list(takers) == [v.id for v in owned] and len(owned) > 1
    assert [takers[v.id] for v in owned] == [v.succession[1] for v in owned]
    world.fail(owner)
    assert {id: world.vips[id].succession[0] for id in takers} == takers, "so it comes"


def test_nobody_takes_what_is_not_armed_or_has_no_room() -> None:
    world = World(max_vs_per_se=2, buffer_se=1, max_se=3)
    world.add("one")
    snapshot = world.snapshot()
    owner = snapshot.vips[0].succession[0]
    unarmed = msgspec.structs.replace(snapshot.vips[0], armed=False)
    assert whatif.takers(msgspec.structs.replace(snapshot, vips=(unarmed,)), owner) == {"one": ""}
    full = msgspec.structs.replace(snapshot, group=msgspec.structs.replace(snapshot.group, max_vs_per_se=0))
    assert whatif.takers(full, owner) == {"one": ""}


def test_a_vip_that_stays_without_a_successor_is_exposed() -> None:
    world = World(ha_mode="HA_MODE_SHARED_PAIR", max_se=2, min_scaleout_per_vs=2)  # a dead one does not count
    world.add("pair")
    snapshot = world.snapshot()
    dead = snapshot.vips[0].succession[0]
    assert whatif.fail(snapshot, [dead], world.now).exposed == ()
    fixed = msgspec.structs.replace(snapshot, group=msgspec.structs.replace(snapshot.group, can_create=False))
    assert whatif.fail(fixed, [dead], world.now).exposed == ("pair",)


# --- the controller's word ---


async def test_the_forecast_of_an_engine_that_never_spoke(tmp_path: Path) -> None:
    async with controlled_world(tmp_path) as world:
        await world.service()
        await world.run(lambda: any(e.created for e in world.controller.ledger.engines.values()))
        engines: list[str] = [e["uuid"] for e in (await world.get("/api/serviceengine"))["results"]]
        found = msgspec.convert(await world.get(f"/api/serviceengine/{engines[0]}/forecast"), Forecast)
        assert found.unsettled == ("10.9.0.5 (web)",) and not found.whole()
        codes = {refusal.code for refusal in refusals(found, "kill")}
        assert "failure" in codes
        await world.get("/api/serviceengine/nowhere/forecast", 404)
        await _notes(world, engines[0])


async def _notes(world: ControlledWorld, engine: str) -> None:
    path = f"/api/serviceengine/{engine}/drill"
    await world.post(path, {"text": "a drill begins, kill"}, 200)
    for bad in ({}, {"text": ""}, {"text": "x" * 501}, {"text": 5}, {"text": "a\nb"}):
        await world.post(path, bad, 400)
    (event,) = world.controller.events_log.read({"name": "SE_DRILL"})
    assert event.detail.endswith(": a drill begins, kill (admin)")


# --- giving back, whatever happens ---

KEEPER = """
import asyncio, sys
from pathlib import Path
from shoal.drill import keeper
class Faults:
    def freeze(self, engine): Path(engine).write_text("frozen")
    def thaw(self, engine): Path(engine).write_text("thawed")
asyncio.run(keeper.keep(Faults(), sys.argv[1], "freeze", float(sys.argv[2])))
"""


def keeping(mark: Path, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", KEEPER, str(mark), str(seconds)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"done\n"
    assert mark.read_text() == "frozen"
    return child


@pytest.mark.parametrize(
    ("why", "end", "seconds"),
    [
        ("the drill has gone", lambda child: child.stdin.close(), 60),
        ("it is told to end", lambda child: child.send_signal(signal.SIGTERM), 60),
        ("its time is over", lambda child: None, 0.1),
    ],
)
def test_the_keeper_undoes_the_fault(
    tmp_path: Path, why: str, end: Callable[[subprocess.Popen[bytes]], None], seconds: float
) -> None:
    with keeping(tmp_path / "mark", seconds) as child:
        end(child)
        assert child.wait(10) == 0
    assert (tmp_path / "mark").read_text() == "thawed", why


class FakeController:
    """Remembers what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, path: str) -> Any:
        self.asked.append(path)
        return {"results": [], "vips": []}

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        self.asked.append(f"{path} {body.get('text', '')}".strip())
        if path.endswith(("/migrate", "/switchover")):
            raise NotReady("Not now.")
        return {}


@pytest.mark.parametrize("operation", ["migrate", "switchover"])
async def test_a_drill_that_fails_on_the_way_leaves_no_child(tmp_path: Path, operation: str) -> None:
    controller = FakeController()
    said: list[str] = []
    foretold = forecast(vip(address="127.0.0.1", ports=(Port(9, "tcp"),)), moves_by=operation)
    drill = Drill(
        controller, foretold, "switchover", "", None, data_dir=tmp_path, max_seconds=20, say=said.append
    )  # fmt: skip
    with pytest.raises(NotReady):
        await drill.run()
    assert drill._children and all(child.returncode is not None for child in drill._children)
    assert controller.asked[0] == "serviceengine/u-a/drill a drill begins, switchover"
    assert "virtualservice/u-web/" + operation in controller.asked
    assert said[-1] == "a is given back."


async def test_a_drill_that_takes_too_long_is_broken_off_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "BASELINE_S", 60.0)
    controller = FakeController()
    drill = Drill(
        controller, forecast(vip(address="127.0.0.1", ports=(Port(9, "tcp"),))), "switchover", "", None,
        data_dir=tmp_path, max_seconds=1, say=lambda text: None,
    )  # fmt: skip
    async with asyncio.timeout(20):
        report = await drill.run()
    assert "it was broken off" in report.trouble and not report.as_planned and report.whole_after_s is None
    assert all(child.returncode is not None for child in drill._children)
