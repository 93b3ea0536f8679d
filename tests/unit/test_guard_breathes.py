"""A guard that takes a thousand VIPs on a slow machine keeps its lease and its heartbeat meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from shoal.engine.guard.guard import Guard
from shoal.ownership import breathe, step
from shoal.ownership import events as on
from shoal.ownership.events import Mode
from shoal.ownership.state import State
from tests.unit.test_ownership_many import MANY, Engine

TAKES_S = 0.001
"""What an address takes here, so that all of them take five times the lease."""


class Slow:
    """A guard whose kernel is slow, and whose lease runs out like a kernel's."""

    def __init__(self, state: State, now: float) -> None:
        self.now, self.renewed = now, 0
        self.until = now + state.timing.lease_ms / 1000
        self.beats: list[float] = []
        guard = self.guard = cast(Any, object.__new__(Guard))
        guard._state = state
        guard.loop = SimpleNamespace(now=lambda: self.now)
        guard._claims = SimpleNamespace(put=lambda claims: None)
        guard._notes = SimpleNamespace(effect=lambda *_: None, failed=lambda *_: None)
        guard._do = self.do

    def do(self, effect: on.Effect) -> bool:
        lease_s = self.guard._state.timing.lease_ms / 1000
        match effect:
            case on.AcquireLease():
                self.until = self.now + lease_s
            case on.RenewLease():
                if self.now >= self.until:
                    return False
                self.until, self.renewed = self.now + lease_s, self.renewed + 1
            case on.TakeVip():
                self.now += TAKES_S
            case on.Send() if isinstance(effect.message, on.Heartbeat):
                self.beats.append(self.now)
            case _:
                pass
        return True


def taking_over() -> tuple[Engine, State, list[on.Effect]]:
    """An engine about to take over all that the other one had, and what it is to do for that."""
    engine = Engine()
    engine.hear_owner()
    engine.state, _ = step(engine.state, on.Session("se-a", False), engine.now)
    while True:
        engine.now += 0.005
        engine.state, effects = step(engine.state, on.Tick(), engine.now)
        if any(isinstance(effect, on.TakeVip) for effect in effects):
            return engine, engine.state, effects


def test_the_lease_outlasts_what_takes_longer() -> None:
    engine, state, effects = taking_over()
    slow = Slow(state, engine.now)
    assert slow.guard._carry_out(effects) is False
    took, lease_s = slow.now - engine.now, state.timing.lease_ms / 1000
    assert took > 4 * lease_s and slow.now < slow.until and slow.renewed >= took / lease_s
    gaps = [b - a for a, b in zip([engine.now, *slow.beats], slow.beats, strict=False)]
    assert max(gaps) <= state.timing.heartbeat_interval_ms / 1000 + 2 * TAKES_S
    after, late = step(slow.guard._state, on.Tick(), slow.now + 0.01)
    assert sum(view.mode is Mode.HELD for view in after.vips.values()) == MANY
    assert not any(isinstance(effect, on.ReleaseVip) for effect in late)


def test_a_freeze_in_the_midst_is_one() -> None:
    """Longer than the lease at one stretch: nothing is renewed, and the next step gives up all that lapsed."""
    engine, state, _ = taking_over()
    later = engine.now + state.timing.lease_ms / 1000 + 0.001
    assert breathe(state, later) == (state, [])
    after, effects = step(state, on.Tick(), later)
    assert not any(view.mode is Mode.HELD for view in after.vips.values())
    assert sum(isinstance(effect, on.ReleaseVip) for effect in effects) == MANY


def test_nothing_is_concluded_between_breaths() -> None:
    engine, state, _ = taking_over()
    after, effects = breathe(state, engine.now + state.timing.heartbeat_interval_ms / 1000)
    assert after.vips is state.vips and after.peers is state.peers
    assert [type(effect) for effect in effects] == [on.RenewLease, on.Send]
