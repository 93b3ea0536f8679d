"""Health monitors: what an engine would choke on is refused when it is written. (Kinds not run yet: `objects.acts`.)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shoal.controller.monitors import detail, kind_of, words
from shoal.objects.check import shown
from shoal.wire.monitors import DNS_RECORD_TYPES, MONITOR_KINDS, REQUEST_LINE

from .change import Around, Change, Document

REQUEST_CHARACTERS_MAX = 2_000
"""A percent sign counts twice: HAProxy wants it written so."""
DOMAIN_CHARACTERS_MAX = 253
_DOMAIN = re.compile(r"\.|([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,120}")


NEEDED = {"EXTERNAL": "command_code", "FTP": "filename", "FTPS": "filename", "LDAP": "base_dn", "LDAPS": "base_dn"}
NEEDED |= {"RADIUS": "shared_secret", "DNS": "query_name"}
SCRIPT_CHARACTERS_MAX = 65_536
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}=[^\x00]*", re.DOTALL)
_FROM = ("LD_", "PYTHON", "PERL", "BASH_")
"""Variables that would change what an interpreter does, before the script is read."""


def check(change: Change, around: Around) -> None:
    monitor = change.document
    kind = kind_of(monitor["type"])
    if kind not in MONITOR_KINDS:
        return
    member, own = f"{kind.lower()}_monitor", detail(monitor)
    if kind in NEEDED and not own:
        hint = f'Give {{"{NEEDED[kind]}": ...}}.'
        change.wrong(member, f"required by {monitor['type']}, and missing", hint=hint)
        return
    if kind == "DNS":
        _question(change, monitor)
    if kind == "EXTERNAL":
        _script(change, own)
    if kind in ("HTTP", "HTTPS"):
        _request(change, f"{member}.http_request", own.get("http_request", ""))
        for field in ("http_response", "http_request_body", "maintenance_response"):
            _printable(change, f"{member}.{field}", own.get(field, ""))
    for field in ("tcp_request", "tcp_response") if kind == "TCP" else ():
        octets = len(own.get(field, "").encode(errors="replace"))
        if octets > REQUEST_CHARACTERS_MAX:
            change.wrong(f"tcp_monitor.{field}", f"has {octets} octets; at most {REQUEST_CHARACTERS_MAX} are taken")
    for field, value in own.items():
        if kind in SPOKEN and isinstance(value, str) and field != "mail_data" and not value.isprintable():
            change.wrong(f"{member}.{field}", "must hold printable characters only", ascii(value)[:60])
    name = (monitor.get("authentication") or {}).get("username", "")
    if not name.isprintable():
        change.wrong("authentication.username", "must hold printable characters only", ascii(name)[:60])


SPOKEN = ("SMTP", "SMTPS", "POP3", "POP3S", "IMAP", "IMAPS", "FTP", "FTPS")
"""Where a line break in a text would begin another command."""


def _script(change: Change, own: Mapping[str, Any]) -> None:
    """It runs on engines, which serve other tenants, too: only who may do everything may say what it does."""
    if not change.rights.whole:
        hint = "Ask an administrator, or use a monitor of another type."
        change.wrong("type", "EXTERNAL needs a superuser: its script runs on engines", hint=hint)
    code = own.get("command_code", "")
    if not code.strip() or len(code) > SCRIPT_CHARACTERS_MAX or "\0" in code:
        change.wrong("external_monitor.command_code", f"must be a script of at most {SCRIPT_CHARACTERS_MAX} characters")
    for field in ("command_parameters", "command_variables"):
        try:
            found = words(own.get(field, ""))
        except ValueError as error:
            change.wrong(f"external_monitor.{field}", f"can't be split into words: {error}", shown(own[field]))
            continue
        for word in found if field == "command_variables" else ():
            if not _VARIABLE.fullmatch(word) or word.startswith(_FROM):
                hint = "Give USER=monitor, for example; not LD_*, PYTHON*, PERL* or BASH_*."
                change.wrong("external_monitor.command_variables", "must be NAME=VALUE", shown(word), hint)


def _question(change: Change, monitor: Document) -> None:
    question = monitor["dns_monitor"]
    if question["record_type"] not in DNS_RECORD_TYPES:
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
