"""Health monitors: what an engine would choke on is refused when it is written. (Kinds not run yet: `objects.acts`.)"""

from __future__ import annotations

import re

from shoal.controller.desired import monitor_kind
from shoal.wire.desired import DNS_RECORD_TYPES, REQUEST_LINE

from .change import Around, Change, Document

REQUEST_CHARACTERS_MAX = 2_000
"""A percent sign counts twice: HAProxy wants it written so."""
DOMAIN_CHARACTERS_MAX = 253
_DOMAIN = re.compile(r"\.|([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,120}")


def check(change: Change, around: Around) -> None:
    monitor = change.document
    kind = monitor_kind(monitor["type"])
    if kind == "DNS":
        _question(change, monitor)
    member = {"HTTP": "http_monitor", "HTTPS": "https_monitor"}.get(kind)
    if member is not None and member in monitor:
        _request(change, f"{member}.http_request", monitor[member].get("http_request", ""))
        _printable(change, f"{member}.http_response", monitor[member].get("http_response", ""))
    for field in ("tcp_request", "tcp_response") if kind == "TCP" and "tcp_monitor" in monitor else ():
        octets = len(monitor["tcp_monitor"].get(field, "").encode(errors="replace"))
        if octets > REQUEST_CHARACTERS_MAX:
            change.wrong(f"tcp_monitor.{field}", f"has {octets} octets; at most {REQUEST_CHARACTERS_MAX} are taken")


def _question(change: Change, monitor: Document) -> None:
    question = monitor.get("dns_monitor")
    if question is None:
        change.wrong("dns_monitor", "required by HEALTH_MONITOR_DNS, and missing", hint='Give {"query_name": ...}.')
    elif question["record_type"] not in DNS_RECORD_TYPES:
        allowed = ", ".join(DNS_RECORD_TYPES)
        change.wrong(
            "dns_monitor.record_type", "can't be asked for", question["record_type"], hint=f"One of {allowed}."
        )
    elif not _DOMAIN.fullmatch(question["query_name"]) or len(question["query_name"]) > DOMAIN_CHARACTERS_MAX:
        change.wrong("dns_monitor.query_name", "must be a domain name", question["query_name"])


def _request(change: Change, path: str, request: str) -> None:
    """Its line, then headers; line ends may be written ``\\r\\n``."""
    lines = request.replace("\\r\\n", "\n").replace("\r\n", "\n").split("\n")
    if request and not REQUEST_LINE.fullmatch(lines[0].strip()):
        change.wrong(path, "must begin with a line such as GET / HTTP/1.0", lines[0])
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon and value.strip() and not _HEADER_NAME.fullmatch(name.strip()):
            change.wrong(path, "has a line that is no header such as Host: example.org", line)
    _printable(change, path, "".join(lines))


def _printable(change: Change, path: str, text: str) -> None:
    if len(text) + text.count("%") > REQUEST_CHARACTERS_MAX:
        change.wrong(path, f"has {len(text) + text.count('%')} characters; at most {REQUEST_CHARACTERS_MAX} are taken")
    elif not text.isprintable():
        change.wrong(path, "must hold printable characters only", ascii(text))
