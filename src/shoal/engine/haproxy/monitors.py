"""Health monitors as HAProxy's check rules. Every monitor of a pool must pass: they run one after another in one check.

The pool's check runs at the shortest interval asked for, with the longest time-out, the highest rise and the lowest fall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from shoal.engine.monitors.runners import by_agent, by_haproxy, not_run
from shoal.wire.desired import Pool, with_port
from shoal.wire.monitors import REQUEST_LINE, Monitor

from . import tls
from .escape import Unrenderable, format_quoted, octets, quoted, token, within

CODES = {
    "HTTP_1XX": "100-199",
    "HTTP_2XX": "200-299",
    "HTTP_3XX": "300-399",
    "HTTP_4XX": "400-499",
    "HTTP_5XX": "500-599",
}
ANY_CODE = "100-599"
PORT_MAX = 65535
SECONDS_MAX = 86_400
COUNT_MAX = 1_000
FAILED_CONNECTIONS = 5
"""In a row they count as a failed check. Answers with errors do not: clients can make servers give them."""
TOLD = "agent-check agent-addr 127.0.0.1 agent-port 1 agent-inter 1d"
"""A second verdict on the server, beside that of HAProxy's check: the agent gives it by ``set server ... agent``. Nobody listens
where HAProxy would ask for it, and that counts for nothing."""


class Check(msgspec.Struct, frozen=True):
    """``rules`` for the backend, ``server`` for each server's line, ``notes`` for a person."""

    rules: tuple[str, ...] = ()
    server: str = ""
    notes: tuple[str, ...] = ()


def check(pool: Pool, *, proxied: bool = True) -> Check:
    """``proxied``: HAProxy serves the pool, not the kernel. Raises Unrenderable when none of the pool's monitors can be run."""
    monitors, left_out = by_haproxy(pool), not_run(pool)
    told = f" {TOLD}" if proxied and by_agent(pool) else ""
    if left_out and len(left_out) == len(pool.monitors):
        kinds = ", ".join(sorted({m.kind[:20] for m in left_out}))
        raise Unrenderable(f"Health monitors of type {kinds} can't be run.")
    notes = tuple(f"The health monitor {m.name[:60]!r} of type {m.kind[:20]} is not run." for m in left_out)
    if not monitors:
        return Check(server=told.strip(), notes=notes)
    web = [m for m in monitors if m.kind != "TCP"]
    rules = list(_http_rules(pool, web, monitors[len(web) :]) if web else _tcp_rules(pool, monitors))
    rules.append(f"timeout check {within(max(m.timeout_s for m in monitors), 1, SECONDS_MAX)}s")
    pace = f"check inter {within(min(m.interval_s for m in monitors), 1, SECONDS_MAX)}s"
    pace += f" rise {within(max(m.rise for m in monitors), 1, COUNT_MAX)}"
    pace += f" fall {within(min(m.fall for m in monitors), 1, COUNT_MAX)}"
    if pool.tls is None and any(_tls(pool, m) for m in monitors):
        pace += " verify none"
    if proxied and pool.passive:
        pace += f" observe layer4 error-limit {FAILED_CONNECTIONS} on-error fail-check"
    return Check(tuple(rules), pace + told, notes)


def is_told(pool: Pool) -> bool:
    """Whether the agent has monitors that HAProxy is told the verdicts of."""
    return bool(by_agent(pool))


def _tls(pool: Pool, monitor: Monitor) -> bool:
    """HTTPS is; HTTP to the port of a server that speaks TLS must be."""
    return monitor.kind == "HTTPS" or (monitor.kind == "HTTP" and pool.tls is not None and not monitor.port)


def _over_tls(pool: Pool) -> str:
    name = tls.check_name(pool)
    return f" ssl sni {name}" if name else " ssl"


def _connect(pool: Pool, monitor: Monitor) -> str:
    if not 0 <= monitor.port <= PORT_MAX:
        raise Unrenderable(f"The health monitor {monitor.name[:60]!r} has the port {monitor.port}.")
    if monitor.port:
        return f"connect port {int(monitor.port)}"
    return "connect send-proxy" if pool.proxy_protocol else "connect"


def _http_rules(pool: Pool, web: Sequence[Monitor], connects: Sequence[Monitor]) -> Iterator[str]:
    yield "option httpchk"
    for monitor in web:
        yield f"http-check {_connect(pool, monitor)}{_over_tls(pool) if _tls(pool, monitor) else ''}"
        yield _http_send(pool, monitor)
        yield f"http-check expect status {_codes(monitor)}"
        if monitor.response:
            yield f"http-check expect string {quoted(monitor.response)}"
    for monitor in connects:
        yield f"http-check {_connect(pool, monitor)}"


def _http_send(pool: Pool, monitor: Monitor) -> str:
    """The request as configured: its line, then headers; line ends may be written ``\\r\\n``."""
    lines = monitor.request.replace("\\r\\n", "\n").replace("\r\n", "\n").split("\n")
    match = REQUEST_LINE.fullmatch((lines[0] or "GET / HTTP/1.0").strip())
    if match is None:
        raise Unrenderable(
            f"The request of the health monitor {monitor.name[:60]!r} begins with {lines[0][:60]!r}, "
            "not with a line such as 'GET / HTTP/1.0'."
        )
    version = match["version"] or "1.0"
    text = f"http-check send meth {token(match['method'])} uri {quoted(match['uri'])} ver {quoted('HTTP/' + version)}"
    named = set()
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon and value.strip():  # HAProxy sends no header without a value
            named.add(name.strip().lower())
            text += f" hdr {token(name.strip())} {format_quoted(value.strip())}"
    if version == "1.1" and "host" not in named and pool.servers and not monitor.exact:
        first = pool.servers[0]
        host = with_port(first.hostname or first.address, monitor.port or first.port, pool.tells_port)
        text += f" hdr Host {format_quoted(host)}"
    return text + (f" body {format_quoted(monitor.body)}" if monitor.body else "")


def _codes(monitor: Monitor) -> str:
    if "HTTP_ANY" in monitor.codes:
        return ANY_CODE
    return ",".join(CODES[code] for code in CODES if code in monitor.codes) or CODES["HTTP_2XX"]


def _tcp_rules(pool: Pool, monitors: Sequence[Monitor]) -> Iterator[str]:
    yield "option tcp-check"
    for monitor in monitors:
        yield f"tcp-check {_connect(pool, monitor)}"
        if monitor.request:
            yield f"tcp-check send-binary {octets(monitor.request)}"
        if monitor.response:
            yield f"tcp-check expect binary {octets(monitor.response)}"
