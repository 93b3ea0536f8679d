"""Out of the controller: mail, syslog, webhooks, traps. Each blocks for some seconds at most, in a thread of its own."""

from __future__ import annotations

import hashlib
import hmac
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from shoal.controller import secured
from shoal.controller.outward import NotAsked, Outward
from shoal.wire.tls import show

from . import traps
from .messages import Alert, document, mail, syslog

WITHIN_S = 10.0
DATAGRAM_BYTES_MAX = 8_000
FROM = "admin@avicontroller.net"
Settings = Mapping[str, Any]


class NotSent(Exception):
    """Why, in words."""


def addresses(text: str) -> list[str]:
    """``a@b.example, c@d.example``"""
    return [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]


def send_mail(alert: Alert, to: Settings, server: Settings) -> None:
    """``to``: AlertEmailConfig; ``server``: EmailConfiguration, secrets opened. Raises NotSent."""
    kind = server.get("smtp_type", "SMTP_NONE")
    if kind == "SMTP_NONE":
        raise NotSent("no mail server is configured (email_configuration of the system configuration)")
    local = kind == "SMTP_LOCAL_HOST"
    host = "localhost" if local else server.get("mail_server_name") or "localhost"
    receivers, copies = addresses(to.get("to_emails", "")), addresses(to.get("cc_emails", ""))
    message = mail(alert, server.get("from_email") or FROM, receivers, copies)
    try:
        with smtplib.SMTP(host, int(server.get("mail_server_port", 25)), timeout=WITHIN_S) as connection:
            connection.ehlo_or_helo_if_needed()
            if not local and not server.get("disable_tls"):
                connection.starttls(context=ssl.create_default_context())
            if kind == "SMTP_SERVER" and server.get("auth_username"):
                connection.login(server["auth_username"], server.get("auth_password", ""))
            connection.send_message(message, to_addrs=[*receivers, *copies])
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise NotSent(f"mail server {host}: {type(error).__name__}: {error}") from None


def send_syslog(
    alert: Alert, server: Settings, sender: str, authorities: Sequence[str], outward: Outward, own: str = ""
) -> None:
    """``server``: AlertSyslogServer; ``authorities``: PEM of the CAs that its certificate must come from, and
    ``strict_cert_verify`` that it must be this server's own, too (of the machine's CAs without any); ``own``: certificate, chain
    and key that are shown to it. Raises NotSent."""
    host, port = server["syslog_server"], int(server.get("syslog_server_port", 514))
    line = syslog(alert, server.get("format", "SYSLOG_LEGACY"), sender)
    try:
        if server.get("tls_enable"):
            context = ssl.create_default_context(cadata="\n".join(authorities) or None)
            if not server.get("strict_cert_verify"):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_REQUIRED if authorities else ssl.CERT_NONE
            if own:
                show(context, own)
            with outward.connected(host, port, WITHIN_S) as connection:
                secured.tell(connection, context, host, f"{len(line)} ".encode() + line)  # RFC 5425, 4.3
        elif server.get("udp", True):
            with outward.datagrams(host, port) as datagrams:
                datagrams.send(line[:DATAGRAM_BYTES_MAX])
        else:
            with outward.connected(host, port, WITHIN_S) as connection:
                connection.sendall(line + b"\n")  # RFC 6587, 3.4.2
    except (OSError, ValueError) as error:
        raise NotSent(f"syslog server {host}:{port}: {type(error).__name__}: {error}") from None


def send_trap(alert: Alert, server: Settings, system: Settings, cluster: str, outward: Outward) -> None:
    """``server``: SnmpTrapServer, secrets opened; ``system`` and ``cluster`` as of `traps.engine_id`. Raises NotSent."""
    try:
        traps.send(alert, server, traps.engine_id(system, cluster), outward)
    except Exception as error:  # whatever the library makes of what was configured
        raise NotSent(f"trap receiver {server['ip_addr']['addr']}: {error or type(error).__name__}") from None


def send_webhook(alert: Alert, url: str, secret: str, outward: Outward) -> None:
    """POST the alert as JSON, signed (``X-Shoal-Signature: sha256=...`` over the body) where there is a secret. Raises
    NotSent."""
    body = msgspec.json.encode(document(alert))
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["X-Shoal-Signature"] = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    try:
        with outward.telling(WITHIN_S) as http, http.stream("POST", url, content=body, headers=headers) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) if isinstance(error.__cause__, NotAsked) else type(error).__name__
        raise NotSent(f"webhook: {why}") from None
    if status >= 300:
        raise NotSent(f"webhook answers {status}")
