"""Ownership explored exhaustively, within budgets of faults; and faulty machines, to show that the search can fail.

A violation is printed as the shortest path to it. ``python -m shoal.simulator.explore --json`` prints the counts.
"""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from shoal.ownership import step
from shoal.ownership.events import (
    Effect,
    Event,
    Heard,
    Heartbeat,
    Mode,
    PersistClaim,
    RenewLease,
    Send,
    Started,
    TakeVip,
    Tell,
    Told,
)
from shoal.ownership.state import NEVER, State
from shoal.simulator import ownership_world
from shoal.simulator.calm import components
from shoal.simulator.canonical import LATENESS_S, at_rest
from shoal.simulator.explore import Result, explore, line
from shoal.simulator.explored_engine import Step
from shoal.simulator.explored_scenarios import ARMED, FIRST, SCENARIOS, UNARMED, USUAL, Scenario
from shoal.simulator.explored_world import Budget
from shoal.wire.desired import Timing
from shoal.wire.guard import Desired

Stepped = tuple[State, list[Effect]]


@pytest.mark.timeout(900)  # half a minute of computing at most; wall-clock time on a busy machine is another matter
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_every_interleaving_keeps_the_promises(scenario: Scenario) -> None:
    result = explore(scenario)
    print(line(result))
    assert not result.violation, result.violation
    assert not result.truncated, f"only {result.states} states were seen: {line(result)}"


def test_a_truncated_run_says_so() -> None:
    assert explore(SCENARIOS[0], states_max=100).truncated


def test_a_run_is_repeated_to_the_last_state() -> None:
    scenario = next(s for s in SCENARIOS if s.name == "late letters")
    assert explore(scenario) == explore(scenario)


# --- faulty machines ---


def found(budget: Budget, faulty: Step, plans: tuple[Desired, ...] = (USUAL,)) -> Result:
    """In a scenario that the real machine passes."""
    scenario = Scenario(name="mutant", plans=plans, budget=budget, deep=budget)
    sound = explore(scenario)
    assert not sound.violation and not sound.truncated, sound.violation
    return explore(scenario, step=faulty)


def test_kernels_that_grant_more_than_the_machine_believes_are_found_out() -> None:
    """With fast heartbeats: of the usual ones more than two probes would have to be lost. (The real machine passes this, in 40 s.)"""
    fast = replace(USUAL, timing=Timing(heartbeat_interval_ms=25, heartbeat_misses=3, lease_ms=50))
    budget = Budget(freezes=1, losses=2)
    scenario = Scenario(name="mutant", plans=(fast,), budget=budget, deep=budget)
    assert "both answer for" in explore(scenario, lease_ms=110).violation


def test_a_claim_without_probing_is_found_out() -> None:
    def hasty(state: State, event: Event, now: float) -> Stepped:
        vips = {k: replace(v, asked_at=NEVER, answered_at=NEVER) for k, v in state.vips.items()}
        return step(replace(state, vips=vips), event, now)

    assert "both answer for" in found(Budget(freezes=1, resets=1), hasty).violation


def test_a_lower_claim_that_does_not_yield_is_found_out() -> None:
    def stubborn(state: State, event: Event, now: float) -> Stepped:
        if isinstance(event, Heard) and isinstance(event.message, Heartbeat):
            mine = {k for k, v in state.vips.items() if v.mode is Mode.HELD}
            entries = tuple(e for e in event.message.entries if e.vip not in mine)
            event = Heard(replace(event.message, entries=entries))
        return step(state, event, now)

    assert "both answer for" in found(Budget(isolations=1), stubborn).violation


def test_a_claim_that_is_not_on_disk_is_found_out() -> None:
    def forgetful(state: State, event: Event, now: float) -> Stepped:
        state, effects = step(state, event, now)
        return state, [e for e in effects if not isinstance(e, PersistClaim)]

    assert "its disk has None" in explore(SCENARIOS[0], step=forgetful).violation


def test_acting_on_a_list_that_is_not_armed_is_found_out() -> None:
    def rash(state: State, event: Event, now: float) -> Stepped:
        if isinstance(event, Told):
            vips = tuple(replace(v, armed=True) for v in event.desired.vips)
            event = Told(replace(event.desired, vips=vips))
        return step(state, event, now)

    assert "armed list" in found(Budget(kills=1), rash, plans=(FIRST, UNARMED, ARMED)).violation


def test_equal_ranks_are_found_out() -> None:
    def nameless(state: State, event: Event, now: float) -> Stepped:
        return step(state, replace(event, rank=1) if isinstance(event, Started) else event, now)

    assert "by the same Claim" in found(Budget(kills=1, isolations=1), nameless).violation


def test_speaking_without_a_renewal_is_found_out() -> None:
    """Calm never comes: the kernel's lease ends under an engine that believes it holds the VIP."""

    def idle(state: State, event: Event, now: float) -> Stepped:
        state, effects = step(state, event, now)
        return state, [e for e in effects if not isinstance(e, RenewLease)]

    assert "calm" in explore(SCENARIOS[0], step=idle).violation


def test_a_takeover_that_does_not_come_is_found_out() -> None:
    def shy(state: State, event: Event, now: float) -> Stepped:
        state, effects = step(state, event, now)
        takes_over = any(isinstance(e, TakeVip) for e in effects) and state.engine == "C"
        return state, [e for e in effects if not (takes_over and isinstance(e, TakeVip))]

    assert "never calm for good" in found(Budget(kills=2), shy).violation


# --- the forms that the search rests on ---


@pytest.mark.parametrize("seed", range(3))
def test_a_canonical_state_behaves_as_the_state_it_stands_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a random simulation is repeated from the canonical form, in its own time."""
    compared = 0

    def twice(state: State, event: Event, now: float) -> Stepped:
        nonlocal compared
        if state.stepped_at != NEVER:
            late, age = now + LATENESS_S, now - state.stepped_at + LATENESS_S
            after, effects = step(state, event, late)
            again, repeated = step(at_rest(state, state.stepped_at), event, age)
            assert at_rest(again, age) == at_rest(after, late)
            assert [plain(e) for e in repeated] == [plain(e) for e in effects]
            compared += 1
        return step(state, event, now)

    def plain(effect: Effect) -> object:
        """But for words with milliseconds in them."""
        if isinstance(effect, Tell):
            return (effect.ownership.vip, effect.ownership.owner, effect.ownership.claim)
        return (effect.message, effect.to) if isinstance(effect, Send) else effect

    monkeypatch.setattr(ownership_world, "step", twice)
    chance = random.Random(seed)
    world = ownership_world.World(("A", "B", "C"), delay_s=(0.000237, 0.000237))  # on no timer's instant
    for name in world.engines:
        world.start(name)
        world.tell(name, USUAL)
    for _ in range(200):
        world.run(chance.choice((0.013311, 0.100713, 0.400171)))
        name = chance.choice("ABC")
        engine = world.engines[name]
        match chance.choice(("life", "link", "haproxy", "cut")):
            case "life":
                (world.kill if engine.running else world.start)(name)
            case "link":
                world.link(name, not engine.link)
            case "haproxy":
                world.set_haproxy(name, not engine.haproxy)
            case "cut":
                world.cut("A", "B", not world.cuts)
    assert compared > 500


def test_components_come_after_what_they_lead_to() -> None:
    edges = [[(1, 1)], [(2, 1), (3, 1)], [(1, 1)], [(3, 1)], [(0, 1), (3, 1)]]
    assert [sorted(group) for group in components(edges)] == [[3], [1, 2], [0], [4]]
