"""Health monitors as engines run them."""

from __future__ import annotations

import re

import msgspec

HAPROXY_KINDS = ("TCP", "HTTP", "HTTPS")
"""What HAProxy has checks for. The agent runs those that ask for more than HAProxy can."""
AGENT_KINDS = (
    "UDP",
    "PING",
    "DNS",
    "EXTERNAL",
    "SMTP",
    "SMTPS",
    "POP3",
    "POP3S",
    "IMAP",
    "IMAPS",
    "FTP",
    "FTPS",
    "LDAP",
    "LDAPS",
    "RADIUS",
    "SIP",
)
MONITOR_KINDS = (*HAPROXY_KINDS, *AGENT_KINDS)
"""What an engine can run. Monitors of other kinds are not sent to it."""
TLS_KINDS = ("HTTPS", "SMTPS", "POP3S", "IMAPS", "FTPS", "LDAPS")
DNS_RECORD_TYPES = {
    "DNS_RECORD_A": 1,
    "DNS_RECORD_NS": 2,
    "DNS_RECORD_CNAME": 5,
    "DNS_RECORD_SOA": 6,
    "DNS_RECORD_PTR": 12,
    "DNS_RECORD_HINFO": 13,
    "DNS_RECORD_MX": 15,
    "DNS_RECORD_TXT": 16,
    "DNS_RECORD_RP": 17,
    "DNS_RECORD_AAAA": 28,
    "DNS_RECORD_SRV": 33,
    "DNS_RECORD_DNSKEY": 48,
    "DNS_RECORD_ANY": 255,
}
"""What a DNS monitor can ask for."""
REQUEST_LINE = re.compile(r"(?P<method>[A-Z]{3,10}) (?P<uri>\S+)( HTTP/(?P<version>1\.[01]))?")
"""What the request of an HTTP monitor begins with."""
ANSWER_BYTES = 2048
"""Of an HTTP server's answer that are looked at where nothing else is asked for."""


class DnsQuestion(msgspec.Struct, frozen=True, kw_only=True, tag="dns"):
    """What a DNS monitor asks and takes for an answer; values as the schema's ``HealthMonitorDNS`` has them."""

    name: str
    record_type: str = "DNS_RECORD_A"
    answer: str = "DNS_QUERY_TYPE"
    code: str = "RCODE_NO_ERROR"


class Script(msgspec.Struct, frozen=True, kw_only=True, tag="script"):
    """``code`` with its interpreter in the first line (``/bin/sh`` without one); ``variables`` are NAME=VALUE."""

    code: str
    parameters: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


class Mail(msgspec.Struct, frozen=True, kw_only=True, tag="mail"):
    """Of SMTP. A message is sent where there are a sender and recipients."""

    domain: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    data: str = ""


class Folder(msgspec.Struct, frozen=True, kw_only=True, tag="folder"):
    """Of IMAP; "" = none is opened."""

    name: str = ""


class File(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """Of FTP: one that must be there to fetch."""

    name: str
    passive: bool = True


class Search(msgspec.Struct, frozen=True, kw_only=True, tag="search"):
    """Of LDAP. ``scope``: base, one or sub."""

    base: str
    filter: str = ""
    scope: str = "base"
    attributes: tuple[str, ...] = ()


class Shared(msgspec.Struct, frozen=True, kw_only=True, tag="shared"):
    """Of RADIUS: the secret that client and server share."""

    secret: str


class Sip(msgspec.Struct, frozen=True, kw_only=True, tag="sip"):
    tcp: bool = False


Asks = DnsQuestion | Script | Mail | Folder | File | Search | Shared | Sip


class MonitorTls(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a monitor's connections. Without ``authorities`` (PEM) nothing is verified; ``certificate``: the client's, with its
    key (PEM). ``server_name`` is sent, and verified where there are authorities."""

    authorities: str = ""
    certificate: str = ""
    server_name: str = ""
    version_min: str = ""
    version_max: str = ""
    ciphers: str = ""


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """One health monitor. ``kind``: one of `MONITOR_KINDS`."""

    name: str
    kind: str
    interval_s: int = 10
    timeout_s: int = 4
    rise: int = 2
    fall: int = 2
    port: int = 0
    """0 = the server's own port."""
    request: str = ""
    """HTTP request line and headers as configured, e.g. ``HEAD / HTTP/1.0``."""
    codes: tuple[str, ...] = ()
    """``HTTP_2XX``, ``HTTP_3XX``, ... that count as up; empty = 2xx."""
    response: str = ""
    """Text that must occur in the body (HTTP), the banner (TCP) or the answer (UDP, DNS, SIP)."""
    body: str = ""
    """Of the HTTP request."""
    exact: bool = False
    """No header is added to the HTTP request."""
    answer_bytes: int = ANSWER_BYTES
    """So much of an HTTP answer is looked at, by the agent."""
    maintenance_codes: tuple[int, ...] = ()
    maintenance: str = ""
    """A status or a text (HTTP, TCP, UDP) that takes the server out at once."""
    user: str = ""
    password: str = ""
    tls: MonitorTls | None = None
    apart: bool = False
    """Each pool looks at a server for itself, whoever else does so with the same monitor."""
    quick: bool = True
    """A server is looked at as soon as it is there, and what is found then decides; else first after ``interval_s``, and it takes
    as many failures as ever."""
    asks: Asks | None = None


def asks_for_more(monitor: Monitor) -> bool:
    """Whether a monitor of one of `HAPROXY_KINDS` is beyond HAProxy's checks (or would show a secret in its file)."""
    return bool(
        monitor.maintenance_codes
        or monitor.maintenance
        or monitor.user
        or monitor.tls is not None
        or monitor.answer_bytes != ANSWER_BYTES
        or not monitor.quick
    )
