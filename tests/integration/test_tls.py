"""TLS profiles, as documents, on a real HAProxy: whom it believes, whom clients and servers believe it to be."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import urllib.parse
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from shoal.controller import desired, policies
from shoal.engine.haproxy import certificates, render
from shoal.objects import views
from shoal.wire.desired import Certificate, Credential, Listener, Monitor, Pool, Server, Service, Tickets, Tls
from tests.issuer import Issued, Issuer

from .private_host import private_host

pytestmark = pytest.mark.root

STARTED_WITHIN_S = 5.0
TLS_PORT, PLAIN_PORT = 9443, 9080
Document = dict[str, Any]
GOOD, OTHER = Issuer("Good"), Issuer("Other")
APP = GOOD.issue("app.internal", "app2.internal")
FRONT = GOOD.issue("www.example.com")
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

    def serve(self, port: int, pool: Pool, profile: Document | None = None, *, plain: bool = True, **more: Any) -> None:
        """``profile``: an ``http_profile``; its port has TLS unless ``plain``. ``more`` is for `Service`."""
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
            http=policies.http_of(self.documents, profile or {}),
            client_certificates=desired._client_certificates(self.documents, kept, http=True),
        )
        self.services[f"s{port}"] = msgspec.structs.replace(self.services[f"s{port}"], **more)

    def pool(self, **fields: Any) -> Pool:
        """To the TLS server, with a profile unless another is given."""
        document = {"uuid": "p", "name": "p", "ssl_profile_ref": "/api/sslprofile/plain", **fields}
        server = {"ip": {"addr": "127.0.0.1"}, "port": TLS_PORT}
        return desired.pool_part(self.documents, views.view({**document, "servers": [server]}, views.Pool))

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
        fragments = {id: render.service_fragment(service, facts) for id, service in self.services.items()}
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
    port: int, host: str = "www.example.com", context: ssl.SSLContext | None = None, **headers: str
) -> Answer:
    """Raises ConnectionError or ssl.SSLError when the client is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=context and host)
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
        assert (await ask(8202))["host"] == "app.internal"


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
    plain = Pool(id="p", name="p", servers=(Server(name="s", address="127.0.0.1", port=PLAIN_PORT),))
    for port, mode, authorities in ((8300, "REQUIRE", trust), (8301, "REQUEST", trust), (8302, "REQUIRE", whole)):
        profile = {
            "ssl_client_certificate_mode": f"SSL_CLIENT_CERTIFICATE_{mode}",
            "pki_profile_ref": authorities,
            "ssl_client_certificate_action": {"headers": headers},
        }
        lab.serve(port, plain, profile, plain=False)
    stranger = OTHER.issue("alice")
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
    plain = Pool(id="p", name="p", servers=(Server(name="s", address="127.0.0.1", port=PLAIN_PORT),))
    for port in (8400, 8401):
        lab.serve(port, plain, plain=False, tls=Tls(tickets=True, session_s=3600))
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


async def test_early_data_is_taken_for_what_is_safe_to_repeat(lab: Lab, tmp_path: Path) -> None:
    plain = Pool(id="p", name="p", servers=(Server(name="s", address="127.0.0.1", port=PLAIN_PORT),))
    lab.serve(8500, plain, plain=False, tls=Tls(early_data=True, tickets=True, curves="P-384"))
    async with lab.running():
        new, ours = ("-tls1_3", "-sess_out", "session"), ("-groups", "P-384")
        assert "Server Temp Key" not in await s_client(8500, tmp_path, *new, "-groups", "X25519")
        said = await s_client(8500, tmp_path, *new, *ours)
        assert "Server Temp Key: ECDH, secp384r1" in said or "Server Temp Key: ECDH, P-384" in said
        (tmp_path / "request").write_text("GET /early HTTP/1.1\r\nHost: a\r\n\r\n")
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
    plain = Pool(id="p", name="p", servers=(Server(name="s", address="127.0.0.1", port=PLAIN_PORT),))
    lab.documents.certificate("rsa", GOOD.issue("www.example.com", kind="rsa"))
    lab.documents.certificate("shop", GOOD.issue("shop.example"))
    lab.serve(8700, plain, plain=False, certificates=("rsa", "front", "shop"))
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
