"""What an HTTP application profile asks for, as HAProxy's lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shoal.wire.policy import Http

from . import engine_wide, rules
from .escape import argument, format_quoted, quoted, token, within
from .transport import IDLE_S_MAX

POSITION_MAX = 1_000
REQUESTS_MAX = 10_000_000
PATTERN_OCTETS_MAX = 65_535
"""A regular expression counts no further."""
HELLO = (
    "ssl_fc_protocol_hello_id",
    "ssl_fc_cipherlist_bin(1),be2dec(-,2)",
    "ssl_fc_extlist_bin(1),be2dec(-,2)",
    "ssl_fc_eclist_bin(1),be2dec(-,2)",
    "ssl_fc_ecformats_bin,be2dec(-,1)",
)
"""JA3: numbers of version, ciphers, extensions, curves and point formats, without those that are there to be unknown (RFC 8701)."""
NAMED = "txn.named"
CLIENT_HOST = "txn.client_host"
ASKED = "sess.asked"
"""Requests of the connection so far."""
COMPRESSES = "txn.compresses"


def first(http: Http, *, encrypted: bool) -> Iterator[str]:
    """Lines of the frontend before all others: who the client is, and what is not to be looked at further. ``encrypted``: it
    has TLS."""
    if http.true_client is not None:
        position = within(http.true_client.position, -POSITION_MAX, POSITION_MAX) or 1
        yield f"http-request set-src req.hdr_ip({argument(http.true_client.header)},{position})"
    if http.fingerprints and encrypted:
        yield f"http-request set-var-fmt({rules.HELLO}) '{','.join(f'%[{part}]' for part in HELLO)}' if {{ ssl_fc }}"
    yield from names(http) if encrypted else ()
    if not http.dots_in_names:
        yield "http-request del-header '.' -m sub"
    yield from (f"http-request reject if {{ req.hdr_cnt({argument(name)}) gt 0 }}" for name in http.forbidden)
    yield from (f"http-request return status 431 if {text}" for text in _too_much(http))
    if http.requests_max > 0:
        yield f"http-request set-var({ASKED}) var({ASKED},0),add(1)"


def names(http: Http) -> Iterator[str]:
    """Lines of a frontend with TLS: who asks for another host than by TLS is told to ask elsewhere."""
    if http.checks_name:
        yield f"http-request set-var({NAMED}) {rules.HOST},lower if {{ ssl_fc_has_sni }}"
        other = f"{{ var({NAMED}) -m found }} !{{ ssl_fc_sni,lower,strcmp({NAMED}) eq 0 }}"
        yield f"http-request deny deny_status 421 if {other}"


def _too_much(http: Http) -> Iterator[str]:
    if http.head_kb_max > 0:
        yield f"{{ req.hdrs -m len gt {within(http.head_kb_max, 1, engine_wide.HEAD_KB_MAX) * 1024} }}"
    if http.header_kb_max > 0:
        octets = min(within(http.header_kb_max, 1, engine_wide.HEAD_KB_MAX) * 1024, PATTERN_OCTETS_MAX - 1)
        pattern = quoted(rf"(^|\n)[^\r\n]{{{octets + 1},}}")
        yield f"{{ req.hdrs -m len gt {octets} }} {{ req.hdrs -m reg -- {pattern} }}"
    if _counts_headers(http):
        yield f"{{ req.fhdr_cnt gt {int(http.headers_max)} }}"


def _counts_headers(http: Http) -> bool:
    """HAProxy itself counts those that all virtual services have in common."""
    return 0 < http.headers_max < engine_wide.HEADERS_MAX and http.headers_max != engine_wide.HEADERS


def last(http: Http) -> Iterator[str]:
    """Lines of the frontend behind all that may refuse or change a request."""
    if http.compress and http.compress_for is not None:
        for one in http.compress_for:
            tests = " ".join([*map(rules.condition, one.tests), f"!{{ var({COMPRESSES}) -m found }}"])
            yield f"http-request set-var({COMPRESSES}) bool({'true' if one.compresses else 'false'}) if {tests}"
        yield f"http-request del-header Accept-Encoding if !{{ var({COMPRESSES}) -m bool }}"
    wait = f"http-request wait-for-body time {within(http.body_timeout_ms, 1, IDLE_S_MAX * 1000)}ms"
    if http.waits_for_body:
        yield f"{wait} if METH_POST"
    if http.continues:
        yield f"{wait} at-least 1 if !METH_GET {{ req.hdr(expect) -m str -i 100-continue }}"  # few look at their headers


def responses(http: Http, idle_s: int) -> Iterator[str]:
    """Lines of the frontend that change what clients get. ``idle_s``: how long their connections may be idle."""
    if http.response_head_kb_max > 0:
        octets = within(http.response_head_kb_max, 1, engine_wide.HEAD_KB_MAX) * 1024
        yield f"http-response deny deny_status 502 if {{ res.hdrs -m len gt {octets} }}"
    if _counts_headers(http):
        yield f"http-response deny deny_status 502 if {{ res.fhdr_cnt gt {int(http.headers_max)} }}"
    if not http.accel_headers:
        yield "http-response del-header X-Accel- -m beg"
    if http.hsts_s > 0:
        value = f"max-age={int(http.hsts_s)}" + ("; includeSubDomains" if http.hsts_subdomains else "")
        yield f"http-after-response set-header Strict-Transport-Security {quoted(value)} if {{ ssl_fc }}"
    for wanted, attribute in ((http.secure_cookies, "Secure"), (http.http_only_cookies, "HttpOnly")):
        if wanted:
            lacking, given = quoted(f"^((?i)(?!.*;\\s*{attribute}\\s*(;|$)).*)$"), quoted(f"\\1; {attribute}")
            yield f"http-response replace-header Set-Cookie {lacking} {given}"
    if http.https_redirects:
        yield r"http-response replace-header Location '^(?i)http://(.*)$' 'https://\1' if { ssl_fc }"
    if http.compress:
        types = " ".join(quoted(one) for one in http.compress)
        yield from ("compression algo gzip", f"compression type {types}")
        yield from ["compression offload"] if http.compress_alone or http.rewriting else []
    yield from _connection(http, within(idle_s, 1, IDLE_S_MAX))


def _connection(http: Http, idle_s: int) -> Iterator[str]:
    if http.requests_max > 0:  # HAProxy 2.6 ends no HTTP/2 connection by this
        asked = f"{{ var({ASKED}) -m int ge {within(http.requests_max, 1, REQUESTS_MAX)} }}"
        yield f"http-after-response set-header Connection close if {asked}"
    if http.keepalive_header:
        unless = " unless { res.hdr(keep-alive) -m found }" if http.keepalive_of_server else ""
        yield f"http-after-response set-header Keep-Alive timeout={idle_s}{unless}"


def forwarded(http: Http) -> Iterator[str]:
    """Lines of the backend that tell servers of the client. What is put behind others is the connection's address: who is
    before it in the list is told already."""
    if http.forwarded_proto:
        yield "http-request set-header X-Forwarded-Proto https if { ssl_fc }"
        yield "http-request set-header X-Forwarded-Proto http if !{ ssl_fc }"
    name = http.forwarded_for
    if not name:
        return
    if http.forwarded_for_update == "append":
        value = quoted(f"%[req.fhdr({argument(name)})], %[fc_src]")
        present = f"{{ req.hdr_cnt({argument(name)}) gt 0 }}"
        yield f"http-request set-header {token(name)} {value} if {present}"
        yield f"http-request set-header {token(name)} %[fc_src] if !{present}"
        return
    if http.forwarded_for_update == "add" and http.true_client is not None:
        yield f"http-request add-header {token(name)} %[fc_src]"
        return
    if http.forwarded_for_update == "replace":
        yield f"http-request del-header {token(name)}"
    yield "option forwardfor" if name == "X-Forwarded-For" else f"option forwardfor header {token(name)}"


def translated(http: Http) -> Iterator[str]:
    """Lines of the backend that give servers another host than the client's, and the client its own back."""
    told = http.server_host
    if not told:
        return
    pattern = re.escape(told)
    yield f"http-request set-var({CLIENT_HOST}) req.hdr(host)"
    yield f"http-request set-header Host {format_quoted(told)}"
    back = f"{{ var({CLIENT_HOST}) -m found }}"
    location = quoted(f"^(?i)(https?://){pattern}(?::[0-9]+)?([/?#].*)?$")
    host = quoted(rf"{rules.ONE}%[var({CLIENT_HOST})]{rules.TWO}")
    yield f"http-response replace-header Location {location} {host} if {back}"
    cookie = quoted(rf"^(?i)((?:.*;)?\s*Domain\s*=\s*)\.?{pattern}(\s*(?:;.*)?)$")
    name = quoted(rf"{rules.ONE}%[var({CLIENT_HOST}),host_only]{rules.TWO}")
    yield f"http-response replace-header Set-Cookie {cookie} {name} if {back}"
