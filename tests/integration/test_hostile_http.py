"""A thousand hostile requests to a real HAProxy: it lives, and no server gets a request twice, or one that HAProxy did
not see as one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shoal.wire.desired import Pool, Server, Service
from shoal.wire.policy import Http

from .test_http import BACKEND, PORT, alone, answered, of_documents, running

__all__ = ["alone"]
pytestmark = [pytest.mark.root, pytest.mark.beside]

REQUESTS = 1_000
AT_A_TIME = 40
SEED = 20_260_801
ANSWER_WITHIN_S = 5.0
HEAD_TIMEOUT_MS = 400
Make = Callable[[random.Random, str], bytes]


class Parsed(msgspec.Struct):
    """What a server took for a request."""

    path: str
    forwarded_for: list[str]


class Recorder:
    """Servers that read bodies each in its own way, and note every request."""

    def __init__(self) -> None:
        self.seen: list[Parsed] = []

    async def serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = re.split(r"\r?\n", head)
                fields = [line.partition(":") for line in lines if line]
                values = [(key.strip().lower(), value.strip()) for key, _, value in fields]
                forwarded = [value for key, value in values if key == "x-forwarded-for"]
                self.seen.append(Parsed([*first.split(" "), ""][1], forwarded))
                await self._body(name, reader, values)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def _body(self, name: str, reader: asyncio.StreamReader, values: list[tuple[str, str]]) -> None:
        """The even servers go by Content-Length (the last one), the others by anything that says chunked."""
        lengths = [int(value) for key, value in values if key == "content-length"]
        chunked = any(key == "transfer-encoding" and "chunked" in value.lower() for key, value in values)
        by_length = name in ("s0", "s2") and lengths
        if chunked and not by_length:
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
        elif lengths:
            await reader.readexactly(lengths[-1])


# --- what is sent ---


def request(id: str, *headers: str | bytes, method: str = "POST", body: bytes = b"") -> bytes:
    lines = [f"{method} /r?id={id} HTTP/1.1".encode(), b"Host: a"]
    lines += (line if isinstance(line, bytes) else line.encode("latin-1") for line in headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def inner(id: str) -> bytes:
    """What is to pass for a request of its own."""
    return f"GET /r?id={id}-smuggled HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n".encode()


ENCODINGS = (
    "Transfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: chunked\x00",
    " Transfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer_Encoding: chunked",
    'Transfer-Encoding: "chunked"',
    "tRANSFER-eNCODING: CHUNKED",
)
LENGTHS = ("+5", "-1", "0x5", "5, 5", "5,6", "05", " 5 ", "5 5", "5\t", "99999999999999999999", "1e1", "", "5;q=1", "٥")
CHUNKS = (
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
    b"-1\r\n",
    b"5;a=\n\r\nhello\r\n0\r\n\r\n",
    b"0\n\n",
    b"5\rhello\r0\r\r",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"0\r\nContent-Length: 40\r\n\r\n",
    b"00000000000000000000000\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n",
)


def length_and_encoding(rng: random.Random, id: str) -> bytes:
    body = rng.choice(CHUNKS) + inner(id)
    length = rng.choice((len(body), 4, 0, len(body) - 1))
    return request(id, *rng.sample([f"Content-Length: {length}", rng.choice(ENCODINGS)], 2), body=body)


def encodings(rng: random.Random, id: str) -> bytes:
    return request(id, *rng.choices(ENCODINGS, k=rng.choice((1, 2))), body=rng.choice(CHUNKS) + inner(id))


def lengths(rng: random.Random, id: str) -> bytes:
    several = (f"Content-Length: {rng.choice((*LENGTHS, '5', '7'))}".encode() for _ in range(rng.choice((1, 2, 2))))
    return request(id, *several, body=b"hello" + inner(id))


def head(rng: random.Random, id: str) -> bytes:
    whole = request(id, "X-A: b", method="GET")
    return rng.choice(
        (
            whole.replace(b"\r\n", b"\n"),
            whole.replace(b"\r\n", b"\r"),
            whole.replace(b"X-A", b"X A"),
            whole.replace(b"X-A:", b"X-A\x00:"),
            whole.replace(b"Host: a", b"Host: a\r\nHost: b"),
            whole.replace(b"Host: a\r\n", b""),
            whole.replace(b" HTTP/1.1", rng.choice((b"", b" HTTP/9.9", b" HTTP/1.1 x", b" HTTP/1.10", b" http/1.1"))),
            whole.replace(b"GET ", rng.choice((b"GET\t", b"G\x00T ", b" GET ", b"", b"GET  "))),
            whole.replace(b"/r?", b"http://b@evil:80/r?"),
            whole.replace(b"/r?", b"\xff\xfe/r?"),
            whole.replace(b"/r?", b"/\xc0\xae\xc0\xae/\xed\xa0\x80?"),
            whole.replace(b"X-A: b", b"X-A: \xc3\x28\xf0\x9f"),
            whole.replace(b"X-A: b", b": b"),
            whole.replace(b"X-A: b", b"X-A b"),
            whole.replace(b"\r\nX-A: b", b"\r\n X-A: b\r\n c"),
            whole.replace(b"X-A: b", b"Connection: X-Forwarded-For, close, Host"),
        )
    )


def oversize(rng: random.Random, id: str) -> bytes:
    size = rng.choice((8_000, 20_000, 120_000))
    return rng.choice(
        (
            request(id, "X-A: " + "b" * size),
            request(id, *(f"X-{n}: b" for n in range(size // 40))),
            request(id + "&" + "a" * size, "X-A: b"),
            request(id, "Cookie: " + "a=b; " * (size // 5)),
            b"A" * size,
            request(id, "Transfer-Encoding: chunked", body=b"5;" + b"a" * size + b"\r\nhello\r\n0\r\n\r\n"),
        )
    )


def other_protocols(rng: random.Random, id: str) -> bytes:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return rng.choice(
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(300),
            preface + rng.randbytes(200),
            preface
            + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
            + b"\xff\xff\xff\x01\x04\x00\x00\x00\x01"
            + rng.randbytes(99),
            preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 300,
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + request(id),
            request(id, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk") + inner(id),
            rng.randbytes(rng.randint(1, 2_000)),
            b"\r\n" * 2_000 + request(id, method="GET"),
        )
    )


def pipelined(rng: random.Random, id: str) -> bytes:
    return request(id, method="GET") + rng.choice((encodings, lengths, head))(rng, f"{id}-next")


def cut_short(rng: random.Random, id: str) -> bytes:
    whole = request(id, "Content-Length: 50", body=b"a" * 50)
    return whole[: rng.randrange(len(whole))]


KINDS: tuple[Make, ...] = (
    length_and_encoding,
    encodings,
    lengths,
    head,
    oversize,
    other_protocols,
    pipelined,
    cut_short,
)


async def attack(data: bytes, *, hold: bool) -> None:
    """``hold``: the client goes on holding its end open, and says nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    with contextlib.suppress(OSError):
        writer.write(data)
        if not hold:
            writer.write_eof()
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while await reader.read(65_536):
                pass
    writer.close()


async def slow(id: str) -> float:
    """One octet at a time, until HAProxy has had enough: how long that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    with contextlib.suppress(OSError):
        async with asyncio.timeout(ANSWER_WITHIN_S):
            for octet in request(id, "X-A: " + "b" * 500, method="GET"):
                writer.write(bytes([octet]))
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await reader.read()
                        break
    writer.close()
    return loop.time() - began


def service() -> Service:
    servers = tuple(Server(name=f"s{number}", address="127.0.0.1", port=BACKEND + number) for number in range(4))
    pool = Pool(id="p", name="p", algorithm="LB_ALGORITHM_ROUND_ROBIN", servers=servers)
    http = Http(head_timeout_ms=HEAD_TIMEOUT_MS)
    return msgspec.structs.replace(of_documents({}), pool=pool, http=http, client_idle_s=2)


async def test_a_thousand_hostile_requests_neither_stop_haproxy_nor_reach_a_server_twice(tmp_path: Path) -> None:
    rng, recorder = random.Random(SEED), Recorder()
    made = [(KINDS[number % len(KINDS)](rng, str(number)), rng.random() < 0.1) for number in range(REQUESTS)]
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(data: bytes, hold: bool) -> None:
        async with gate:
            await attack(data, hold=hold)

    async with running(tmp_path, service(), recorder.serve):
        async with asyncio.TaskGroup() as group:
            slowly = [group.create_task(slow(f"slow-{number}")) for number in range(20)]
            for data, hold in made:
                group.create_task(one(data, hold))
        assert max(task.result() for task in slowly) < HEAD_TIMEOUT_MS / 1000 + 1
        assert (await answered("/r?id=after")).status == 200, "HAProxy lives"
    twice = {path: count for path, count in Counter(found.path for found in recorder.seen).items() if count > 1}
    assert not twice, f"seed {SEED}"
    strange = [found for found in recorder.seen if found.forwarded_for != ["127.0.0.1"]]
    assert not strange, f"HAProxy did not see them as requests, seed {SEED}: {strange[:5]}"
    assert not any("slow" in found.path for found in recorder.seen)
    assert len(recorder.seen) > REQUESTS / 20, "too few get through: the attack tells nothing"
