"""A new owner asks all engines that may have connections, those too that come to the spread while it asks."""

from __future__ import annotations

import heapq
import socket
from collections.abc import Callable, Iterable
from typing import Any, cast

from shoal.engine.guard.exchange import ASK_S_MIN, Exchange, Flows, FlowsWanted
from shoal.engine.guard.loop import Loop
from shoal.engine.guard.sockets import Carried, Flow, Sockets
from shoal.engine.guard.spread import Spreader
from shoal.ownership.events import Spread

ADDRESS = "10.2.0.1"


class Time:
    """Stands for a guard's `Loop`."""

    def __init__(self) -> None:
        self._now, self._queue, self._order = 0.0, list[tuple[float, int, Callable[[], None]]](), 0

    def now(self) -> float:
        return self._now

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (when, self._order, what))

    def run(self, seconds: float) -> None:
        end = self._now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heapq.heappop(self._queue)
            self._now = max(self._now, when)
            what()
        self._now = end


class Kernel:
    """Stands for `Sockets` and `Spreader` of the engine that asks: it has no connections of its own."""

    def __init__(self) -> None:
        self.over: Spread | None = None
        self.loaded: dict[str, str] = {}
        """Client -> engine."""
        self.settlements = 0

    def list(self, address: str, on_piece: Callable[[list[Flow]], None], on_end: Callable[[], None]) -> None:
        on_end()

    def spread(self, vip: str) -> Spread | None:
        return self.over

    def load(self, address: str, engine: str, flows: Iterable[tuple[str, int, int]], idle_s: int) -> None:
        self.loaded |= {client: engine for client, _, _ in flows}

    def settle(self, vip: str) -> None:
        self.settlements += 1


class Asking:
    """Engine ``a``; each of the others has one connection, of a client with its address."""

    def __init__(self) -> None:
        self.time, self.kernel = Time(), Kernel()
        self.asked: list[str] = []
        self.exchange = Exchange(
            cast(Loop, self.time),
            "a",
            cast(Sockets, self.kernel),
            (cast(Carried, self.kernel),),
            cast(Spreader, self.kernel),
            self._send,
            lambda: 600,
        )

    def spread(self, *members: str) -> tuple[str, ...]:
        self.kernel.over = Spread("v", (ADDRESS,), ("a", *members), ())
        return ("a", *members)

    def _send(self, message: Any, to: str) -> None:
        assert isinstance(message, FlowsWanted)
        self.asked.append(to)
        client = socket.inet_aton(f"10.9.0.{ord(to)}") + (4000).to_bytes(2, "big") + (80).to_bytes(2, "big")
        answer = Flows(to, "v", ADDRESS, message.turn, 0, 1, client)
        self.time.at(self.time.now() + 0.001, lambda: self.exchange.hear(answer))


def test_who_joins_while_others_are_asked_is_asked_too() -> None:
    asking = Asking()
    asking.exchange.begin("v", (ADDRESS,), asking.spread("b"))
    asking.time.run(0.02)
    asking.exchange.join("v", asking.spread("b", "c"))
    asking.time.run(ASK_S_MIN + 0.5)
    assert asking.kernel.settlements == 1
    assert asking.kernel.loaded == {"10.9.0.98": "b", "10.9.0.99": "c"}


def test_who_joins_in_the_last_round_has_two_all_the_same() -> None:
    asking = Asking()
    asking.exchange.begin("v", (ADDRESS,), asking.spread("b"))
    asking.time.run(ASK_S_MIN + 0.05)  # the second round is under way
    assert asking.kernel.settlements == 0
    asking.exchange.join("v", asking.spread("b", "c"))
    asking.time.run(0.5)
    assert asking.kernel.settlements == 1
    assert asking.asked.count("c") == 2


def test_nobody_is_asked_once_all_is_known() -> None:
    asking = Asking()
    asking.exchange.begin("v", (ADDRESS,), asking.spread("b"))
    asking.time.run(ASK_S_MIN + 0.5)
    assert asking.kernel.settlements == 1
    asking.exchange.join("v", asking.spread("b", "c"))
    assert "c" not in asking.asked
