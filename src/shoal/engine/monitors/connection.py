"""TCP and TLS to a server, with lines and bounded reading. Whoever asks sets the time-out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator

from shoal.wire.monitors import MonitorTls
from shoal.wire.tls import show

LINE_BYTES_MAX = 4096
LINES_MAX = 100
"""Of one answer."""
VERSIONS = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


class Wrong(Exception):
    """What a server said is not what it should have said. The text is for a person."""


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, text: str) -> None:
        self.writer.write(text.encode("utf-8", "replace"))
        await self.writer.drain()

    async def line(self) -> str:
        """Raises Wrong at the end of the connection."""
        try:
            data = await self.reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            said = f" after {_shown(error.partial)}" if error.partial else ""
            raise Wrong(f"the server closed the connection{said}") from None
        except asyncio.LimitOverrunError:
            raise Wrong(f"a line of more than {LINE_BYTES_MAX} octets") from None
        return data.decode("utf-8", "replace").rstrip("\r\n")

    async def some(self, most: int) -> bytes:
        """What comes next, at most so much; b"" at the end."""
        return await self.reader.read(most)


@contextlib.asynccontextmanager
async def connected(address: str, port: int, tls: MonitorTls | None = None) -> AsyncIterator[Connection]:
    """Raises OSError (`ssl.SSLError` is one)."""
    wrapped = context(tls) if tls is not None else None
    name = tls.server_name if tls is not None else None
    reader, writer = await asyncio.open_connection(
        address, port, ssl=wrapped, server_hostname=name if wrapped else None, limit=LINE_BYTES_MAX
    )
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


@functools.lru_cache(maxsize=64)
def context(tls: MonitorTls) -> ssl.SSLContext:
    """Raises ssl.SSLError, ValueError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = bool(tls.authorities and tls.server_name)
    made.verify_mode = ssl.CERT_REQUIRED if tls.authorities else ssl.CERT_NONE
    if tls.authorities:
        made.load_verify_locations(cadata=tls.authorities)
    if tls.version_min:
        made.minimum_version = VERSIONS[tls.version_min]
    if tls.version_max:
        made.maximum_version = VERSIONS[tls.version_max]
    if tls.ciphers:
        made.set_ciphers(tls.ciphers)
    if tls.certificate:
        show(made, tls.certificate)
    return made


def _shown(data: bytes) -> str:
    return repr(data[:60].decode("utf-8", "replace"))


def shown(text: str) -> str:
    """What a server said, short and printable."""
    return repr(text[:80])
