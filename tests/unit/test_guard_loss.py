"""Measured loss decides how long a silence must be to mean death."""

from __future__ import annotations

import random

from shoal.engine.guard.loss import MISSES_MAX, MISSES_MIN, Loss


def heard(share: float, count: int = 600, seed: int = 1) -> Loss:
    chance, loss = random.Random(seed), Loss()
    for number in range(1, count):
        if chance.random() >= share:
            loss.hear(number, number * 0.1)
    return loss


def test_a_clean_network_needs_the_least() -> None:
    assert heard(0.0).misses == MISSES_MIN


def test_the_more_is_lost_the_more_must_be_missing() -> None:
    counts = [heard(share).misses for share in (0.0, 0.1, 0.3, 0.5)]
    assert counts == sorted(counts)
    assert 0.3 ** counts[2] < 1e-3
    assert heard(0.9).misses <= MISSES_MAX


def test_it_falls_back_when_the_network_is_clean_again() -> None:
    loss = heard(0.3)
    for number in range(1_000, 1_400):
        loss.hear(number, number * 0.1)
    assert loss.misses <= MISSES_MIN + 1


def test_an_interruption_and_a_restart_are_no_loss() -> None:
    loss = heard(0.0, 100)
    loss.hear(500, 60.0)  # a long cut
    loss.hear(1, 60.1)  # began anew
    loss.hear(2, 60.2)
    assert loss.misses == MISSES_MIN


def test_one_that_was_overtaken_makes_cautious_for_a_while() -> None:
    loss = heard(0.0, 100)
    for number in (101, 100, *range(102, 160)):
        loss.hear(number, 10.0 + number * 0.1)
        assert loss.misses <= 2 * MISSES_MIN
    assert loss.misses <= MISSES_MIN + 1
