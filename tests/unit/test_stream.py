"""Server-sent events: what has changed is told, together, to whoever is there; nothing queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from starlette.types import Message

from shoal.api import stream
from tests.api_world import World, api_world


class Listener:
    """A client of the stream that reads when it is told to."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.gone = asyncio.Event()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._lines.put_nowait(message["body"])

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def topics(self) -> list[str]:
        async with asyncio.timeout(5):
            while True:
                piece = await self._lines.get()
                if piece.startswith(b"event: changed\ndata: "):
                    found: list[str] = msgspec.json.decode(piece.split(b"data: ", 1)[1])["topics"]
                    return found

    @property
    def waiting(self) -> int:
        return self._lines.qsize()


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[Listener]:
    listener = Listener()
    cookies = "; ".join(f"{name}={value}" for name, value in world.client.cookies.items())
    scope = {"type": "http", "method": "GET", "path": "/api/stream", "query_string": b"", "client": ("10.0.0.1", 1)}
    scope |= {"headers": [(b"cookie", cookies.encode())]}
    task = asyncio.create_task(world.app(scope, listener.receive, listener.send))
    try:
        yield listener
    finally:
        listener.gone.set()
        async with asyncio.timeout(5):
            await task


async def test_changes_are_told_by_their_topics(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world, listening(world) as listener:
        assert await listener.topics() == ["*"]
        assert listener.headers["content-type"].startswith("text/event-stream")
        await world.service()
        assert {"pool", "virtualservice", "vsvip"} <= set(await listener.topics())
        world.runtime.scale += 1
        assert await listener.topics() == ["events"]


async def test_a_slow_reader_costs_one_set_of_topics(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        reader = stream.Reader()
        for _ in range(10_000):
            reader.tell("pool")
        assert await reader.next() == ["*", "pool"]
        async with listening(world) as listener:
            await listener.topics()
            for number in range(30):
                await world.post("/api/pool", {"name": f"p-{number}"})
            await asyncio.sleep(2 * stream.GATHER_S)
            assert listener.waiting < 10


async def test_streams_are_bounded_and_end_with_their_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAMS_OF_A_USER_MAX", 1)
    async with api_world(tmp_path) as world:
        async with listening(world) as listener:
            await listener.topics()
            assert "Too many streams" in (await world.get("/api/stream", 503))["error"]
        async with listening(world) as listener:
            assert await listener.topics() == ["*"]


async def test_a_stream_ends_so_that_the_session_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STREAM_S_MAX", 0.2)
    async with api_world(tmp_path) as world:
        reply = await world.client.get("/api/stream")
        assert reply.status_code == 200
        assert (await world.stranger().get("/api/stream")).status_code == 401
