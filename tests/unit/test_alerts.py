"""Alerts reach real servers: mail (aiosmtpd), syslog over UDP, TCP and TLS, a webhook; rules on events and figures."""

from __future__ import annotations

import asyncio
import contextlib
import email
import hashlib
import hmac
import http.server
import json
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiosmtpd.controller import Controller as MailServer
from aiosmtpd.smtp import AuthResult, LoginPassword

from shoal.controller.alerts import messages, rules, senders, watch
from shoal.controller.alerts.messages import Alert
from shoal.controller.alerts.watch import NOT_SENT, RAISED, Alerts
from shoal.controller.clock import SystemClock
from shoal.controller.events import Event
from shoal.controller.metrics import Metrics
from shoal.controller.pki import Authority
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from tests.api_world import HERE, ControlledWorld, controlled_world

DONE_WITHIN_S = 20.0
Document = dict[str, Any]
ALERT = Alert(
    name="engines",
    level="ALERT_HIGH",
    summary="",
    detail='Avi-se-1 is down\r\nBcc: evil@example.org ] "quoted"',
    event_id="SE_DOWN",
    objects={"serviceengine": "se-1"},
    tenant="admin",
    at=1_700_000_000.5,
)


class Alerting(ControlledWorld):
    alerts: Alerts


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Alerting]:
    monkeypatch.setattr(watch, "TRIES", (0.0, 0.05))
    async with controlled_world(tmp_path) as world:
        controller = world.controller
        alerts = Alerts(world.view, world.intent, controller.events_log, controller.metrics, SystemClock(), HERE)
        alerts.listen()
        world.alerts = alerts  # type: ignore[attr-defined]
        task = asyncio.create_task(alerts.run())
        yield world  # type: ignore[misc]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(done: Any) -> None:
    async with asyncio.timeout(DONE_WITHIN_S):
        while not done():
            await asyncio.sleep(0.02)


def names(world: ControlledWorld, name: str) -> list[str]:
    return [event.detail for event in world.controller.events_log.read({"name": name})]


async def on(world: ControlledWorld, rule: Document, group: Document | None = None, **more: Any) -> Document:
    """An alert named a that goes to the group."""
    if group is not None:
        await world.post(
            "/api/actiongroupconfig", {"name": "to", "level": "ALERT_HIGH", "external_only": False, **group}
        )
        more["action_group_ref"] = "/api/actiongroupconfig?name=to"
    body = {"name": "a", "source": "EVENT_LOGS", "category": "REALTIME", "alert_rule": rule, "throttle": 0, **more}
    made: Document = await world.post("/api/alertconfig", body, headers=more.pop("headers", None))
    return made


DOWN = {"sys_event_rule": [{"event_id": "SE_DOWN"}]}


# --- mail ---


class Box:
    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refusals = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusals:
            self.refusals -= 1
            return "451 later"
        self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content), session.authenticated))
        return "250 taken"


@contextlib.contextmanager
def mail_server(box: Box, **more: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = MailServer(box, hostname="127.0.0.1", port=port, **more)
    server.start()
    try:
        yield port
    finally:
        server.stop()


async def mail_settings(world: ControlledWorld, **more: Any) -> None:
    settings = {"smtp_type": "SMTP_ANONYMOUS_SERVER", "mail_server_name": "127.0.0.1", "disable_tls": True}
    settings |= {"from_email": "shoal@example.org", **more}
    await world.call("PATCH", "/api/systemconfiguration", 200, json={"replace": {"email_configuration": settings}})
    body = {"name": "ops", "to_emails": "ops@example.org, night@example.org", "cc_emails": "boss@example.org"}
    await world.post("/api/alertemailconfig", body)


async def test_an_event_becomes_a_mail(world: Alerting) -> None:
    box = Box()
    with mail_server(box) as port:
        await mail_settings(world, mail_server_port=port)
        await on(world, DOWN, {"email_config_ref": "/api/alertemailconfig?name=ops"}, summary="an engine is gone")
        world.controller.events_log.add("SE_UP", "Avi-se-1 is up")
        world.controller.events_log.add("SE_DOWN", "Avi-se-1 is down", serviceengine="se-1")
        await until(lambda: box.mails)
    (to, mail, _), *more = box.mails
    assert not more and to == ["ops@example.org", "night@example.org", "boss@example.org"]
    assert mail["Subject"] == "[HIGH] a: an engine is gone" and mail["From"] == "shoal@example.org"
    text = mail.get_payload(decode=True).decode()
    assert "Avi-se-1 is down" in text and "Event: SE_DOWN" in text and "serviceengine: se-1" in text
    assert names(world, RAISED) == ["a: Avi-se-1 is down"] and not names(world, NOT_SENT)


async def test_a_server_that_is_busy_is_asked_again_and_one_that_is_not_there_is_told_of(world: Alerting) -> None:
    box = Box()
    box.refusals = 1
    with mail_server(box) as port:
        await mail_settings(world, mail_server_port=port)
        await on(world, DOWN, {"email_config_ref": "/api/alertemailconfig?name=ops"})
        world.controller.events_log.add("SE_DOWN", "down")
        await until(lambda: box.mails)
    world.controller.events_log.add("SE_DOWN", "down again")
    await until(lambda: names(world, NOT_SENT))
    assert "The mail of alert a was not sent: mail server 127.0.0.1" in names(world, NOT_SENT)[0]


async def test_a_mail_server_may_want_a_password_and_gets_it_over_tls_only(tmp_path: Path) -> None:
    certificate, key = Authority.open(tmp_path / "pki").api_server_files(tmp_path / "tls", ["localhost"], ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    asked = []

    def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        asked.append(data)
        return AuthResult(success=isinstance(data, LoginPassword) and data.password == b"the mail's own")

    box = Box()
    to = {"to_emails": "ops@example.org"}
    with mail_server(box, tls_context=context, authenticator=authenticator, auth_required=True) as port:
        settings = {"smtp_type": "SMTP_SERVER", "mail_server_name": "127.0.0.1", "mail_server_port": port}
        settings |= {"auth_username": "shoal", "auth_password": "the mail's own"}
        with pytest.raises(senders.NotSent, match="CERTIFICATE_VERIFY_FAILED"):
            await asyncio.to_thread(senders.send_mail, ALERT, to, settings)
    assert not asked and not box.mails
    with pytest.raises(senders.NotSent, match="no mail server is configured"):
        senders.send_mail(ALERT, to, {})
    assert smtplib


# --- syslog ---


def receiver(kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.bind(("127.0.0.1", 0))
    made.settimeout(DONE_WITHIN_S)
    if kind is socket.SOCK_STREAM:
        made.listen()
    return made


def told(listener: socket.socket, context: ssl.SSLContext | None = None) -> bytes:
    plain, _ = listener.accept()
    plain.settimeout(DONE_WITHIN_S)
    connection = context.wrap_socket(plain, server_side=True) if context else plain
    with connection:
        found = b""
        while data := connection.recv(65_536):
            found += data
        return found


async def test_an_event_becomes_a_syslog_message_over_udp_and_tcp(world: Alerting) -> None:
    with receiver(socket.SOCK_DGRAM) as datagrams, receiver(socket.SOCK_STREAM) as listener:
        servers = [
            {"syslog_server": "127.0.0.1", "syslog_server_port": datagrams.getsockname()[1], "udp": True},
            {
                "syslog_server": "127.0.0.1",
                "syslog_server_port": listener.getsockname()[1],
                "udp": False,
                "format": "SYSLOG_RFC5424",
            },
        ]
        await world.post("/api/alertsyslogconfig", {"name": "logs", "syslog_servers": servers})
        await on(world, DOWN, {"syslog_config_ref": "/api/alertsyslogconfig?name=logs"})
        world.controller.events_log.add("SE_DOWN", "Avi-se-1 is down", serviceengine="se-1")
        first = await asyncio.to_thread(datagrams.recv, 65_536)
        second = await asyncio.to_thread(told, listener)
    assert re.fullmatch(
        rb"<130>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d Controller-1 shoal: SE_DOWN a: Avi-se-1 is down", first
    )
    assert re.match(rb"<130>1 \d{4}-\d\d-\d\dT[\d:.]+Z Controller-1 shoal - SE_DOWN \[shoal@32473 alert=\"a\"", second)
    assert second.endswith(b"a: Avi-se-1 is down\n") and b'serviceengine="se-1"' in second


async def test_syslog_over_tls_verifies_by_the_authorities_named(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "pki")
    certificate, key = authority.api_server_files(tmp_path / "tls", ["localhost"], ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with receiver(socket.SOCK_STREAM) as listener:
        server = {"syslog_server": "127.0.0.1", "syslog_server_port": listener.getsockname()[1], "tls_enable": True}
        server |= {"udp": False, "format": "SYSLOG_JSON"}
        hearing = asyncio.create_task(asyncio.to_thread(told, listener, context))
        await asyncio.to_thread(senders.send_syslog, ALERT, server, "here", [authority.ca_pem.decode()], HERE)
        length, _, line = (await hearing).partition(b" ")
        assert int(length) == len(line)
        assert json.loads(line.split(b" - ", 2)[2])["event_id"] == "SE_DOWN"
        other = Authority.open(tmp_path / "other").ca_pem.decode()

        def refused() -> None:
            with contextlib.suppress(ssl.SSLError, OSError):
                told(listener, context)

        hearing2 = asyncio.create_task(asyncio.to_thread(refused))
        with pytest.raises(senders.NotSent, match="CERTIFICATE_VERIFY_FAILED"):
            await asyncio.to_thread(senders.send_syslog, ALERT, server, "here", [other], HERE)
        await hearing2


async def test_every_event_and_change_can_be_streamed_to_syslog(world: Alerting) -> None:
    with receiver(socket.SOCK_DGRAM) as datagrams:
        server = {"syslog_server": "127.0.0.1", "syslog_server_port": datagrams.getsockname()[1], "udp": True}
        await world.post("/api/alertsyslogconfig", {"name": "logs", "syslog_servers": [server]})
        group = {"syslog_config_ref": "/api/alertsyslogconfig?name=logs", "external_only": True}
        await on(world, {"event_match_filter": "co(all,)"}, group)
        await world.post("/api/pool", {"name": "web"})
        world.controller.events_log.add("VS_UP", "one")
        world.controller.events_log.add("VS_UP", "two")
        wanted, found = (b"created Pool web", b"VS_UP a: one", b"VS_UP a: two"), b""
        while not all(words in found for words in wanted):
            found += await asyncio.to_thread(datagrams.recv, 65_536)
    assert not names(world, RAISED), "external_only"


def test_nothing_in_an_alert_makes_another_line_or_header() -> None:
    for format in ("SYSLOG_LEGACY", "SYSLOG_RFC5424", "SYSLOG_JSON", "SYSLOG_RFC5425_ENHANCED"):
        line = messages.syslog(ALERT, format, "a host\n<0>")
        assert b"\n" not in line and b"\r" not in line
    assert rb"\]" in messages.syslog(Alert(**{**_fields(ALERT), "name": 'x"] [y'}), "SYSLOG_RFC5424", "h")
    mail = messages.mail(ALERT, "a@example.org", ["b@example.org"], [])
    assert mail["Bcc"] is None and "\n" not in mail["Subject"]
    assert set(email.message_from_bytes(mail.as_bytes()).keys()) >= {"From", "To", "Subject"}


def _fields(alert: Alert) -> Document:
    return {name: getattr(alert, name) for name in alert.__struct_fields__}


# --- webhooks ---


class Hook(http.server.BaseHTTPRequestHandler):
    taken: ClassVar[list[tuple[Any, bytes]]] = []
    answers: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.headers, body))
        self.send_response(self.answers.pop(0) if self.answers else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


async def test_a_webhook_gets_the_alert_signed(world: Alerting) -> None:
    Hook.taken, Hook.answers = [], [503]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        await on(world, DOWN, {"webhook_url": url, "webhook_secret": "a secret of ours"})
        world.controller.events_log.add("SE_DOWN", "down", serviceengine="se-1")
        await until(lambda: len(Hook.taken) == 2)
        server.shutdown()
    headers, body = Hook.taken[1]
    signature = hmac.new(b"a secret of ours", body, hashlib.sha256).hexdigest()
    assert headers["X-Shoal-Signature"] == f"sha256={signature}"
    found = json.loads(body)
    assert (found["name"], found["event_id"], found["objects"]) == ("a", "SE_DOWN", {"serviceengine": "se-1"})
    (group,) = (one for one in (await world.get("/api/actiongroupconfig"))["results"] if "webhook_url" in one)
    assert group["webhook_secret"] == "<sensitive>"


async def test_who_may_not_enter_all_tenants_sets_no_webhook(world: Alerting) -> None:
    await world.post("/api/tenant", {"name": "blue"})
    access = [{"role_ref": "/api/role?name=Tenant-Admin", "tenant_ref": "/api/tenant?name=blue"}]
    await world.post("/api/user", {"name": "pat", "password": "Correct horse 9!", "access": access})
    async with world.stranger() as client:
        reply = await client.post("/login", data={"username": "pat", "password": "Correct horse 9!"})
        client.headers["X-CSRFToken"] = reply.cookies["csrftoken"]
        body = {"name": "x", "level": "ALERT_LOW", "external_only": False, "webhook_url": "http://169.254.169.254/"}
        refused = await client.post("/api/actiongroupconfig", json=body)
        assert refused.status_code == 400 and "access to all tenants" in refused.text


# --- when ---


async def test_a_threshold_counts_within_its_window_and_throttling_holds_back(world: Alerting) -> None:
    await on(world, DOWN, threshold=3, rolling_window=60, throttle=100, category="ROLLINGWINDOW")
    log = world.controller.events_log
    at = [1_000.0]

    def down(after_s: float) -> int:
        at[0] += after_s
        world.alerts.event(Event(id="e", at=at[0], name="SE_DOWN", detail="down", objects={}))
        return len(names(world, RAISED))

    assert [down(40) for _ in range(5)] == [0, 0, 0, 0, 0], "never three within 60 s"
    assert [down(70), down(10), down(10)] == [0, 0, 1]
    assert [down(10), down(10), down(10)] == [1, 1, 1], "held back"
    assert [down(70), down(10), down(10)] == [1, 1, 2]
    log.add(RAISED, "an alert sets no alert off")


async def test_figures_set_off_an_alert_when_they_stay_beyond_for_the_duration(world: Alerting) -> None:
    made = await world.service()
    pool = world.view.all("pool")[0]["uuid"]
    rule = {
        "metric_id": "l7_client.avg_complete_responses",
        "duration": 15,
        "metric_threshold": {"comparator": "ALERT_OP_GT", "threshold": 50},
    }
    await on(world, {"metrics_rule": [rule]}, source="METRICS", throttle=600)
    metrics = world.alerts._metrics = Metrics(world.clock)
    number = 0

    def traffic(per_s: int, seconds: int) -> None:
        nonlocal number
        for _ in range(seconds // 5):
            number += 1
            total[0] += 5 * per_s
            counts = Counts(requests=total[0], responses_2xx=total[0])
            served = ServiceCounts(made["uuid"], counts, (PoolCounts(pool),))
            message = Counters(
                epoch="e", number=number, at_ms=5_000 * number, engine=EngineCounts(), services=(served,)
            )
            metrics.take("se-1", message)
            world.clock.s += 5

    total = [0]
    traffic(20, 60)
    await world.alerts.look()
    assert not names(world, RAISED)
    traffic(100, 10)
    await world.alerts.look()
    assert not names(world, RAISED), "not for so long yet"
    traffic(100, 40)
    await world.alerts.look()
    await world.alerts.look()
    assert len(names(world, RAISED)) == 1 and "virtualservice web: l7_client.avg_complete" in names(world, RAISED)[0]


async def test_a_tenants_alerts_tell_of_its_own_things_only(world: Alerting) -> None:
    for name in ("blue", "red"):
        await world.post("/api/tenant", {"name": name})
    pools = {
        name: (await world.post("/api/pool", {"name": f"{name}-p"}, headers={"X-Avi-Tenant": name}))["uuid"]
        for name in ("blue", "red")
    }
    body = {"name": "a", "source": "EVENT_LOGS", "category": "REALTIME", "throttle": 0}
    body["alert_rule"] = {"event_match_filter": "co(all,)"}
    await world.post("/api/alertconfig", body, headers={"X-Avi-Tenant": "blue"})
    before = len(names(world, RAISED))
    for name, uuid in pools.items():
        world.controller.events_log.add("SERVER_DOWN", f"of {name}", pool=uuid)
    world.controller.events_log.add("SE_DOWN", "of all", serviceengine="se-1")
    await world.call(
        "PATCH",
        f"/api/pool/{pools['red']}",
        200,
        json={"replace": {"description": "x"}},
        headers={"X-Avi-Tenant": "red"},
    )
    assert names(world, RAISED)[: len(names(world, RAISED)) - before] == ["a: of blue"]


async def test_what_could_never_fire_or_be_sent_is_refused(world: Alerting) -> None:
    base = {"name": "a", "source": "EVENT_LOGS", "category": "REALTIME"}
    threshold = {"comparator": "ALERT_OP_GT", "threshold": 1}
    for rule, source, path in (
        ({}, "EVENT_LOGS", "alert_rule"),
        ({"event_match_filter": "event is bad"}, "EVENT_LOGS", "event_match_filter"),
        ({}, "METRICS", "metrics_rule"),
        ({"metrics_rule": [{"metric_id": "nothing", "metric_threshold": threshold}]}, "METRICS", "metric_id"),
    ):
        reply = await world.post("/api/alertconfig", base | {"alert_rule": rule, "source": source}, 400)
        assert path in reply["error"]
    for to in ("", "nobody", "a@b.example\nBcc: x@y.example", "a b@c.example"):
        assert (
            await world.client.post("/api/alertemailconfig", json={"name": "m", "to_emails": to})
        ).status_code == 400
    for url in ("file:///etc/passwd", "http://", "javascript:x", "ftp://x"):
        body = {"name": "x", "level": "ALERT_LOW", "external_only": False, "webhook_url": url}
        assert (await world.client.post("/api/actiongroupconfig", json=body)).status_code == 400, url


@pytest.mark.parametrize(
    "rule, wanted",
    [
        ({}, False),
        (DOWN, True),
        ({"sys_event_rule": [{"event_id": "SE_UP"}]}, False),
        ({"sys_event_rule": [{"event_id": "SE_UP", "not_cond": True}]}, True),
        ({"sys_event_rule": [{"event_id": "SE_UP"}, {"event_id": "SE_DOWN"}], "operator": "OPERATOR_OR"}, True),
        ({"sys_event_rule": [{"event_id": "SE_UP"}, {"event_id": "SE_DOWN"}]}, False),
        ({"event_match_filter": "eq(event_id,[SE_UP,SE_DOWN])"}, True),
        ({"event_match_filter": "ne(event_id,SE_DOWN)"}, False),
        ({"event_match_filter": "co(all,is down);eq(serviceengine,se-1)"}, True),
        ({"event_match_filter": "co(all,is down);nc(serviceengine,se)"}, False),
        ({"event_match_filter": "eq(level,critical)"}, False),
    ],
)
def test_rules_on_events(rule: Document, wanted: bool) -> None:
    event = Event(id="1", at=1.0, name="SE_DOWN", detail="Avi-se-1 is down", objects={"serviceengine": "se-1"})
    assert rules.holds({"alert_rule": rule}, event) is wanted
    detail = {"event_details_key": "serviceengine", "event_details_value": "se-1"}
    assert rules.holds({"alert_rule": {"sys_event_rule": [{"event_id": "SE_DOWN", "event_details": [detail]}]}}, event)
