"""Asyncio client of HAProxy's runtime socket: one command a connection, as the socket wants it."""

from __future__ import annotations

import asyncio

import msgspec

from shoal.errors import ShoalError

from .stats import parse_rows as parse_rows

ANSWER_WITHIN_S = 2.0
FRONTENDS, SERVERS = 1, 4
"""Types of rows in ``show stat``."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024
PROMPT = b"\n> "


class RuntimeFailure(ShoalError):
    """HAProxy did not answer, or answered with an error."""


class Reading(msgspec.Struct, frozen=True):
    """What one worker says of itself (``show info``) and of its proxies (``show stat``), at one moment."""

    info: dict[str, str]
    table: str

    @property
    def worker(self) -> str:
        """Names the worker; a pid alone may come again."""
        return f"{self.info.get('Pid', '')}@{self.info.get('Start_time_sec', '')}"

    def number(self, name: str) -> int:
        """A figure of ``show info``; 0 when there is none."""
        text = self.info.get(name, "")
        return int(text) if text.isdigit() else 0


READ = f"show info;show stat -1 {FRONTENDS | SERVERS} -1"


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


async def reading(path: str) -> Reading:
    """All frontends and servers. Raises RuntimeFailure."""
    return parse_reading(await command(path, READ))


def parse_reading(text: str) -> Reading:
    """Raises RuntimeFailure for what is no answer to `READ`."""
    info, found, table = text.partition("\n# ")
    if not found:
        raise RuntimeFailure("HAProxy's answer has no statistics.")
    pairs = (line.partition(": ") for line in info.splitlines())
    return Reading({name: value.strip() for name, colon, value in pairs if colon}, table)


class Line:
    """An interactive connection to one worker. Opened before a reload, it goes on talking to the old worker, which no
    other connection reaches any more. It keeps that worker from ending: close it when nothing else does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: str) -> Line:
        """Raises RuntimeFailure."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                line = cls(*await asyncio.open_unix_connection(path, limit=ANSWER_BYTES_MAX))
        except (OSError, TimeoutError) as error:
            raise RuntimeFailure(f"no line to HAProxy: {error or 'time-out'}") from error
        await line.ask("prompt")
        return line

    async def ask(self, text: str) -> str:
        """Raises RuntimeFailure; the line is closed then."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                self._writer.write(text.encode() + b"\n")
                await self._writer.drain()
                answer = await self._reader.readuntil(PROMPT)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self.close()
            raise RuntimeFailure(f"the line to HAProxy is cut: {error or 'time-out'}") from error
        return answer[: -len(PROMPT)].decode(errors="replace").strip()

    async def reading(self) -> Reading:
        """Raises RuntimeFailure."""
        answers = [await self.ask(text) for text in READ.split(";")]  # the prompt comes after each of them
        return parse_reading("\n".join(answers))

    def close(self) -> None:
        self._writer.close()
