"""TLS profiles, as documents, on a real HAProxy: whom it believes, whom clients and servers believe it to be."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import subprocess
import time
import urllib.parse
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from joserfc import jwt
from joserfc.jwk import RSAKey

from shoal.controller import desired, http_profile, policies
from shoal.controller.tls import tls_of
from shoal.engine import measure
from shoal.engine.counters import Tally
from shoal.engine.haproxy import certificates, render, runtime, stats, tls
from shoal.objects import views
from shoal.wire import policy
from shoal.wire.desired import (
    Certificate,
    Credential,
    Listener,
    Monitor,
    Pool,
    Server,
    Service,
    Tickets,
    Tls,
    TlsFor,
)
from tests.issuer import Issued, Issuer, exchange_parameters

from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]

STARTED_WITHIN_S = 5.0
TLS_PORT, PLAIN_PORT = 9443, 9080
Document = dict[str, Any]
GOOD, OTHER = Issuer("Good"), Issuer("Other")
APP = GOOD.issue("app.internal", "app2.internal")
FRONT = GOOD.issue("www.example.com")
PLAIN = Pool(id="p", name="p", servers=(Server(name="s", address="127.0.0.1", port=PLAIN_PORT),))
BEGINNINGS = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")
"""Of versions 1 and 2 of the PROXY protocol."""


class Documents:
    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Document] = {}

    def add(self, type: str, uuid: str, **fields: Any) -> str:
        self.found[type, uuid] = {"uuid": uuid, "name": uuid, **fields}
        return f"/api/{type}/{uuid}"

    def get(self, type: str, uuid: str) -> Document | None:
        return self.found.get((type, uuid))

    def authorities(self, name: str, *pems: str, lists: tuple[str, ...] = (), **more: Any) -> str:
        bodies = [{"certificate": pem} for pem in pems]
        return self.add("pkiprofile", name, ca_certs=bodies, crls=[{"body": one} for one in lists], **more)

    def certificate(self, name: str, issued: Issued) -> str:
        body = {"certificate": issued.certificate}
        return self.add("sslkeyandcertificate", name, certificate=body, key=issued.key)


class Lab:
    """Services on ports of 127.0.0.1, from documents; servers that say whom they see."""

    def __init__(self, folder: Path) -> None:
        self.documents = Documents()
        self.services: dict[str, Service] = {}
        self.folder = folder
        self.tickets: tuple[bytes, bytes, bytes] = (b"1" * 32, b"2" * 32, b"3" * 32)

    def serve(
        self,
        port: int,
        pool: Pool,
        profile: Document | None = None,
        *,
        plain: bool = True,
        lenient: bool = False,
        **more: Any,
    ) -> None:
        """``profile``: an ``http_profile``; its port has TLS unless ``plain``. ``lenient``: the service's
        ``allow_invalid_client_cert``. ``more`` is for `Service`."""
        http = {"http_profile": profile or {}}
        kept = views.view({"uuid": "a", "name": "a", "type": "x", **http}, views.ApplicationProfile)
        self.services[f"s{port}"] = Service(
            id=f"s{port}",
            name=f"s{port}",
            vip="v",
            addresses=("127.0.0.1",),
            enabled=True,
            mode="http",
            listeners=(Listener(port=port, port_end=port, tls=not plain),),
            pool=pool,
            certificates=() if plain else ("front",),
            http=http_profile.http_of(self.documents, profile or {}),
            client_certificates=desired._client_certificates(self.documents, kept, http=True, lenient=lenient),
        )
        self.services[f"s{port}"] = msgspec.structs.replace(self.services[f"s{port}"], **more)

    def tls(self, **fields: Any) -> Tls:
        """Of clients, with an SSL profile of these fields."""
        versions = [{"type": "SSL_VERSION_TLS1_2"}, {"type": "SSL_VERSION_TLS1_3"}]
        document = {"uuid": "t", "name": "t", "accepted_versions": versions, **fields}
        return tls_of(views.view(document, views.SslProfile), of_clients=True)

    def pool(self, modes: Collection[bool] = (), **fields: Any) -> Pool:
        """To the TLS server, with a profile unless another is given. ``modes``: whether the service's ports have TLS."""
        document = {"uuid": "p", "name": "p", "ssl_profile_ref": "/api/sslprofile/plain", **fields}
        server = {"ip": {"addr": "127.0.0.1"}, "port": TLS_PORT}
        typed = views.view({**document, "servers": [server]}, views.Pool)
        return desired.pool_part(self.documents, typed, modes=modes)

    def _credentials(self) -> Iterator[Credential]:
        yield Certificate(id="front", name="front", pem=FRONT.pem)
        yield Tickets(id="group", secrets=self.tickets)
        for service in self.services.values():
            for kind, uuid in desired.credentials_of(service):
                if kind == "trust":
                    found = desired.trust_part(self.documents, uuid)
                    assert found is not None
                    yield found
                elif uuid != "front":
                    certificate = desired.certificate_part(self.documents, uuid, lambda text, context: text)
                    assert certificate is not None
                    yield certificate

    def write(self, facts: render.Facts) -> certificates.Written:
        return certificates.write(facts, certificates.files(self._credentials(), self.services.values()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[render.Facts]:
        folder = str(self.folder)
        facts = render.Facts(directory=folder, sockets=folder, descriptors_max=4000)
        Path(render.draining_file(facts)).touch()
        Path(render.chroot_folder(facts)).mkdir()
        Path(render.state_file(facts)).write_text("1\n")
        self.write(facts)
        file = self.folder / "haproxy.cfg"
        hosts = {id: [one for one in self.services.values() if one.parent == id] for id in self.services}
        fragments = {id: render.service_fragment(one, facts, hosts[id]) for id, one in self.services.items()}
        file.write_text(render.config(facts, fragments))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(APP.write(self.folder / "app.pem"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=GOOD.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        told: dict[ssl.SSLObject | ssl.SSLSocket, str] = {}
        context.sni_callback = lambda tls, name, _: told.update({tls: name or ""})

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen = writer.get_extra_info("ssl_object")
            peer = (writer.get_extra_info("peercert") or {}).get("subject", ((("", ""),),)) if seen else ((("", ""),),)
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    body = f"{head}sni: {told.get(seen, '')}\r\npeer: {peer[0][0][1]}\r\n".encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            writer.close()

        servers = [
            await asyncio.start_server(answer, "127.0.0.1", TLS_PORT, ssl=context),
            await asyncio.start_server(answer, "127.0.0.1", PLAIN_PORT),
        ]
        child = await asyncio.create_subprocess_exec("haproxy", "-db", "-f", str(file), stderr=subprocess.PIPE)
        try:
            async with asyncio.timeout(STARTED_WITHIN_S):
                while child.returncode is None and not Path(render.alive_socket(facts)).exists():
                    await asyncio.sleep(0.01)
            assert child.returncode is None, (await child.stderr.read()).decode() if child.stderr else ""
            yield facts
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()
            for server in servers:
                server.close()


class Answer(dict[str, str]):
    """What the server saw: its request's headers, ``sni`` and ``peer``."""

    status = 0


async def ask(
    port: int,
    host: str = "www.example.com",
    context: ssl.SSLContext | None = None,
    address: str = "127.0.0.1",
    **headers: str,
) -> Answer:
    """Raises ConnectionError or ssl.SSLError when the client is refused."""
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=context and host)
    return await _exchange(reader, writer, host, headers)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, headers: Mapping[str, str]
) -> Answer:
    lines = ["GET / HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        text = (await reader.read()).decode()
    finally:
        writer.close()
    if not text:
        raise ConnectionResetError("no answer")
    head, _, body = text.partition("\r\n\r\n")
    pairs = (line.partition(": ") for line in body.splitlines() if ": " in line)
    answer = Answer({name.lower(): value for name, _, value in pairs})
    answer.status = int(head.split()[1])
    return answer


async def asked(port: int, context: ssl.SSLContext, host: str = "www.example.com") -> Answer:
    """Asks for ``host`` over a connection to www.example.com."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="www.example.com")
    return await _exchange(reader, writer, host, {})


def client(folder: Path, issued: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=GOOD.pem)
    if issued is not None:
        context.load_cert_chain(issued.write(folder / "client.pem"))
    return context


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with private_host():
        yield Lab(tmp_path)


async def test_servers_are_verified_as_the_pool_says(lab: Lab) -> None:
    documents = lab.documents
    good, other = documents.authorities("good", GOOD.pem), documents.authorities("other", OTHER.pem)
    revoked = documents.authorities("revoked", GOOD.pem, lists=(GOOD.revoked(APP.parsed),))
    unlisted = documents.authorities("unlisted", GOOD.pem, lists=(GOOD.revoked(FRONT.parsed),))
    unheeded = documents.authorities("unheeded", GOOD.pem, lists=(GOOD.revoked(APP.parsed),), crl_check=False)
    own = documents.certificate("own", GOOD.issue("engine"))
    documents.add("sslprofile", "plain", accepted_versions=[{"type": "SSL_VERSION_TLS1_2"}])
    newest = documents.add("sslprofile", "newest", accepted_versions=[{"type": "SSL_VERSION_TLS1_3"}])
    checked: Document = {"pki_profile_ref": good, "host_check_enabled": True}
    name, wrong = {"domain_name": ["app.internal"]}, {"domain_name": ["db.internal"]}
    cases: list[tuple[str, Document, int, str]] = [
        ("anybody", {}, 200, "www.example.com"),
        ("anybody, told nothing", {"sni_enabled": False}, 200, ""),
        ("anybody, told a name", {"server_name": "app2.internal"}, 200, "app2.internal"),
        ("by its issuer", {"pki_profile_ref": good}, 200, ""),
        ("of another issuer", {"pki_profile_ref": other}, 503, ""),
        ("for the right name", {**checked, **name}, 200, "app.internal"),
        ("for another name", {**checked, **wrong}, 503, ""),
        ("for the name told", {**checked, "server_name": "app2.internal"}, 200, "app2.internal"),
        ("for another than is told", {**checked, "server_name": "db.internal"}, 503, ""),
        ("for a name that is not told", {**checked, **name, "sni_enabled": False}, 200, ""),
        ("for another name that is not told", {**checked, **wrong, "sni_enabled": False}, 503, ""),
        ("revoked", {"pki_profile_ref": revoked}, 503, ""),
        ("another is revoked", {"pki_profile_ref": unlisted}, 200, ""),
        ("revoked, and nobody looks", {"pki_profile_ref": unheeded}, 200, ""),
        ("of another version", {"ssl_profile_ref": newest}, 503, ""),
    ]
    for number, (_, fields, _, _) in enumerate(cases):
        lab.serve(8100 + number, lab.pool(**fields))
    lab.serve(8200, lab.pool(**checked))
    lab.serve(8201, lab.pool(ssl_key_and_certificate_ref=own))
    lab.serve(8202, lab.pool(server_name="app.internal", rewrite_host_header_to_sni=True))
    lab.serve(8203, lab.pool(server_name="app.internal", rewrite_host_header_to_sni=True, append_port="NEVER"))
    async with lab.running():
        answers = await asyncio.gather(*(ask(8100 + number) for number in range(len(cases))))
        for (case, _, status, told), found in zip(cases, answers, strict=True):
            assert (found.status, found.get("sni", "")) == (status, told), case
        assert (await ask(8200, "app.internal")).status == 200, "the request's host is what is checked"
        assert (await ask(8200, "app.internal:8200"))["sni"] == "app.internal"
        assert (await ask(8200, "db.internal")).status == 503
        assert (await ask(8200, "")).status == 400, "without a host any certificate would do"
        assert (await ask(8201))["peer"] == "engine"
        assert (await ask(8100))["peer"] == ""
        assert (await ask(8202))["host"] == f"app.internal:{TLS_PORT}"
        assert (await ask(8203))["host"] == "app.internal"


async def test_servers_are_spoken_to_as_the_clients_port_says(lab: Lab, tmp_path: Path) -> None:
    """One pool to whoever looks, with its servers' one state."""
    beside = "127.0.0.2"
    monitor = {"type": "HEALTH_MONITOR_TCP", "send_interval": 3600, "monitor_port": PLAIN_PORT}
    lab.documents.found["healthmonitor", "m"] = {"uuid": "m", "name": "m", **monitor}
    fields: Document = {
        "use_service_port": True,
        "use_service_ssl_mode": True,
        "health_monitor_refs": ["/api/healthmonitor/m"],
    }
    ports = tuple(Listener(port=port, port_end=port, tls=port == TLS_PORT) for port in (PLAIN_PORT, TLS_PORT))
    pool = lab.pool([False, True], ssl_profile_ref="", **fields)
    lab.serve(1, pool, addresses=(beside,), listeners=ports, certificates=("front",))
    both = ((PLAIN_PORT, None), (TLS_PORT, client(tmp_path)))
    async with lab.running() as facts:

        async def answers() -> list[tuple[int, str]]:
            found = [await ask(port, context=context, address=beside) for port, context in both]
            return [(answer.status, answer.get("sni", "")) for answer in found]

        async def told(command: str) -> str:
            return await runtime.command(render.admin_socket(facts), command)

        assert await answers() == [(200, ""), (200, "www.example.com")]
        await told(f"set server be_s1:p/127.0.0.1:{TLS_PORT} health down")
        assert [status for status, _ in await answers()] == [503, 503]
        await told(f"set server be_s1:p/127.0.0.1:{TLS_PORT} health up")
        assert [status for status, _ in await answers()] == [200, 200]
        rows = stats.parse_rows(await told("show stat"))
    (state,) = measure.server_states(lab.services, rows)
    assert (state.pool, state.state, state.sessions_total) == ("p", "up", 4)
    tally = Tally()
    tally.take("w", [])
    tally.take("w", rows)
    (counted,) = tally.report(lab.services)[0].pools
    assert counted.id == "p" and [(name, one.requests) for name, one in counted.servers] == [(state.server, 4)]


async def test_clients_show_certificates_and_servers_are_told(lab: Lab, tmp_path: Path) -> None:
    documents = lab.documents
    alice, bob = GOOD.issue("alice"), GOOD.issue("bob")
    below = Issuer("Below", GOOD)
    carol = below.issue("carol")
    carol = Issued(carol.certificate + below.pem, carol.key)
    trust = documents.authorities("good", GOOD.pem, lists=(GOOD.revoked(bob.parsed), below.revoked()))
    whole = documents.authorities("whole", GOOD.pem, lists=(below.revoked(),), validate_only_leaf_crl=False)
    told = {"X-Subject": "SUBJECT", "X-Serial": "SERIAL", "X-Pem": "ESCAPED", "X-Raw": "RAW", "X-End": "NOTVALIDAFTER"}
    headers = [
        {"request_header": n, "request_header_value": f"HTTP_POLICY_VAR_SSL_CLIENT_{v}"} for n, v in told.items()
    ]
    for port, mode, authorities in ((8300, "REQUIRE", trust), (8301, "REQUEST", trust), (8302, "REQUIRE", whole)):
        profile = {
            "ssl_client_certificate_mode": f"SSL_CLIENT_CERTIFICATE_{mode}",
            "pki_profile_ref": authorities,
            "ssl_client_certificate_action": {"headers": headers},
        }
        lab.serve(port, PLAIN, profile, plain=False)
    action = {"headers": [*headers, {"request_header": "X-Only"}], "close_connection": True}
    lab.serve(8303, PLAIN, {**profile, "pki_profile_ref": trust, "ssl_client_certificate_action": action}, plain=False)
    stranger = OTHER.issue("alice")
    lab.serve(8304, PLAIN, {**profile, "pki_profile_ref": trust}, plain=False, lenient=True)
    async with lab.running():
        for port in (8300, 8301):
            found = await ask(port, context=client(tmp_path, alice), X_Subject="/CN=root")
            assert (found.status, found["x-subject"]) == (200, "/CN=alice")
            assert int(found["x-serial"], 16) == alice.parsed.serial_number
            pem = urllib.parse.unquote(found["x-pem"])
            assert x509.load_pem_x509_certificate(pem.encode()) == alice.parsed
            raw = found["x-raw"].replace("E----- ", "E-----\n").replace(" -----E", "\n-----E")
            assert x509.load_pem_x509_certificate(raw.encode()) == alice.parsed
            assert found["x-end"] == alice.parsed.not_valid_after_utc.strftime("%y%m%d%H%M%SZ")
        assert (await ask(8303, context=client(tmp_path, alice)))["x-subject"] == "/CN=alice"
        for header in ("X_Subject", "X_Only"):
            with pytest.raises(ConnectionError):
                await ask(8303, context=client(tmp_path, alice), **{header: "/CN=root"})
        assert (await ask(8300, context=client(tmp_path, carol)))["x-subject"] == "/CN=carol", (
            "by one below, not listed"
        )
        for refused in (None, bob, stranger, GOOD.issue("late", old=True)):
            with pytest.raises((OSError, ssl.SSLError)):
                await ask(8300, context=client(tmp_path, refused))
            found = await ask(8301, context=client(tmp_path, refused), X_Subject="/CN=root", X_End="never")
            assert found.status == 200 and "x-subject" not in found and "x-end" not in found
            assert ("x-pem" in found) == (refused is not None), "the server may judge for itself"
        with pytest.raises((OSError, ssl.SSLError)):
            await ask(8302, context=client(tmp_path, carol))
        for served in (alice, bob, stranger):
            found = await ask(8304, context=client(tmp_path, served), X_Subject="/CN=root")
            assert found.status == 200 and "x-pem" in found, "one is required, and a bad one will do"
            assert found.get("x-subject") == ("/CN=alice" if served is alice else None), "what nobody vouches for"
        with pytest.raises((OSError, ssl.SSLError)):
            await ask(8304, context=client(tmp_path))


async def test_some_clients_speak_other_tls(lab: Lab, tmp_path: Path) -> None:
    new = TlsFor(clients=policy.Test(of="client", values=("127.0.0.2",)), tls=Tls(version_min="TLSv1.3"))
    old = TlsFor(clients=policy.Test(of="client", values=("127.0.0.3", "127.0.0.2")), tls=Tls(version_max="TLSv1.2"))
    lab.serve(8500, PLAIN, plain=False, tls_for=(new, old))
    good = client(tmp_path)
    twelve = client(tmp_path)
    twelve.maximum_version = ssl.TLSVersion.TLSv1_2

    async def spoken(address: str, context: ssl.SSLContext) -> str:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", 8500, ssl=context, server_hostname="www.example.com", local_addr=(address, 0)
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
        told = (await reader.read()).decode().lower()
        assert f"x-forwarded-for: {address}" in told
        version: str = writer.get_extra_info("ssl_object").version()
        writer.close()
        return version

    async with lab.running():
        assert [await spoken(f"127.0.0.{n}", good) for n in (1, 2, 3)] == ["TLSv1.3", "TLSv1.3", "TLSv1.2"]
        assert await spoken("127.0.0.1", twelve) == "TLSv1.2"
        with pytest.raises((OSError, ssl.SSLError)):
            await spoken("127.0.0.2", twelve)


async def test_virtual_hosts_behind_one_tls_know_that_it_was_spoken(lab: Lab, tmp_path: Path) -> None:
    profile = {"x_forwarded_proto_enabled": True, "hsts_enabled": True}
    ports = tuple(Listener(port=port, port_end=port, tls=port == 8600) for port in (8600, 8601))
    lab.serve(8600, PLAIN, profile, plain=False, by_request=True, listeners=ports)
    hosts: dict[str, Any] = {"parent": "s8600", "matches": ((policy.Test(of="host", values=("www.example.com",)),),)}
    lab.serve(8602, PLAIN, profile, by_request=True, listeners=ports, **hosts)
    async with lab.running():
        over = await ask(8600, context=client(tmp_path), X_Forwarded_Proto="http")
        assert over["x-forwarded-proto"] == "https", "of the child"
        for host in ("www.example.com", "other.example.com"):
            assert (await ask(8601, host, X_Forwarded_Proto="https"))["x-forwarded-proto"] == "http"


async def s_client(port: int, folder: Path, *arguments: str, name: str = "www.example.com") -> str:
    """What OpenSSL's client says of a handshake and one request."""
    (folder / "good.pem").write_text(GOOD.pem)
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-CAfile", "good.pem"]
    child = await asyncio.create_subprocess_exec(
        *command, "-ign_eof", *arguments, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await child.communicate(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
    return said.decode(errors="replace")


async def test_sessions_are_resumed_at_every_engine_and_at_no_other_service(lab: Lab, tmp_path: Path) -> None:
    for port in (8400, 8401):
        lab.serve(port, PLAIN, plain=False, tls=Tls(tickets=True, session_s=3600))
    other = Lab(tmp_path / "other")
    other.folder.mkdir()
    other.services = {"s8400": msgspec.structs.replace(lab.services["s8400"], addresses=("127.0.0.2",))}

    async def resumed(port: int, version: str) -> bool:
        said = await s_client(port, tmp_path, f"-tls1_{version}", "-sess_in", f"session{version}")
        assert "HTTP/1.1 200" in said and ("Reused, TLS" in said or "New, TLS" in said), said
        return "Reused, TLS" in said

    versions = ("2", "3")
    async with lab.running() as facts:
        for version in versions:
            await s_client(8400, tmp_path, f"-tls1_{version}", "-sess_out", f"session{version}")
        assert [await resumed(8400, version) for version in versions] == [True, True]
        assert [await resumed(8401, version) for version in versions] == [False, False]
        lab.tickets = (*lab.tickets[1:], b"4" * 32)  # the next day
        written = lab.write(facts)
        assert len(written.replaced) == 2 and not written.odd
        files = certificates.files(lab._credentials(), lab.services.values())
        assert await certificates.replace(facts, {name: files[name] for name in written.replaced})
        assert [await resumed(8400, version) for version in versions] == [True, True]
        for version in versions:
            await s_client(8400, tmp_path, f"-tls1_{version}", "-sess_out", f"session{version}")
    lab.tickets = (b"5" * 32, *lab.tickets[1:])
    assert len(lab.write(facts).odd) == 2, "what does not follow upon the keys before takes a reload"
    other.tickets = (b"2" * 32, b"3" * 32, b"4" * 32)
    other.services = {"s8400": msgspec.structs.replace(other.services["s8400"], addresses=("127.0.0.1",))}
    async with other.running():
        assert [await resumed(8400, version) for version in versions] == [True, True], "another engine"
    assert "tune.ssl.lifetime 3600" in (tmp_path / "haproxy.cfg").read_text()


async def test_sessions_of_a_profile_without_reuse_begin_anew_and_those_of_others_go_on(
    lab: Lab, tmp_path: Path
) -> None:
    for port, reuse in ((8410, False), (8411, True)):
        lab.serve(port, PLAIN, plain=False, tls=lab.tls(enable_ssl_session_reuse=reuse))
    async with lab.running():
        for version in ("2", "3"):
            for port, reuse in ((8410, False), (8411, True)):
                await s_client(port, tmp_path, f"-tls1_{version}", "-sess_out", f"session{version}")
                again = ("-sess_in", f"session{version}") if (tmp_path / f"session{version}").exists() else ()
                said = await s_client(port, tmp_path, f"-tls1_{version}", *again)
                assert "HTTP/1.1 200" in said and ("Reused, TLS" in said) is reuse, (version, port)
                (tmp_path / f"session{version}").unlink(missing_ok=True)


async def test_an_engine_keeps_as_many_sessions_as_its_services_ask_for(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other")
    other.folder.mkdir()
    for one, ports in ((lab, {8415: 20}), (other, {8415: 20, 8416: 40})):
        for port, sessions in ports.items():
            one.serve(port, PLAIN, plain=False, tls=one.tls(), sessions=sessions)
    context = client(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET

    def session(known: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession | None, bool]:
        """(it, whether ``known`` was resumed)"""
        with (
            socket.create_connection(("127.0.0.1", 8415)) as plain,
            context.wrap_socket(plain, server_hostname="www.example.com", session=known) as encrypted,
        ):
            encrypted.sendall(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: encrypted.recv(4096), b"")).startswith(b"HTTP/1.1 200")
            return encrypted.session, bool(encrypted.session_reused)

    def resumed() -> list[bool]:
        """Whether the last, the twentieth before and the first of fifty sessions are."""
        made = [session()[0] for _ in range(50)]
        return [session(one)[1] for one in (made[-1], made[-20], made[0])]

    async with lab.running():
        assert await asyncio.to_thread(resumed) == [True, True, False]
    async with other.running():
        assert await asyncio.to_thread(resumed) == [True, True, True]


async def test_ciphers_may_be_listed_by_their_names(lab: Lab, tmp_path: Path) -> None:
    lists = {
        8420: ["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
        8421: ["TLS_CHACHA20_POLY1305_SHA256"],
        8422: ["TLS_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
    }
    for port, names in lists.items():
        lab.serve(port, PLAIN, plain=False, tls=lab.tls(cipher_enums=names))

    async def taken(port: int, *asked: str) -> bool:
        return "HTTP/1.1 200" in await s_client(port, tmp_path, *asked)

    def old(cipher: str) -> tuple[str, str, str]:
        return "-tls1_2", "-cipher", cipher

    new = ("-tls1_3", "-ciphersuites")
    async with lab.running():
        assert await taken(8420, *old("ECDHE-ECDSA-AES128-SHA256"))
        assert not await taken(8420, *old("ECDHE-ECDSA-AES256-GCM-SHA384"))
        assert not await taken(8420, "-tls1_3"), "none of its suites is listed"
        assert await taken(8421, *new, "TLS_CHACHA20_POLY1305_SHA256")
        assert not await taken(8421, *new, "TLS_AES_128_GCM_SHA256") and not await taken(8421, "-tls1_2")
        assert await taken(8422, *new, "TLS_CHACHA20_POLY1305_SHA256")
        assert await taken(8422, *old("ECDHE-ECDSA-AES256-GCM-SHA384"))


async def test_the_order_of_ciphers_is_the_profiles_or_the_clients(lab: Lab, tmp_path: Path) -> None:
    small, large = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    for port, clients in ((8430, False), (8431, True)):
        order = {"accepted_ciphers": f"{small}:{large}", "prefer_client_cipher_ordering": clients}
        lab.serve(port, PLAIN, plain=False, tls=lab.tls(**order))
    async with lab.running():
        for port, taken in ((8430, small), (8431, large)):
            said = await s_client(port, tmp_path, "-tls1_2", "-cipher", f"{large}:{small}")
            assert f"Cipher is {taken}" in said, said[:2000]


async def test_a_session_is_resumed_until_its_time_is_over(lab: Lab, tmp_path: Path) -> None:
    lab.serve(8440, PLAIN, plain=False, tls=lab.tls(ssl_session_timeout=2))
    async with lab.running():
        await s_client(8440, tmp_path, "-tls1_2", "-sess_out", "session")
        assert "Reused, TLS" in await s_client(8440, tmp_path, "-tls1_2", "-sess_in", "session")
        await asyncio.sleep(3.1)
        assert "New, TLS" in await s_client(8440, tmp_path, "-tls1_2", "-sess_in", "session")


def ja3(context: ssl.SSLContext, name: str) -> str:
    """Of what a client of this context begins with."""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    hello = out.read()[9:]  # behind the heads of record and handshake
    version, at = int.from_bytes(hello[:2]), 34
    at += 1 + hello[at]
    size = int.from_bytes(hello[at : at + 2])
    ciphers = hello[at + 2 : at + 2 + size]
    at += 2 + size
    at += 1 + hello[at] + 2
    kinds: list[int] = []
    said: dict[int, bytes] = {}
    while at < len(hello):
        kind, size = int.from_bytes(hello[at : at + 2]), int.from_bytes(hello[at + 2 : at + 4])
        kinds.append(kind)
        said[kind] = hello[at + 4 : at + 4 + size]
        at += 4 + size

    def pairs(data: bytes) -> str:
        return "-".join(str(int.from_bytes(data[n : n + 2])) for n in range(0, len(data), 2))

    extensions = "-".join(map(str, kinds))
    text = f"{version},{pairs(ciphers)},{extensions},{pairs(said[10][2:])},{'-'.join(map(str, said[11][1:]))}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


async def test_clients_are_told_by_how_they_begin_and_ask_for_the_host_they_named(lab: Lab, tmp_path: Path) -> None:
    known, other = client(tmp_path), client(tmp_path)
    other.set_ciphers("ECDHE+AESGCM")
    refuse = {"action": "HTTP_SECURITY_ACTION_SEND_RESPONSE", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_403"}
    group = lab.documents.add("stringgroup", "bad", kv=[{"key": ja3(known, "www.example.com").upper()}])
    match = {"tls_fingerprint_match": {"match_operation": "IS_IN", "string_group_refs": [group], "fingerprints": []}}
    rule = {"name": "r", "index": 1, "enable": True, "match": match, "action": refuse}
    lab.documents.add("httppolicyset", "set", http_security_policy={"rules": [rule]})
    link = views.HttpPolicies(index=1, http_policy_set_ref="/api/httppolicyset/set")
    rules = policies.rules_of(lab.documents, [link])
    lab.serve(8430, PLAIN, {"collect_client_tls_fingerprint": True}, plain=False, rules=rules)
    lab.serve(8431, PLAIN, {"disable_sni_hostname_check": True}, plain=False, rules=rules)
    async with lab.running():
        assert (await asked(8430, known)).status == 403 and (await asked(8430, other)).status == 200
        assert (await asked(8431, known)).status == 200, "nothing is collected"
        assert (await asked(8430, other, "WWW.Example.Com:8430")).status == 200
        assert (await asked(8430, other, "db.example.com")).status == 421
        assert (await asked(8431, other, "db.example.com")).status == 200


async def test_tls_of_a_tcp_service_ends_when_it_is_idle(lab: Lab, tmp_path: Path) -> None:
    lab.documents.certificate("front", FRONT)
    lab.documents.add("pool", "p", servers=[{"ip": {"addr": "127.0.0.1"}, "port": PLAIN_PORT}])
    profile = {"uuid": "ssl", "name": "ssl", "type": "APPLICATION_PROFILE_TYPE_SSL"}
    lab.documents.found["applicationprofile", "ssl"] = {**profile, "l4_ssl_profile": {"ssl_stream_idle_timeout": 1}}
    fields = {
        "application_profile_ref": "/api/applicationprofile/ssl",
        "services": [{"port": 8440, "enable_ssl": True}],
        "ssl_key_and_certificate_refs": ["/api/sslkeyandcertificate/front"],
        "pool_ref": "/api/pool/p",
    }
    typed = views.view({"uuid": "s8440", "name": "s", **fields}, views.VirtualService)
    vip = desired.VipIntent(id="v", name="v", addresses=("127.0.0.1",), services=(typed,), created=0.0)
    lab.services["s8440"] = msgspec.structs.replace(desired.service_part(lab.documents, typed, vip), log=None)
    async with lab.running():
        assert (await asked(8440, client(tmp_path), "elsewhere.example")).status == 200, "it is no HTTP service"
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", 8440, ssl=client(tmp_path), server_hostname="www.example.com"
        )
        assert await reader.read() == b"" and 0.8 < time.monotonic() - begun < 2.5
        writer.close()


async def test_keys_are_exchanged_with_the_profiles_parameters(lab: Lab, tmp_path: Path) -> None:
    lab.documents.certificate("rsa", GOOD.issue("www.example.com", kind="rsa"))
    larger = lab.tls(dhparam=exchange_parameters("ffdhe3072").replace("\n", "\r\n"))
    someone = TlsFor(clients=policy.Test(of="client", values=("127.0.0.1",)), tls=larger)
    for port, everyone, some in ((8710, lab.tls(), ()), (8711, larger, ()), (8712, lab.tls(), (someone,))):
        lab.serve(port, PLAIN, plain=False, certificates=("rsa",), tls=everyone, tls_for=some)

    async def exchanged() -> list[tuple[str, str]]:
        """(bits, the certificate's serial number) at each port."""
        found = []
        for port in (8710, 8711, 8712):
            said = await s_client(port, tmp_path, "-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256")
            assert "HTTP/1.1 200" in said, said
            (tmp_path / "seen.pem").write_text(said)
            serial = x509.load_pem_x509_certificate((tmp_path / "seen.pem").read_bytes()).serial_number
            found.append((said.partition("Server Temp Key: DH, ")[2].partition(" ")[0], str(serial)))
        return found

    async with lab.running() as facts:
        before = await exchanged()
        assert [bits for bits, _ in before] == ["2048", "3072", "3072"]
        again = GOOD.issue("www.example.com", kind="rsa")
        lab.documents.certificate("rsa", again)
        written = lab.write(facts)
        assert written.replaced == {"rsa.pem", tls.certificate_file("rsa", larger.dh)} and not written.odd
        files = certificates.files(lab._credentials(), lab.services.values())
        assert await certificates.replace(facts, {name: files[name] for name in written.replaced})
        assert await exchanged() == [(bits, str(again.parsed.serial_number)) for bits, _ in before]


async def test_the_end_of_a_connection_is_told(lab: Lab, tmp_path: Path) -> None:
    lab.serve(8720, PLAIN, plain=False, tls=lab.tls(send_close_notify=True))

    def asked(port: int, version: ssl.TLSVersion) -> bytes:
        """The whole answer. Raises SSLEOFError where the end is not told (RFC 8446, 6.1)."""
        context = client(tmp_path)
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="www.example.com", suppress_ragged_eofs=False) as encrypted,
        ):
            encrypted.sendall(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: encrypted.recv(4096), b""))

    def cut(listening: socket.socket, context: ssl.SSLContext) -> None:
        with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
            connection.recv(4096)  # and closes without a word

    rude = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    rude.load_cert_chain(FRONT.write(tmp_path / "front.pem"))
    async with lab.running():
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert (await asyncio.to_thread(asked, 8720, version)).startswith(b"HTTP/1.1 200")
            with socket.create_server(("127.0.0.1", 0)) as listening:
                cutting = asyncio.create_task(asyncio.to_thread(cut, listening, rude))
                with pytest.raises(ssl.SSLEOFError):
                    await asyncio.to_thread(asked, listening.getsockname()[1], version)
                await cutting


async def test_a_bad_token_ends_nobody_elses_connection(lab: Lab, tmp_path: Path) -> None:
    key = RSAKey.generate_key(2048, {"kid": "k"}, private=True)
    known = policy.TokenKey(pem=key.as_pem(private=False).decode(), algorithms=("RS256",), id="k")
    asked = policy.Http(bearer=policy.Bearer(issuer="i", audience="a", keys=(known,)))
    lab.serve(8730, PLAIN, http=asked)
    lab.serve(8731, PLAIN, plain=False)
    claims = {"iss": "i", "aud": "a", "exp": int(time.time()) + 600}
    good = jwt.encode({"alg": "RS256", "kid": "k"}, claims, key)
    bad = f"{good[:-9]}{'A' if good[-9] != 'A' else 'B'}{good[-8:]}"
    async with lab.running():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", 8731, ssl=client(tmp_path), server_hostname="www.example.com"
        )
        for text, status in ((good, 200), (bad, 401)) * 10:
            assert (await ask(8730, Authorization=f"Bearer {text}")).status == status
            writer.write(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), (
                "an error that another one's signature left is not taken for its own"
            )
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        writer.close()


async def test_early_data_is_taken_for_what_is_safe_to_repeat(lab: Lab, tmp_path: Path) -> None:
    lab.serve(8500, PLAIN, plain=False, tls=Tls(early_data=True, tickets=True, curves="P-384"))
    async with lab.running():
        new, ours = ("-tls1_3", "-sess_out", "session"), ("-groups", "P-384")
        assert "Server Temp Key" not in await s_client(8500, tmp_path, *new, "-groups", "X25519")
        said = await s_client(8500, tmp_path, *new, *ours)
        assert "Server Temp Key: ECDH, secp384r1" in said or "Server Temp Key: ECDH, P-384" in said
        (tmp_path / "request").write_text("GET /early HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
        said = await s_client(8500, tmp_path, "-tls1_3", "-sess_in", "session", "-early_data", "request", *ours)
        assert "Early data was accepted" in said and "GET /early" in said


async def test_tcp_servers_are_told_of_the_client(lab: Lab) -> None:
    profile = views.ApplicationProfile
    told: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        with contextlib.suppress(OSError):  # a health check that has seen enough
            while not said.endswith(b"hello") and (more := await reader.read(200)):
                said += more
            writer.write(b"x")
        told.append(said)
        writer.close()

    check = Monitor(name="m", kind="TCP", interval_s=1)
    for port, version in ((8600, 1), (8601, 2)):
        wanted = {"proxy_protocol_enabled": True, "proxy_protocol_version": f"PROXY_PROTOCOL_VERSION_{version}"}
        document = {"uuid": "a", "name": "a", "type": "APPLICATION_PROFILE_TYPE_L4", "tcp_app_profile": wanted}
        number = desired._proxy_protocol(views.view(document, profile))
        servers = (Server(name="s", address="127.0.0.1", port=9700),)
        lab.serve(port, Pool(id="p", name="p", servers=servers, monitors=(check,), proxy_protocol=number), mode="tcp")
    async with await asyncio.start_server(take, "127.0.0.1", 9700), lab.running():
        async with asyncio.timeout(10):
            while {one[:5] for one in told if one} != {begin[:5] for begin in BEGINNINGS}:  # by health checks
                await asyncio.sleep(0.05)
        for port, begin in ((8600, b"PROXY TCP4 127.0.0.1 127.0.0.1 "), (8601, b"\r\n\r\n\0\r\nQUIT\n\x21\x11")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            mine = writer.get_extra_info("sockname")[1]
            writer.write(b"hello")
            assert await reader.read() == b"x"
            writer.close()
            sent = next(one for one in reversed(told) if one.endswith(b"hello"))
            assert sent.startswith(begin)
            assert str(mine).encode() in sent if port == 8600 else mine.to_bytes(2) in sent
            told.clear()


async def test_clients_get_a_certificate_that_they_can_take_for_the_name_they_ask_for(lab: Lab, tmp_path: Path) -> None:
    lab.documents.certificate("rsa", GOOD.issue("www.example.com", kind="rsa"))
    lab.documents.certificate("shop", GOOD.issue("shop.example"))
    lab.serve(8700, PLAIN, plain=False, certificates=("rsa", "front", "shop"))
    kinds = {"ECDSA": "ECDSA+SHA256", "RSA-PSS": "RSA-PSS+SHA256:RSA+SHA256"}
    async with lab.running():
        for version in ("2", "3"):
            for kind, takes in kinds.items():
                said = await s_client(8700, tmp_path, f"-tls1_{version}", "-sigalgs", takes)
                assert f"Peer signature type: {kind}" in said and "subject=CN = www.example.com" in said
            said = await s_client(8700, tmp_path, f"-tls1_{version}", name="shop.example")
            assert "subject=CN = shop.example" in said
            said = await s_client(8700, tmp_path, f"-tls1_{version}", name="nobody.example")
            assert "subject=CN = www.example.com" in said and "Peer signature type: RSA" in said, "the first one"
