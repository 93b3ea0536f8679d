"""What is said to help does: applied to random stuck groups it works, and no smaller change of that field would."""

from __future__ import annotations

import random
import re

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal.placement import plan
from shoal.placement.carry import applied, progressed
from shoal.placement.model import Plan, Request, RequestKind, Snapshot
from shoal.placement.remedy import Remedy, helped, remedies, remedies_for_all
from tests.property.test_placement import History

ROUNDS_MAX = 30
seeds = st.integers(min_value=0, max_value=2**32)


def crowded(seed: int) -> tuple[Snapshot, float]:
    """A group that has had a hard time: too many VIPs, engines lost and disabled, creation failing."""
    history = History(seed)
    world, chance = history.world, random.Random(seed)
    for _ in range(chance.randint(2, 12)):
        chance.choice([history.add, history.add, history.add, history.fail, history.disable, history.edit])()
        history.half_way()
    late = chance.random() < 0.25
    world.group = msgspec.structs.replace(
        world.group,
        max_se=max(0, min(world.group.max_se, world.count() + chance.choice([-1, 0, 0, 1]))),
        create_retry_at=world.now + 300 if late else 0.0,
        per_app=chance.random() < 0.1,
    )
    for _ in range(chance.randint(0, 4)):
        history.add()
    world.requests.clear()
    for _ in range(3):
        world.step()
        world.progress()
    return world.snapshot(), world.now


def failed(result: Plan, vip: str) -> bool:
    return any(d.what == "none" and d.vip == vip for d in result.decisions)


def stuck_after_all(snapshot: Snapshot, now: float, vip: str) -> bool:
    """Whether the VIP is stuck when all is carried out and engines have come up."""
    for _ in range(ROUNDS_MAX):
        result = plan(snapshot, now)
        after = progressed(applied(snapshot, result), now)
        if after == snapshot:
            return failed(result, vip)
        snapshot = after
    return failed(plan(snapshot, now), vip)


def smaller(snapshot: Snapshot, remedy: Remedy) -> list[Remedy]:
    """Every smaller change of the same field."""
    if not isinstance(remedy.value, int) or remedy.field == "retry":
        return []
    now = 0 if remedy.field == "engines" else getattr(snapshot.group, remedy.field)
    between = range(now + 1, remedy.value) if remedy.value > now else range(remedy.value + 1, now)
    return [Remedy(field=remedy.field, value=value) for value in between]


tried: list[str] = []


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seeds)
@example(1)
def test_a_remedy_works_and_no_smaller_one_does(seed: int) -> None:
    snapshot, now = crowded(seed)
    result = plan(snapshot, now)
    stuck = [vip.id for vip in snapshot.vips if failed(result, vip.id)]
    for vip in stuck:
        for remedy in remedies(snapshot, vip, now):
            tried.append(remedy.field)
            assert not failed(plan(helped(snapshot, remedy, now), now), vip), remedy
            if remedy.field != "retry":  # which may fail once more
                assert not stuck_after_all(helped(snapshot, remedy, now), now, vip), remedy
            for less in smaller(snapshot, remedy):
                assert failed(plan(helped(snapshot, less, now), now), vip), less
    for remedy in remedies(snapshot, "", now):
        tried.append(f"buffer {remedy.field}")
        assert plan(helped(snapshot, remedy, now), now).buffer.kept, remedy
        for less in smaller(snapshot, remedy):
            assert not plan(helped(snapshot, less, now), now).buffer.kept, less
    for remedy in remedies_for_all(snapshot, now):
        after = plan(helped(snapshot, remedy, now), now)
        assert not any(failed(after, vip) for vip in stuck), remedy
    if not stuck:
        assert all(not remedies(snapshot, vip.id, now) for vip in snapshot.vips)


def test_every_kind_of_remedy_was_tried() -> None:
    """Or the test above proves less than it says."""
    kinds = {"max_se", "max_vs_per_se", "enable_state", "engines", "retry"}
    assert kinds <= set(tried), kinds - set(tried)
    assert {"buffer max_se", "buffer buffer_se", "buffer engines"} <= set(tried)


ways: list[str] = []


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seeds)
@example(930)  # a move to another engine of the host it leaves was called a breach of host redundancy
def test_what_a_refused_operation_says_would_help_does_and_no_less(seed: int) -> None:
    snapshot, now = crowded(seed)
    chance = random.Random(seed)
    if not snapshot.vips:
        return
    kind = chance.choice([RequestKind.SCALE_OUT, RequestKind.MIGRATE])
    vip = chance.choice(snapshot.vips).id
    asked = Request(id="r", kind=kind, vip=vip, at=now, to_new=chance.random() < 0.3)
    snapshot = msgspec.structs.replace(snapshot, requests=(asked,))

    def answer(world: Snapshot) -> str:
        """The refusal; "" when it goes on."""
        return next((r.message for r in plan(world, now).results if r.request == "r" and not r.ok), "")

    refusal = answer(snapshot)
    first, also, rest = refusal.partition(" Then it still needs room")
    for field, value in advice(first):
        if also:  # one after the other
            snapshot = helped(snapshot, Remedy(field=field, value=value), now)
            assert answer(snapshot), refusal
    for field, value in advice(rest if also else first):
        ways.append(field)
        before = 0 if field == "engines" else getattr(snapshot.group, field)
        assert answer(helped(snapshot, Remedy(field=field, value=value), now)) == "", refusal
        for less in range(before + 1, value):
            assert answer(helped(snapshot, Remedy(field=field, value=less), now)), (refusal, less)


def advice(text: str) -> list[tuple[str, int]]:
    """``Raise max_se to 5, or add an engine by hand.`` -> fields and values"""
    found = [(field, int(value)) for field, value in re.findall(r"[Rr]aise (\w+) to (\d+)", text)]
    return found + ([("engines", 1)] if "dd an engine by hand" in text else [])


def test_every_kind_of_advice_was_tried() -> None:
    assert {"max_se", "max_vs_per_se", "max_scaleout_per_vs", "engines"} <= set(ways)
