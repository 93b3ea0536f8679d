"""The REST face of `tests.api_world` behind real TLS on loopback, in a thread of its own: its clients block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from starlette.types import Receive, Scope, Send

from shoal.api.app import App
from shoal.api.server import Served, listen, serve
from shoal.controller.pki import Authority
from tests.api_world import World, api_world

READY_WITHIN_S = 20.0
STOP_WITHIN_S = 3.0
T = TypeVar("T")


class _Gate:
    """Lets requests through while it is ``open``."""

    def __init__(self, app: App, arrived: threading.Event) -> None:
        self._app = app
        self._arrived = arrived
        self.open = asyncio.Event()
        self.open.set()
        self.requests: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.requests.append(f"{scope['method']} {scope['path']}")
        if not self.open.is_set():
            self._arrived.set()
            await self.open.wait()
        await self._app(scope, receive, send)


class Controller:
    """``graceful`` tells, after the stop, whether the server ended in time."""

    def __init__(self, directory: Path, made: Callable[[Path], AbstractAsyncContextManager[World]] = api_world) -> None:
        self._directory = directory
        self._made = made
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="controller")
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._served: Served | None = None
        self._gate: _Gate
        self.arrived = threading.Event()
        """A request waits, since the last `held`."""
        self.world: World
        self.port = 0
        self.graceful = False

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._made(self._directory) as self.world:
            self._gate = _Gate(self.world.app, self.arrived)
            await self._listen()
            self._ready.set()
            await self._stop.wait()
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self._unlisten()
                self.graceful = True
            except TimeoutError:
                pass

    async def _listen(self) -> None:
        authority = Authority.open(self._directory / "pki")
        certificate, key = authority.api_server_files(self._directory / "api", ["localhost"], ["127.0.0.1"])
        self._served = await serve(self._gate, listen("127.0.0.1", self.port), Path(certificate), Path(key))
        self.port = self._served.port

    async def _unlisten(self) -> None:
        if self._served is not None:
            await self._served.stop()
        self._served = None

    def __enter__(self) -> Controller:
        self._thread.start()
        assert self._ready.wait(READY_WITHIN_S)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def requests(self) -> list[str]:
        """``GET /api/pool`` and so on, in the order they came; to be cleared by whoever counts."""
        return self._gate.requests

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(READY_WITHIN_S)
        assert not self._thread.is_alive()

    def go_away(self) -> None:
        """Nobody answers at the port any more; what is stored stays."""
        self.ask(self._unlisten)

    def come_back(self) -> None:
        """At the same port."""
        self.ask(self._listen)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Requests are taken, and answered only at the end."""
        self.arrived.clear()
        self._loop.call_soon_threadsafe(self._gate.open.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._gate.open.set)

    def ask(self, what: Callable[[], Awaitable[T]], within_s: float = READY_WITHIN_S) -> T:
        """The outcome of a coroutine run in the server's loop."""

        async def asked() -> T:
            return await what()

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(within_s)

    def pass_time(self, seconds: float) -> None:
        self._loop.call_soon_threadsafe(lambda: setattr(self.world.clock, "s", self.world.clock.s + seconds))
