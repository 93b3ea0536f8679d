"""What one plan places at once is evened out before it serves (distributed placement)."""

from __future__ import annotations

import random

import msgspec
import pytest

from shoal.placement import Planner, explain, plan
from shoal.placement import level as levelling
from shoal.placement.carry import applied, progressed
from shoal.placement.invariants import violations
from shoal.placement.model import Engine, EngineState, Group, Plan, Snapshot, Vip

DISTRIBUTED = "PLACEMENT_ALGO_DISTRIBUTED"
NOW = 1000.0


def group(engines: int, room: int, *, hosts: int = 0, algo: str = DISTRIBUTED) -> Snapshot:
    """Idle engines, all that the group may have."""
    return Snapshot(
        revision=1,
        group=Group(id="g", name="g", algo=algo, buffer_se=0, max_se=engines, max_vs_per_se=room, ever_used=True),
        engines=tuple(
            Engine(id=f"se-{n}", name=f"se-{n}", rank=n, host=f"h{n % hosts}" if hosts else "", state=EngineState.UP)
            for n in range(engines)
        ),
    )


def wanting(snapshot: Snapshot, *vips: tuple[int, int]) -> Snapshot:
    """(slots, engines) of VIPs more."""
    first = len(snapshot.vips)
    new = (
        Vip(id=f"v{n}", name=f"v{n}", slots=slots, created=float(n), requested=scale, user_factor=scale - 1)
        for n, (slots, scale) in enumerate(vips, first)
    )
    return msgspec.structs.replace(snapshot, vips=(*snapshot.vips, *new))


def loads(snapshot: Snapshot, result: Plan) -> dict[str, int]:
    after, load = applied(snapshot, result), {engine.id: 0 for engine in snapshot.engines}
    for vip in after.vips:
        for placement in vip.placements:
            load[placement.engine] += vip.slots
    return load


def test_two_engines_get_the_same_where_one_after_another_they_would_not() -> None:
    """3, 3, 2, 2, 2 onto two: in turn 7 and 5 (Graham, 1969), at best 6 and 6."""
    snapshot = wanting(group(2, 8), (3, 1), (3, 1), (2, 1), (2, 1), (2, 1))
    result = plan(snapshot, NOW)
    assert loads(snapshot, result) == {"se-0": 6, "se-1": 6}
    assert violations(snapshot, result) == []
    told = [d for d in result.decisions if d.what == "place"]
    assert len(told) == 5, "one decision for each placement, whatever was tried"
    held = {vip.id: [p.engine for p in vip.placements] for vip in result.vips}
    assert all(held[d.vip] == [d.engine] for d in told)
    moved = [d for d in told if "rather than" in d.why]
    assert moved and "no engine so gets to more than 6 of 8 slots, 7 otherwise" in moved[0].why


def test_what_stood_before_is_not_touched() -> None:
    before = wanting(group(2, 8), (3, 1), (2, 1))
    settled = progressed(applied(before, plan(before, NOW)), NOW)
    more = wanting(settled, (3, 1), (2, 1), (2, 1))
    after = applied(more, plan(more, NOW))
    for was, vip in zip(settled.vips, after.vips, strict=False):
        assert vip.placements == was.placements


def test_compact_placement_is_as_it_was() -> None:
    snapshot = wanting(group(2, 8, algo="PLACEMENT_ALGO_PACKED"), (3, 1), (3, 1), (2, 1), (2, 1), (2, 1))
    assert sorted(loads(snapshot, plan(snapshot, NOW)).values()) == [5, 7]


def random_batch(seed: int) -> Snapshot:
    chance = random.Random(seed)
    hosts, engines = chance.randint(3, 6), chance.randint(4, 16)
    snapshot = group(engines, 8, hosts=hosts)
    for _ in range(chance.randint(1, 2)):
        wanted = []
        budget = int(engines * 8 * chance.uniform(0.2, 0.45))
        while budget > 0:
            wanted.append((chance.choice([1, 1, 2, 3, 4]), min(hosts, chance.choice([1, 1, 2, 3]))))
            budget -= wanted[-1][0] * wanted[-1][1]
        last, snapshot = snapshot, wanting(snapshot, *wanted)
        if not last.vips and chance.random() < 0.5:
            snapshot = progressed(applied(snapshot, plan(snapshot, NOW)), NOW)
    return snapshot


@pytest.mark.parametrize("seed", range(40))
def test_it_never_gets_worse_and_every_way_to_plan_says_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = random_batch(seed)
    result = plan(snapshot, NOW)
    assert violations(snapshot, result) == []
    assert Planner(snapshot).plan(NOW) == result, "by change as from scratch"
    mixed = msgspec.structs.replace(
        snapshot, engines=tuple(reversed(snapshot.engines)), vips=tuple(reversed(snapshot.vips))
    )
    assert plan(mixed, NOW) == result
    for vip in snapshot.vips:
        mine = tuple(d for d in result.decisions if d.vip == vip.id)
        assert tuple(r.decision for r in explain.records(snapshot, NOW, vip.id)) == mine
    assert plan(applied(snapshot, result), NOW).empty, "and it stays so"
    monkeypatch.setattr(levelling, "TRIES_MAX", 0)
    assert max(loads(snapshot, result).values()) <= max(loads(snapshot, plan(snapshot, NOW)).values())


def test_some_batches_get_better() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levelling, "TRIES_MAX", 0)
        in_turn = [max(loads(s, plan(s, NOW)).values()) for s in map(random_batch, range(40))]
    evened = [max(loads(s, plan(s, NOW)).values()) for s in map(random_batch, range(40))]
    assert sum(one > other for one, other in zip(in_turn, evened, strict=True)) >= 3
