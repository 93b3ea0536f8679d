"""One look at one server, of each kind: what is taken for well, and what is said of what is not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from shoal.controller.pki import self_signed_default
from shoal.engine.monitors import radius
from shoal.engine.monitors.connection import Wrong, context
from shoal.engine.monitors.probe import Ill, probe
from shoal.wire.monitors import File, Folder, Mail, Monitor, MonitorTls, Script, Search, Shared, Sip

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Its port."""
    talks: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await talk(reader, writer)
            await writer.drain()
        writer.close()

    def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks[writer] = asyncio.create_task(answer(reader, writer))

    server = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer, task in talks.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*talks.values(), return_exceptions=True)
        await asyncio.sleep(0)


def replies(greeting: str, **by_word: str) -> Talk:
    """Answers the first word of each line."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting.encode())
        while line := (await reader.readline()).decode().split():
            words = [word for word in line[:2] if word in by_word]
            writer.write(by_word[words[0]].encode() if words else b"502 what?\r\n")

    return talk


async def seen(monitor: Monitor, port: int, host: str = "", tls: MonitorTls | None = None) -> str:
    """ "" or what is wrong, "!" before what counts at once."""
    try:
        await probe(monitor, "127.0.0.1", port, host, tls)
    except Ill as ill:
        return f"{'!' if ill.at_once else ''}{ill}"
    return ""


def a(kind: str, **fields: object) -> Monitor:
    return Monitor(name="m", kind=kind, **{"timeout_s": 2, **fields})  # type: ignore[arg-type]


# --- HTTP and TCP ---


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        (a("HTTP", codes=("HTTP_5XX",), response="well"), ""),
        (a("HTTP", codes=("HTTP_ANY",)), ""),
        (a("HTTP"), "the status is 503"),
        (a("HTTP", codes=("HTTP_5XX",), response="other"), "the answer lacks 'other'"),
        (a("HTTP", codes=("HTTP_ANY",), maintenance_codes=(500, 503)), "!maintenance: the server answers 503"),
        (a("HTTP", codes=("HTTP_ANY",), maintenance="X-Well"), "!maintenance: the server's answer has 'X-Well'"),
        (a("HTTP", codes=("HTTP_ANY",), response="end", answer_bytes=8000), ""),
        (a("HTTP", codes=("HTTP_ANY",), response="end"), "the answer lacks 'end'"),
    ],
)
async def test_http_answers(monitor: Monitor, said: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"all is well" + b"." * 4000 + b"end"
        writer.write(b"HTTP/1.1 503 X\r\nX-Well: 1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with listening(talk) as port:
        assert await seen(monitor, port) == said


async def test_an_http_request_is_as_configured_and_knows_the_server_and_the_user() -> None:
    heads: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode() + (await reader.read(3)).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    asks = a("HTTP", request="POST /x HTTP/1.1\\r\\nX-A: b", body="abc", user="u", password="p")
    async with listening(talk) as port:
        assert await seen(asks, port, "www.example.org") == ""
    lines = heads[0].split("\r\n")
    assert lines[:2] == ["POST /x HTTP/1.1", "X-A: b"] and lines[-1] == "abc"
    assert {"Host: www.example.org", "Authorization: Basic dTpw", "Content-Length: 3"} <= set(lines)


async def test_tls_is_verified_where_there_are_authorities() -> None:
    key, certificate = (text.decode() for text in self_signed_default("server"))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")

    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with contextlib.closing(os.fdopen(os.memfd_create("pem"), "w")) as file:
        file.write(certificate + key)
        file.flush()
        served.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    other = self_signed_default("other")[1].decode()
    async with listening(talk, served) as port:
        assert await seen(a("HTTPS"), port, tls=MonitorTls()) == ""
        assert await seen(a("HTTPS"), port, tls=MonitorTls(authorities=certificate)) == ""
        assert "CERTIFICATE_VERIFY_FAILED" in await seen(a("HTTPS"), port, tls=MonitorTls(authorities=other))
        wrong_name = MonitorTls(authorities=certificate, server_name="no.example")
        assert "CERTIFICATE_VERIFY_FAILED" in await seen(a("HTTPS"), port, tls=wrong_name)
    context.cache_clear()


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        (a("TCP", request="hi", response="220", maintenance="rest"), ""),
        (a("TCP", response="no", maintenance="rest", timeout_s=1), "no answer within 1 s"),
        (a("TCP", response="no", maintenance="hello"), "!maintenance: the server's answer has 'hello'"),
    ],
)
async def test_tcp_answers(monitor: Monitor, said: str) -> None:
    async with listening(replies("220 hello\r\n")) as port:
        assert await seen(monitor, port) == said


# --- mail, files, directories ---

SMTP = {"EHLO": "250-x\r\n250 AUTH PLAIN\r\n", "AUTH": "235 ok\r\n", "MAIL": "250 ok\r\n", "RCPT": "550 no\r\n"}
FTP = {"USER": "331 ?\r\n", "PASS": "230 in\r\n", "TYPE": "200 ok\r\n", "RETR": "550 none\r\n", "EPRT": "200 ok\r\n"}


@pytest.mark.parametrize(
    ("kind", "talk", "fields", "said"),
    [
        ("SMTP", replies("220-a\r\n220 b\r\n", **SMTP), {"user": "u", "asks": Mail(domain="d")}, ""),
        ("SMTP", replies("554 no\r\n"), {}, "the greeting is answered by '554 no'"),
        ("SMTP", replies("220 b\r\n", **SMTP), {"asks": Mail(sender="a@b", recipients=("c@d",))}, "RCPT TO:<c@d> is answered by '550 no'"),
        ("POP3", replies("+OK\r\n", USER="+OK\r\n", PASS="+OK\r\n"), {"user": "u", "password": "p"}, ""),
        ("POP3", replies("+OK\r\n", USER="+OK\r\n", PASS="-ERR\r\n"), {"user": "u"}, "PASS is answered by '-ERR'"),
        ("IMAP", replies("* OK\r\n", LOGIN="a1 OK\r\n", SELECT="* 3 EXISTS\r\na2 OK\r\n"), {"user": "u", "asks": Folder(name="INBOX")}, ""),
        ("IMAP", replies("* OK\r\n", LOGIN="a1 NO bad\r\n"), {"user": "u"}, "LOGIN is answered by 'a1 NO bad'"),
        ("IMAP", replies("* BYE\r\n"), {}, "the greeting is '* BYE'"),
        ("FTP", replies("220 x\r\n", **FTP), {"asks": File(name="f", passive=False)}, "RETR f is answered by '550 none'"),
        ("LDAP", replies("no ldap\r\n"), {"asks": Search(base="dc=x"), "timeout_s": 1}, None),
    ],
)  # fmt: skip
async def test_servers_that_talk_in_lines(kind: str, talk: Talk, fields: dict[str, object], said: str | None) -> None:
    async with listening(talk) as port:
        found = await seen(a(kind, **fields), port)
        assert found == said if said is not None else found


async def test_a_file_is_fetched() -> None:
    async def data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"content")

    async with listening(data) as aside:
        told = {**FTP, "EPSV": f"229 Extended (|||{aside}|)\r\n", "RETR": "150 coming\r\n226 done\r\n"}
        async with listening(replies("220 x\r\n", **told)) as port:
            assert await seen(a("FTP", asks=File(name="f")), port) == ""


# --- RADIUS and SIP ---


def test_radius_answers_prove_that_they_know_the_secret() -> None:
    monitor = a("RADIUS", user="u", password="a password of more than sixteen", asks=Shared(secret="s"))
    asked = radius.request(monitor)
    assert b"a password" not in asked and len(asked) == int.from_bytes(asked[2:4], "big")

    def answer(code: int, secret: bytes = b"s") -> bytes:
        head = bytes([code, asked[1], 0, 20])
        return head + hashlib.md5(head + asked[4:20] + secret).digest()

    assert radius.accepted(asked, answer(2), monitor)
    assert not radius.accepted(asked, answer(2, b"other"), monitor)
    assert not any(radius.accepted(asked, answer(2)[:cut], monitor) for cut in range(20))
    with pytest.raises(Wrong, match="rejected"):
        radius.accepted(asked, answer(3), monitor)


async def test_sip_over_tcp() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SIP/2.0 200 OK\r\n\r\n" if head.startswith(b"OPTIONS sip:127.0.0.1") else b"no\r\n")

    async with listening(talk) as port:
        assert await seen(a("SIP", response="SIP/2.0", asks=Sip(tcp=True)), port) == ""
        assert (await seen(a("SIP", response="SIP/3", asks=Sip(tcp=True)), port)).startswith("the answer is")


# --- scripts ---


def script(code: str, seconds: int = 3, **fields: tuple[str, ...]) -> Monitor:
    return a("EXTERNAL", timeout_s=seconds, asks=Script(code=code, **fields))


@pytest.mark.root
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('[ "$1 $2 $3 $A $HM_NAME" = "127.0.0.1 7 b c d m" ] && echo up', ""),
        ('[ "$IP $PORT" = "127.0.0.1 7" ] && [ "$PWD" = "$HOME" ] && touch here && echo up', ""),
        ("#!/usr/bin/env python3\nimport os\nprint('x' if os.getuid() else '')", ""),
        ("echo bad >&2; exit 3", "the script ends with 3: 'bad\\n'"),
        ("true", "the script says nothing"),
        ("cat /etc/shadow || touch /etc/x", None),
        ("#!/no/such\n", None),
        ('env | grep -v "^\\(PATH\\|HOME\\|IP\\|PORT\\|HM_NAME\\|POOL\\|LANG\\|A\\|PWD\\|OLDPWD\\|SHLVL\\|_\\)=" || true', "the script says nothing"),
        ("grep CapBnd /proc/self/status | grep -v 0000000000000000; grep NoNewPrivs.*0 /proc/self/status; true", "the script says nothing"),
    ],
)  # fmt: skip
async def test_a_script_decides_by_what_it_says(code: str, said: str | None) -> None:
    found = await seen(script(code, parameters=("b c d",) if "b c d" in code else (), variables=("A=d",)), 7)
    if said is None:
        assert "the script ends with" in found
    elif "b c d m" in code:
        assert found in ("", "the script ends with 1")
    else:
        assert found == said


@pytest.mark.root
@pytest.mark.parametrize("code", ["sleep 61 & sleep 61", "setsid sleep 61 & trap '' TERM; while :; do :; done"])
async def test_nothing_of_a_script_outlives_its_time(code: str) -> None:
    assert await seen(script(code, 1), 7) == "no answer within 1 s"
    async with asyncio.timeout(2):  # the kernel ends the namespace beside us
        while _runs(b"sleep\x0061\x00"):
            await asyncio.sleep(0.01)


def _runs(command: bytes) -> bool:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if file.read_bytes() == command:
                return True
    return False


@pytest.mark.root
async def test_a_script_that_writes_without_end_is_ended() -> None:
    assert await seen(script("yes"), 7) == ""
