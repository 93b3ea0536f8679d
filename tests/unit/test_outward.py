"""What users have the controller ask or tell: never its own machine, link-local addresses or its own ports; answers are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from shoal.controller import log_streams
from shoal.controller.acme.client import AcmeFailure, Client
from shoal.controller.alerts import senders
from shoal.controller.certificates import plain_pem
from shoal.controller.events import EventLog
from shoal.controller.outward import ANSWER_BYTES_MAX, NotAsked, Outward
from shoal.controller.stapling import Stapling
from tests.api_world import Clock, api_world
from tests.issuer import Issuer
from tests.unit.test_alerts import ALERT

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
NAME = "authority.test"
ROOT = Issuer("Root")


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []
    answer: ClassVar[bytes] = b"{}"
    packed: ClassVar[bool] = False

    def do_GET(self) -> None:
        self.asked.append(f"{self.connection.getsockname()[0]} {self.headers['Host']} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        if self.packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.answer)

    do_POST = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def server(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """On all addresses of this machine; its port."""
    Server.asked, Server.answer, Server.packed = [], b"{}", False
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Server) as made:
        made.daemon_threads = True
        if context is not None:
            made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made.server_port
        made.shutdown()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Name -> the addresses it has, one at each look-up, the last for ever."""
    known: dict[str, list[str]] = {}
    genuine = socket.getaddrinfo

    def lookup(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host in known:
            host = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return genuine(host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return known


@pytest.mark.parametrize(
    "address, words",
    [
        ("127.0.0.1", "own machine"),
        ("127.9.9.9", "own machine"),
        ("0.0.0.0", "own machine"),
        ("::1", "own machine"),
        ("::", "own machine"),
        ("::ffff:127.0.0.1", "own machine"),
        ("64:ff9b::7f00:1", "own machine"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%lo", "link-local"),
        ("224.0.0.1", "no address of one machine"),
        ("255.255.255.255", "no address of one machine"),
        ("ff02::1", "no address of one machine"),
        ("10.1.2.3", ""),
        ("203.0.113.5", ""),
        ("fd00::5", ""),
    ],
)
def test_what_is_never_asked_and_what_is(address: str, words: str) -> None:
    why = Outward().why_not(address, 80)
    assert words in why and bool(words) == bool(why)


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "::1", "0"])
def test_other_ways_to_write_it_are_the_same(host: str) -> None:
    with pytest.raises(NotAsked, match="own machine"):
        Outward().addresses(host, 80)


def test_what_is_allowed_may_be_asked_and_its_own_ports_still_not() -> None:
    outward = Outward([LOOPBACK], own_ports=[9443])
    assert outward.addresses("127.0.0.1", 80) == ["127.0.0.1"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_of_ours:
        any_of_ours.bind(("127.0.0.3", 0))
    for host in ("127.0.0.1", "127.0.0.3", "0.0.0.0"):
        with pytest.raises(NotAsked, match="own port"):
            outward.addresses(host, 9443)
    assert Outward(own_ports=[9443]).why_not("203.0.113.5", 9443) == "", "another machine's port is not ours"


async def test_a_name_that_means_something_else_a_moment_later_gains_nothing(names: dict[str, list[str]]) -> None:
    names["rebinds.test"] = ["127.0.0.2", "127.0.0.1"]
    outward = Outward([ipaddress.ip_network("127.0.0.2/32")])
    with server() as port:
        async with outward.asking() as http:
            assert (await http.get(f"http://rebinds.test:{port}/a")).status_code == 200
            with pytest.raises(httpx.ConnectError, match="own machine"):
                await http.get(f"http://rebinds.test:{port}/b")
    assert Server.asked == [f"127.0.0.2 rebinds.test:{port} /a"]


async def test_the_certificate_is_still_the_names(names: dict[str, list[str]], tmp_path: Path) -> None:
    names[NAME] = names["other.test"] = ["127.0.0.1"]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ROOT.issue(NAME).write(tmp_path / "own.pem"))
    with server(context) as port:
        async with Outward([LOOPBACK]).asking(ssl.create_default_context(cadata=ROOT.pem)) as http:
            assert (await http.get(f"https://{NAME}:{port}/")).status_code == 200
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await http.get(f"https://other.test:{port}/")


async def test_an_answer_is_bounded_and_not_unpacked() -> None:
    with server() as port:
        async with Outward([LOOPBACK]).asking() as http:
            Server.answer = b"x" * (ANSWER_BYTES_MAX + 1)
            with pytest.raises(httpx.ReadError, match="octets"):
                await http.get(f"http://127.0.0.1:{port}/")
            Server.answer, Server.packed = gzip.compress(b"x" * 10 * ANSWER_BYTES_MAX), True
            assert len((await http.get(f"http://127.0.0.1:{port}/")).content) == len(Server.answer)


async def test_acme_and_ocsp_never_ask_the_controllers_own_machine(tmp_path: Path, names: dict[str, list[str]]) -> None:
    key = ECKey.import_key(plain_pem(ec.generate_private_key(ec.SECP256R1())))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ROOT.issue("127.0.0.2").write(tmp_path / "own.pem"))
    trust = ssl.create_default_context(cadata=ROOT.pem)
    with server(context) as port:
        with pytest.raises(AcmeFailure, match="own machine"):
            await Client(f"https://127.0.0.1:{port}/dir", key, (), trust, Outward()).certificate(["a.test"], b"")
        assert not Server.asked
        inner = {name: f"https://127.0.0.1:{port}/{name}" for name in ("newNonce", "newAccount", "newOrder")}
        Server.answer = json.dumps(inner).encode()
        reach = Outward([ipaddress.ip_network("127.0.0.2/32")])
        with pytest.raises(AcmeFailure, match="own machine"):
            await Client(f"https://127.0.0.2:{port}/dir", key, (), trust, reach).certificate(["a.test"], b"")
        assert Server.asked == [f"127.0.0.2 127.0.0.2:{port} /dir"], "nor what the authority names"
    with server() as port:
        names["inner.test"] = ["169.254.169.254"]
        issued = ROOT.issue("www.example.com", responder=f"http://localhost:{port}")
        async with api_world(tmp_path) as world:
            body = {"certificate": issued.certificate + ROOT.pem}
            given = {"name": "web", "key": issued.key, "certificate": body, "enable_ocsp_stapling": True}
            given["ocsp_config"] = {"responder_url_lists": [f"http://inner.test:{port}"]}
            made = await world.post("/api/sslkeyandcertificate", given)
            events = EventLog(world.store, Clock())
            stapling = Stapling(world.view, world.store, events, Clock(), lambda uuid: None, Outward())
            await stapling.look()
            assert stapling.shown(made["uuid"]) == {"ocsp_error_status": "OCSP_ERR_CERTSTATUS_HTTP_SEND"}
        assert not Server.asked


async def test_alerts_and_client_logs_never_go_to_the_controllers_own_machine() -> None:
    with server() as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        datagrams.setblocking(False)
        with pytest.raises(
            senders.NotSent, match="webhook: localhost is not asked: it is the controller's own machine"
        ):
            await asyncio.to_thread(senders.send_webhook, ALERT, f"http://localhost:{port}/", "", Outward())
        for udp, to in ((False, port), (True, datagrams.getsockname()[1])):
            target = {"syslog_server": "127.0.0.1", "syslog_server_port": to, "udp": udp}
            with pytest.raises(senders.NotSent, match="own machine"):
                await asyncio.to_thread(senders.send_syslog, ALERT, target, "here", [], Outward())
            streamed = log_streams.Target("127.0.0.1", to, "UDP" if udp else "TCP", True)
            with pytest.raises(NotAsked):
                await asyncio.to_thread(log_streams.send, streamed, [b"x"], Outward())
        with pytest.raises(BlockingIOError):
            datagrams.recv(10)
        assert not Server.asked
