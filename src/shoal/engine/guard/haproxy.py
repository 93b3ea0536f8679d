"""Does HAProxy answer? One kept connection to its Unix socket: a request each 100 ms or so, and its end is news at once."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from shoal.engine.guard.loop import Loop, Timer

CHECK_S = 0.1
"""An end of the connection between two questions is looked into at once, but once in this time: a server may close after
each answer."""
CHECK_MIN_S, CHECK_MAX_S = 0.05, 0.11
"""It is asked when a heartbeat is said, as the process is awake then (waking costs more than the question): not sooner
after the last time than the first of these, and not later than the second, heartbeat or none."""
TIMEOUT_S = 0.1
AGAIN_S = 0.02
"""Until the second look after a failure."""
FAILURES_MAX = 2
REQUEST = b"GET / HTTP/1.1\r\nHost: guard\r\n\r\n"


class HaproxyCheck:
    """``on_change(up, why)`` is called on each change; nothing is assumed before the first answer."""

    def __init__(self, loop: Loop, path: str, on_change: Callable[[bool, str], None]) -> None:
        self._loop, self._path, self._on_change = loop, path, on_change
        self._socket: socket.socket | None = None
        self._failures = 0
        self._asked_at = 0.0
        self._looked_at = 0.0
        self._waiting = False
        self._timer: Timer | None = None
        self.up: bool | None = None

    def start(self) -> None:
        self._ask()

    def awake(self) -> None:
        """The guard has just said its heartbeat: ask now, unless that was done just before."""
        begun = self._timer is not None and not self._waiting and not self._failures
        if begun and self._loop.now() >= self._asked_at + CHECK_MIN_S:
            self._ask()

    def _later(self, when: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.at(when, call)

    def _ask(self) -> None:
        now = self._loop.now()
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                self._socket.connect(self._path)
                self._loop.on_readable(self._socket, self._read)
            self._socket.send(REQUEST)
        except OSError as error:
            self._failed(str(error))
            return
        self._waiting, self._asked_at = True, now
        self._later(now + TIMEOUT_S, self._overdue)

    def _overdue(self) -> None:
        """An answer that came while the guard was at work counts."""
        assert self._socket is not None
        arrived = select.poll()
        arrived.register(self._socket, select.POLLIN)
        if arrived.poll(0):
            self._read()
        else:
            self._failed("no answer in time")

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(4096)
        except OSError:
            data = b""
        now = self._loop.now()
        if not data:
            self._hang_up()
            if self._waiting:
                self._failed("connection closed")
            elif now - self._looked_at >= CHECK_S:
                self._looked_at = now
                self._ask()
        elif self._waiting and data.startswith(b"HTTP/1."):
            self._waiting = False
            if data[9:12] != b"200":
                self._failed(f"answers {data[9:12].decode(errors='replace')}")
                return
            self._failures = 0
            self._set(True, "")
            self._later(self._asked_at + CHECK_MAX_S, self._ask)

    def _failed(self, why: str) -> None:
        self._waiting = False
        self._hang_up()
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._set(False, why)
        self._later(self._loop.now() + (CHECK_S if self._failures >= FAILURES_MAX else AGAIN_S), self._ask)

    def _hang_up(self) -> None:
        if self._socket is not None:
            try:
                self._loop.forget(self._socket)
            except KeyError:  # it failed before it was connected
                pass
            self._socket.close()
            self._socket = None

    def _set(self, up: bool, why: str) -> None:
        if up != self.up:
            self.up = up
            self._on_change(up, why)
