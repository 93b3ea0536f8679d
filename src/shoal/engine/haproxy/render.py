"""From the desired state to ``haproxy.cfg``: a head, then one fragment per virtual service. Pure.

The per-request work is that of a lean hand-written file: no logging, no header edits but those asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from shoal.wire.desired import Listener, Monitor, Pool, Server, Service

from .escape import Unrenderable, address, format_quoted, quoted, token, word

HARD_STOP_AFTER_S = 60
"""How long an old worker may keep its connections after a reload."""
OLD_WORKERS_MAX = 10
CONNECT_TIMEOUT_S = 5
DESCRIPTORS_RESERVED = 300
_REQUEST_LINE = re.compile(r"(?P<method>[A-Z]{3,10}) (?P<uri>\S+)( HTTP/(?P<version>[0-9.]+))?\Z")
CODE_PATTERNS = {"HTTP_ANY": ".", "HTTP_1XX": "1", "HTTP_2XX": "2", "HTTP_3XX": "3", "HTTP_4XX": "4", "HTTP_5XX": "5"}
BALANCE = {
    "LB_ALGORITHM_ROUND_ROBIN": "roundrobin",
    "LB_ALGORITHM_LEAST_CONNECTIONS": "leastconn",
    "LB_ALGORITHM_FEWEST_SERVERS": "first",
    "LB_ALGORITHM_RANDOM": "random",
    "LB_ALGORITHM_LEAST_LOAD": "leastconn",
    "LB_ALGORITHM_FASTEST_RESPONSE": "leastconn",
    "LB_ALGORITHM_FEWEST_TASKS": "leastconn",
}
"""The last three have no counterpart in HAProxy; least connections is the nearest."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the file needs to know of the engine."""

    directory: str
    sockets: str
    """Folder of the Unix sockets (``admin.sock``, ``alive.sock``): their paths must stay short."""
    descriptors_max: int
    threads: int = 1
    user: str = "haproxy"


def admin_socket(facts: Facts) -> str:
    return f"{facts.sockets}/admin.sock"


def alive_socket(facts: Facts) -> str:
    return f"{facts.sockets}/alive.sock"


def certificate_path(facts: Facts, certificate: str) -> str:
    return str(Path(facts.directory) / "certificates" / f"{word(certificate)}.pem")


def backend_name(service: str) -> str:
    return f"be_{word(service)}"


def frontend_name(service: str) -> str:
    return f"vs_{word(service)}"


def connections_max(facts: Facts) -> int:
    """Two descriptors a proxied connection."""
    return max(100, (facts.descriptors_max - DESCRIPTORS_RESERVED) // 2)


def head(facts: Facts) -> str:
    """What every engine has, and the socket where the guard asks whether HAProxy works."""
    return f"""global
    stats socket {quoted(admin_socket(facts))} mode 600 level admin expose-fd listeners
    stats timeout 1h
    maxconn {connections_max(facts)}
    nbthread {facts.threads}
    user {word(facts.user)}
    group {word(facts.user)}
    hard-stop-after {HARD_STOP_AFTER_S}s
    mworker-max-reloads {OLD_WORKERS_MAX}
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    tune.ssl.default-dh-param 2048

defaults
    timeout connect {CONNECT_TIMEOUT_S}s
    timeout client 60s
    timeout server 60s
    timeout check 4s
    option idle-close-on-response
    option redispatch 1
    retries 3

frontend shoal_alive
    mode http
    bind {quoted("unix@" + alive_socket(facts))} mode 600
    http-request return status 200
"""


def service_fragment(service: Service, facts: Facts) -> str:
    """A virtual service's frontend and backend. Raises Unrenderable, naming what can't be."""
    http = service.mode == "http"
    hashes_port = service.pool is not None and _hashes_port(service.pool)
    lines = [f"frontend {frontend_name(service.id)}", f"    mode {'http' if http else 'tcp'}"]
    lines += [f"    {bind}" for listener in service.listeners for bind in _binds(service, listener, facts)]
    lines.append(f"    timeout client {int(service.client_idle_s)}s")
    if service.connections_max:
        lines.append(f"    maxconn {int(service.connections_max)}")
    if hashes_port:
        lines.append(f"    {'http-request' if http else 'tcp-request content'} set-var(txn.port) src_port")
    lines.append(f"    default_backend {backend_name(service.id)}")
    lines += ["", f"backend {backend_name(service.id)}", f"    mode {'http' if http else 'tcp'}"]
    lines.append(f"    timeout server {int(service.client_idle_s)}s")
    if http and service.x_forwarded_for:
        lines.append("    option forwardfor")
    if service.pool is not None:
        lines += [f"    {line}" for line in _pool(service.pool, http)]
    elif http:
        lines.append("    http-request return status 503")
    return "\n".join(lines) + "\n"


def _binds(service: Service, listener: Listener, facts: Facts) -> Iterable[str]:
    ports = f"{int(listener.port)}" if listener.port == listener.port_end else f"{listener.port}-{listener.port_end}"
    tls = ""
    if listener.tls:
        if not service.certificates:
            raise Unrenderable(f"Port {listener.port} has TLS and the virtual service no certificate.")
        files = " ".join(f"crt {quoted(certificate_path(facts, c))}" for c in service.certificates)
        tls = f" ssl {files} alpn {'h2,http/1.1' if listener.http2 else 'http/1.1'}"
    for vip in service.addresses:
        yield f"bind {address(vip)}:{ports}{tls}"


def _hashes_port(pool: Pool) -> bool:
    return pool.algorithm == "LB_ALGORITHM_CONSISTENT_HASH" and pool.hash.endswith("SOURCE_IP_ADDRESS_AND_PORT")


def _pool(pool: Pool, http: bool) -> Iterable[str]:
    yield from _balance(pool, http)
    http_monitor = next((m for m in pool.monitors if m.kind in ("HTTP", "HTTPS")), None)
    tcp_monitor = next((m for m in pool.monitors if m.kind == "TCP"), None)
    monitor = http_monitor or tcp_monitor
    if monitor is not None:
        yield from _http_check(monitor) if monitor is http_monitor else _tcp_check(monitor)
        yield f"timeout check {int(monitor.timeout_s)}s"
    elif pool.monitors:
        kinds = ", ".join(sorted({m.kind for m in pool.monitors}))
        raise Unrenderable(f"Health monitors of type {kinds} can't be run yet; TCP, HTTP and HTTPS can.")
    for server in pool.servers:
        yield _server(pool, server, monitor)


def _balance(pool: Pool, http: bool) -> Iterable[str]:
    if pool.algorithm != "LB_ALGORITHM_CONSISTENT_HASH":
        yield f"balance {BALANCE.get(pool.algorithm, 'leastconn')}"
        return
    key = pool.hash.removeprefix("LB_ALGORITHM_CONSISTENT_HASH_")
    if key == "SOURCE_IP_ADDRESS_AND_PORT":
        yield "balance hash src,concat(:,txn.port,)"
    elif key == "URI" and http:
        yield "balance uri"
    elif key == "CUSTOM_HEADER" and http and pool.hash_header:
        yield f"balance hdr({_header(pool.hash_header)})"
    else:
        yield "balance source"
    yield "hash-type consistent"


def _header(name: str) -> str:
    token(name)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise Unrenderable(f"The header name {name[:40]!r} can't be a hash key.")
    return name


def _server(pool: Pool, server: Server, monitor: Monitor | None) -> str:
    host = address(server.address)
    where = f"[{host}]:{int(server.port)}" if ":" in host else f"{host}:{int(server.port)}"
    text = f"server {word(server.name)} {where} weight {int(server.ratio)}"
    if pool.tls:
        text += " ssl verify none"
    if pool.algorithm == "LB_ALGORITHM_FEWEST_SERVERS":
        text += " maxconn 1000"
    if monitor is not None:
        text += f" check inter {int(monitor.interval_s)}s rise {int(monitor.rise)} fall {int(monitor.fall)}"
        text += f" port {int(monitor.port)}" if monitor.port else ""
        text += " check-ssl verify none" if monitor.kind == "HTTPS" and not pool.tls else ""
    return text if server.enabled else f"{text} disabled"


def _http_check(monitor: Monitor) -> Iterable[str]:
    lines = monitor.request.replace("\\r\\n", "\n").replace("\r\n", "\n").split("\n")
    match = _REQUEST_LINE.match((lines[0] if lines[0] else "GET / HTTP/1.0").strip())
    if match is None:
        raise Unrenderable(f"The health monitor {monitor.name[:40]!r} has no request line: {lines[0][:40]!r}.")
    send = f"http-check send meth {token(match['method'])} uri {quoted(match['uri'])}"
    send += f" ver {quoted('HTTP/' + (match['version'] or '1.0'))}"
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            send += f" hdr {token(name.strip())} {format_quoted(value.strip())}"
    yield "option httpchk"
    yield send
    codes = "|".join(CODE_PATTERNS[code] for code in monitor.codes if code in CODE_PATTERNS) or "2"
    yield f"http-check expect rstatus {quoted(f'^({codes})')}"
    if monitor.response:
        yield f"http-check expect string {quoted(monitor.response)}"


def _tcp_check(monitor: Monitor) -> Iterable[str]:
    if not (monitor.request or monitor.response):
        return
    yield "option tcp-check"
    yield "tcp-check connect"
    if monitor.request:
        yield f"tcp-check send {quoted(monitor.request)}"
    if monitor.response:
        yield f"tcp-check expect string {quoted(monitor.response)}"


def config(facts: Facts, fragments: Mapping[str, str]) -> str:
    """The whole file, the fragments in order of their ids."""
    return "\n".join([head(facts), *(fragments[id] for id in sorted(fragments))])
