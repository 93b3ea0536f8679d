"""When the guard asks HAProxy whether it works."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from shoal.engine.guard.haproxy import AGAIN_S, CHECK_MAX_S, CHECK_MIN_S, REQUEST, TIMEOUT_S, HaproxyCheck
from shoal.engine.guard.loop import Timer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Still:
    """A loop whose time is told, and whose reading is done by hand."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[Timer] = []
        self.read: Callable[[], None] | None = None

    def now(self) -> float:
        return self.time

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, call))
        return self.timers[-1]

    def on_readable(self, file: object, call: Callable[[], None]) -> None:
        self.read = call

    def forget(self, file: object) -> None:
        self.read = None


class Asked:
    """A check, and the HAProxy it asks."""

    def __init__(self, folder: Path) -> None:
        self.loop = Still()
        self.news: list[bool] = []
        path = str(folder / "alive.sock")
        self.check = HaproxyCheck(cast(Any, self.loop), path, lambda up, why: self.news.append(up))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.check.awake()  # before it has begun
        self.check.start()
        self.accept()

    def accept(self) -> None:
        self.link, _ = self.listener.accept()
        self.link.setblocking(False)

    def questions(self) -> int:
        try:
            return self.link.recv(4096).count(REQUEST)
        except BlockingIOError:
            return 0

    def answer(self) -> None:
        self.link.sendall(ANSWER)
        assert self.loop.read is not None
        self.loop.read()

    def hang_up(self) -> None:
        self.link.close()
        assert self.loop.read is not None
        self.loop.read()

    def close(self) -> None:
        self.link.close()
        self.listener.close()
        self.check._hang_up()

    def due(self) -> list[float]:
        return [timer.when for timer in self.loop.timers if timer.call is not None]


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    value = Asked(tmp_path)
    yield value
    value.close()


def test_it_asks_with_the_heartbeat_and_not_at_each_of_quick_ones(asked: Asked) -> None:
    assert asked.questions() == 1
    asked.answer()
    assert asked.news == [True]
    assert asked.due() == [100.0 + CHECK_MAX_S]
    for beat in (0.02, 0.04):
        asked.loop.time = 100.0 + beat
        asked.check.awake()
    assert asked.questions() == 0
    asked.loop.time = 100.0 + CHECK_MIN_S
    asked.check.awake()
    asked.check.awake()
    assert asked.questions() == 1
    assert asked.due() == [asked.loop.time + TIMEOUT_S]


def test_an_answer_that_came_while_the_guard_was_at_work_counts(asked: Asked) -> None:
    asked.answer()
    for answers in (True, False):
        asked.loop.time += CHECK_MAX_S
        asked.check.awake()
        overdue = asked.loop.timers[-1].call
        assert overdue is not None
        if answers:
            asked.link.sendall(ANSWER)
        asked.loop.time += 2 * TIMEOUT_S
        overdue()
        assert asked.due()[-1] == (
            asked.loop.time - 2 * TIMEOUT_S + CHECK_MAX_S if answers else asked.loop.time + AGAIN_S
        )
    assert asked.news == [True]


def test_its_end_right_after_an_answer_is_a_death_to_look_into_at_once(asked: Asked) -> None:
    asked.answer()
    asked.loop.time += 0.02
    asked.listener.close()
    asked.hang_up()
    assert asked.due() == [asked.loop.time + AGAIN_S]
    asked.loop.time += AGAIN_S
    again = asked.loop.timers[-1].call
    assert again is not None
    again()
    assert asked.news == [True, False]


def test_one_that_closes_after_each_answer_is_not_asked_all_the_time(asked: Asked) -> None:
    asked.answer()
    asked.hang_up()
    asked.accept()
    assert asked.questions() == 1, "looked into"
    asked.answer()
    asked.hang_up()
    assert asked.due() == [asked.loop.time + CHECK_MAX_S]
    assert asked.news == [True]
