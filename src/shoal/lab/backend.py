"""A small real HTTP server: ``python -m shoal.lab.backend ADDRESS[,ADDRESS] PORT NAME``. Answers its name, and who asked; ``/health`` is 200.

``GET /stream?SECONDS`` is a chunked download that takes so long; a body that is sent is read to its end before the
answer; ``Upgrade: websocket`` is answered 101, then all that comes is sent back. A TCP echo service answers on PORT + 1,
UDP on PORT: the name, a space, and what came; to a DNS question an A record.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from typing import cast

KEEP_ALIVE_IDLE_S = 120.0
CHUNK_EVERY_S = 0.05
CHUNK = b"400\r\n" + b"s" * 1024 + b"\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
DNS_QUERY = b"\x01\0\0\1\0\0\0\0\0\0"
"""The header behind the number: recursion desired, one question."""
_STREAM = re.compile(rb"GET /stream\?([0-9.]+) ")
_KEY = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


async def _http(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = name.encode() + b"\n"
    answer = b"HTTP/1.1 200 OK\r\nX-Server: %b\r\nX-Client: %b\r\nContent-Length: %d\r\n\r\n" % (
        name.encode(),
        (writer.get_extra_info("peername") or ("gone",))[0].encode(),
        len(body),
    )
    try:
        while True:
            async with asyncio.timeout(KEEP_ALIVE_IDLE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            if key := _KEY.search(head):
                accept = base64.b64encode(hashlib.sha1(key[1] + WEBSOCKET_GUID, usedforsecurity=False).digest())
                writer.write(SWITCHED + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                await _echo(reader, writer)
                break
            if stream := _STREAM.match(head):
                await _stream(writer, float(stream[1]))
                continue
            if length := _LENGTH.search(head):
                await _discard(reader, int(length[1]))
            writer.write(answer if head.startswith(b"HEAD") else answer + body)
            if b"onnection: close" in head or head.split(b"\r\n", 1)[0].endswith(b"HTTP/1.0"):
                break
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    finally:
        writer.close()


async def _stream(writer: asyncio.StreamWriter, seconds: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(max(1, int(seconds / CHUNK_EVERY_S))):
        if writer.is_closing():
            raise ConnectionError("the client has gone")
        writer.write(CHUNK)
        await writer.drain()
        await asyncio.sleep(CHUNK_EVERY_S)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _discard(reader: asyncio.StreamReader, size: int) -> None:
    while size > 0:
        data = await reader.read(min(size, 65536))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is no subclass

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None:
            self._transport.sendto(_record(data) or self._name + b" " + data, addr)


def _record(query: bytes) -> bytes:
    """The answer to a DNS query of one question: 192.0.2.1, whatever the name; b"" if it is none."""
    if len(query) < 17 or query[2:12] != DNS_QUERY:
        return b""
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"


async def _main(addresses: list[str], port: int, name: str) -> None:
    http = await asyncio.start_server(lambda r, w: _http(name, r, w), addresses, port, backlog=1024)
    echo = await asyncio.start_server(_echo, addresses, port + 1, backlog=1024)
    for address in addresses:
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: Datagrams(name), local_addr=(address, port))
    print("ready", flush=True)
    async with http, echo:
        await asyncio.gather(http.serve_forever(), echo.serve_forever())


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(sys.argv[1].split(","), int(sys.argv[2]), sys.argv[3]))
