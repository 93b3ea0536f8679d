"""The controller's planners: kept, held against plans from scratch, and not believed when they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from shoal.controller.planning import CHECKS_SHARE_MAX, Planning
from shoal.placement import Planner, plan
from tests.scenarios.world import World


class Around:
    """A clock whose monotonic time each reading takes a second of, and events that are noted."""

    def __init__(self) -> None:
        self.time = 0.0
        self.told: list[tuple[str, str]] = []
        self.planning = Planning(cast(Any, self), cast(Any, self))

    def monotonic(self) -> float:
        self.time += 1.0
        return self.time

    def add(self, name: str, detail: str, *, level: str, serviceenginegroup: str) -> None:
        self.told.append((name, detail))


def small() -> World:
    world = World(max_vs_per_se=3, max_se=9)
    world.add("V1", "V2", "V3", "V4")
    return world


def test_plans_are_those_from_scratch() -> None:
    around, world = Around(), small()
    changes: list[Callable[[], None]] = [
        lambda: world.put("V5"),
        lambda: world.fail("SE1", settle=False),
        lambda: world.edit(buffer_se=0),
    ]
    for change in changes:
        change()
        snapshot = world.snapshot()
        assert around.planning.plan(snapshot, world.now) == plan(snapshot, world.now)
    assert around.told == []


def test_a_wrong_plan_is_told_of_and_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    around, world = Around(), small()
    around.planning.plan(world.snapshot(), world.now)
    world.put("V5")
    snapshot = world.snapshot()
    around.time += 2 / CHECKS_SHARE_MAX
    with monkeypatch.context() as broken:
        broken.setattr("shoal.placement.standing.Standing.in_question", lambda self, now: {})
        assert around.planning.plan(snapshot, world.now) == plan(snapshot, world.now)
    assert [name for name, _ in around.told] == ["INVARIANT_BROKEN"]
    assert "g was made from scratch" in around.told[0][1]


def test_a_planner_that_fails_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    around, world = Around(), small()

    def fails(self: Planner, now: float) -> None:
        raise KeyError("V9")

    with monkeypatch.context() as broken:
        broken.setattr(Planner, "plan", fails)
        assert around.planning.plan(world.snapshot(), world.now) == plan(world.snapshot(), world.now)
    assert len(around.told) == 1
    world.put("V5")
    assert around.planning.plan(world.snapshot(), world.now).vips
    assert len(around.told) == 1


def test_checks_take_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    around, world = Around(), small()
    checked: list[float] = []

    def noted(snapshot: Any, now: float) -> Any:
        checked.append(around.time)
        return plan(snapshot, now)

    monkeypatch.setattr("shoal.controller.planning.plan", noted)
    while around.time < 3 / CHECKS_SHARE_MAX:
        around.planning.plan(world.snapshot(), world.now)
    assert len(checked) == 3
