"""Serves the agent: JSON lines on ``guard.sock``. Agents come and go; the guard does not depend on them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from shoal.engine.guard.loop import Loop
from shoal.wire.guard import FromGuard, ToGuard

log = logging.getLogger("shoal.guard.agent")

LINE_BYTES_MAX = 16 * 1024 * 1024
AGENTS_MAX = 8
UNREAD_BYTES_MAX = 1024 * 1024


class AgentSocket:
    """``on_message``, ``on_connect`` and ``on_end`` are called on the loop. An agent that does not read is cut off."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        on_message: Callable[[ToGuard], None],
        on_connect: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop, self._on_message, self._on_connect, self._on_end = loop, on_message, on_connect, on_end
        self._buffers: dict[socket.socket, bytearray] = {}
        self._decoder: msgspec.json.Decoder[ToGuard] = msgspec.json.Decoder(ToGuard)
        self._encoder = msgspec.json.Encoder()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(AGENTS_MAX)
        loop.on_readable(self._listener, self._accept)

    @property
    def connected(self) -> bool:
        return bool(self._buffers)

    def send(self, message: FromGuard) -> None:
        if not self._buffers:
            return
        data = self._encoder.encode(message) + b"\n"
        for agent in tuple(self._buffers):
            try:
                sent = agent.send(data)
            except OSError:
                sent = 0
            if sent < len(data):  # its buffer is full: it hangs, and will connect anew
                log.warning("an agent does not read; cut off")
                self._close(agent)

    def _accept(self) -> None:
        agent, _ = self._listener.accept()
        if len(self._buffers) >= AGENTS_MAX:
            agent.close()
            return
        agent.setblocking(False)
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES_MAX)
        self._buffers[agent] = bytearray()
        self._loop.on_readable(agent, lambda: self._read(agent))
        self._on_connect()

    def _read(self, agent: socket.socket) -> None:
        try:
            data = agent.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        buffer = self._buffers[agent]
        buffer += data
        if not data or len(buffer) > LINE_BYTES_MAX:
            self._close(agent)
            return
        *lines, rest = bytes(buffer).split(b"\n")
        buffer[:] = rest
        for line in lines:
            try:
                message = self._decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                log.error("the agent said something this guard does not understand: %s", error)
                continue
            self._on_message(message)

    def _close(self, agent: socket.socket) -> None:
        self._loop.forget(agent)
        del self._buffers[agent]
        agent.close()
        self._on_end()
