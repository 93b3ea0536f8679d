"""Carries messages between controller and engine: 4-byte big-endian length, then one msgpack message, over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from shoal.errors import ShoalError

from .messages import FRAME_BYTES_MAX
from .tls import peer_identity

CONNECT_WITHIN_S = 3.0
SEND_WITHIN_S = 20.0
"""A peer that does not read for so long is given up."""
HEADER_BYTES = 4


class ChannelClosed(ShoalError):
    """The other side went away, or the connection broke."""


class ProtocolError(ChannelClosed):
    """The other side sent something that is no message; the channel is of no more use."""


class Channel:
    """One connection. `receive` by one task, `send` by any."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accepts: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(accepts)
        self._encoder = msgspec.msgpack.Encoder()

    @property
    def identity(self) -> str:
        """The URI of the peer's certificate; "" when it showed none."""
        return peer_identity(self._writer.get_extra_info("ssl_object"))

    async def send(self, message: msgspec.Struct) -> None:
        """Raises ChannelClosed; waits while the peer does not read."""
        data = self._encoder.encode(message)
        if len(data) > FRAME_BYTES_MAX:
            raise ProtocolError(f"A message of {len(data)} bytes is over the bound of {FRAME_BYTES_MAX}.")
        try:
            self._writer.write(len(data).to_bytes(HEADER_BYTES, "big") + data)
            async with asyncio.timeout(SEND_WITHIN_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise ChannelClosed(f"The connection broke while sending: {error or 'time-out'}.") from error

    async def receive(self) -> Any:
        """The next message. Raises ChannelClosed at the end, ProtocolError on garbage."""
        try:
            length = int.from_bytes(await self._reader.readexactly(HEADER_BYTES), "big")
            if length > FRAME_BYTES_MAX:
                raise ProtocolError(f"A frame of {length} bytes was announced; at most {FRAME_BYTES_MAX} are taken.")
            data = await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ChannelClosed("The other side closed the connection.") from error
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(f"No message of this protocol: {error}.") from error

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()


async def connect(host: str, port: int, context: ssl.SSLContext, accepts: Any) -> Channel:
    """Raises ChannelClosed (OSError's words) when the other side can't be reached or is not who it should be."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
    except (OSError, TimeoutError, ssl.SSLError) as error:
        raise ChannelClosed(f"{host}:{port}: {error or 'time-out'}.") from error
    return Channel(reader, writer, accepts)


async def serve(
    host: str, port: int, context: ssl.SSLContext, accepts: Any, handler: Callable[[Channel], Awaitable[None]]
) -> asyncio.Server:
    """Listen; ``handler`` runs once for each connection, which ends with it."""

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, accepts)
        try:
            await handler(channel)
        except ChannelClosed:
            pass
        finally:
            await channel.close()

    return await asyncio.start_server(attend, host, port, ssl=context)
