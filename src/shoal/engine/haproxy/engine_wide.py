"""What HAProxy has one of for all virtual services: what each wants of it, and what comes of that together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from shoal.engine.monitors.runners import by_haproxy
from shoal.wire.desired import Service

from . import bearer, rewriting, tls
from .escape import within

SESSION_S, SESSION_S_MAX = 300, 86_400
"""Of TLS, that may be resumed. Tickets are not read for longer than a day after their key has gone."""
BLOCKS, BLOCKS_WITH_CERTIFICATE = 2, 12
"""That a session takes in HAProxy's memory of them; with it the certificate is kept that its client has shown."""
BLOCKS_MAX = 500_000
"""100 MB."""
LUA_SHARE, LUA_MB_MIN = 8, 128
"""Of an engine's memory, that Lua may have: it takes 7 KB a request, so that every connection may have one (`render.connections_max`)."""
HEAD_KB, HEAD_KB_MAX = 15, 256
HEADERS, HEADERS_MAX = 256, 4096
STREAMS_MAX, WINDOW_KB_MAX = 256, 32_768
HELLO_OCTETS = 1024
"""Of each TLS connection."""
FIRST_CHECKS_MS, FIRST_CHECK_MS = 500, 2
"""Servers are checked for the first time within so long, or so long for each of them: by itself HAProxy would take the interval.
As the first ones follow upon each other, so do the later ones."""
REWRITTEN_KB = 1
"""Kept free in a buffer for headers that the engine adds."""


class Wants(msgspec.Struct, frozen=True, kw_only=True):
    """Of one virtual service; 0 = whatever others want."""

    session_s: int = 0
    """How long TLS sessions may be resumed: the shortest counts."""
    blocks: int = 0
    """Of the memory of TLS sessions: all together."""
    forgets: bool = False
    """Sessions must not be resumed: then HAProxy keeps none at all, and those of others are resumed by tickets alone."""
    rewrites: bool = False
    """Bodies are changed."""
    verifies: bool = False
    """Tokens are."""
    hello: bool = False
    """What clients say at the beginning of TLS is looked at."""
    streams: int = 0
    """At a time on an HTTP/2 connection: the smallest counts."""
    window_kb: int = 0
    """Of HTTP/2 at the beginning: the largest counts."""
    head_kb: int = 0
    """That a head may have: the largest counts."""
    headers: int = 0
    """In a head: the largest counts."""
    checked: int = 0
    """Servers that HAProxy checks: all of them together count."""


def of(service: Service) -> Wants:
    http = service.http if service.mode == "http" else None
    by_streams = any(listener.http2 for listener in service.listeners)
    encrypted = service.terminates_tls
    return Wants(
        session_s=tls.session_s(service),
        blocks=service.sessions * (BLOCKS_WITH_CERTIFICATE if service.client_certificates else BLOCKS) * encrypted,
        forgets=encrypted and not service.tls.resumes,
        verifies=http is not None and http.bearer is not None,
        rewrites=http is not None and http.rewriting is not None,
        hello=encrypted and http is not None and http.fingerprints,
        streams=http.streams_max if http and by_streams else 0,
        window_kb=http.window_kb if http and by_streams else 0,
        head_kb=max(http.head_kb_max, http.response_head_kb_max) if http else 0,
        headers=http.headers_max if http else 0,
        checked=sum(len(pool.servers) for pool in service.pools if by_haproxy(pool)),
    )


def together(wanted: Iterable[Wants]) -> Wants:
    """What is done; 0 = as HAProxy has it."""
    found = tuple(wanted)
    return Wants(
        session_s=within(min((one.session_s for one in found if one.session_s), default=SESSION_S), 1, SESSION_S_MAX),
        blocks=within(sum(one.blocks for one in found), 0, BLOCKS_MAX),
        forgets=any(one.forgets for one in found),
        verifies=any(one.verifies for one in found),
        rewrites=any(one.rewrites for one in found),
        hello=any(one.hello for one in found),
        streams=within(min((one.streams for one in found if one.streams), default=0), 0, STREAMS_MAX),
        window_kb=within(max((one.window_kb for one in found), default=0), 0, WINDOW_KB_MAX),
        head_kb=within(max((one.head_kb for one in found), default=0), HEAD_KB, HEAD_KB_MAX),
        headers=within(max((one.headers for one in found), default=0), HEADERS, HEADERS_MAX),
        checked=sum(one.checked for one in found),
    )


def buffer_kb(done: Wants) -> int:
    return done.head_kb + REWRITTEN_KB


def lines(done: Wants, memory_mb: int) -> Iterator[str]:
    """Of the section ``global``. ``memory_mb``: the engine's."""
    yield f"tune.ssl.lifetime {done.session_s}"
    yield f"max-spread-checks {max(FIRST_CHECKS_MS, FIRST_CHECK_MS * done.checked)}"
    if done.streams:
        yield f"tune.h2.max-concurrent-streams {done.streams}"
    if done.window_kb:
        yield f"tune.h2.initial-window-size {done.window_kb * 1024}"
    if done.forgets or done.blocks:
        yield f"tune.ssl.cachesize {0 if done.forgets else done.blocks}"
    if done.rewrites or done.verifies:
        yield f"tune.lua.maxmem {max(LUA_MB_MIN, memory_mb // LUA_SHARE)}"
    if done.rewrites:
        yield from rewriting.engine_wide()
    if done.verifies:
        yield from bearer.engine_wide()
    if done.hello:
        yield f"tune.ssl.capture-buffer-size {HELLO_OCTETS}"
    yield f"tune.http.maxhdr {done.headers + 1}"  # it counts the first line, too
    if done.head_kb > HEAD_KB:
        yield f"tune.bufsize {buffer_kb(done) * 1024}"
