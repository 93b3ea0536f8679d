"""Asyncio client of HAProxy's runtime socket: one command a connection, as the socket wants it."""

from __future__ import annotations

import asyncio
import csv

import msgspec

from shoal.errors import ShoalError

ANSWER_WITHIN_S = 2.0
FRONTENDS, SERVERS = 1, 4
"""Types of rows in ``show stat``."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024


class RuntimeFailure(ShoalError):
    """HAProxy did not answer, or answered with an error."""


class Row(msgspec.Struct, frozen=True):
    """What is used of one row of ``show stat``. ``proxy`` and ``name`` as in the configuration."""

    proxy: str
    name: str
    status: str
    check: str
    current: int
    total: int
    requests: int
    bytes_in: int
    bytes_out: int
    errors: int


def argument(path: str) -> str:
    """A path as one word of the socket's language."""
    return path.replace("\\", "\\\\").replace(" ", "\\ ").replace(";", "\\;")


async def command(path: str, text: str) -> str:
    """Send one command and return the whole answer. Raises RuntimeFailure."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES_MAX)
            try:
                writer.write(text.encode() + b"\n")
                await writer.drain()
                answer = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise RuntimeFailure(f"HAProxy does not answer on its runtime socket: {error or 'time-out'}") from error
    return answer.decode(errors="replace").strip()


async def worker_pid(path: str) -> int:
    """The pid of the worker that answers now."""
    for line in (await command(path, "show info")).splitlines():
        if line.startswith("Pid:"):
            return int(line.split(":", 1)[1])
    raise RuntimeFailure("HAProxy's `show info` names no pid.")


async def rows(path: str) -> list[Row]:
    """All frontends and servers."""
    return parse_rows(await command(path, f"show stat -1 {FRONTENDS | SERVERS} -1"))


def parse_rows(text: str) -> list[Row]:
    """The CSV of ``show stat``; rows that are cut short are left out."""
    table = csv.reader(text.lstrip("# ").splitlines())
    at = {name: index for index, name in enumerate(next(table, []))}

    def number(cells: list[str], name: str) -> int:
        cell = cells[at[name]]
        return int(cell) if cell.isdigit() else 0

    return [
        Row(
            proxy=cells[at["pxname"]],
            name=cells[at["svname"]],
            status=cells[at["status"]],
            check=" ".join(filter(None, (cells[at["check_status"]].lstrip("* "), cells[at["last_chk"]]))),
            current=number(cells, "scur"),
            total=number(cells, "stot"),
            requests=number(cells, "req_tot"),
            bytes_in=number(cells, "bin"),
            bytes_out=number(cells, "bout"),
            errors=number(cells, "econ") + number(cells, "eresp") + number(cells, "ereq"),
        )
        for cells in table
        if len(cells) >= len(at) - 1
    ]
