"""The shortest part of a history that still breaks the same rule (delta debugging: Zeller and Hildebrandt, 2002)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
Breaks = Callable[[list[_T]], bool]
TAIL_FIRST = 16


def shrunk(events: Sequence[_T], breaks: Breaks[_T], more: Callable[[], bool] = lambda: True) -> list[_T]:
    """``events`` without those that can be left out one by one, and in runs; ``breaks`` says whether a list still
    does it, ``more`` whether there is time for another try. Never longer than ``events``, which must break."""
    return _without(_tail(list(events), breaks, more), breaks, more)


def _tail(events: list[_T], breaks: Breaks[_T], more: Callable[[], bool]) -> list[_T]:
    """What led there is mostly near the end."""
    size = TAIL_FIRST
    while size < len(events) and more():
        if breaks(events[-size:]):
            return events[-size:]
        size *= 2
    return events


def _without(events: list[_T], breaks: Breaks[_T], more: Callable[[], bool]) -> list[_T]:
    size = max(1, len(events) // 2)
    while True:
        start, fewer = 0, False
        while start < len(events) and more():
            rest = events[:start] + events[start + size :]
            if breaks(rest):
                events, fewer = rest, True
            else:
                start += size
        if not more() or (size == 1 and not fewer):
            return events
        size = max(1, size // 2)
