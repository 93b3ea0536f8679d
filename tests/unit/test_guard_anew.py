"""Addresses announced anew: each once in a period, and not all at once."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from shoal.engine.guard.anew import Anew
from tests.unit.test_guard_haproxy import Still


class Passing(Still):
    """Its time passes, and what is due is done."""

    def pass_time(self, seconds: float) -> None:
        end = self.time + seconds
        while due := sorted((t for t in self.timers if t.call and t.when <= end), key=lambda t: t.when):
            call, self.time, due[0].call = due[0].call, due[0].when, None
            assert call is not None
            call()
        self.time = end


class Said:
    """``count`` VIPs that are held, and what was said of them: (when, VIP)."""

    def __init__(self, count: int) -> None:
        self.clock = Passing()
        self.held = {f"vip{number}": ("192.0.2.1",) for number in range(count)}
        self.said: list[tuple[float, str]] = []
        self.anew = Anew(cast(Any, self.clock), self.held, lambda vip: self.said.append((self.clock.time, vip)))

    def in_next(self, seconds: float) -> Counter[str]:
        self.said.clear()
        self.clock.pass_time(seconds)
        return Counter(vip for _, vip in self.said)


def test_each_is_announced_once_a_period_and_few_at_a_time() -> None:
    case = Said(1000)
    case.anew.want(300.0)
    assert case.in_next(300.5) == dict.fromkeys(case.held, 1)
    assert max(Counter(when for when, _ in case.said).values()) == 4


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 999), (999, 1), (300, 300)])
def test_what_is_taken_meanwhile_waits_no_longer_than_a_period(before: int, after: int) -> None:
    case = Said(before)
    case.anew.want(300.0)
    case.clock.pass_time(1.5)
    case.held |= {f"new{number}": ("192.0.2.9",) for number in range(after)}
    said = case.in_next(302.0)
    assert set(said) == set(case.held)
    assert case.in_next(300.0).total() == pytest.approx(len(case.held), abs=2)


def test_what_is_given_up_is_not_announced() -> None:
    case = Said(3)
    case.anew.want(300.0)
    case.clock.pass_time(110.0)
    del case.held["vip1"]
    assert case.in_next(600.0).keys() == {"vip0", "vip2"}
    case.held.clear()
    assert not case.in_next(900.0)


def test_nothing_unless_it_is_wanted_and_to_be_told_the_same_again_begins_nothing_anew() -> None:
    case = Said(2)
    assert not case.in_next(3600.0)
    case.anew.want(300.0)
    for _ in range(10):
        case.clock.pass_time(100.0)
        case.anew.want(300.0)
    assert len(case.said) == pytest.approx(6, abs=1)
    case.anew.want(600.0)
    assert case.in_next(1201.0) == {"vip0": 2, "vip1": 2}
    case.anew.want(0.0)
    assert not case.in_next(3600.0)
