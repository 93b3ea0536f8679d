"""``GET /api/stream``: what has changed, as it changes, as server-sent events.

::

    event: changed
    data: {"topics": ["virtualservice", "placements"]}

A topic is an object type, or ``placements`` (who serves what, and how), ``engines`` (their states), ``events`` (the log).
It says that something of the kind is another one now, and not what: whoever is shown it asks for it with the rights they
have. The first event names every topic. Nothing queues: what changes while a reader is slow is one set of topics.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal.controller.view import View
from shoal.errors import NotReady

from .context import Context

STREAMS_MAX = 500
STREAMS_OF_A_USER_MAX = 50
LOOK_INTERVAL_S = 0.4
"""Runtime is looked at this often while anybody is there to be told."""
GATHER_S = 0.15
"""What changes within it is told together."""
SILENCE_S_MAX = 15.0
"""Then a comment is sent, so that a dead connection is noticed."""
STREAM_S_MAX = 600.0
"""Then it ends; browsers come again by themselves, and who may no longer read is told so."""
SEND_WITHIN_S = 10.0
ALL = "*"


class Reader:
    """One stream's pending topics."""

    def __init__(self) -> None:
        self._topics: set[str] = {ALL}
        self._some = asyncio.Event()
        self._some.set()

    def tell(self, topic: str) -> None:
        self._topics.add(topic)
        self._some.set()

    async def next(self) -> list[str]:
        """Raises TimeoutError after `SILENCE_S_MAX` without any."""
        async with asyncio.timeout(SILENCE_S_MAX):
            await self._some.wait()
        await asyncio.sleep(GATHER_S)
        self._some.clear()
        topics, self._topics = self._topics, set()
        return sorted(topics)


class Streams:
    """``pulse()`` gives, by topic, something that is unequal to what it was when the topic has changed."""

    def __init__(self, view: View, pulse: Callable[[], Mapping[str, Any]]) -> None:
        self._view = view
        self._pulse = pulse
        self._readers: dict[Reader, str] = {}
        self._looking: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    async def answer(self, context: Context) -> Response:
        """Raises NotReady beyond the bounds."""
        user = context.caller.user
        if len(self._readers) >= STREAMS_MAX or list(self._readers.values()).count(user) >= STREAMS_OF_A_USER_MAX:
            raise NotReady("Too many streams are open.", hint="Close a few of the console's windows.")
        return Stream(self, user)

    def enter(self, reader: Reader, user: str) -> None:
        self._readers[reader] = user
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name="streams")
            self._unsubscribe = self._view.subscribe(lambda type, uuid, document: self._tell(type))

    async def leave(self, reader: Reader) -> None:
        self._readers.pop(reader, None)
        if not self._readers and self._looking is not None:
            looking, self._looking = self._looking, None
            self._unsubscribe()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def _tell(self, topic: str) -> None:
        for reader in self._readers:
            reader.tell(topic)

    async def _look_on(self) -> None:
        before = self._pulse()
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            now = self._pulse()
            for topic, value in now.items():
                if value != before.get(topic):
                    self._tell(topic)
            before = now


class Stream(Response):
    media_type = "text/event-stream"

    def __init__(self, streams: Streams, user: str) -> None:
        super().__init__(media_type=self.media_type)
        del self.headers["content-length"]
        self._streams = streams
        self._user = user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = Reader()
        self._streams.enter(reader, self._user)
        sending = asyncio.create_task(self._send(send, reader))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, timeout=STREAM_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if not (sending.done() or gone.done()):
                await _piece(send, b"", more=False)
        finally:
            await self._streams.leave(reader)
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send(self, send: Send, reader: Reader) -> None:
        with contextlib.suppress(OSError, ClientDisconnect, TimeoutError):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await _piece(send, b"retry: 2000\n\n")
            while True:
                await _piece(send, await _line(reader))


async def _line(reader: Reader) -> bytes:
    try:
        topics = await reader.next()
    except TimeoutError:
        return b": still here\n\n"
    return b"event: changed\ndata: " + msgspec.json.encode({"topics": topics}) + b"\n\n"


async def _piece(send: Send, data: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(SEND_WITHIN_S):
        await send({"type": "http.response.body", "body": data, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
