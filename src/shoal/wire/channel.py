"""Carries the messages of `shoal.wire.messages`: 4-byte big-endian length, then one msgpack message, over mutual TLS.

Errors::

    NotReady
    └── ChannelClosed     no connection (any more): connect again
    ShoalError
    └── ProtocolError     the peer sent what can't be understood; the channel is closed
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from shoal.errors import Forbidden, NotReady, ShoalError
from shoal.wire.messages import FRAME_BYTES_MAX, FromController, FromEngine
from shoal.wire.tls import CONTROLLER_URI, fingerprint, peer_identity

log = logging.getLogger("shoal.wire")

UNSENT_BYTES_MAX = 256 * 1024
"""`Channel.send` waits while more than this is unsent; so at most this and one frame are ever held."""
SEND_TIMEOUT_S = 30.0
"""A peer that takes nothing for so long is gone."""
CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 4_096
"""Connections a listener holds; further ones are closed at once. Design size: 1,000 engines."""
_LENGTH_BYTES = 4

_Incoming = TypeVar("_Incoming")
_encoder = msgspec.msgpack.Encoder()


class ChannelClosed(NotReady):
    """There is no connection, or none any more."""


class ProtocolError(ShoalError):
    """The peer sent something that is no message of this protocol."""


class Channel(Generic[_Incoming]):
    """One connection. Any task may send; one task at a time receives.

    ``identity`` is the peer's ``shoal://...`` name ("" without TLS), ``certificate`` its certificate's `fingerprint`,
    ``peer`` its address, for logs.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decode_type: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[_Incoming] = msgspec.msgpack.Decoder(decode_type)
        self._sending = asyncio.Lock()
        self._length: int | None = None
        self._heard = False
        self._closed = ""
        writer.transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        self.peer = _address(writer)
        tls = writer.get_extra_info("ssl_object")
        self.identity = peer_identity(tls) if tls is not None else ""
        self.certificate = fingerprint(tls.getpeercert(binary_form=True)) if tls is not None else ""

    def __repr__(self) -> str:
        return f"Channel({self.identity or self.peer})"

    async def send(self, message: msgspec.Struct) -> None:
        """Hand the message over; waits while the peer is slow. Delivery is not confirmed by this returning.

        Raises `ChannelClosed`; `ProtocolError` when the message is over `FRAME_BYTES_MAX` (nothing is sent then).
        """
        body = _encoder.encode(message)
        if len(body) > FRAME_BYTES_MAX:
            raise ProtocolError(
                f"A {type(message).__name__} message of {len(body)} bytes is over FRAME_BYTES_MAX ({FRAME_BYTES_MAX})."
            )
        async with self._sending:
            self._check_open()
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    self._writer.write(len(body).to_bytes(_LENGTH_BYTES, "big"))
                    self._writer.write(body)
                    await self._writer.drain()
            except TimeoutError:
                raise self._fail(f"the peer took nothing for {SEND_TIMEOUT_S:g} s") from None
            except OSError as error:
                raise self._fail(_reason(error)) from error

    async def receive(self) -> _Incoming:
        """The next message. Raises `ChannelClosed`, `ProtocolError`. May be cancelled and called again."""
        self._check_open()
        try:
            if self._length is None:
                self._length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if self._length > FRAME_BYTES_MAX:
                raise self._garbage(f"a frame of {self._length} bytes, over FRAME_BYTES_MAX ({FRAME_BYTES_MAX})")
            body = await self._reader.readexactly(self._length)
        except asyncio.IncompleteReadError as error:
            raise self._fail(self._goodbye(in_message=self._length is not None or bool(error.partial))) from None
        except OSError as error:
            raise self._fail(_reason(error)) from error
        self._length = None
        self._heard = True
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # a ValidationError is the first
            raise self._garbage(f"a message that can't be understood ({error})") from None

    async def close(self) -> None:
        """Say goodbye and let go. What was sent before still goes out, within a second. Twice is no error."""
        self._closed = self._closed or "was closed here"
        self._writer.close()
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # it is going anyway; the transport is torn down below
        finally:
            self._writer.transport.abort()

    def _check_open(self) -> None:
        if self._closed:
            raise ChannelClosed(f"The connection with {self.identity or self.peer} is gone: {self._closed}.")

    def _goodbye(self, *, in_message: bool) -> str:
        if in_message:
            return "the peer left in the middle of a message"
        # asyncio's server closes without the TLS alert that would say so (Python 3.11).
        return "the peer closed it" if self._heard else "the peer closed it at once, as if it refused our certificate"

    def _fail(self, why: str) -> ChannelClosed:
        self._closed = self._closed or why
        self._writer.transport.abort()
        return ChannelClosed(f"The connection with {self.identity or self.peer} is gone: {self._closed}.")

    def _garbage(self, what: str) -> ProtocolError:
        self._closed = f"the peer sent {what}"
        self._writer.transport.abort()
        return ProtocolError(
            f"{self.identity or self.peer} sent {what}.", hint="Are both ends Shoal, and of versions that go together?"
        )


async def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    expected: str = CONTROLLER_URI,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Channel[FromController]:
    """The engine's way to a controller. Raises `ChannelClosed`: no answer, refused, or a peer that is not ``expected``.

    In TLS 1.3 the controller's refusal of *our* certificate shows at the first `Channel.receive`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname="", ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S
            )
    except TimeoutError:
        raise ChannelClosed(f"The controller at {host}:{port} did not answer within {timeout_s:g} s.") from None
    except OSError as error:
        raise ChannelClosed(f"The controller at {host}:{port} can't be reached ({_reason(error)}).") from error
    try:
        channel: Channel[FromController] = Channel(reader, writer, FromController)
        if channel.identity != expected:
            raise Forbidden(f"it shows the certificate of {channel.identity}, not of {expected}")
    except Forbidden as error:
        writer.transport.abort()
        raise ChannelClosed(f"What answers at {host}:{port} is not the controller: {error.message}.") from error
    return channel


Handler = Callable[[Channel[FromEngine]], Awaitable[None]]


class Listener:
    """A running listener, made by `serve`. ``port`` is the one in use (asked for 0, the kernel chose)."""

    def __init__(self, handler: Handler, connections_max: int) -> None:
        self._handler = handler
        self._connections_max = connections_max
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> None:
        try:
            self._server = await asyncio.start_server(
                self._accept,
                host,
                port,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except OSError as error:
            raise NotReady(
                f"Can't listen for engines on {host}:{port} ({error.strerror}).", hint="Is another Shoal running?"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, cancel every handler and wait for them; connections are closed."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._connections_max:
            log.warning("%s refused: %d engine connections are open", _address(writer), self._connections_max)
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._run(reader, writer), name="engine connection")
        self._tasks.add(task)  # the loop holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            channel: Channel[FromEngine] = Channel(reader, writer, FromEngine)
        except Forbidden as error:
            log.warning("%s refused: %s", _address(writer), error)
            writer.transport.abort()
            return
        try:
            await self._handler(channel)
        except (ChannelClosed, ProtocolError) as error:
            log.info("%s", error)
        except Exception:
            log.exception("the connection with %s ended by a fault of ours", channel.identity)
        finally:
            await channel.close()


async def serve(
    host: str, port: int, context: ssl.SSLContext, handler: Handler, *, connections_max: int = CONNECTIONS_MAX
) -> Listener:
    """Listen for engines. ``handler`` runs in a task per connection, which is closed when it returns.

    ``channel.identity`` is verified, e.g. ``shoal://engine/<id>``; whether that engine is known is the handler's
    question. Raises `NotReady` when the port is taken.
    """
    listener = Listener(handler, connections_max)
    await listener.start(host, port, context)
    return listener


def _address(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "the peer"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not of this Shoal's authority: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, ConnectionResetError):
        return "the peer broke the connection off"
    return error.strerror or str(error) or type(error).__name__
