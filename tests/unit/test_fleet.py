"""Whether an engine counts as up: one sign alone is not death."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shoal.controller.clock import SystemClock
from shoal.controller.desired import Encoded, encoded
from shoal.controller.fleet import ROOTS_KEPT_MAX, Fleet, Live, Session, unplanned, verdict
from shoal.controller.records import EngineRecord, VipRecord
from shoal.placement.model import EngineState
from shoal.wire import desired as wire
from shoal.wire import messages
from shoal.wire.messages import Claim, Ownership
from tests.sighted import SESSION, sighted

STARTED = 100.0
RECORD = EngineRecord(id="e", name="e", rank=1, group="g", created=True, seen=True)


@pytest.mark.parametrize(
    ("why", "live", "now", "state"),
    [
        ("it talks", {"session": SESSION, "heard_at": 199.0}, 200.0, EngineState.UP),
        ("it is silent on an open session", {"session": SESSION, "heard_at": 196.9}, 200.0, EngineState.DOWN),
        (
            "silent for longer than a status, and a peer took over",
            {"session": SESSION, "heard_at": 198.5, "suspected_at": 199.0},
            200.0,
            EngineState.DOWN,
        ),
        (
            "a peer took over, and it has spoken since",
            {"session": SESSION, "heard_at": 199.5, "suspected_at": 199.0},
            200.0,
            EngineState.UP,
        ),
        ("only its session is lost", {"heard_at": 199.0}, 200.0, EngineState.UP),
        ("its session is lost and nothing of it runs", {"heard_at": 199.0, "gone": True}, 200.0, EngineState.DOWN),
        (
            "its session is lost and a peer took over",
            {"heard_at": 199.0, "suspected_at": 199.5},
            200.0,
            EngineState.DOWN,
        ),
        ("its session is lost for long", {"heard_at": 189.0}, 200.0, EngineState.DOWN),
        ("the controller has just started", {}, 103.0, EngineState.UP),
        ("the controller has just started, and nothing runs there", {"gone": True}, 103.0, EngineState.DOWN),
    ],
)
def test_verdict(why: str, live: dict[str, Any], now: float, state: EngineState) -> None:
    assert verdict(Live(id="e", **live), RECORD, now, STARTED) is state, why


def test_silence_is_no_death_while_another_engine_hears_it() -> None:
    quiet = Live(id="e", session=SESSION, heard_at=150.0)
    assert verdict(quiet, RECORD, 200.0, STARTED, witnessed=True) is EngineState.UP
    assert verdict(quiet, RECORD, 200.0, STARTED) is EngineState.DOWN
    assert verdict(quiet, RECORD, 211.0, STARTED, witnessed=True) is EngineState.DOWN
    taken = Live(id="e", session=SESSION, heard_at=198.0, suspected_at=199.0)
    assert verdict(taken, RECORD, 200.0, STARTED, witnessed=True) is EngineState.DOWN


def test_an_engine_that_never_connected_is_still_being_created() -> None:
    record = EngineRecord(id="e", name="e", rank=1, group="g", created=True, seen=False)
    assert verdict(Live(id="e"), record, 200.0, STARTED) is EngineState.CREATING


def test_a_planned_owner_is_no_takeover() -> None:
    planned = Ownership(vip="v", owner=True, claim=Claim(2, 0, 1), why="", detected_ms=40.0)
    taken = Ownership(vip="v", owner=True, claim=Claim(1, 1, 2), why="", detected_ms=300.0)
    assert not unplanned(planned)
    assert unplanned(taken)


class Wire:
    """A link that keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


async def test_a_state_that_comes_back_is_still_known_when_it_is_acknowledged() -> None:
    """A, then as many others as are remembered, then A again: its acknowledgement counts."""
    parts: dict[str, Encoded] = {}
    fleet = Fleet(
        SystemClock(),
        record=lambda engine: RECORD,
        desired=lambda engine, having: parts,
        on_change=lambda engine: None,
        on_ownership=lambda engine, message: None,
    )
    live, wire_end = fleet.live("e"), Wire()
    session = Session(fleet, live, wire_end)
    running = asyncio.create_task(session.run())
    versions = [1, *range(2, ROOTS_KEPT_MAX + 1), 1, 99]
    for number, version in enumerate(versions, 1):
        vip = wire.Vip(
            id="v",
            addresses=("10.0.0.1",),
            generation=1,
            owner="e",
            members=("e",),
            succession=(),
            list_version=version,
            armed=True,
        )
        parts = {"vip/v": encoded(vip)}
        session.push()
        async with asyncio.timeout(5):
            while len(wire_end.sent) < number:
                await asyncio.sleep(0)
    session._receive(messages.Applied(root=wire_end.sent[-2].manifest.root, how="none", took_ms=0.0))
    assert fleet.acknowledged("e", "v") == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("other", [(), ("b",)])
def test_that_one_list_is_armed_says_nothing_of_another_of_its_number(other: tuple[str, ...]) -> None:
    """A VIP that changes its group has two records for a moment, of the same number; in an older copy of the store it may be
    another list (seed 475 of 10,000 events)."""
    fleet, _, _ = sighted({"a": 0.0, "b": 0.0}, {"a": "g", "b": "g"})
    fleet.live("b").runs.lists = {"v": 7}
    assert fleet.armed(VipRecord(id="v", group="new", list_version=7, succession=other))
    record = VipRecord(id="v", group="old", list_version=7, succession=("a", "b"))
    assert not fleet.armed(record)
    fleet.live("a").runs.lists = {"v": 7}
    assert fleet.armed(record)
    fleet.live("a").runs.lists = {}
    assert fleet.armed(record)


QUIET = [
    ("others were heard just now", {"b": 0.5, "c": 0.9, "d": 0.2}, EngineState.DOWN),
    ("of its group none was heard just now", {"b": 1.3, "c": 0.9, "d": 0.2}, EngineState.UP),
    ("none at all was heard just now", {"b": 2.5, "c": 1.3, "d": 1.2}, EngineState.UP),
    ("all are out of sight", {"b": 2.5, "c": 1.9, "d": 1.9}, EngineState.SUSPECT),
    ("those of its group are out of sight, others not", {"b": 2.5, "c": 0.3, "d": 0.1}, EngineState.DOWN),
    ("there is no other", {}, EngineState.DOWN),
]


@pytest.mark.parametrize(("why", "silent", "state"), QUIET, ids=[row[0] for row in QUIET])
def test_silence_alone_is_judged_when_it_is_known_whether_others_are_silent_too(
    why: str, silent: dict[str, float], state: EngineState
) -> None:
    """Statuses come at moments of their own: the engine whose last one came first before the way was cut would be judged while
    the others are not even missed, and its virtual services moved before the storm is seen."""
    groups = {"a": "g", "b": "g", "c": "h", "d": "h"}
    fleet, records, _ = sighted({"a": 3.2, **silent}, groups)
    assert fleet.look(records)["a"] is state
    assert fleet.state("a") is state
