"""What the guard's recorder notes of events and effects; what is as ever is not noted."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from shoal.engine.guard.notes import Notes
from shoal.observe.ring import Recorder, read
from shoal.ownership import events as on
from shoal.ownership import initial
from shoal.ownership.state import PeerView, State
from shoal.wire.messages import Claim, Ownership

BEAT_S = 0.1
CLAIM = Claim(1, 1, 2)


class Guard:
    """Notes as a guard makes them: each event against the state before it, each effect after it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.notes = Notes(Recorder.open(file, 64))
        self.state: State = replace(initial(), engine="a", peers={"b": PeerView(id="b", heard_at=10.0, session=True)})

    def beat(self, now: float) -> None:
        self.state = replace(self.state, peers={"b": replace(self.state.peers["b"], heard_at=now)})
        self.notes.event(self.state, on.Heard(on.Heartbeat("b", "1", True, ())), now)

    def noted(self) -> list[tuple[str, str, str, float]]:
        found = read(self._file, "guard")
        assert found is not None
        return [(record.kind, record.vip, record.about, round(record.ms)) for record in found.records]


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(tmp_path / "guard.ring")


def test_heartbeats_and_renewals_in_time_are_not_noted(guard: Guard) -> None:
    for number in range(50):
        now = 10.0 + number * BEAT_S
        guard.notes.event(guard.state, on.Tick(), now)
        guard.beat(now)
        guard.notes.effect(guard.state, on.RenewLease(), now)
        guard.notes.effect(guard.state, on.Send(on.Heartbeat("a", "1", True, ())), now)
    assert guard.noted() == []


def test_a_heartbeat_that_is_missing_is_noted_once_and_its_return_too(guard: Guard) -> None:
    for now in (10.05, 10.1, 10.16, 10.2):
        guard.notes.event(guard.state, on.Tick(), now)
    guard.beat(10.22)
    guard.beat(10.3)
    assert guard.noted() == [("peer silent", "", "b", 160), ("peer heard", "", "b", 220)]


def test_the_end_of_a_session_is_noted_with_the_silence_before(guard: Guard) -> None:
    guard.notes.event(guard.state, on.Session("b", False), 10.03)
    guard.notes.event(guard.state, on.Session("stranger", False), 10.03)
    assert guard.noted() == [("session ended", "", "b", 30)]


def test_a_late_lease_is_noted_by_how_much(guard: Guard) -> None:
    for now in (10.0, 10.1, 10.25):
        guard.notes.effect(guard.state, on.RenewLease(), now)
    guard.notes.event(guard.state, on.LeaseLost(), 10.55)
    assert guard.noted() == [("lease late", "", "", 50), ("lease lost", "", "", 300)]


def test_a_claim_is_noted_step_by_step(guard: Guard) -> None:
    told = Ownership(vip="v", owner=True, claim=CLAIM, why="b died", from_engine="b", detected_ms=33.0)
    for effect in (
        on.PersistClaim("v", CLAIM),
        on.ArpProbe(("10.0.0.9",)),
        on.TakeVip("v", ("10.0.0.9",)),
        on.Announce("v", ("10.0.0.9",)),
        on.Tell(told),
    ):
        guard.notes.effect(guard.state, effect, 10.0)
    assert guard.noted() == [
        ("claim", "v", "", 0),
        ("take", "v", "", 0),
        ("announce", "v", "", 0),
        ("took", "v", "b", 33),
    ]


def test_another_that_answers_is_noted_for_what_is_asked_or_held_only(guard: Guard) -> None:
    def answers(address: str, now: float) -> None:
        guard.notes.event(guard.state, on.ArpAnswered(address, "66:00:00:00:00:01"), now)

    answers("10.0.0.9", 10.0)
    guard.notes.effect(guard.state, on.ArpProbe(("10.0.0.9",)), 10.0)
    for now in (10.1, 10.11, 10.12):
        answers("10.0.0.9", now)
    assert guard.noted() == [("answered", "", "66:00:00:00:00:01", 0)], "and not at each answer"
    guard.notes.effect(guard.state, on.TakeVip("v", ("10.0.0.9",)), 10.2)
    answers("10.0.0.9", 11.0)
    guard.notes.effect(guard.state, on.ReleaseVip("v", ("10.0.0.9",)), 12.0)
    answers("10.0.0.9", 13.0)
    assert [kind for kind, *_ in guard.noted()] == ["answered", "take", "answered", "release"]
    assert guard.noted()[2][1] == "v"


def test_haproxy_link_and_failures(guard: Guard) -> None:
    guard.notes.event(guard.state, on.Haproxy(False, "connection closed"), 10.0)
    guard.notes.event(guard.state, on.Haproxy(True), 10.1)
    guard.notes.event(guard.state, on.Link(False), 10.2)
    guard.notes.failed(on.TakeVip("v", ("10.0.0.9",)), "no such device")
    assert [(kind, vip) for kind, vip, *_ in guard.noted()] == [
        ("haproxy down", ""),
        ("haproxy up", ""),
        ("link down", ""),
        ("failed", "v"),
    ]
