"""Texts replaced in the bodies of servers' answers (``content_rewrite``), on a real HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from shoal.wire.desired import Service

from .test_http import PORT, Documents, alone, of_documents, pool_of, ref, running

pytestmark = [pytest.mark.root, pytest.mark.beside]
__all__ = ["alone"]
TYPES = ("text/html", "application/*")
PAIRS = {"http://old.example": "https://new.example/", "a": "b", "b": "c", "old": "ancient", "gone": "", "abcd": "x"}
WITHIN_S = 10.0


def replaced(text: str, pairs: Mapping[str, str] = PAIRS) -> str:
    longest_first = sorted(pairs, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: pairs[found[0]], text)


def service(pairs: Mapping[str, str] = PAIRS, **http: Any) -> Service:
    made = [{"search_string": {"val": one}, "replacement_string": {"val": other}} for one, other in pairs.items()]
    rule = {"index": 1, "name": "r", "enable": True, "pairs": made}
    stored: Documents = {
        ("applicationprofile", "app"): {"type": "APPLICATION_PROFILE_TYPE_HTTP", "http_profile": http},
        ("pool", "a"): pool_of(0),
        ("stringgroup", "types"): {"kv": [{"key": one} for one in TYPES]},
    }
    wanted = {"rewritable_content_ref": ref("x", "types"), "rsp_rewrite_rules": [rule]}
    return of_documents(
        stored, pool_ref=ref("pool", "a"), application_profile_ref=ref("x", "app"), content_rewrite=wanted
    )


class Server:
    """Answers each path with what `give` said: heads, then pieces, one after the other."""

    def __init__(self) -> None:
        self._given: dict[str, tuple[list[str], list[bytes], float]] = {}
        self.asked: list[str] = []
        """Heads of requests."""

    def give(self, path: str, *heads: str, pieces: Iterable[str | bytes], every_s: float = 0.0) -> str:
        """Chunked, unless a head tells the length or that the connection ends."""
        data = [one.encode() if isinstance(one, str) else one for one in pieces]
        kind = (
            [] if any(one.startswith("Content-Type") for one in heads) else ["Content-Type: text/html; charset=utf-8"]
        )
        self._given[path] = [*kind, *heads], data, every_s
        return path

    def whole(self, path: str, text: str | bytes, *heads: str) -> str:
        data = text.encode() if isinstance(text, str) else text
        return self.give(path, f"Content-Length: {len(data)}", *heads, pieces=[data])

    async def answer(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.asked.append(head)
                method, path, _ = head.split(" ", 2)
                heads, pieces, every_s = self._given[path]
                status = next((one[8:] for one in heads if one.startswith("Status: ")), "200 OK")
                chunked = not any(one.startswith(("Content-Length", "Connection", "Status")) for one in heads)
                lines = [f"HTTP/1.1 {status}", *heads, *(["Transfer-Encoding: chunked"] if chunked else [])]
                writer.write("\r\n".join([*lines, "", ""]).encode())
                for piece in pieces if method != "HEAD" else ():
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    await writer.drain()
                    await asyncio.sleep(every_s)
                writer.write(b"0\r\n\r\n" if chunked and method != "HEAD" else b"")
                if "Connection: close" in heads:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def asking(folder: Path, server: Server, wanted: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running(folder, wanted, server.answer),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=WITHIN_S) as client,
    ):
        yield client


def splits(text: str, rng: random.Random) -> Iterator[str]:
    at = 0
    while at < len(text):
        size = rng.randint(1, 12)
        yield text[at : at + size]
        at += size


async def test_texts_are_replaced_in_what_may_be_changed_and_nowhere_else(tmp_path: Path) -> None:
    text = "<a href='http://old.example/'>ab abcd abc gone old http://old.exampl</a>"
    server = Server()
    server.whole("/html", text, 'ETag: "1"', "Content-MD5: x", "Accept-Ranges: bytes")
    server.whole("/json", text, "Content-Type: application/json")
    server.give("/close", "Connection: close", pieces=[text, "a gone", " http://old.exampl"], every_s=0.02)
    server.whole("/gone", "gone")
    server.whole("/empty", "")
    server.whole("/packed", gzip.compress(text.encode()), "Content-Encoding: gzip")
    server.whole("/part", text, "Status: 206 Partial Content", "Content-Range: bytes 0-9/100")
    server.whole("/none", "", "Status: 304 Not Modified")
    async with asking(tmp_path / "lab", server, service()) as client:
        found = await client.get("/html")
        assert (
            found.text
            == replaced(text)
            == "<b href='https://new.example//'>bc x bcc  ancient http://ancient.exbmpl</b>"
        )
        assert found.headers["etag"] == 'W/"1"'
        assert not {"content-length", "content-md5", "accept-ranges"} & set(found.headers)
        head = await client.head("/html")
        assert head.text == "" and "content-length" not in head.headers
        assert (await client.get("/json")).text == replaced(text)
        assert (await client.get("/close")).text == replaced(f"{text}a gone http://old.exampl")
        assert [(await client.get(path)).text for path in ("/gone", "/empty")] == ["\n", ""]
        for path in ("/packed", "/part"):
            assert (await client.get(path)).text == text, path
        assert (await client.get("/none")).status_code == 304
        assert not any("accept-encoding" in one.lower() for one in server.asked), "servers are not to compress"
        old = await asyncio.open_connection("127.0.0.1", PORT)
        old[1].write(b"GET /html HTTP/1.0\r\n\r\n")
        head_of_old, _, body = (await old[0].read()).partition(b"\r\n\r\n")
        assert body.decode() == text and b"chunked" not in head_of_old
        old[1].close()


async def test_it_does_not_matter_in_which_pieces_a_body_comes(tmp_path: Path) -> None:
    rng, server = random.Random(7), Server()
    words = [*PAIRS, *(one[:-1] for one in PAIRS if len(one) > 1), " ", "é", "abc", "http://"]
    texts = ["".join(rng.choices(words, k=60)) for _ in range(12)]
    for number, text in enumerate(texts):
        server.give(f"/{number}", pieces=splits(text, rng), every_s=0.001)
    large = "".join(rng.choices(words, k=60_000))
    server.give("/large", pieces=splits(large, random.Random(8)))
    server.whole("/length", large)
    async with asking(tmp_path / "lab", server, service()) as client:
        found = await asyncio.gather(*(client.get(f"/{number}") for number in range(len(texts))))
        assert [one.text for one in found] == [replaced(text) for text in texts]
        for path in ("/large", "/length"):
            assert (await client.get(path)).text == replaced(large), path


async def test_what_grows_goes_to_a_slow_client_piece_by_piece(tmp_path: Path) -> None:
    pairs = {"a": "A" * 500, "-": "A", "abcd": "x"}
    server, text = Server(), "a-" * 1000
    server.whole("/grows", text)
    async with asking(tmp_path / "lab", server, service(pairs)) as client:
        size = 0
        async with client.stream("GET", "/grows") as answer:
            async for piece in answer.aiter_raw(40_000):
                assert set(piece) == {ord("A")}
                size += len(piece)
                await asyncio.sleep(0.002)
        assert size == 501 * 1000
        many = await asyncio.gather(*(client.get("/grows") for _ in range(8)))
        assert {len(one.text) for one in many} == {size}


async def test_what_is_kept_is_the_servers_and_what_is_compressed_is_the_changed(tmp_path: Path) -> None:
    server, text = Server(), "a b " * 3000
    pairs = {"a": "aa"}
    server.whole("/", text, "Cache-Control: max-age=60")
    cached = {"cache_config": {"enabled": True, "min_object_size": 1}, "compression_profile": {"compression": True}}
    async with asking(tmp_path / "lab", server, service(pairs, **cached)) as client:
        for coding in ("identity", "gzip", "br", "gzip;q=0, br"):
            found = await client.get("/", headers={"Accept-Encoding": coding})
            assert found.text == replaced(text, pairs), coding
            assert found.headers.get("content-encoding") == ("gzip" if coding == "gzip" else None)
        assert len(server.asked) == 1 and found.headers["x-cache"] == "HIT"
        assert "accept-encoding" not in server.asked[0].lower()
