"""From the desired state to ``haproxy.cfg``: a head, then one fragment per virtual service. Pure.

The per-request work is that of a lean hand-written file: no header edits but those asked for, a log line of few
requests (`client_log`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from shoal.wire.desired import COOKIES, PROXIED_PORTS_MAX, RETRIED_STATUSES, Listener, Persistence, Pool, Service
from shoal.wire.policy import Http

from . import (
    answers,
    bearer,
    choice,
    client_log,
    cookies,
    core_affinity,
    engine_wide,
    favour,
    http_profile,
    monitors,
    rewriting,
    rules,
    server_modes,
    servers,
    tls,
    transport,
    virtual_hosts,
)
from .escape import Unrenderable, address, argument, format_quoted, quoted, token, within, word
from .servers import CONSISTENT_HASH

CONNECT_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 10
"""For a whole request head: slow senders hold no connection."""
DESCRIPTORS_RESERVED = 300
CONNECTIONS_MIN = 100
CONNECTIONS_PER_MB, BUFFER_KB = 15, 16
"""A proxied connection holds two buffers, usually of this size; so half of the engine's memory is for them."""
CONNECTIONS_MAX = 2**30
BALANCE = {
    "LB_ALGORITHM_ROUND_ROBIN": "roundrobin",
    "LB_ALGORITHM_LEAST_CONNECTIONS": "leastconn",
    "LB_ALGORITHM_FEWEST_SERVERS": "first",
    "LB_ALGORITHM_RANDOM": "random",
}
NEAREST = "leastconn"
"""For the algorithms HAProxy has no counterpart of."""
RETRIES_MAX = 20
RETRY_MS_MAX = 3_600_000
FIELD_OCTETS_MAX = 16_384
REPEATABLE = "{ method GET HEAD PUT DELETE OPTIONS TRACE }"
"""RFC 9110, 9.2.2."""
UNQUEUED_MS = 1
"""HAProxy makes what exceeds a server's limit wait; where no queue is wanted, no longer than this."""
FRONTEND_PREFIX = "vs_"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the file needs to know of the engine."""

    directory: str
    sockets: str
    """Folder of the Unix sockets (``admin.sock``, ``alive.sock``): their paths must stay short."""
    secrets: str = ""
    """Folder of certificates' keys; default: ``directory``."""
    descriptors_max: int
    memory_mb: int = 2048
    threads: int = 1
    user: str = "haproxy"
    hard_stop_after_s: int = 600
    """How long an old worker may keep its established connections after a reload."""
    old_workers_max: int = 20
    """So many may live beside the one that serves; further reloads wait (see `process.RELOAD_DEFERRED_MAX_S`)."""


class Fragment(msgspec.Struct, frozen=True):
    """A virtual service's part of the file. ``descriptors`` it needs before any client comes; ``notes`` say what is
    served otherwise than asked for; ``wants`` is of what all services share."""

    text: str
    descriptors: int = 0
    notes: tuple[str, ...] = ()
    wants: engine_wide.Wants = engine_wide.Wants()
    pages: Mapping[str, str] = {}
    """Files of error pages, by name: they must be in `pages_folder` when the file is loaded."""


def admin_socket(facts: Facts) -> str:
    return f"{facts.sockets}/admin.sock"


def alive_socket(facts: Facts) -> str:
    return f"{facts.sockets}/alive.sock"


def chroot_folder(facts: Facts) -> str:
    """Empty, and nobody may write in it: all of the file system that a worker sees once it has its sockets."""
    return f"{facts.directory}/empty"


def state_file(facts: Facts) -> str:
    """The servers' states, carried over a reload."""
    return f"{facts.directory}/servers.state"


def log_socket(facts: Facts) -> str:
    """Name of the abstract socket that HAProxy tells of requests at: short, and its own for each engine."""
    return f"shoal-log-{hashlib.blake2b(facts.directory.encode(), digest_size=6).hexdigest()}"


def draining_file(facts: Facts) -> str:
    """VIPs that are being drained, one a line (see `marks`)."""
    return f"{facts.directory}/draining.lst"


def pages_folder(facts: Facts) -> Path:
    return Path(facts.directory) / "pages"


def certificates_folder(facts: Facts) -> Path:
    """Of the files that bind and server lines name."""
    return Path(facts.secrets or facts.directory) / "certificates"


def frontend_name(service: str) -> str:
    return f"{FRONTEND_PREFIX}{word(service)}"


def connections_max(facts: Facts, descriptors: int = 0, buffer_kb: int = BUFFER_KB) -> int:
    """Two descriptors a proxied connection, beside those in constant use; and no more than memory carries."""
    by_descriptors = (facts.descriptors_max - DESCRIPTORS_RESERVED - descriptors) // 2
    return max(CONNECTIONS_MIN, min(by_descriptors, facts.memory_mb * CONNECTIONS_PER_MB * BUFFER_KB // buffer_kb))


def head(facts: Facts, descriptors: int = 0, wanted: Iterable[engine_wide.Wants] = ()) -> str:
    """What every engine has, and the socket where the guard asks whether HAProxy works."""
    done = engine_wide.together(wanted)
    tuned = "\n    ".join(engine_wide.lines(done, facts.memory_mb))
    return f"""global
    default-path config
    stats socket {quoted(admin_socket(facts))} mode 600 level admin expose-fd listeners
    stats timeout 1h
    server-state-file {quoted(state_file(facts))}
    maxconn {connections_max(facts, descriptors, engine_wide.buffer_kb(done))}
    nbthread {int(facts.threads)}
    user {word(facts.user)}
    group {word(facts.user)}
    chroot {quoted(chroot_folder(facts))}
    crt-base {quoted(str(certificates_folder(facts)))}
    ca-base {quoted(str(certificates_folder(facts)))}
    hard-stop-after {max(1, int(facts.hard_stop_after_s))}s
    ssl-default-bind-options ssl-min-ver TLSv1.2
    tune.ssl.default-dh-param 2048
    {tuned}

defaults
    timeout connect {CONNECT_TIMEOUT_S}s
    timeout client 60s
    timeout server 60s
    timeout check 4s
    timeout http-request {REQUEST_TIMEOUT_S}s
    load-server-state-from-file global
    option idle-close-on-response
    option redispatch 1
    retries 3

frontend shoal_alive
    mode http
    bind {quoted("unix@" + alive_socket(facts))} mode 600
    http-request return status 200
"""


def config(facts: Facts, fragments: Mapping[str, Fragment]) -> str:
    """The whole file, the fragments in order of their ids."""
    descriptors = sum(fragment.descriptors for fragment in fragments.values())
    wanted = (fragment.wants for fragment in fragments.values())
    return "\n".join([head(facts, descriptors, wanted), *(fragments[id].text for id in sorted(fragments))])


def service_fragment(service: Service, facts: Facts, children: Sequence[Service] = ()) -> Fragment:
    """A virtual service's frontend and a backend for each pool; with fast paths only the backends alone, whose servers are
    checked. ``children`` are its virtual hosts. Raises Unrenderable, naming what can't be."""
    service = server_modes.expanded(service)
    http = service.mode == "http"
    listeners = [listener for listener in service.listeners if not listener.carried]
    if service.listeners and not listeners:
        return _checks_only(service)
    if service.parent:
        virtual_hosts.checked(service)
    behind = bool(children or service.parent)
    requests = behind and service.by_request
    shared = listeners if requests else [one for one in listeners if one.tls] if behind or service.tls_for else []
    direct = [] if service.parent else [one for one in listeners if one not in shared]
    binds = [bind for listener in direct for bind in _binds(service, listener, facts)]
    if shared:
        binds += [virtual_hosts.bind(facts.directory, service.id, "")] if requests else _inner(service, shared, facts)
    ports = sum(listener.port_end - listener.port + 1 for listener in listeners)
    if not binds or not 0 < ports <= PROXIED_PORTS_MAX:
        raise Unrenderable(
            f"The virtual service has {len(binds)} listeners on {ports} ports; 1 to {PROXIED_PORTS_MAX} can be."
        )
    mode = f"mode {'http' if http else 'tcp'}"
    if not http and any(pool.http2 for pool in service.pools):
        raise Unrenderable("HTTP/2 to servers is for HTTP services.")
    chosen = choice.choice(service, http=http)
    front, back = [mode, *binds, *transport.front(service)], [mode, *transport.back(service)]
    if service.log is not None:  # first: it takes the time when a request has come
        told_front, told_back = client_log.rules(service.log, log_socket(facts), http=http)
        front, back = front + told_front, back + told_back
    stage = "session" if shared else "connection"
    front += rules.connections(service.rules, stage)
    made, sections = rules.Rules(), list[str]()
    if http:
        tls_port = next((listener.port for listener in listeners if listener.tls), 0)
        asked = service.http.bearer
        proof = [*bearer.requests(asked)] if asked is not None else []
        made = rules.rules(service.id, service.http, service.rules, chosen.targets, tls_port=tls_port, proof=proof)
        idle_s = within(service.client_idle_s, 1, transport.IDLE_S_MAX)
        front += [f"timeout http-keep-alive {idle_s}s", *_head_timeout(service.http)]
        front += [*([] if requests else tls.early(service.tls)), *rules.proof(service.http)]
        front += [*http_profile.first(service.http, encrypted=tls_port > 0 and not requests), *made.lines]
        front += [] if requests else _told_of_clients(service)
        front += [*http_profile.last(service.http), *rewriting.requests(service.http)]
        front += rewriting.filters(service.id, service.http)
        front += bearer.responses() if proof else []
        front += [*chosen.responses, *http_profile.responses(service.http, idle_s)]
        if service.log is not None and any(rule.log for rule in service.rules):
            front.append(client_log.told())
        if service.http.cache is not None:
            front += answers.cache_lines(service.id, service.http.cache)
            sections.append(answers.cache_section(service.id, service.http.cache))
        front += answers.error_lines(service.http.errors, str(pages_folder(facts)))
        front.append(_drained(service, facts))
        back += [*http_profile.forwarded(service.http), *([] if service.http.reuse else ["http-reuse never"])]
        back += http_profile.translated(service.http)
    front += _most(service)
    if any(map(_hashes_port, service.pools)):
        front.append(f"{'http-request' if http else f'tcp-request {stage}'} set-var(txn.port) src_port")
    front += chosen.lines
    if service.pool is not None:
        front += server_modes.default_way(service, chosen.targets)
        front.append(f"default_backend {chosen.targets[service.pool.id]}")
    elif not chosen.lines and http:
        front.append("http-request deny deny_status 503")
    notes = made.notes
    if requests:
        front, back = virtual_hosts.behind_tls(front, service), virtual_hosts.behind_tls(back, service)
    sections += [_section(f"frontend {frontend_name(service.id)}", front)]
    if shared and not service.parent:
        sections += (_section(*one) for one in _outer(service, virtual_hosts.told_apart(children), shared, facts))
    steered = {action.pool for action in choice.switches(service.rules) if action.server}
    pages = answers.pages(service.http.errors) if http else {}
    for pool in service.pools:
        directives, others = _pool(pool, http)
        steers = server_modes.known_as(pool) in steered
        named = [f"use-server %[var({rules.SERVER})] if {{ var({rules.SERVER}) -m found }}"] if steers else []
        by_core = pool.algorithm == core_affinity.ALGORITHM
        if by_core and core_affinity.applies(pool, facts.threads):
            file, text = core_affinity.file(pool, facts.threads)
            path, pages[file] = str(pages_folder(facts) / file), text
            cookie = _cookie(pool) if http else ""
            directives = [*directives, *core_affinity.draws(path, http=http)]
            named += core_affinity.uses(path, cookie)
        elif by_core and (why := core_affinity.why_not(pool, facts.threads)):
            others = (*others, why)
        sections.append(_section(f"backend {chosen.targets[pool.id]}", [*back, *directives, *named]))
        notes += others
    descriptors = ports * len(service.addresses) + sum(len(pool.servers) for pool in service.pools)
    return Fragment("\n".join([*sections, *made.tables]), descriptors, notes, engine_wide.of(service), pages)


def _inner(service: Service, shared: Sequence[Listener], facts: Facts) -> Iterator[str]:
    """Binds of a frontend that connections are handed to, one for each TLS that is spoken."""
    http2, folder = any(one.http2 for one in shared), str(certificates_folder(facts))
    for number, spoken in enumerate(service.spoken):
        speaking = msgspec.structs.replace(service, tls=spoken)
        arguments = tls.bind(speaking, shared[0].port, folder, http2=http2)
        yield virtual_hosts.bind(facts.directory, service.id, arguments, number)


def _outer(
    service: Service, told: Sequence[Service], shared: Sequence[Listener], facts: Facts
) -> Iterator[virtual_hosts.Section]:
    """What has the ports that virtual hosts share, or clients with TLS of their own."""
    if not service.by_request:
        plain = [bind for one in shared for bind in _binds(service, msgspec.structs.replace(one, tls=False), facts)]
        yield from virtual_hosts.outer(facts.directory, service, told, plain)
        return
    binds = [bind for one in shared for bind in _binds(service, one, facts)]
    mine = {header.name.lower() for header in service.http.client_headers}
    others = {header.name.lower() for child in told for header in child.http.client_headers} - mine
    lines = [f"timeout http-keep-alive {within(service.client_idle_s, 1, transport.IDLE_S_MAX)}s"]
    lines += [*_head_timeout(service.http), *tls.early(service.tls), *http_profile.names(service.http)]
    lines += _told_of_clients(service)
    lines += (f"http-request del-header {token(name)}" for name in sorted(others))
    lines += [_drained(service, facts), *_most(service)]
    yield from virtual_hosts.outer_of_requests(facts.directory, service, told, binds, lines)


def _most(service: Service) -> list[str]:
    most = service.connections_max
    return [f"maxconn {within(most, 1, CONNECTIONS_MAX)}"] if most > 0 else []


def _told_of_clients(service: Service) -> Iterator[str]:
    asked = service.client_certificates
    verified = asked is not None and asked.required and not asked.lenient
    return rules.client_certificate(service.http, required=verified)


def _drained(service: Service, facts: Facts) -> str:
    drains = f"{{ str({word(service.vip)}) -m str -f {quoted(draining_file(facts))} }}"
    return f"http-after-response set-header Connection close if {drains}"


def write_pages(facts: Facts, fragments: Iterable[Fragment]) -> None:
    """The error pages of these; others are removed. Names tell what is in a file, so none is ever changed."""
    folder = pages_folder(facts)
    wanted = {name: text for fragment in fragments for name, text in fragment.pages.items()}
    present = {file.name for file in folder.glob("*")}
    if wanted and not folder.exists():
        folder.mkdir(mode=0o700)
    for name in wanted.keys() - present:
        fresh = folder / f"{name}.new"
        fresh.write_text(wanted[name], errors="replace")
        fresh.replace(folder / name)
    for name in present - wanted.keys():
        (folder / name).unlink(missing_ok=True)


def _head_timeout(http: Http) -> list[str]:
    milliseconds = max(1, int(http.head_timeout_ms))
    return [] if milliseconds == REQUEST_TIMEOUT_S * 1000 else [f"timeout http-request {milliseconds}ms"]


def _checks_only(service: Service) -> Fragment:
    sections: list[str] = []
    notes: tuple[str, ...] = ()
    names = choice.backends(service)
    if any(pool.http2 for pool in service.pools):
        raise Unrenderable("HTTP/2 to servers is for proxied ports.")
    for pool in service.pools:
        check = monitors.check(pool, proxied=False)
        sections.append(_section(f"backend {names[pool.id]}", ["mode tcp", *check.rules, *servers.lines(pool, check)]))
        notes += check.notes
    descriptors = sum(len(pool.servers) + 1 for pool in service.pools)
    return Fragment("\n".join(sections), descriptors, notes)


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n    ".join([title, *lines]) + "\n"


def _binds(service: Service, listener: Listener, facts: Facts) -> Iterator[str]:
    first, last = int(listener.port), int(listener.port_end)
    if not 0 < first <= last <= 65535:
        raise Unrenderable(f"The ports {first} to {last} are no range.")
    arguments = tls.bind(service, first, str(certificates_folder(facts)), http2=listener.http2) if listener.tls else ""
    for vip in service.addresses:
        yield f"bind {address(vip)}:{first}{f'-{last}' if last > first else ''}{arguments}{transport.bind(listener)}"


def overlaps(services: Iterable[Service]) -> dict[str, str]:
    """Service id -> why it can't be served: an earlier one has the address and port (HAProxy would split the traffic
    between them without a word)."""
    taken: dict[tuple[str, int, str], str] = {}
    found: dict[str, str] = {}
    for service in services:
        if service.parent:
            continue
        ports = [(port, one.protocol) for one in service.listeners for port in _ports(one)]
        sockets = [(vip, port, protocol) for vip in service.addresses for port, protocol in ports]
        clash = next((s for s in sockets if s in taken), None)
        if clash is not None or len(set(sockets)) < len(sockets):
            vip, port, _ = clash or max(sockets, key=sockets.count)
            by = f"virtual service {taken[clash][:60]!r}" if clash else "another of its own listeners"
            found[service.id] = f"{vip}:{port} is already served by {by}."
        else:
            taken.update(dict.fromkeys(sockets, service.name))
    return found


def _ports(listener: Listener) -> Sequence[int]:
    """A range that is too long for a proxy is refused anyway."""
    ports = range(listener.port, listener.port_end + 1)
    return ports if listener.carried else ports[:PROXIED_PORTS_MAX]


def _hashes_port(pool: Pool) -> bool:
    return pool.algorithm == CONSISTENT_HASH and pool.hash.endswith("SOURCE_IP_ADDRESS_AND_PORT")


def _pool(pool: Pool, http: bool) -> tuple[list[str], tuple[str, ...]]:
    balance, note = _balance(pool, http)
    check = monitors.check(pool)
    lines = [
        *balance,
        *_persistence(pool, http),
        *_limits(pool, http),
        *(_retry(pool) if http else ()),
        *check.rules,
        *tls.requests(pool, http=http),
    ]
    if pool.host and http:
        lines.append(f"http-request set-header Host {format_quoted(pool.host)}")
    if pool.tells_names and http:
        lines.append("http-send-name-header Host")
    if pool.http2 and http and pool.field_octets_max > 0:
        least = within(pool.field_octets_max, 1, FIELD_OCTETS_MAX) + 1
        longer = quoted(rf"(^|\n)[^:\n]{{{least},}}:|(^|\n)[^:\n]+: ?[^\r\n]{{{least},}}")
        lines.append(f"http-response deny deny_status 502 if {{ res.hdrs -m reg {longer} }}")
    if pool.without_servers is not None or pool.servers_min > 1:
        lines += rules.without_servers(pool.without_servers, http=http, servers_min=pool.servers_min)
    if http and pool.persistence is not None and pool.persistence.kind == "header":
        lines += servers.by_header(pool, argument(pool.persistence.name))
    return [*lines, *servers.lines(pool, check)], (*([note] if note else []), *check.notes)


def _limits(pool: Pool, http: bool) -> Iterator[str]:
    if pool.timeout_ms > 0:
        yield f"timeout server {int(pool.timeout_ms)}ms"
    if pool.connections_max > 0 and pool.queue_max <= 0:
        yield f"timeout queue {UNQUEUED_MS}ms"
    elif pool.connections_max > 0:
        refuse = "http-request deny deny_status 503" if http else "tcp-request content reject"
        yield f"{refuse} if {{ queue ge {int(pool.queue_max)} }}"


def _retry(pool: Pool) -> Iterator[str]:
    """Each time at another server: `head` has ``option redispatch 1``."""
    wanted = pool.retry
    if wanted is None:
        return
    statuses = "".join(f" {int(code)}" for code in wanted.statuses if code in RETRIED_STATUSES)
    yield f"retries {within(wanted.times, 0, RETRIES_MAX)}"
    yield f"retry-on conn-failure empty-response{' response-timeout' if wanted.timeout_ms > 0 else ''}{statuses}"
    if wanted.timeout_ms > 0:
        which = "" if wanted.every_method else f" if {REPEATABLE}"
        yield f"http-request set-timeout server {within(wanted.timeout_ms, 1, RETRY_MS_MAX)}ms{which}"
    if not wanted.every_method:
        yield f"http-request disable-l7-retry if !{REPEATABLE}"


def _persistence(pool: Pool, http: bool) -> Iterator[str]:
    """Cookies are made of servers' addresses and a key: servers that come without a reload have theirs, and it is the
    same on every engine."""
    wanted, name = pool.persistence, _cookie(pool)
    if wanted is None or not http or not name:
        return
    if wanted.kind == "app_cookie":
        yield f"cookie {name} prefix nocache dynamic"
    else:
        seconds = int(wanted.timeout_s)
        lasts = f" maxidle {seconds}s maxlife {seconds}s" if seconds > 0 else ""
        yield f"cookie {name} insert indirect nocache dynamic{' httponly' if wanted.http_only else ''}{lasts}"
    key = _digest(server_modes.known_as(pool), 32)
    yield f"dynamic-cookie-key {key}"
    if wanted.when_down != "leave":
        yield "option persist"
        yield "no option redispatch"
    if wanted.when_down == "refuse":
        yield from cookies.refusals(pool, name, key)


def _cookie(pool: Pool) -> str:
    """Which cookie leads clients to its servers; "" = none."""
    wanted = pool.persistence
    if wanted is None or wanted.kind not in COOKIES:
        return ""
    return argument(wanted.name or f"S{_digest(server_modes.known_as(pool), 8)}")


def _digest(text: str, characters: int) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass")).hexdigest()[:characters]


def _by_client(kept: Persistence) -> str:
    return f"hash {choice.client_key(kept)}" if kept.bits >= 0 else "source"


def _balance(pool: Pool, http: bool) -> tuple[list[str], str]:
    """(directives, a note when it is not quite what was asked for)"""
    kept = pool.persistence
    if kept is not None and kept.kind == "client":
        return [f"balance {_by_client(kept)}", "hash-type consistent"], ""
    if kept is not None and kept.kind == "header" and http:
        return [f"balance hdr({argument(kept.name)})", "hash-type consistent"], ""
    if kept is not None and not http:
        note = f"Clients are not kept by {kept.kind}: that is for HTTP."
        return _balance(msgspec.structs.replace(pool, persistence=None), http)[0], note
    if pool.algorithm == core_affinity.ALGORITHM:
        return ["balance roundrobin"], ""
    if pool.algorithm in favour.ALGORITHMS:
        return ["balance roundrobin", f"description {word(pool.algorithm)}"], ""
    if pool.algorithm != CONSISTENT_HASH:
        method = BALANCE.get(pool.algorithm)
        note = f"HAProxy has no {pool.algorithm[:60]}; the pool uses least connections, the nearest."
        return [f"balance {method or NEAREST}"], "" if method else note
    key = pool.hash.removeprefix(f"{CONSISTENT_HASH}_")
    note = ""
    if key == "SOURCE_IP_ADDRESS_AND_PORT":
        method = "hash src,concat(:,txn.port)"
    elif key == "URI" and http:
        method = "uri"
    elif key == "CUSTOM_HEADER" and http and re.fullmatch(r"[A-Za-z0-9_-]{1,100}", pool.hash_header):
        method = f"hdr({pool.hash_header})"
    else:
        method = "source"
        if key not in ("SOURCE_IP_ADDRESS", ""):
            note = f"The pool can't hash by {key[:60]} here; it hashes by the client's address."
    return [f"balance {method}", "hash-type consistent"], note
