"""Whether an engine counts as up: one sign alone is not death."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.controller.fleet import Live, unplanned, verdict
from shoal.controller.records import EngineRecord
from shoal.placement.model import EngineState
from shoal.wire.messages import Claim, Ownership

STARTED = 100.0
RECORD = EngineRecord(id="e", name="e", rank=1, group="g", created=True, seen=True)
SESSION: Any = object()


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
