"""Load that hides nothing: ``python -m shoal.lab.load PLAN`` (JSON, `Plan`); a JSON line (`Report`) each second.

Every request, download, upload and echo that was begun and did not end as it should is a failure, with its time and
reason. Nothing is tried again, but for one case that RFC 9110 9.2.2 lets any client repeat: a request on a reused
connection that was closed before a byte of its answer. Those, and connections that are closed while they idle, are
counted apart as idle closes. SIGTERM ends it: what is under way is finished first, then the last line has ``last``.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec

from .resets import Resets

CONNECT_WITHIN_S = 15.0
ANSWER_WITHIN_S = 20.0
"""Long: a dropped packet that TCP repairs is slow, not failed."""
SLOW_S = 1.0
"""From here on a step counts as slow: a SYN, or its answer, was lost and sent again."""
ECHO_EVERY_S = 0.1
AFTER_FAILURE_S = 0.2
UPLOAD_BYTES = 64 * 1024
FAILURES_TOLD_MAX = 200


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: keepalive, close, download, upload, websocket or echo. ``clients`` at once, each pausing ``pause_s`` on
    average between two steps; a long one takes ``seconds`` on average (0 = the whole run)."""

    name: str
    kind: str
    host: str
    port: int
    clients: int
    tls: bool = False
    pause_s: float = 0.1
    seconds: float = 2.0


class Plan(msgspec.Struct, frozen=True):
    targets: tuple[Target, ...]
    seed: int = 1


class Failure(msgspec.Struct, frozen=True):
    """``at`` in seconds since the epoch; ``began`` so many seconds before it. ``reset_by``: the MAC whose reset came."""

    at: float
    target: str
    why: str
    began: float
    reset_by: str = ""


class Count(msgspec.Struct):
    """Of one target since the start. ``told``: closes that an answer announced (``Connection: close``)."""

    done: int = 0
    failed: int = 0
    idle_closes: int = 0
    connections: int = 0
    told: int = 0
    slow: int = 0
    slowest_ms: float = 0.0


class Report(msgspec.Struct):
    """``failures`` and ``idle`` are those since the last line."""

    counts: dict[str, Count]
    failures: list[Failure]
    idle: list[Failure]
    last: bool = False


class Cut(Exception):
    """The connection ended where it should not; the message is the reason."""


class IdleClose(Cut):
    """It was closed before a byte of the answer came, and had served a request before."""


class Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.served = 0

    def closed(self) -> bool:
        return self.reader.at_eof() or self.reader.exception() is not None

    async def send(self, data: bytes) -> None:
        """Raises OSError when the connection was cut."""
        if self.writer.is_closing():
            raise self.reader.exception() or ConnectionResetError("cut")
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, head: bytes) -> tuple[bytes, dict[bytes, bytes]]:
        """(status line, headers) of the answer. Raises Cut."""
        began = False
        try:
            await self.send(head)
            began = bool(first := await self.reader.read(1))
            if not began:
                raise Cut("closed before the answer")
            raw = first + await self.reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, Cut) as error:
            why = _words(error, "in the answer's head" if began else "before the answer")
            raise (IdleClose(why) if self.served and not began else Cut(why)) from error
        lines = raw.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        return lines[0], headers

    def drop(self) -> None:
        self.writer.transport.abort()


def _words(error: Exception, where: str) -> str:
    if isinstance(error, Cut):
        return str(error)
    if isinstance(error, asyncio.IncompleteReadError):
        return f"closed {where}"
    return f"{type(error).__name__} {where}"


class Client:
    """The steps of one target."""

    def __init__(self, target: Target, load: Load, rng: random.Random) -> None:
        self.target, self.load, self.rng = target, load, rng
        self.count = load.counts[target.name]
        self.steps: dict[str, Callable[[], Awaitable[None]]] = {
            "keepalive": self.keep_alive,
            "close": self.close,
            "download": self.download,
            "upload": self.upload,
            "websocket": self.websocket,
            "echo": self.echo,
        }
        self.link: Link | None = None
        self.port = 0

    async def run(self) -> None:
        step = self.steps[self.target.kind]
        while not self.load.stopping.is_set():
            await self._pause()
            began = time.time()
            try:
                await step()
                self.count.done += 1
            except (Cut, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                self.count.failed += 1
                why = str(error) if isinstance(error, Cut) else _words(error, "under way")
                self.load.failures.append(self._failure(why, began))
                if self.link is not None:
                    self.link.drop()
                    self.link = None
                await asyncio.sleep(AFTER_FAILURE_S)
        if self.link is not None:
            self.link.drop()

    def _failure(self, why: str, began: float) -> Failure:
        now = time.time()
        return Failure(now, self.target.name, why, round(now - began, 3), self.load.resets.sender(self.port))

    async def _pause(self) -> None:
        """Mostly short, sometimes so long that an idle connection sees a change pass."""
        mean = self.target.pause_s * (10 if self.rng.random() < 0.05 else 1)
        try:
            async with asyncio.timeout(min(5.0, self.rng.expovariate(1 / mean) if mean else 0.0)):
                await self.load.stopping.wait()
        except TimeoutError:
            pass

    def _seconds(self) -> float:
        return self.target.seconds * self.rng.uniform(0.5, 1.5)

    async def _connect(self) -> Link:
        began = time.monotonic()
        context, at = self.load.tls if self.target.tls else None, (self.target.host, self.target.port)
        plain = socket.socket()
        plain.setblocking(False)
        plain.bind(("", 0))  # so that the port is known of a connection that fails, too
        self.port = plain.getsockname()[1]
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await asyncio.get_running_loop().sock_connect(plain, at)
                name = self.target.host if context else None
                link = Link(*await asyncio.open_connection(sock=plain, ssl=context, server_hostname=name))
        except (OSError, TimeoutError) as error:
            plain.close()
            raise Cut(f"connection: {type(error).__name__} {error}".strip()) from error
        self.count.connections += 1
        self._took(began)
        return link

    def _took(self, began: float) -> None:
        took = time.monotonic() - began
        self.count.slow += took >= SLOW_S
        self.count.slowest_ms = max(self.count.slowest_ms, round(took * 1000, 1))

    # --- short ones ---

    async def keep_alive(self) -> None:
        if self.link is not None and self.link.closed():
            self._idle_close("closed while idle")
        try:
            await self._get(b"")
        except IdleClose as error:
            self._idle_close(str(error))
            await self._get(b"")

    def _idle_close(self, why: str) -> None:
        assert self.link is not None
        self.count.idle_closes += 1
        self.load.idle.append(self._failure(why, time.time()))
        self.link.drop()
        self.link = None

    async def close(self) -> None:
        await self._get(b"Connection: close\r\n")

    async def _get(self, more: bytes) -> None:
        if self.link is None:
            self.link = await self._connect()
        link, began = self.link, time.monotonic()
        async with asyncio.timeout(ANSWER_WITHIN_S):
            headers = await self._answered(link, b"GET / HTTP/1.1\r\nHost: lab\r\n" + more + b"\r\n")
            await self._body(link, int(headers.get(b"content-length", b"0")))
        self._took(began)
        link.served += 1
        if headers.get(b"connection") == b"close" or more:
            self.count.told += not more
            link.writer.close()
            self.link = None

    async def _answered(self, link: Link, head: bytes, status: bytes = b" 200 ") -> dict[bytes, bytes]:
        line, headers = await link.request(head)
        if status not in line + b" ":
            raise Cut(line.decode(errors="replace"))
        return headers

    async def _body(self, link: Link, size: int) -> None:
        try:
            await link.reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Cut(_words(error, "in the body")) from error

    # --- long ones, each on a connection of its own ---

    async def _alone(self, work: Callable[[Link], Awaitable[None]]) -> None:
        link = await self._connect()
        try:
            await work(link)
        finally:
            link.drop()

    async def download(self) -> None:
        seconds = self._seconds() if self.target.seconds else 3600.0

        async def work(link: Link) -> None:
            await self._answered(link, b"GET /stream?%.2f HTTP/1.1\r\nHost: lab\r\n\r\n" % seconds)
            while not (self.load.stopping.is_set() and not self.target.seconds):
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    try:
                        size = int((await link.reader.readuntil(b"\r\n")).strip(), 16)
                        await link.reader.readexactly(size + 2)
                    except (OSError, asyncio.IncompleteReadError) as error:
                        raise Cut(_words(error, "in the download")) from error
                if size == 0:
                    return

        await self._alone(work)

    async def upload(self) -> None:
        pieces = max(2, int(self._seconds() / ECHO_EVERY_S))
        piece = b"u" * (UPLOAD_BYTES // pieces)

        async def work(link: Link) -> None:
            await link.send(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: %d\r\n\r\n" % (pieces * len(piece)))
            for _ in range(pieces - 1):
                await link.send(piece)
                await asyncio.sleep(ECHO_EVERY_S)
                if link.closed():
                    raise Cut("closed in the upload")
            async with asyncio.timeout(ANSWER_WITHIN_S):
                headers = await self._answered(link, piece)
                await self._body(link, int(headers.get(b"content-length", b"0")))

        await self._alone(work)

    async def websocket(self) -> None:
        async def work(link: Link) -> None:
            head = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bG9hZCBvZiB0aGUgbGFiIQ==\r\n\r\n"
            await self._answered(link, head, b" 101 ")
            await self._talk(link)

        await self._alone(work)

    async def echo(self) -> None:
        await self._alone(self._talk)

    async def _talk(self, link: Link) -> None:
        """Something is said every now and then, and must come back."""
        until = time.monotonic() + self._seconds() if self.target.seconds else float("inf")
        number = 0
        while time.monotonic() < until and not (self.load.stopping.is_set() and not self.target.seconds):
            number += 1
            word, began = b"%016d" % number, time.monotonic()
            async with asyncio.timeout(ANSWER_WITHIN_S):
                try:
                    await link.send(word)
                    if await link.reader.readexactly(len(word)) != word:
                        raise Cut("something else came back")
                except (OSError, asyncio.IncompleteReadError) as error:
                    raise Cut(_words(error, f"after {number - 1} echoes")) from error
            self._took(began)
            await asyncio.sleep(ECHO_EVERY_S * self.rng.uniform(0.5, 1.5))


class Load:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.counts = {target.name: Count() for target in plan.targets}
        self.failures: list[Failure] = []
        self.idle: list[Failure] = []
        self.stopping = asyncio.Event()
        self.resets = Resets()
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        self.resets.start()
        async with asyncio.TaskGroup() as tasks:
            reporter = tasks.create_task(self._report())
            async with asyncio.TaskGroup() as clients:
                for target in self._plan.targets:
                    for number in range(target.clients):
                        rng = random.Random(f"{self._plan.seed}/{target.name}/{number}")
                        clients.create_task(Client(target, self, rng).run())
            reporter.cancel()
        self.resets.stop()
        self._tell(last=True)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._tell()

    def _tell(self, *, last: bool = False) -> None:
        report = Report(self.counts, self.failures[:FAILURES_TOLD_MAX], self.idle[:FAILURES_TOLD_MAX], last)
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()
        self.failures.clear()
        self.idle.clear()


if __name__ == "__main__":
    import uvloop

    uvloop.run(Load(msgspec.json.decode(sys.argv[1], type=Plan)).run())
