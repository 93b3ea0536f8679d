"""Something told over TLS to a server that answers nothing: what it lets be known of a loss is heard.

By TLS 1.3 a server says only after the handshake that it does not take the client's certificate, and OpenSSL's own shutdown
passes over that alert. So the end of a connection is read here.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

READ_BYTES = 65_536
RESET_WITHIN_S = 0.2
"""A server that hung up before all had come answers the rest with a reset, a round trip later."""


def tell(plain: socket.socket, context: ssl.SSLContext, host: str, data: bytes) -> None:
    """``data`` to the server ``host``, and the end. Blocks as long as the socket may, at each step. Raises OSError, also when
    the server refuses at the end or drops the connection. One that hangs up without a word when all had come, or stays
    silent, counts as one that took it, as over TCP."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        _handshake(plain, tls, incoming, outgoing)
    except ssl.SSLError:
        with contextlib.suppress(OSError):
            plain.sendall(outgoing.read())  # why
        raise
    tls.write(data)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.unwrap()
    plain.sendall(outgoing.read())
    with contextlib.suppress(TimeoutError):
        _hear_out(plain, tls, incoming)


def _handshake(plain: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            _read(plain, incoming)
        else:
            return


def _hear_out(plain: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO) -> None:
    until = time.monotonic() + (plain.gettimeout() or 0.0)
    while True:
        try:
            if not tls.read(READ_BYTES):
                return None
        except ssl.SSLWantReadError:
            plain.settimeout(max(0.001, until - time.monotonic()))
            _read(plain, incoming)
        except ssl.SSLZeroReturnError:
            return None
        except ssl.SSLEOFError:
            return _not_reset(plain)


def _read(plain: socket.socket, incoming: ssl.MemoryBIO) -> None:
    if found := plain.recv(READ_BYTES):
        incoming.write(found)
    else:
        incoming.write_eof()


def _not_reset(plain: socket.socket) -> None:
    errors = select.poll()
    errors.register(plain, 0)
    errors.poll(RESET_WITHIN_S * 1000)
    if error := plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, "it hung up before it had read all")
