"""Serves the API over HTTPS inside the running loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from shoal.errors import NotReady

from .connections import protocol
from .limits import CONNECTIONS_MAX

TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only (RFC 9325, 4.2); those of TLS 1.3 all have both."""
STARTED_WITHIN_S = 10.0
STOP_WITHIN_S = 5
BACKLOG = 2048


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests under way get `STOP_WITHIN_S`; connections that only idle are not waited for.

        A TLS peer that keeps a connection open answers the closing alert when it uses it next, maybe never.
        """
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=STOP_WITHIN_S)
        idle = list(self.server_state.connections)
        self.force_exit = True
        await super().shutdown(sockets=sockets)
        for connection in idle:
            transport = connection.transport
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

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


def listen(host: str, port: int) -> socket.socket:
    """Take the address. Raises NotReady, naming it, when it can't be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Connections inherit it. asyncio sets it only where the protocol is named; without it each answer's body waits for
        # the client's delayed acknowledgement of its head (40 ms).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise NotReady(
            f"The API can't listen on {host}:{port}: {os.strerror(error.errno or 0)}.",
            hint="Is another program using it? Try --listen.",
        ) from None


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


async def serve(app: ASGIApp, listener: socket.socket, certificate: Path, key: Path) -> Served:
    """Serve on a listening socket. Raises NotReady when it does not come up."""
    config = uvicorn.Config(
        app,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody says for himself where he comes from
        date_header=True,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        timeout_keep_alive=75,
        http=protocol(),
        lifespan="off",
    )
    config.load()
    if config.ssl is not None:
        _harden(config.ssl)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    listening = asyncio.create_task(server.listening.wait(), name="api listening")
    await asyncio.wait({task, listening}, timeout=STARTED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    if not listening.done():
        for waiting in (listening, task):
            waiting.cancel()
        outcome, _ = await asyncio.gather(task, listening, return_exceptions=True)
        raise NotReady(f"The API did not start within {STARTED_WITHIN_S:.0f} s: {outcome!r}.")
    return Served(server, task, listener.getsockname()[1])
