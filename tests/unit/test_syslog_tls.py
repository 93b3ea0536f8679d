"""Alerts and client logs over TLS, as a real rsyslog understands them (RFC 5425), and to whom they are not given."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.alerts import senders
from shoal.controller.alerts.watch import NOT_SENT, RAISED
from tests.api_world import HERE
from tests.issuer import Issuer
from tests.receivers import Receiver, rsyslog
from tests.unit import test_alerts, test_log_streams
from tests.unit.test_alerts import ALERT, DOWN, Alerting, names, on, until
from tests.unit.test_log_streams import AT, Streaming

ROOT, STRANGER = Issuer("Root"), Issuer("Root")
world, streaming = test_alerts.world, test_log_streams.streaming
Document = dict[str, Any]


@pytest.fixture
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with rsyslog(tmp_path_factory.mktemp("rsyslog"), ROOT.issue("localhost")) as running:
        yield running


async def test_an_event_becomes_a_message_over_tls_by_the_authorities_of_a_pki_profile(
    world: Alerting, receiver: Receiver
) -> None:
    for name, issuer in (("ours", ROOT), ("theirs", STRANGER)):
        await world.post("/api/pkiprofile", {"name": name, "ca_certs": [{"certificate": issuer.pem}]})
    formats = ("SYSLOG_LEGACY", "SYSLOG_RFC5424", "SYSLOG_JSON", "SYSLOG_RFC5425_ENHANCED")
    common = {"syslog_server_port": receiver.port, "udp": False, "tls_enable": True}
    servers: list[Document] = [
        {
            **common,
            "syslog_server": "localhost",
            "format": format,
            "pkiprofile_ref": "/api/pkiprofile?name=ours",
            "strict_cert_verify": True,
        }
        for format in formats
    ]
    servers.append({**common, "syslog_server": "localhost", "pkiprofile_ref": "/api/pkiprofile?name=theirs"})
    await world.post("/api/alertsyslogconfig", {"name": "logs", "syslog_servers": servers})
    await on(world, DOWN, {"syslog_config_ref": "/api/alertsyslogconfig?name=logs"})
    world.controller.events_log.add("SE_DOWN", 'Avi-se-1 is "down" ]', serviceengine="se-1")
    await until(lambda: names(world, NOT_SENT))
    assert names(world, RAISED)
    (told,) = names(world, NOT_SENT)
    assert "CERTIFICATE_VERIFY_FAILED" in told
    lines = await asyncio.to_thread(receiver.until, lambda lines: len(lines) == len(formats))
    parts = [line.split("|", 5) for line in lines]
    assert len(parts) == len(formats) and {p[0] for p in parts} == {"130"} and {p[2] for p in parts} == {"shoal"}
    texts = [text.strip() for *_, text in parts]
    assert sum(text == 'a: Avi-se-1 is "down" ]' for text in texts) == 2
    assert sum(text == 'SE_DOWN a: Avi-se-1 is "down" ]' for text in texts) == 1
    (whole,) = (json.loads(text) for text in texts if text.startswith("{"))
    assert whole["event_id"] == "SE_DOWN" and whole["objects"] == {"serviceengine": "se-1"}
    assert sum('serviceengine="se-1"' in data for _, _, _, _, data, _ in parts) == 2


@pytest.mark.parametrize(
    "host, settings, authorities, refused",
    [
        ("localhost", {"strict_cert_verify": True}, [ROOT.pem], ""),
        ("127.0.0.1", {}, [ROOT.pem], ""),
        ("127.0.0.1", {"strict_cert_verify": True}, [ROOT.pem], "IP address mismatch"),
        ("localhost", {}, [STRANGER.pem], "CERTIFICATE_VERIFY_FAILED"),
        ("localhost", {"strict_cert_verify": True}, [], "CERTIFICATE_VERIFY_FAILED"),
        ("localhost", {}, [], ""),
    ],
)
def test_whom_a_server_must_be_vouched_for_by(
    receiver: Receiver, host: str, settings: Document, authorities: list[str], refused: str
) -> None:
    server = {"syslog_server": host, "syslog_server_port": receiver.port, "tls_enable": True, **settings}
    if refused:
        with pytest.raises(senders.NotSent, match=refused):
            senders.send_syslog(ALERT, server, "here", authorities, HERE)
        assert not receiver.lines()
    else:
        senders.send_syslog(ALERT, server, "here", authorities, HERE)
        assert len(receiver.until(bool)) == 1


async def test_a_server_that_demands_a_certificate_is_shown_the_one_configured(
    world: Alerting, tmp_path_factory: pytest.TempPathFactory
) -> None:
    between = Issuer("Between", ROOT)
    await world.post("/api/pkiprofile", {"name": "ours", "ca_certs": [{"certificate": ROOT.pem}]})
    chain: Document = {"type": "SSL_CERTIFICATE_TYPE_CA", "certificate": {"certificate": between.pem}}
    await world.post("/api/sslkeyandcertificate", {"name": "between", **chain})
    for name, issued in (("ours", between.issue("shoal")), ("theirs", STRANGER.issue("shoal"))):
        body: Document = {"name": name, "key": issued.key, "certificate": {"certificate": issued.certificate}}
        more = {"ca_certs": [{"ca_ref": "/api/sslkeyandcertificate?name=between"}]} if name == "ours" else {}
        await world.post("/api/sslkeyandcertificate", body | more)
    folder = tmp_path_factory.mktemp("demanding")
    with rsyslog(folder, ROOT.issue("localhost"), clients=ROOT.pem) as demanding:
        to: Document = {
            "syslog_server": "localhost",
            "syslog_server_port": demanding.port,
            "udp": False,
            "tls_enable": True,
        }
        to["pkiprofile_ref"] = "/api/pkiprofile?name=ours"
        servers = [
            {
                **to,
                "format": format,
                **({"ssl_key_and_certificate_ref": f"/api/sslkeyandcertificate?name={own}"} if own else {}),
            }
            for format, own in (("SYSLOG_JSON", ""), ("SYSLOG_JSON", "theirs"), ("SYSLOG_LEGACY", "ours"))
        ]
        await world.post("/api/alertsyslogconfig", {"name": "logs", "syslog_servers": servers})
        await on(world, DOWN, {"syslog_config_ref": "/api/alertsyslogconfig?name=logs"})
        world.controller.events_log.add("SE_DOWN", "Avi-se-1 is down", serviceengine="se-1")
        (line,) = await asyncio.to_thread(demanding.until, bool)
        assert line.endswith("a: Avi-se-1 is down")
        await until(lambda: len(names(world, NOT_SENT)) == 2)
        assert len(demanding.lines()) == 1


@pytest.mark.parametrize("shown", [None, STRANGER, ROOT])
def test_what_a_server_says_of_a_certificate_after_the_handshake_is_heard(tmp_path: Path, shown: Issuer | None) -> None:
    """By TLS 1.3: a client that only sends and leaves would take it for a message that came."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=ROOT.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(ROOT.issue("localhost").write(tmp_path / "own.pem"))
    own = shown.issue("shoal").pem if shown else ""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        server = {"syslog_server": "localhost", "syslog_server_port": listener.getsockname()[1], "tls_enable": True}
        heard = threads.submit(test_alerts.told, listener, context)
        if shown is ROOT:
            senders.send_syslog(ALERT, server, "here", [ROOT.pem], HERE, own)
            assert b"engines: Avi-se-1 is down" in heard.result()
        else:
            with pytest.raises(senders.NotSent, match=r"SSLError|reset|hung up"):
                senders.send_syslog(ALERT, server, "here", [ROOT.pem], HERE, own)
            assert isinstance(heard.exception(), OSError)


async def test_a_certificate_that_can_not_be_shown_is_refused(world: Alerting) -> None:
    found = ROOT.issue("shoal").certificate
    await world.post("/api/sslkeyandcertificate", {"name": "bare", "certificate": {"certificate": found}})
    server: Document = {"syslog_server": "10.0.0.9", "udp": False, "tls_enable": True}
    server["ssl_key_and_certificate_ref"] = "/api/sslkeyandcertificate?name=bare"
    reply = await world.client.post("/api/alertsyslogconfig", json={"name": "logs", "syslog_servers": [server]})
    assert reply.status_code == 400
    (problem,) = reply.json()["problems"]
    assert problem["path"] == "syslog_servers[0].ssl_key_and_certificate_ref"
    assert problem["why"] == "bare has no private key"


async def test_client_logs_over_tls_are_messages_each_and_go_to_no_stranger(
    streaming: Streaming, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await streaming.configure(
        external_server=f"localhost:{receiver.port}",
        protocol="LOG_STREAMING_PROTOCOL_SYSLOG_OVER_TLS",
        max_logs_per_second=0,
    )

    async def logged(*statuses: int, at: float) -> None:
        await streaming.logged(*statuses, at=at)
        await until(lambda: not streaming.streams.busy)

    await logged(503, at=AT)
    assert "CERTIFICATE_VERIFY_FAILED" in streaming.told[0][1] and not receiver.lines()
    (tmp_path / "machine.pem").write_text(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "machine.pem"))
    assert ssl.get_default_verify_paths().cafile == str(tmp_path / "machine.pem")
    await logged(*[503] * 60, at=AT + 1)
    lines = await asyncio.to_thread(receiver.until, lambda lines: len(lines) == 60)
    found = [json.loads(line.split("|", 5)[5]) for line in lines]
    assert [entry["uri_path"] for entry in found] == [f"/{n}" for n in range(60)]
