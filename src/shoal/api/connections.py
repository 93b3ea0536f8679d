"""What a connection may cost before it has asked anything: time, bytes, and how many one address has."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .limits import CONNECTIONS_PER_ADDRESS_MAX, HEAD_BYTES_MAX, HEAD_WITHIN_S


class BoundedProtocol(HttpToolsProtocol):
    """Closes what does not send a request's head in time, or sends a longer one than anybody needs. What is still sent
    of a request that was answered already is under the same clock."""

    by_address: ClassVar[Counter[str]] = Counter()
    """Of one server: see `protocol`."""
    _deadline: asyncio.TimerHandle | None = None
    _address: str = ""
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self.by_address[self._address] += 1
        if self.by_address[self._address] > CONNECTIONS_PER_ADDRESS_MAX:
            transport.abort()
            return
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.by_address[self._address] -= 1
        if self.by_address[self._address] <= 0:
            del self.by_address[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._arm()
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response(f"The head of a request may have {HEAD_BYTES_MAX} bytes.")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()


def protocol() -> type[BoundedProtocol]:
    """For one server, with a count of its own."""
    return type("Protocol", (BoundedProtocol,), {"by_address": Counter()})
