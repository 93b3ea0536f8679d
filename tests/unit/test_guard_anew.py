"""Addresses announced anew: each once in a period, and not all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

from shoal.engine.guard.anew import Anew
from shoal.engine.guard.loop import Timer


class Clock:
    """A loop that does nothing but let time pass."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[Timer] = []

    def now(self) -> float:
        return self.time

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, call))
        return self.timers[-1]

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
        self.clock = Clock()
        self.held = {f"vip{number}": ("192.0.2.1",) for number in range(count)}
        self.said: list[tuple[float, str]] = []
        self.anew = Anew(cast(Any, self.clock), self.held, lambda vip: self.said.append((self.clock.time, vip)))

    def in_next(self, seconds: float) -> Counter[str]:
        self.said.clear()
        self.clock.pass_time(seconds)
        return Counter(vip for _, vip in self.said)


def test_each_is_announced_once_a_period_and_never_two_at_a_time() -> None:
    case = Said(1000)
    case.anew.want(300.0)
    assert case.in_next(300.0 + 0.1) == dict.fromkeys(case.held, 1)
    moments = [when for when, _ in case.said]
    assert min(b - a for a, b in pairwise(moments)) > 0.29


def test_what_is_taken_and_given_up_meanwhile() -> None:
    case = Said(3)
    case.anew.want(300.0)
    case.clock.pass_time(110.0)
    del case.held["vip1"]
    case.held["vip9"] = ("192.0.2.9",)
    assert case.in_next(600.0).keys() == {"vip0", "vip2", "vip9"}
    assert case.in_next(300.0) == {"vip0": 1, "vip2": 1, "vip9": 1}
    case.held.clear()
    assert not case.in_next(900.0)
    case.held["vip4"] = ("192.0.2.4",)
    assert case.in_next(700.0)["vip4"] >= 1


def test_nothing_unless_it_is_wanted_and_to_be_told_the_same_again_begins_nothing_anew() -> None:
    case = Said(2)
    assert not case.in_next(3600.0)
    case.anew.want(300.0)
    for _ in range(10):
        case.clock.pass_time(100.0)
        case.anew.want(300.0)
    assert len(case.said) == 6
    case.anew.want(600.0)
    assert case.in_next(1200.1) == {"vip0": 2, "vip1": 2}
    case.anew.want(0.0)
    assert not case.in_next(3600.0)
