"""Serves the API over HTTPS inside the running loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from shoal.errors import NotReady

from .limits import CONNECTIONS_MAX

STARTED_WITHIN_S = 10.0
STOP_WITHIN_S = 5
POLL_S = 0.01


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the program's, not the server's."""
        yield


class Served:
    """A listening server; ``port`` is the real one."""

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self._task = task
        self.port = port

    async def stop(self) -> None:
        self._server.should_exit = True
        await asyncio.gather(self._task, return_exceptions=True)


async def serve(app: ASGIApp, host: str, port: int, certificate: Path, key: Path) -> Served:
    """Listen. Raises NotReady, naming the address, when it can't be listened on."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        timeout_keep_alive=75,
        http="httptools",
        lifespan="off",
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = _Server(config)
    task = asyncio.create_task(_run(server, host, port), name="api")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STARTED_WITHIN_S
    while not server.started:
        if task.done():
            task.result()
        if task.done() or loop.time() > deadline:
            raise NotReady(f"The API can't listen on {host}:{port}.", hint="Is another program using it? Try --listen.")
        await asyncio.sleep(POLL_S)
    return Served(server, task, server.servers[0].sockets[0].getsockname()[1])


async def _run(server: uvicorn.Server, host: str, port: int) -> None:
    try:
        await server.serve()
    except SystemExit:
        message = f"The API can't listen on {host}:{port}."
        raise NotReady(message, hint="Is another program using it? Try --listen.") from None
