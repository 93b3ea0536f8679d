"""An address that goes on answering is never claimed, however long nothing else is heard of its owner."""

from __future__ import annotations

import pytest

from shoal.ownership import State, initial, step, wake_at
from shoal.ownership.events import ArpAnswered, ArpProbe, Effect, Haproxy, Started, TakeVip, Tick, Told
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Desired

ADDRESS = "10.0.0.9"
PEER = Peer(id="b", name="b", rank=2, address="10.0.0.2", mac="02:00:00:00:00:02")
VIP = Vip(
    id="v",
    addresses=(ADDRESS,),
    generation=1,
    owner="b",
    members=("b",),
    succession=("b", "a"),
    list_version=1,
    armed=True,
)


def run(answers_until: float) -> float | None:
    """When engine ``a`` takes the VIP, if its probes are answered until then; None = not within three seconds."""
    state: State = initial()
    now = 100.0
    desired = Desired(timing=Timing(), peers=(PEER,), vips=(VIP,), slots_max=10)
    effects: list[Effect] = []
    for event in (Started("a", 1, "x", {}), Haproxy(up=True), Told(desired)):
        state, effects = step(state, event, now)
    while now < 103.0:
        now = max(wake_at(state, now), now + 0.001)
        state, effects = step(state, Tick(), now)
        if any(isinstance(effect, TakeVip) for effect in effects):
            return now
        if any(isinstance(e, ArpProbe) and ADDRESS in e.addresses for e in effects) and now < answers_until:
            state, _ = step(state, ArpAnswered(ADDRESS, "02:00:00:00:00:02"), now + 0.0005)
    return None


def test_it_is_never_claimed_while_it_answers() -> None:
    assert run(answers_until=200.0) is None


@pytest.mark.parametrize("answers_until", [100.4, 100.6, 101.3])
def test_it_is_claimed_soon_after_the_answers_end(answers_until: float) -> None:
    taken = run(answers_until)
    assert taken is not None
    assert answers_until < taken < answers_until + 0.25


@pytest.mark.parametrize("lost", range(12))
@pytest.mark.parametrize("answer_ms", [0.4, 0.9, 2.0, 5.0])
def test_one_lost_frame_is_not_taken_for_silence(lost: int, answer_ms: float) -> None:
    """Found by exploration: the silence began with an answer, so the last probe in it had no time to be answered."""
    desired = Desired(timing=Timing(), peers=(PEER,), vips=(VIP,), slots_max=10)
    state: State = initial()
    now, probes = 100.0, 0
    answers: list[float] = []
    for event in (Started("a", 1, "x", {}), Haproxy(up=True), Told(desired)):
        state, effects = step(state, event, now)
    while now < 102.0:
        wake = max(wake_at(state, now), now + 0.0001)
        if answers and answers[0] < wake:
            now = answers.pop(0)
            state, effects = step(state, ArpAnswered(ADDRESS, "02:00:00:00:00:02"), now)
        else:
            now = wake
            state, effects = step(state, Tick(), now)
        assert not any(isinstance(effect, TakeVip) for effect in effects), f"taken at {now:.4f}"
        for _ in (e for e in effects if isinstance(e, ArpProbe) and ADDRESS in e.addresses):
            if probes != lost:
                answers.append(now + answer_ms / 1000)
            probes += 1
    assert probes > lost
