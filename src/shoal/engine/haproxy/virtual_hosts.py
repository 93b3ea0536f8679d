"""Virtual hosts behind the TLS ports of another virtual service, their parent.

A frontend of its own has those ports, reads the name a client tells (RFC 6066) and hands the connection on, as it came,
to the virtual host's frontend or the parent's, which do all else. They listen at abstract Unix sockets and hear by the
PROXY protocol who the client is. So each is configured, counted and set aside for itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from shoal.wire.desired import SERVER_NAME, Service

from .escape import Unrenderable, quoted, within, word

HELLO_WITHIN_S = 5
MARGIN_S = 10
"""The inner frontend is to end what is idle, not the way to it."""
IDLE_S_MAX = 2_000_000
ANY = "*."


def bind(folder: str, service: str, arguments: str) -> str:
    """What a frontend behind another one listens at. ``folder`` tells engines apart, ``arguments`` are of TLS."""
    return f"bind {quoted(_socket(folder, service))} accept-proxy{arguments}"


def checked(service: Service) -> Service:
    """The same. Raises Unrenderable where it is no virtual host that can be told from others."""
    if not service.hosts:
        raise Unrenderable("The virtual host has no domain name.")
    wrong = next((host for host in service.hosts if not SERVER_NAME.fullmatch(host.removeprefix(ANY))), None)
    if wrong is not None:
        raise Unrenderable(f"{wrong[:40]!r} is no domain name.")
    return service


def outer(
    folder: str, parent: Service, children: Sequence[Service], binds: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """(title, lines) of the sections that hand connections on; ``binds`` are plain. Names come before patterns, long
    patterns before short ones."""
    told = [child for child in children if _can_be_told(child)]
    idle_s = within(max(one.client_idle_s for one in (parent, *told)), 1, IDLE_S_MAX - MARGIN_S) + MARGIN_S
    names = [(host, child) for child in told for host in child.hosts if not host.startswith(ANY)]
    patterns = [(host[1:], child) for child in told for host in child.hosts if host.startswith(ANY)]
    patterns.sort(key=lambda one: (-len(one[0]), one[0]))
    lines = ["mode tcp", *binds, f"timeout client {idle_s}s", f"tcp-request inspect-delay {HELLO_WITHIN_S}s"]
    lines.append("tcp-request content accept if { req.ssl_hello_type 1 }")
    for how, hosts in (("str", names), ("end", patterns)):
        lines += (
            f"use_backend {_way(one.id)} if {{ req.ssl_sni -m {how} -i -- {quoted(host)} }}" for host, one in hosts
        )
    lines.append(f"default_backend {_way(parent.id)}")
    yield f"frontend sni_{word(parent.id)}", lines
    for one in (parent, *told):
        to = f"server inner {quoted(_socket(folder, one.id))} send-proxy-v2"
        yield f"backend {_way(one.id)}", ["mode tcp", f"timeout server {idle_s}s", to]


def _can_be_told(child: Service) -> bool:
    try:
        checked(child)
    except Unrenderable:  # said of the child itself
        return False
    return True


def _way(service: str) -> str:
    return f"to_{word(service)}"


def _socket(folder: str, service: str) -> str:
    text = f"{folder}\0{service}".encode(errors="surrogatepass")
    return f"abns@shoal-vh-{hashlib.blake2b(text, digest_size=12).hexdigest()}"
