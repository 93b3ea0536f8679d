"""The connection of an engine and a controller, in memory: ordered, with a delay, and cuttable without a word."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Generic, TypeVar

from shoal.wire.channel import ChannelClosed
from shoal.wire.messages import FromController, FromEngine

DELAY_S = 0.0005
NETWORK = Context()
"""What is under way arrives, whether or not who sent it still runs."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class End(Generic[_In, _Out]):
    """One end: a `shoal.controller.fleet.Link`, or its counterpart on the engine."""

    def __init__(self, wire: _Wire, way: _Way) -> None:
        self._wire = wire
        self._way = way
        """To the other end."""
        self._arrived: asyncio.Queue[_In | None] = asyncio.Queue()
        self.other: End[_Out, _In]

    async def send(self, message: _Out) -> None:
        self.say(message)
        await asyncio.sleep(0)

    def say(self, message: _Out) -> None:
        """As `send`, from code that is not to wait. Raises ChannelClosed."""
        if self._wire.closed:
            raise ChannelClosed("the link is closed")
        self._way.carry(lambda: self.other.arrive(message))

    async def receive(self) -> _In:
        """Raises ChannelClosed once the other end has closed and all it said was read."""
        message = await self._arrived.get()
        if message is None:
            self._arrived.put_nowait(None)
            raise ChannelClosed("the other end closed the link")
        return message

    async def close(self) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Both ends notice, unless the wire is cut."""
        if not self._wire.closed:
            self._way.carry(self.other.hear_the_end)
            self._wire.closed = True
        self.hear_the_end()

    def arrive(self, message: _In) -> None:
        self._arrived.put_nowait(message)

    def hear_the_end(self) -> None:
        self._arrived.put_nowait(None)


class _Wire:
    def __init__(self) -> None:
        self.closed = False


class _Way:
    """One direction. While it is cut, what is sent waits, as TCP would send it again."""

    def __init__(self) -> None:
        self.cut = False
        self._waiting: list[Callable[[], None]] = []
        self._under_way: deque[Callable[[], None]] = deque()

    def carry(self, what: Callable[[], None]) -> None:
        if self.cut:
            self._waiting.append(what)
        else:
            self._under_way.append(what)  # the loop does not promise to keep the order of what is due at one moment
            asyncio.get_running_loop().call_later(DELAY_S, self._deliver, context=NETWORK)

    def lose(self) -> None:
        """What is under way is gone."""
        self._waiting.clear()
        self._under_way = deque([_nothing] * len(self._under_way))

    def heal(self) -> None:
        self.cut = False
        waiting, self._waiting = self._waiting, []
        for what in waiting:
            self.carry(what)

    def _deliver(self) -> None:
        self._under_way.popleft()()


def _nothing() -> None: ...


class Connection:
    """``engine`` and ``controller`` are its ends."""

    def __init__(self) -> None:
        wire = self._wire = _Wire()
        self._to_engine, self._to_controller = _Way(), _Way()
        self.engine: End[FromController, FromEngine] = End(wire, self._to_controller)
        self.controller: End[FromEngine, FromController] = End(wire, self._to_engine)
        self.engine.other, self.controller.other = self.controller, self.engine

    @property
    def closed(self) -> bool:
        return self._wire.closed

    def cut(self, *, to_engine: bool = True, to_controller: bool = True) -> None:
        """From now on nothing arrives that way, and nobody is told; until `heal`."""
        self._to_engine.cut = self._to_engine.cut or to_engine
        self._to_controller.cut = self._to_controller.cut or to_controller

    def reset(self) -> None:
        """It breaks: what is under way is lost, and both ends are told."""
        self._to_engine.lose()
        self._to_controller.lose()
        self.engine.hang_up()
        self.controller.hang_up()

    def heal(self) -> None:
        self._to_engine.heal()
        self._to_controller.heal()
