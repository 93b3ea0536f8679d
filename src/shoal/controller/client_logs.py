"""Client logs: the requests engines tell of, kept for searching. Names of the columns are those Avi's clients use."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shoal.objects.views import is_address
from shoal.wire.client_logs import FAILED, SLOW, ClientLogs, Line, Logged, parse

from .clock import Clock
from .day_files import DayFiles, Row, Searches, Table, Where

log = logging.getLogger("shoal.client_logs")

APPLICATION, CONNECTION = 1, 0
"""Values of ``type``: a request, a connection of a TCP service."""
TEXT, NUMBER = "TEXT", "NUMERIC"
COLUMNS = {
    "log_id": NUMBER,
    "type": NUMBER,
    "virtualservice": TEXT,
    "service_engine": TEXT,
    "significant": NUMBER,
    "significance": TEXT,
    "client_ip": TEXT,
    "client_src_port": NUMBER,
    "vs_ip": TEXT,
    "client_dest_port": NUMBER,
    "method": TEXT,
    "host": TEXT,
    "uri_path": TEXT,
    "uri_query": TEXT,
    "http_version": TEXT,
    "user_agent": TEXT,
    "response_code": NUMBER,
    "request_length": NUMBER,
    "response_length": NUMBER,
    "total_time": NUMBER,
    "response_time_first_byte": NUMBER,
    "queue_time": NUMBER,
    "server_connect_time": NUMBER,
    "server_response_time_first_byte": NUMBER,
    "server_name": TEXT,
    "server_ip": TEXT,
    "server_dest_port": NUMBER,
    "server_retries": NUMBER,
    "session_end": TEXT,
}
"""Times in ms. ``session_end``: HAProxy's two characters."""
TABLE = Table(name="client", columns=COLUMNS, indexed=("virtualservice",), days_max=7, bytes_max=1 << 30)
Document = dict[str, Any]
WAITING_MAX = 20_000
WRITE_INTERVAL_S = 1.0
ENDS = {
    "C": "the client broke it off",
    "c": "the client was silent for too long",
    "S": "the server broke it off, or refused the connection",
    "s": "the server did not answer in time",
    "P": "the request was broken or refused",
    "R": "the engine is short of something",
    "I": "an error in HAProxy",
    "D": "the server was taken out of service",
    "K": "it was ended by an operator's word",
}
"""The first character of ``session_end``."""


class ClientLogStore:
    """`take` never waits; `run` writes. ``folder`` None: in memory only."""

    def __init__(self, folder: Path | None, clock: Clock) -> None:
        self._files = DayFiles(folder, TABLE)
        self._searches = Searches(self._files)
        self._clock = clock
        self._waiting: deque[tuple[str, Logged]] = deque()
        self._number = int(clock.now() * 1e6)
        self._writing = asyncio.Lock()
        self.on_written: Callable[[Iterable[Document]], None] | None = None
        """Hears of what was written, in this form of documents; None = nobody does."""

    def take(self, engine: str, message: ClientLogs) -> None:
        """The oldest give way when they come faster than they can be written."""
        self._waiting.extend((engine, one) for one in message.logged)
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()

    async def run(self) -> None:
        """Until cancelled. A full disk costs logs, nothing else."""
        try:
            while True:
                await self._clock.sleep(WRITE_INTERVAL_S)
                await self.flush()
        finally:
            self._files.close()

    async def flush(self) -> None:
        """Write what has come."""
        async with self._writing:
            batch = list(self._waiting)
            self._waiting.clear()
            if not batch:
                return
            try:
                rows = await asyncio.to_thread(self._write, batch)
            except (sqlite3.Error, OSError) as error:
                log.warning("%d client logs were not written: %s", len(batch), error)
                return
            if self.on_written is not None:
                self.on_written(_document((at, *row)) for at, row in rows)

    def _write(self, batch: list[tuple[str, Logged]]) -> list[tuple[float, Row]]:
        rows = []
        for engine, logged in batch:
            line = parse(logged.line)
            if line is not None:
                self._number += 1
                rows.append((line.at, _row(self._number, engine, logged, line)))
        self._files.append(rows)
        return rows

    async def search(
        self, where: Where, *, limit: int, offset: int = 0, oldest_first: bool = False, counted: bool = True
    ) -> tuple[int, list[dict[str, Any]]]:
        """(how many match, 0 unless ``counted``; those of the page as documents, newest first unless asked). Raises
        NotReady."""
        await self.flush()
        count, rows = await self._searches.page(
            where, limit=limit, offset=offset, oldest_first=oldest_first, counted=counted
        )
        return count, [_document(row) for row in rows]


def _row(number: int, engine: str, logged: Logged, line: Line) -> Row:
    request, brace, captured = line.rest.partition(" {")
    method, _, uri = request.partition(" ")
    uri, _, version = uri.rpartition(" ") if " " in uri else (uri, "", "")
    path, _, query = _without_authority(uri).partition("?")
    host, _, agent = captured.removesuffix("}").partition("|") if brace else ("", "", "")
    server, _, port = line.server.rpartition(":")
    http = line.http
    return (
        number,
        APPLICATION if http else CONNECTION,
        logged.service,
        engine,
        bool(logged.why),
        _significance(logged.why, line),
        line.client,
        line.client_port,
        line.vip,
        line.vip_port,
        method if http and uri else None,
        host or None,
        path or None,
        query or None,
        version.removeprefix("HTTP/") or None,
        agent or None,
        line.status or None,
        line.bytes_in,
        line.bytes_out,
        line.us / 1000 if line.us >= 0 else line.total_ms,
        line.begun_ms() if http and line.response_ms >= 0 else None,
        _known(line.queue_ms),
        _known(line.connect_ms),
        _known(line.response_ms),
        line.server or None,
        server if is_address(server) else None,
        int(port) if port.isdigit() else None,
        line.retries,
        line.termination,
    )


def _without_authority(uri: str) -> str:
    """``https://host/path`` (as HTTP/2 has it) -> ``/path``."""
    if not uri.startswith(("http://", "https://")):
        return uri
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:
        return uri
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _significance(why: str, line: Line) -> str | None:
    """Why it is worth a look, in words."""
    if why == FAILED:
        end = ENDS.get(line.termination[:1], "")
        status = f"status {line.status}" if line.status >= 400 else ""
        return ": ".join(filter(None, (status, end))) or "it failed"
    if why == SLOW:
        return f"slow: {line.begun_ms()} ms until the response began"
    return None


def _known(ms: int) -> int | None:
    return ms if ms >= 0 else None


def _document(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(("report_timestamp", *COLUMNS), row, strict=True))
    found["significant"] = bool(found["significant"])
    return {name: value for name, value in found.items() if value is not None}
