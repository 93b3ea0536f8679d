"""Steady traffic: ``python -m shoal.lab.traffic RATE ADDRESS:PORT ...``; a JSON line per target and second."""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec

CONNECTIONS = 4
"""Per target; half keep their connection, half make one for each request."""
ANSWER_WITHIN_S = 1.0


class Second(msgspec.Struct, frozen=True):
    """One second of one target. ``p99_ms`` of the good requests; ``servers``: how often each answered."""

    target: str
    requests: int
    errors: int
    p99_ms: float
    servers: dict[str, int]


class Tally:
    def __init__(self, target: str) -> None:
        self.target = target
        self.reset()

    def reset(self) -> None:
        self.took: list[float] = []
        self.errors = 0
        self.servers: dict[str, int] = {}

    def take(self) -> Second:
        took = sorted(self.took)
        p99 = took[int(len(took) * 0.99)] * 1000 if took else 0.0
        second = Second(self.target, len(took) + self.errors, self.errors, round(p99, 2), self.servers)
        self.reset()
        return second


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tally: Tally, close: bool) -> None:
    began = time.monotonic()
    async with asyncio.timeout(ANSWER_WITHIN_S):
        writer.write(b"GET / HTTP/1.1\r\nHost: lab\r\n" + (b"Connection: close\r\n" if close else b"") + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line)
        body = await reader.readexactly(int(lines.get(b"content-length", b"0")))
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ConnectionError(head.split(b"\r\n", 1)[0].decode(errors="replace"))
    tally.took.append(time.monotonic() - began)
    name = body.decode(errors="replace").strip()[:40]
    tally.servers[name] = tally.servers.get(name, 0) + 1


async def client(host: str, port: int, every_s: float, close: bool, tally: Tally) -> None:
    """One connection's worth of requests, at a fixed pace."""
    link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    due = time.monotonic()
    while True:
        due = max(due + every_s, time.monotonic() - 1.0)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            if link is None:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    link = await asyncio.open_connection(host, port)
            await _request(*link, tally, close)
            failed = False
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            tally.errors += 1
            failed = True
        if (failed or close) and link is not None:
            link[1].transport.abort()
            link = None


async def main(rate: float, targets: list[str]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tallies = []
        for target in targets:
            host, _, port = target.rpartition(":")
            tally = Tally(target)
            tallies.append(tally)
            for index in range(CONNECTIONS):
                tasks.create_task(client(host, int(port), CONNECTIONS / rate, index % 2 == 1, tally))
        while True:
            await asyncio.sleep(1.0)
            for tally in tallies:
                sys.stdout.buffer.write(msgspec.json.encode(tally.take()) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(float(sys.argv[1]), sys.argv[2:]))
