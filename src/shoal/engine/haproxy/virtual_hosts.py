"""Virtual hosts behind the ports of another virtual service, their parent; and clients of one that speak other TLS.

By the name that clients tell: a frontend of its own has the TLS ports, reads the name (RFC 6066) and hands the connection
on, as it came, to the virtual host's frontend or the parent's, which do all else. By request: that frontend ends TLS by the
parent's settings, and hands each request on. They listen at abstract Unix sockets and hear by the PROXY protocol who the
client is and where he came. So each is configured, counted and set aside for itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

from shoal.wire.desired import SERVER_NAME, Service
from shoal.wire.policy import Test

from . import rules
from .escape import Unrenderable, quoted, within, word

HELLO_WITHIN_S = 5
MARGIN_S = 10
"""The inner frontend is to end what is idle, not the way to it."""
IDLE_S_MAX = 2_000_000
ANY = "*."
PATHS = ("equals", "regex", "begins", "ends", "contains")
"""The more a comparison says of a path, the sooner it is asked."""
SILENT = "/dev/null"
"""The inner frontend closes without an answer where that is asked for."""
_OVER_TLS = re.compile(rf"'[^']*'(?:\\''[^']*')*|{re.escape(rules.OVER_TLS)}")
"""Of a line: what is quoted, and the condition."""
Section = tuple[str, list[str]]
"""(title, lines)"""


def bind(folder: str, service: str, arguments: str, number: int = 0) -> str:
    """What a frontend behind another one listens at. ``folder`` tells engines apart, ``arguments`` are of TLS, ``number`` is that
    of the clients who speak it (`Service.tls_for`, from 1), 0 = all others."""
    return f"bind {quoted(_socket(folder, service, number))} accept-proxy{arguments}"


def checked(service: Service) -> Service:
    """The same. Raises Unrenderable where it is no virtual host that can be told from others."""
    if service.by_request:
        if not service.matches:
            raise Unrenderable("The virtual host has no matches.")
        if not service.mode == "http":
            raise Unrenderable("Requests are told apart for HTTP services only.")
        for tests in service.matches:
            _all(tests)
        return service
    if not service.hosts:
        raise Unrenderable("The virtual host has no domain name.")
    wrong = next((host for host in service.hosts if not SERVER_NAME.fullmatch(host.removeprefix(ANY))), None)
    if wrong is not None:
        raise Unrenderable(f"{wrong[:40]!r} is no domain name.")
    return service


def told_apart(children: Iterable[Service]) -> list[Service]:
    """What is wrong with the others is said of themselves."""
    return [child for child in children if _can_be_told(child)]


def outer(folder: str, parent: Service, told: Sequence[Service], binds: Sequence[str]) -> Iterator[Section]:
    """Sections that hand connections on; ``binds`` are plain. Names come before patterns, long patterns before short ones."""
    idle_s = _idle_s((parent, *told))
    names = [(host, child) for child in told for host in child.hosts if not host.startswith(ANY)]
    patterns = [(host[1:], child) for child in told for host in child.hosts if host.startswith(ANY)]
    patterns.sort(key=lambda one: (-len(one[0]), one[0]))
    lines = ["mode tcp", *binds, f"timeout client {idle_s}s", f"tcp-request inspect-delay {HELLO_WITHIN_S}s"]
    lines.append("tcp-request content accept if { req.ssl_hello_type 1 }")
    for how, hosts in (("str", names), ("end", patterns)):
        for host, one in hosts:
            lines += _ways(one, f"{{ req.ssl_sni -m {how} -i -- {quoted(host)} }}")
    lines += _ways(parent, "")
    yield f"frontend sni_{word(parent.id)}", lines
    for one in (parent, *told):
        for number in range(len(one.tls_for) + 1):
            to = f"server inner {quoted(_socket(folder, one.id, number))} send-proxy-v2"
            yield f"backend {_way(one.id, number)}", ["mode tcp", f"timeout server {idle_s}s", to]


def outer_of_requests(
    folder: str, parent: Service, told: Sequence[Service], binds: Sequence[str], lines: Iterable[str]
) -> Iterator[Section]:
    """Sections that hand requests on. ``binds`` are those of clients, ``lines`` what is done before TLS is forgotten. The
    most particular match comes first: names before patterns, long paths before short ones."""
    idle_s = _idle_s((parent, *told))
    front = ["mode http", *binds, f"timeout client {idle_s}s", *lines]
    front += (f"errorfile {status} {SILENT}" for status in (502, 503))
    matches = sorted(((tests, one) for one in told for tests in one.matches), key=lambda found: _rank(found[0]))
    front += (f"use_backend {_way(one.id)} if {_all(tests)}" for tests, one in matches)
    front.append(f"default_backend {_way(parent.id)}")
    yield f"frontend evh_{word(parent.id)}", front
    for one in (parent, *told):
        to = f"server inner {quoted(_socket(folder, one.id))} send-proxy-v2"
        yield f"backend {_way(one.id)}", ["mode http", f"timeout server {idle_s}s", "retries 0", to]


def behind_tls(lines: Iterable[str], service: Service) -> list[str]:
    """Lines of a frontend or backend behind `outer_of_requests`: there the port tells whether TLS was spoken."""
    condition = over_tls(service)
    return [_OVER_TLS.sub(lambda found: found[0] if found[0][0] == "'" else condition, line) for line in lines]


def over_tls(service: Service) -> str:
    """The condition that a client came to a port with TLS."""
    ports = " ".join(_ports(one.port, one.port_end) for one in service.listeners if one.tls)
    return f"{{ dst_port {ports} }}" if ports else "{ always_false }"


def _ports(first: int, last: int) -> str:
    return f"{int(first)}:{int(last)}" if last > first else str(int(first))


def _can_be_told(child: Service) -> bool:
    try:
        checked(child)
    except Unrenderable:
        return False
    return True


def _ways(service: Service, condition: str) -> Iterator[str]:
    for number, one in enumerate(service.tls_for, 1):
        yield f"use_backend {_way(service.id, number)} if {_all((one.clients,), condition)}"
    yield f"use_backend {_way(service.id)} if {condition}" if condition else f"default_backend {_way(service.id)}"


def _all(tests: Sequence[Test], before: str = "") -> str:
    return " ".join([*([before] if before else []), *map(rules.condition, tests)])


def _rank(tests: Sequence[Test]) -> tuple[object, ...]:
    """Of the first test, the host's, and of a path's: a small one comes first."""
    host = tests[0].values[0] if tests and tests[0].values else ""
    path = next((one for one in tests if one.of == "path"), None)
    if path is None:
        return tests[0].how != "equals", -len(host), len(PATHS), 0, -len(tests)
    how = PATHS.index(path.how) if path.how in PATHS and not path.negated else len(PATHS)
    return tests[0].how != "equals", -len(host), how, -max(map(len, path.values), default=0), -len(tests)


def _idle_s(services: Iterable[Service]) -> int:
    longest = max(max(one.client_idle_s, one.server_idle_s) for one in services)
    return within(longest, 1, IDLE_S_MAX - MARGIN_S) + MARGIN_S


def _way(service: str, number: int = 0) -> str:
    return f"to{number or ''}_{word(service)}"


def _socket(folder: str, service: str, number: int = 0) -> str:
    text = f"{folder}\0{service}" + (f"\0{number}" if number else "")
    name = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()
    return f"abns@shoal-vh-{name}"
