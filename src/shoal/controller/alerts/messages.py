"""One alert, in the words of a mail, of a syslog line, of a webhook's body."""

from __future__ import annotations

import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any

import msgspec

from shoal import __version__

SEVERITY = {"ALERT_HIGH": 2, "ALERT_MEDIUM": 4, "ALERT_LOW": 5}
"""Of syslog: critical, warning, notice (RFC 5424, 6.2.1)."""
FACILITY = 16
TEXT_CHARACTERS_MAX = 2_000


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """``objects``: role -> uuid; ``tenant``: a name."""

    name: str
    level: str
    summary: str
    detail: str
    event_id: str
    objects: dict[str, str]
    tenant: str
    at: float


def mail(alert: Alert, sender: str, to: list[str], copies: list[str]) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = sender, ", ".join(to)
    if copies:
        message["Cc"] = ", ".join(copies)
    message["Subject"] = line_of(f"[{_word(alert)}] {alert.name}: {alert.summary or alert.detail}")[:200]
    message["Date"] = format_datetime(_moment(alert))
    message["Message-ID"] = make_msgid(domain="shoal.invalid")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers, please
    lines = [f"{key}: {value}" for key, value in sorted(alert.objects.items())]
    head = [
        alert.detail,
        "",
        f"Alert: {alert.name} ({_word(alert)})",
        f"Event: {alert.event_id}",
        f"Tenant: {alert.tenant}",
    ]
    message.set_content("\n".join([*head, f"At: {_moment(alert).isoformat()}", *lines, ""])[:TEXT_CHARACTERS_MAX])
    return message


def syslog(alert: Alert, format: str, host: str) -> bytes:
    priority = f"<{8 * FACILITY + SEVERITY.get(alert.level, 5)}>"
    text = line_of(f"{alert.name}: {alert.detail}")[:TEXT_CHARACTERS_MAX]
    moment = _moment(alert)
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if format == "SYSLOG_LEGACY":  # RFC 3164
        day = f"{moment.day:2d}"
        return f"{priority}{moment:%b} {day} {moment:%H:%M:%S} {_word_of(host)} shoal: {alert.event_id} {text}".encode()
    if format == "SYSLOG_JSON":
        text = msgspec.json.encode(document(alert)).decode()
        return f"{priority}1 {stamp} {_word_of(host)} shoal - {alert.event_id} - {text}".encode()
    pairs = {"alert": alert.name, "tenant": alert.tenant, "level": alert.level, **alert.objects}
    data = " ".join(f'{_word_of(key)[:32]}="{_quoted(value)}"' for key, value in pairs.items())
    return f"{priority}1 {stamp} {_word_of(host)} shoal - {alert.event_id} [shoal@32473 {data}] {text}".encode()


def document(alert: Alert) -> dict[str, Any]:
    """What a webhook gets."""
    found: dict[str, Any] = msgspec.to_builtins(alert)
    return found | {"product": "Shoal", "version": __version__, "at": _moment(alert).isoformat()}


def _moment(alert: Alert) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(alert.at, datetime.UTC)


def _word(alert: Alert) -> str:
    return alert.level.removeprefix("ALERT_")


def line_of(text: str) -> str:
    """Nothing that would begin another line or message."""
    return "".join(c if c.isprintable() else " " for c in text)


def _word_of(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._@") else "-" for c in text)[:255] or "-"


def _quoted(text: str) -> str:
    return line_of(text).replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
