"""The HTTP face in the hands of those who mean ill: TLS, slowness, size, number, other sites (docs/security.md)."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from shoal.api import connections, limits
from shoal.api.rates import BUCKETS_MAX, LOGINS_AT_ONCE, Rates
from shoal.errors import TooMany
from tests.api_served import Controller
from tests.api_world import HOST, PASSWORD, World, api_world

HEAD = b"GET /api/initial-data HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("served")) as controller:
        yield controller


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


def context(**wanted: object) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    for name, value in wanted.items():
        setattr(made, name, value)
    return made


def connected(served: Controller, tls: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", served.port), timeout=10)
    return (tls or context()).wrap_socket(plain, server_hostname="localhost")


def told(connection: ssl.SSLSocket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    try:
        while data := connection.recv(65_536):
            found += data
    except (ConnectionError, ssl.SSLError):
        pass
    return found


# --- TLS ---


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_before_1_2_is_refused(served: Controller, version: ssl.TLSVersion) -> None:
    tls = context(minimum_version=version, maximum_version=version)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connected(served, tls)


@pytest.mark.parametrize(
    "ciphers",
    ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE+AES:!AESGCM", "DHE", "aNULL:@SECLEVEL=0", "kRSA", "3DES:@SECLEVEL=0"],
)
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(served: Controller, ciphers: str) -> None:
    tls = context(maximum_version=ssl.TLSVersion.TLSv1_2)
    try:
        tls.set_ciphers(ciphers)
    except ssl.SSLError:
        pytest.skip("OpenSSL here has none of them any more")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connected(served, tls)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_modern_tls_is_taken_without_compression(served: Controller, version: ssl.TLSVersion) -> None:
    with connected(served, context(minimum_version=version, maximum_version=version)) as connection:
        name = (connection.cipher() or ("",))[0]
        assert "GCM" in name or "CHACHA20" in name
        assert connection.compression() is None
        connection.sendall(HEAD + b"Connection: close\r\n\r\n")
        assert told(connection).startswith(b"HTTP/1.1 200")


def test_plain_http_gets_no_answer(served: Controller) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert b"HTTP/1.1 200" not in connection.recv(65_536)


def test_nobody_says_for_himself_where_he_comes_from(served: Controller) -> None:
    """Limits and the audit trail go by the address."""
    with httpx.Client(verify=False, trust_env=False, base_url=f"https://127.0.0.1:{served.port}") as client:
        client.headers["X-Forwarded-For"] = "6.6.6.6"
        reply = client.post("/login", data={"username": "admin", "password": PASSWORD})
        client.headers["X-CSRFToken"] = reply.cookies["csrftoken"]
        made = client.post("/api/pool", json={"name": "from-here"})
        assert made.status_code == 201, made.text
        events = client.get("/api/analytics/logs?type=2&filter=co(all,from-here)").json()["results"]
    assert [event["client_ip"] for event in events] == ["127.0.0.1"]


# --- slowness and size ---


def test_a_head_that_does_not_come_ends_the_connection(served: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.5)
    began = time.monotonic()
    with connected(served) as silent, connected(served) as slow, connected(served) as second:
        slow.sendall(HEAD)
        second.sendall(HEAD + b"\r\n")
        assert second.recv(65_536).startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /")  # and never the rest of it
        for number in range(4):
            slow.sendall(f"X-Drip: {number}\r\n".encode())
            time.sleep(0.1)
        for connection in (silent, slow, second):
            assert b"HTTP/1.1 200" not in told(connection)
    assert time.monotonic() - began < 8


def test_a_body_that_trickles_after_the_answer_ends_too(served: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.5)
    with connected(served) as connection:
        connection.sendall(b"POST /api/pool HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
        began = time.monotonic()
        with pytest.raises((ConnectionError, ssl.SSLError, AssertionError)):
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)
                assert time.monotonic() - began < 5
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Long: " + b"x" * 100_000,
        b"".join(b"X-%d: y\r\n" % n for n in range(20_000)),
        b"Cookie: " + b"a=b; " * 30_000,
    ],
)
def test_a_head_longer_than_anybody_needs_is_refused(served: Controller, lines: bytes) -> None:
    with connected(served) as connection:
        try:
            connection.sendall(HEAD + lines)
        except (ConnectionError, ssl.SSLError):
            return
        assert b"HTTP/1.1 200" not in told(connection)


def test_one_address_has_its_share_of_connections(served: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_PER_ADDRESS_MAX", 5)
    with httpx.Client(verify=False, trust_env=False) as client:
        open_now = [connected(served) for _ in range(5)]
        with pytest.raises(httpx.HTTPError):
            client.get(f"https://127.0.0.1:{served.port}/api/initial-data")
        for connection in open_now:
            connection.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                assert client.get(f"https://127.0.0.1:{served.port}/api/initial-data").status_code == 200
                return
            except httpx.HTTPError:
                time.sleep(0.05)
    pytest.fail("the places of closed connections are not free again")


async def test_a_body_past_its_bound_is_refused_unread(world: World) -> None:
    big = b'{"name": "' + b"x" * limits.BODY_BYTES_MAX + b'"}'
    for path in ("/api/pool", "/api/whatif", "/login", "/api/useraccount"):
        method = "PUT" if path.endswith("account") else "POST"
        reply = await world.client.request(method, path, content=big, headers={"Content-Type": "application/json"})
        assert reply.status_code == 413, path

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield b"x" * 1_000

    reply = await world.client.post("/api/pool", content=endless())
    assert reply.status_code == 413
    async with world.stranger() as client:
        upload = await client.post("/api/configuration/import", content=big * 2)
        assert upload.status_code == 401, "whoever may not upload is not read"


async def test_a_request_that_takes_too_long_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_WITHIN_S", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    reply = await world.client.post("/api/pool", content=slow())
    assert reply.status_code == 400 and "did not arrive" in reply.json()["error"]


# --- number ---


def test_a_bucket_gives_so_many_at_once_and_then_so_many_a_second() -> None:
    now = [0.0]
    rates = Rates(lambda: now[0])
    for _ in range(10):
        rates.take("requests", "a", 2, 10)
    with pytest.raises(TooMany) as refused:
        rates.take("requests", "a", 2, 10)
    assert refused.value.retry_after_s == 1
    rates.take("requests", "b", 2, 10)
    now[0] = 0.5
    rates.take("requests", "a", 2, 10)
    with pytest.raises(TooMany):
        rates.take("requests", "a", 2, 10)
    for number in range(BUCKETS_MAX + 10):
        rates.take("requests", f"c{number}", 2, 10)
    assert len(rates._buckets) == BUCKETS_MAX


async def test_users_and_addresses_are_limited_as_configured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.app, "_rates", Rates(lambda: 0.0))
    change = {"replace": {"portal_request_rate_limit": 5, "portal_request_burst_limit": 20}}
    await world.call("PATCH", "/api/controllerproperties", 200, json=change)
    statuses = [(await world.client.get("/api/cluster/version")).status_code for _ in range(60)]
    assert 429 in statuses and statuses.count(200) < 45
    refused = next(
        r for r in [await world.client.get("/api/cluster/version") for _ in range(20)] if r.status_code == 429
    )
    assert int(refused.headers["Retry-After"]) >= 1
    async with world.stranger() as client:
        assert (await client.get("/api/initial-data")).status_code == 429, "the address is the same"


async def test_logins_from_an_address_are_limited_whatever_the_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.app, "_rates", Rates(lambda: 0.0))
    async with world.stranger() as client:
        forms = [{"username": f"nobody{n}", "password": "x"} for n in range(LOGINS_AT_ONCE + 30)]
        replies = await asyncio.gather(*(client.post("/login", data=form) for form in forms))
    assert {reply.status_code for reply in replies} == {401, 429}


async def test_programs_that_log_in_for_every_call_are_no_guessers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.app, "_rates", Rates(lambda: 0.0))
    async with world.stranger() as client:
        for _ in range(LOGINS_AT_ONCE + 30):
            reply = await client.post("/login", data={"username": "admin", "password": PASSWORD})
            assert reply.status_code == 200, reply.text
            client.cookies.clear()


# --- other sites ---


async def test_every_answer_carries_what_browsers_go_by(world: World) -> None:
    for path in ("/api/pool", "/api/nothing", "/", "/api/initial-data"):
        headers = (await world.client.get(path)).headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
        assert "Access-Control-Allow-Origin" not in headers
    async with world.stranger() as client:
        reply = await client.post("/login", data={"username": "admin", "password": PASSWORD})
        cookies = reply.headers.get_list("set-cookie")
        assert all("Secure" in cookie and "SameSite=lax" in cookie for cookie in cookies)
        assert ["HttpOnly" in cookie for cookie in cookies] == [False, True, True]


async def test_another_sites_page_can_neither_write_nor_log_in(world: World) -> None:
    async with world.stranger() as client:
        form = {"username": "admin", "password": PASSWORD}
        for origin in ("https://evil.example", "null", f"https://{HOST}.evil.example"):
            assert (await client.post("/login", data=form, headers={"Origin": origin})).status_code == 403, origin
        own = await client.post("/login", data=form, headers={"Origin": f"https://{HOST}"})
        assert own.status_code == 200
    evil = {"Origin": "https://evil.example"}
    assert (await world.client.post("/api/pool", json={"name": "p"}, headers=evil)).status_code == 403
    assert (await world.client.get("/api/pool", headers=evil)).status_code == 200
