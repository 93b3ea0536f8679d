"""Fields of HTTP application profiles, as documents, on a real HAProxy: what clients and servers then see."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.engine.haproxy import render
from shoal.engine.haproxy.client_log import socket_address
from shoal.wire.client_logs import LogPolicy, parse
from shoal.wire.desired import Service

from .test_http import (
    PORT,
    Document,
    Documents,
    alone,
    answered,
    ask,
    of_documents,
    pool_of,
    ref,
    rule,
    running,
    text,
)

pytestmark = [pytest.mark.root, pytest.mark.beside]
__all__ = ["alone"]
NO_ANSWER_S = 0.15
Fields = dict[str, Any]


def profiled(
    documents: Documents | None = None, policies: Document | None = None, limits: Document | None = None, **http: Any
) -> Service:
    """A virtual service with these fields in its HTTP profile, and rate ``limits`` beside them."""
    profile = {"http_profile": http, "dos_rl_profile": {"rl_profile": dict(limits or {})}}
    stored: Documents = {
        ("applicationprofile", "app"): {"type": "APPLICATION_PROFILE_TYPE_HTTP", **profile},
        ("pool", "a"): pool_of(0),
        ("httppolicyset", "set"): dict(policies or {}),
        **(documents or {}),
    }
    links = [{"index": 1, "http_policy_set_ref": ref("x", "set")}]
    return of_documents(stored, pool_ref=ref("pool", "a"), application_profile_ref=ref("x", "app"), http_policies=links)


class Connection:
    """One that stays open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *lines: str, body: str = "") -> None:
        self.writer.write(("\r\n".join([*lines, "Host: a", "", ""]) + body).encode())

    async def head(self, within_s: float = 3.0) -> str:
        """Of the next answer; its body is read, too."""
        async with asyncio.timeout(within_s):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (line[16:] for line in head.lower().split("\r\n") if line.startswith("content-length: ")), "0"
            )
            await self.reader.readexactly(int(length))
        return head

    async def ends(self, within_s: float = 3.0) -> bool:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(within_s):
                return await self.reader.read() == b""
        return False


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_header_says_who_the_client_is(tmp_path: Path) -> None:
    refuse = {"action": {"action": "HTTP_SECURITY_ACTION_CLOSE_CONN"}}
    client = {"match_criteria": "IS_IN", "prefixes": [{"ip_addr": {"addr": "192.0.2.0"}, "mask": 24}]}
    source = {"match_criteria": "IS_IN", "addrs": [{"addr": "127.0.0.1"}]}
    told = [
        {"action": "HTTP_ADD_HDR", "hdr": {"name": name, "value": {"var": f"HTTP_POLICY_VAR_{name.upper()}_IP"}}}
        for name in ("Client", "Source")
    ]
    sets = {
        "http_security_policy": {"rules": [rule(1, match={"client_ip": client}, **refuse)]},
        "http_request_policy": {"rules": [rule(1, match={"source_ip": source}, hdr_action=told)]},
    }
    last: Fields = {"use_true_client_ip": True, "true_client_ip": {"direction": "RIGHT", "index_in_header": 2}}
    async with running(tmp_path / "last", profiled(policies=sets, xff_update="APPEND_TO_THE_XFF_HEADER", **last)):
        assert await ask("/", X_Forwarded_For="8.8.8.8, 192.0.2.7, 9.9.9.9") is None
        found = await answered("/", X_Forwarded_For="192.0.2.7, 8.8.8.8, 9.9.9.9")
        assert (found.sent("client"), found.sent("source")) == ("8.8.8.8", "127.0.0.1")
        assert found.sent("x-forwarded-for") == "192.0.2.7, 8.8.8.8, 9.9.9.9, 127.0.0.1"
        for header in ({}, {"X_Forwarded_For": "192.0.2.7"}, {"X_Forwarded_For": "nobody, 8.8.8.8"}):
            assert (await answered("/", **header)).sent("client") == "127.0.0.1", "nothing is said at that place"
    named: Fields = {"use_true_client_ip": True, "true_client_ip": {"headers": ["X-Real"]}}
    async with running(tmp_path / "named", profiled(policies=sets, **named)):
        assert await ask("/", X_Real="192.0.2.7") is None
        found = await answered("/", X_Real="2001:db8::1", X_Forwarded_For="192.0.2.7")
        assert (found.sent("client"), found.sent("x-forwarded-for")) == ("2001:db8::1",) * 2
    kept: Documents = {
        ("applicationpersistenceprofile", "kept"): {"persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS"},
        ("pool", "a"): pool_of(0, 1, application_persistence_profile_ref=ref("x", "kept")),
    }
    async with running(tmp_path / "kept", profiled(kept, **named)):
        servers = [(await answered("/", X_Real=f"10.0.{n}.1")).headers["x-server"] for n in range(20)]
        assert set(servers) == {"s0", "s1"}


async def test_heads_are_bounded_and_cleaned(tmp_path: Path) -> None:
    sizes: Fields = {"client_max_header_size": 2, "client_max_request_size": 4, "max_header_count": 12}
    async with running(tmp_path / "small", profiled(max_response_headers_size=1, **sizes)):
        found = await answered("/", **{"X.Dot": "1", "X_Dash": "1", "Give_X_Accel_Redirect": "/secret"})
        assert (found.sent("x.dot"), found.sent("x-dash"), found.headers.get("x-accel-redirect")) == ("", "1", None)
        assert (await answered("/", X_A="a" * 2000)).status == 200
        assert (await answered("/", X_A="a" * 2050)).status == 431, "one header is too large"
        three = {f"X_{letter}": "a" * 1500 for letter in "abc"}
        assert (await answered("/", **three)).status == 431, "all together are"
        assert (await answered("/", **{f"X_{number}": "1" for number in range(11)})).status == 200
        assert (await answered("/", **{f"X_{number}": "1" for number in range(12)})).status == 431
        assert (await answered("/", Give_X_A="a" * 1100)).status == 502
        assert (await answered("/", **{f"Give_X_{number}": "1" for number in range(11)})).status == 502
    large: Fields = {"client_max_header_size": 40, "max_header_count": 0, "max_response_headers_size": 50}
    accepts: Fields = {"allow_dots_in_header_name": True, "pass_through_x_accel_headers": True}
    async with running(tmp_path / "large", profiled(**large, **accepts)):
        found = await answered("/", **{"X.Dot": "1", "Give_X_Accel_Redirect": "/public"})
        assert (found.sent("x.dot"), found.headers["x-accel-redirect"]) == ("1", "/public")
        assert len((await answered("/", X_A="a" * 39_000)).sent("x-a")) == 39_000
        assert (await answered("/", X_A="a" * 41_000)).status == 431
        many = await answered("/", **{f"X_{number}": "1" for number in range(1000)})
        assert many.sent("x-999") == "1"
        assert len((await answered("/", Give_X_A="a" * 20_000)).headers["x-a"]) == 20_000


async def test_connections_last_as_long_as_the_profile_says(tmp_path: Path) -> None:
    fields: Fields = {"keepalive_timeout": 1000, "max_keepalive_requests": 3, "keepalive_header": True}
    async with running(tmp_path / "own", profiled(**fields)), connected() as one, connected() as idle:
        heads = []
        for _ in range(3):
            one.send("GET / HTTP/1.1", "Give-Keep-Alive: timeout=77")
            heads.append((await one.head()).lower())
        assert ["connection: close" in head for head in heads] == [False, False, True]
        assert all("keep-alive: timeout=1\r\n" in head and "77" not in head for head in heads)
        assert await one.ends()
        begun = time.monotonic()
        idle.send("GET / HTTP/1.1")
        await idle.head()
        assert await idle.ends() and 0.8 < time.monotonic() - begun < 2.5
    async with running(tmp_path / "theirs", profiled(**fields, use_app_keepalive_timeout=True)):
        assert (await answered("/", Give_Keep_Alive="timeout=77")).headers["keep-alive"] == "timeout=77"
        assert (await answered("/")).headers["keep-alive"] == "timeout=1"


async def test_http2_connections_are_bounded(tmp_path: Path) -> None:
    service = profiled(
        http2_profile={"max_http2_concurrent_streams_per_connection": 7, "http2_initial_window_size": 128}
    )
    listeners = tuple(msgspec.structs.replace(one, http2=True) for one in service.listeners)
    async with running(tmp_path / "x", msgspec.structs.replace(service, listeners=listeners)), connected() as one:
        one.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        head = await one.reader.readexactly(9)
        assert head[3] == 4, "SETTINGS (RFC 9113, 6.5)"
        body = await one.reader.readexactly(int.from_bytes(head[:3]))
        pairs = [body[at : at + 6] for at in range(0, len(body), 6)]
        said = {int.from_bytes(pair[:2]): int.from_bytes(pair[2:]) for pair in pairs}
        assert (said[3], said[4]) == (7, 128 * 1024)


async def test_bodies_are_waited_for_as_the_profile_says(tmp_path: Path) -> None:
    post = ("POST / HTTP/1.1", "Content-Length: 4")
    expecting = (*post, "Expect: 100-continue")
    async with running(tmp_path / "engine", profiled()), connected() as one:
        one.send(*expecting)
        assert "100 Continue" in await one.head(), "the server says no such thing"
        one.writer.write(b"body")
        assert "200 Text" in await one.head()
    async with running(tmp_path / "server", profiled(respond_with_100_continue=False)), connected() as one:
        one.send(*expecting)
        assert "200 Text" in await one.head(), "the server is asked, and answers at once"
    async with running(tmp_path / "as_it_comes", profiled(client_body_timeout=200)), connected() as one:
        one.send(*post, body="bo")
        assert "200 Text" in await one.head()
    waits: Fields = {"enable_request_body_buffering": True, "client_body_timeout": 400}
    async with running(tmp_path / "whole", profiled(**waits)), connected() as one, connected() as silent:
        one.send(*post, body="bo")
        with pytest.raises(TimeoutError):
            await one.head(NO_ANSWER_S)
        one.writer.write(b"dy")
        assert "200 Text" in await one.head()
        silent.send(*post, body="bo")
        assert "408" in await silent.head(), "half a body is none"


def limit(count: int, **more: Any) -> dict[str, Any]:
    action = {"type": "RL_ACTION_LOCAL_RSP", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_429"}
    return {"rate_limiter": {"count": count, "period": 60}, "action": action, **more}


async def statuses(*paths: str, **headers: str) -> list[int]:
    return [(await answered(path, **headers)).status for path in paths]


async def test_requests_are_limited_by_how_many_failed_and_by_a_header(tmp_path: Path) -> None:
    per_client = {"client_ip_failed_requests_rate_limit": limit(2), "client_ip_requests_rate_limit": limit(8)}
    async with running(tmp_path / "client", profiled(limits=per_client)):
        assert await statuses("/", "/", "/status/404", "/status/500", "/") == [200, 200, 404, 500, 200]
        assert await statuses("/status/404", "/", "/a") == [404, 429, 429], "of both kinds of errors there are three"
    for field in ("uri_failed_requests_rate_limit", "client_ip_to_uri_failed_requests_rate_limit"):
        async with running(tmp_path / field[:12], profiled(limits={field: limit(1)})):
            assert await statuses(*["/status/404"] * 3, "/status/500") == [404, 404, 429, 500], field
    async with running(
        tmp_path / "header", profiled(limits={"http_header_rate_limits": [limit(2, http_header="X-Key")]})
    ):
        assert await statuses(*["/"] * 3, X_Key="a") == [200, 200, 429]
        assert await statuses("/", X_Key="b") == [200] and await statuses(*["/"] * 3) == [200] * 3
    async with running(tmp_path / "cookie", profiled(limits={"http_header_rate_limits": [limit(1, http_cookie="id")]})):
        assert await statuses("/", "/", Cookie="id=1") == [200, 429] and await statuses("/", Cookie="id=2") == [200]
    for field, paths in {"max_rps_cip": ["/"] * 25, "max_bad_rps_uri": ["/status/404"] * 25}.items():
        async with running(tmp_path / field[:12], profiled(None, None, None, **{field: 10})):
            found = await statuses(*paths)
            assert found[0] != 429 and found[-1] == 429, field


async def test_strangers_are_limited_until_they_have_proved_to_be_well_behaved(tmp_path: Path) -> None:
    fine, failing = ["/"] * 50, ["/status/404"] * 30
    for number, field in enumerate(("client_ip_scanners_requests_rate_limit", "uri_scanners_requests_rate_limit")):
        async with running(tmp_path / f"few{number}", profiled(limits={field: limit(5)})):
            assert await statuses(*fine[:7]) == [200] * 5 + [429] * 2, "a stranger"
        async with running(tmp_path / f"good{number}", profiled(limits={field: limit(25)})):
            assert await statuses(*fine) == [200] * 50, "it is known to behave well"
        async with running(tmp_path / f"bad{number}", profiled(limits={field: limit(28)})):
            assert await statuses(*failing) == [404] * 19 + [429] * 11, "it is known to behave ill"
    async with running(tmp_path / "second", profiled(max_rps_unknown_cip=10)):
        found = await statuses(*["/"] * 19)
        assert found[0] == 200 and found[-1] == 429


async def test_a_half_closed_connection_ends_when_it_is_idle_unless_it_is_kept_alive(tmp_path: Path) -> None:
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def late(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if await reader.read() == b"all":
                await asyncio.sleep(1.8)
                writer.write(b"late")
                ended.put_nowait(None)
        writer.close()

    async def said(kept: bool) -> bytes:
        proxy = {"idle_connection_timeout": 1, "keepalive_in_halfclose_state": kept}
        documents: Documents = {
            ("applicationprofile", "l4"): {"type": "APPLICATION_PROFILE_TYPE_L4"},
            ("networkprofile", "tcp"): {"profile": {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": proxy}},
            ("pool", "a"): pool_of(0),
        }
        profiles: Fields = {"application_profile_ref": ref("x", "l4"), "network_profile_ref": ref("x", "tcp")}
        service = of_documents(documents, pool_ref=ref("pool", "a"), **profiles)
        async with running(tmp_path / str(kept), service, late), connected() as one:
            one.writer.write(b"all")
            one.writer.write_eof()
            heard = await one.reader.read()
            await ended.get()
        return heard

    assert [await said(kept) for kept in (True, False)] == [b"late", b""]


async def test_rules_may_want_a_request_logged(tmp_path: Path) -> None:
    added = [{"action": "HTTP_ADD_HDR", "hdr": {"name": "X-Rule", "value": {"val": "1"}}}]
    found = {"match_criteria": "IS_IN", "status_codes": [204]}
    sets = {
        "http_security_policy": {
            "rules": [
                rule(1, match={"path": text("EQUALS", "/s")}, action={"action": "HTTP_SECURITY_ACTION_ALLOW"}, log=True)
            ]
        },
        "http_request_policy": {
            "rules": [
                rule(1, match={"path": text("EQUALS", "/only")}, log=True),
                rule(2, match={"path": text("EQUALS", "/and")}, log=True, hdr_action=added),
                rule(3, match={"path": text("EQUALS", "/quiet")}, hdr_action=added),
            ]
        },
        "http_response_policy": {"rules": [rule(1, match={"status": found}, log=True)]},
    }
    service = msgspec.structs.replace(profiled(policies=sets), log=LogPolicy(sampled_of=10**9))
    facts = render.Facts(directory=str(tmp_path / "log"), sockets="", descriptors_max=0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lines:
        lines.bind(socket_address(render.log_socket(facts)))
        lines.settimeout(3.0)
        async with running(tmp_path / "log", service):
            assert await statuses("/s", "/only", "/and", "/quiet", "/status/204", "/status/404") == [
                *[200] * 4,
                204,
                404,
            ]
        heard = [parse(lines.recv(4000)) for _ in range(5)]
        lines.setblocking(False)
        with pytest.raises(BlockingIOError):
            lines.recv(4000)
    assert [(one.rest.split()[1], one.told) for one in heard if one is not None] == [
        ("/s", True),
        ("/only", True),
        ("/and", True),
        ("/status/204", True),
        ("/status/404", False),
    ]


async def test_a_client_that_does_not_acknowledge_is_given_up(tmp_path: Path) -> None:
    network = {"profile": {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": {"max_retransmissions": 3}}}
    documents: Documents = {
        ("applicationprofile", "l4"): {"type": "APPLICATION_PROFILE_TYPE_L4"},
        ("networkprofile", "tcp"): network,
        ("pool", "a"): pool_of(0),
    }
    service = of_documents(
        documents,
        application_profile_ref=ref("x", "l4"),
        network_profile_ref=ref("x", "tcp"),
        pool_ref=ref("pool", "a"),
    )
    ended: asyncio.Queue[float] = asyncio.Queue()

    async def speak(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(5) == b"hello":
            _deaf()
            begun = time.monotonic()
            writer.write(b"nobody hears this")
            with contextlib.suppress(OSError):
                await reader.read()
            ended.put_nowait(time.monotonic() - begun)
        writer.close()

    async with running(tmp_path / "x", service, speak):
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(b"hello")
        async with asyncio.timeout(9):
            assert await ended.get() > 2, "three times, and no more"
        writer.close()


def _deaf() -> None:
    """From now on clients hear nothing."""
    chain = "add table ip t; add chain ip t out { type filter hook output priority 0; }"
    subprocess.run(["nft", f"{chain}; add rule ip t out tcp sport {PORT} drop"], check=True)


async def test_answers_are_compressed_for_whom_the_filters_say(tmp_path: Path) -> None:
    documents: Documents = {
        ("stringgroup", "phones"): {"kv": [{"key": "Phone"}, {"key": "Tablet"}]},
        ("ipaddrgroup", "near"): {"addrs": [{"addr": "127.0.0.1"}]},
    }

    near = {"begin": {"addr": "127.0.0.0"}, "end": {"addr": "127.0.0.9"}}

    async def asked(agent: str) -> tuple[bool, str]:
        """(whether it was compressed, what the server was asked)"""
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        lines = ["GET / HTTP/1.1", "Host: a", "Connection: close", f"User-Agent: {agent}", "Accept-Encoding: gzip"]
        writer.write("\r\n".join([*lines, "Give-Content-Type: text/html", "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        compressed = b"content-encoding: gzip" in head.lower()
        return compressed, (gzip.decompress(_unchunked(body)) if compressed else body).decode()

    def service(first: Document, **more: Any) -> Service:
        never = {"name": "n", "index": 2, "level": "NO_COMPRESSION", "user_agent": ["Old"]}
        rest = {"name": "r", "index": 3, "level": "NORMAL_COMPRESSION", "ip_addr_ranges": [near], "user_agent": ["New"]}
        phones = {
            "name": "f",
            "index": 1,
            "level": "AGGRESSIVE_COMPRESSION",
            "devices_ref": ref("x", "phones"),
            **first,
        }
        wanted = {"compression": True, "type": "CUSTOM_COMPRESSION", "filter": [rest, never, phones], **more}
        return profiled(documents, compression_profile=wanted)

    async with running(tmp_path / "near", service({"ip_addrs_ref": ref("x", "near")})):
        found = [await asked(agent) for agent in ("my phone 7", "Old New", "New", "Other")]
        assert [compressed for compressed, _ in found] == [True, False, True, False]
        assert not any("Accept-Encoding" in text for _, text in found), "servers are not to compress"
    elsewhere = {"ip_addrs_ref": ref("x", "near"), "match": "IS_NOT_IN"}
    async with running(tmp_path / "far", service(elsewhere, remove_accept_encoding_header=False)):
        assert not (await asked("my phone 7"))[0]
        compressed, text = await asked("New")
        assert compressed and "accept-encoding: gzip" in text.lower()


def _unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        found, body = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        if not int(size, 16):
            break
    return found
