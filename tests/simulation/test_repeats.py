"""Heartbeats that repeat themselves are not stepped on one by one, and it comes to the same."""

from __future__ import annotations

import pytest

from shoal.simulator.history import Shape
from shoal.simulator.ownership_world import World, encoded
from shoal.simulator.trial import drawn
from tests.simulation.test_ownership_world import Chaos, build


def played(seed: int, loss: float) -> tuple[list[str], list[bytes]]:
    world = build(seed, loss)
    chaos = Chaos(world, seed)
    for turn in range(25):
        chaos.once()
        world.run(world.random.choice((0.0, 0.0005, 0.003, 0.1, 0.4)))
        if turn == 15:
            chaos.heal()
    world.run(1.0)
    for engine in world.engines.values():
        engine.state = engine.repeats.entered(engine.state, world.now)
    return world.log, [encoded(engine.state) for engine in world.engines.values()]


@pytest.mark.parametrize("seed", range(30))
def test_every_state_is_the_one_that_each_step_alone_would_have_left(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = 0.05 if seed % 3 == 0 else 0.0
    found = played(seed, loss)
    monkeypatch.setattr(World, "eager", True)
    assert played(seed, loss) == found


def test_a_whole_history_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn(3, Shape(), 150)
    monkeypatch.setattr(World, "eager", True)
    again = drawn(3, Shape(), 150)
    assert (again.digest, again.events) == (found.digest, found.events)
