"""FTP (RFC 959, 2428): a file must be there to fetch."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from shoal.wire.monitors import File, Monitor, MonitorTls

from .connection import LINES_MAX, Connection, Wrong, connected, shown

ANONYMOUS = "anonymous"
_EXTENDED = re.compile(r"\(\|\|\|(\d{1,5})\|\)")


async def ftp(monitor: Monitor, address: str, port: int, tls: MonitorTls | None) -> None:
    """With ``tls`` commands are encrypted from the beginning, the file is not (PROT C). Raises Wrong, OSError."""
    if not isinstance(monitor.asks, File):
        raise Wrong("the monitor names no file")
    async with connected(address, port, tls) as link:
        await _reply(link, "", "220")
        said = await _reply(link, f"USER {monitor.user or ANONYMOUS}", "230", "331")
        if said.startswith("331"):
            await _reply(link, f"PASS {monitor.password or ANONYMOUS}", "230", named="PASS")
        if tls is not None:
            await _reply(link, "PBSZ 0", "200")
            await _reply(link, "PROT C", "200")
        await _reply(link, "TYPE I", "200")
        fetch = _passive if monitor.asks.passive else _active
        async with fetch(link, address) as arrived:
            await _reply(link, f"RETR {monitor.asks.name}", "125", "150")
            await arrived.wait()
        await link.send("QUIT\r\n")


async def _reply(link: Connection, command: str, *good: str, named: str = "") -> str:
    if command:
        await link.send(f"{command}\r\n")
    for _ in range(LINES_MAX):
        line = await link.line()
        if line[:3].isdigit() and line[3:4] != "-":
            break
    if not line.startswith(good):
        raise Wrong(f"{named or command or 'the greeting'} is answered by {shown(line)}")
    return line


@contextlib.asynccontextmanager
async def _passive(link: Connection, address: str) -> AsyncIterator[asyncio.Event]:
    """The file begins to arrive, or is empty. EPSV: no server gets to say where else to connect to."""
    found = _EXTENDED.search(await _reply(link, "EPSV", "229"))
    if found is None:
        raise Wrong("EPSV is answered without a port")
    async with connected(address, int(found[1])) as data:
        arrived = asyncio.Event()

        async def read() -> None:
            await data.some(1)
            arrived.set()

        reading = asyncio.create_task(read())
        try:
            yield arrived
        finally:
            reading.cancel()


@contextlib.asynccontextmanager
async def _active(link: Connection, address: str) -> AsyncIterator[asyncio.Event]:
    arrived = asyncio.Event()

    def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        writer.transport.abort()

    own = link.writer.get_extra_info("sockname")[0]
    listening = await asyncio.start_server(connection, own, 0)
    try:
        port = listening.sockets[0].getsockname()[1]
        await _reply(link, f"EPRT |{2 if ':' in own else 1}|{own}|{port}|", "200")
        yield arrived
    finally:
        listening.close()
