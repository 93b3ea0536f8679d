"""A small real HTTP server: ``python -m shoal.lab.backend ADDRESS PORT NAME``. Answers its name; ``/health`` is 200.

A TCP echo service answers on PORT + 1.
"""

from __future__ import annotations

import asyncio
import sys

KEEP_ALIVE_IDLE_S = 120.0


async def _http(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = name.encode() + b"\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Server: %b\r\nContent-Length: %d\r\n\r\n" % (
        name.encode(),
        len(body),
    )
    try:
        while True:
            async with asyncio.timeout(KEEP_ALIVE_IDLE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer if head.startswith(b"HEAD") else answer + body)
            if b"onnection: close" in head or head.split(b"\r\n", 1)[0].endswith(b"HTTP/1.0"):
                break
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    finally:
        writer.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


async def _main(address: str, port: int, name: str) -> None:
    http = await asyncio.start_server(lambda r, w: _http(name, r, w), address, port, backlog=1024)
    echo = await asyncio.start_server(_echo, address, port + 1, backlog=1024)
    print("ready", flush=True)
    async with http, echo:
        await asyncio.gather(http.serve_forever(), echo.serve_forever())


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
