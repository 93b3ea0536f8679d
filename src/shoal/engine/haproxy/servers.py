"""Servers in ``haproxy.cfg``: what HAProxy knows each by, and its line. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from shoal.wire.desired import Pool, Server, ServerId

from . import monitors, server_modes, tls
from .escape import Unrenderable, address, quoted, within, word

CONSISTENT_HASH = "LB_ALGORITHM_CONSISTENT_HASH"
FEWEST_SERVERS = "LB_ALGORITHM_FEWEST_SERVERS"
FIRST_SERVER_CONNECTIONS = 1_000
"""LB_ALGORITHM_FEWEST_SERVERS fills a server up to this before it takes the next."""
WEIGHT_MAX = 256
ID_MAX = 2**31 - 1
RAMP_S_MAX = 86_400
IDLE_MS_MAX = 86_400_000
IDLE_CONNECTIONS_MAX = 2**31 - 1


def name(server: Server) -> str:
    """In HAProxy."""
    return word(server.called or server.name)


def known(id: ServerId, server: Server) -> ServerId:
    """The server as HAProxy knows it, which figures and verdicts do not."""
    return id._replace(server=server.called) if server.called else id


def lines(pool: Pool, check: monitors.Check) -> Iterator[str]:
    """Raises Unrenderable."""
    names = [name(server) for server in pool.servers]
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise Unrenderable(f"The pool has two servers {twice[:60]!r}.")
    places = ids(pool)
    for server in pool.servers:
        text = f"server {name(server)} {arguments(pool, server, check, places.get(server.name, 0))}"
        yield text if server.enabled else f"{text} disabled"


def added(pool: Pool, server: Server, check: monitors.Check) -> str:
    """What ``add server`` says of one of the pool's."""
    return arguments(pool, server, check, ids(pool).get(server.name, 0))


def ids(pool: Pool) -> dict[str, int]:
    """By name: what hashing knows each server by. HAProxy would number them as they come, and engines that heard of them in
    another order would send a client elsewhere. Empty where nothing is hashed."""
    if not hashes(pool):
        return {}
    found: dict[str, int] = {}
    taken: set[int] = set()
    for server in sorted(pool.servers, key=lambda one: one.name):
        number = _number(server.address if pool.known_by_address else server.name)
        if number in taken:  # another port of one address
            number = _number(server.name)
        while number in taken:
            number = number % ID_MAX + 1
        taken.add(number)
        found[server.name] = number
    return found


def hashes(pool: Pool) -> bool:
    """Whether clients are given servers by a hash."""
    kept = pool.persistence
    return pool.algorithm == CONSISTENT_HASH or (kept is not None and kept.kind in ("client", "header"))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=4).digest()) % ID_MAX + 1


def weight(server: Server) -> int:
    return min(max(0, int(server.ratio)), WEIGHT_MAX)


def arguments(pool: Pool, server: Server, check: monitors.Check, id: int = 0) -> str:
    """What follows a server's name, in the file and in ``add server``. Raises Unrenderable."""
    if not 0 < server.port <= 65535:
        raise Unrenderable(f"The server {server.name[:60]!r} has the port {server.port}.")
    place = address(server.address) if pool.service_port else f"{address(server.address)}:{int(server.port)}"
    text = f"{place} weight {weight(server)}"
    text += f" id {int(id)}" if id else ""
    text += tls.server(pool)
    if pool.proxy_protocol:
        text += f" send-proxy{'-v2' if pool.proxy_protocol > 1 else ''}"
    if pool.http2:
        text += " alpn h2,http/1.1" if pool.tls is not None else " proto h2"
    if pool.connections_max > 0:
        text += f" maxconn {int(pool.connections_max)}"
    elif pool.algorithm == FEWEST_SERVERS:
        text += f" maxconn {FIRST_SERVER_CONNECTIONS}"
    text += _pace(pool)
    if check.server and pool.service_port:
        text += f" port {int(server.port)}"
    if isinstance(pool, server_modes.Twin) and pool.follows:
        text += f" track {pool.follows}/{name(server)}"
    return f"{text} {check.server}" if check.server else text


def _pace(pool: Pool) -> str:
    text = f" slowstart {within(pool.ramp_s, 1, RAMP_S_MAX)}s" if pool.ramp_s > 0 and not hashes(pool) else ""
    text += f" pool-max-conn {within(pool.idle_max, 1, IDLE_CONNECTIONS_MAX)}" if pool.idle_max > 0 else ""
    return text + (f" pool-purge-delay {within(pool.idle_ms, 1, IDLE_MS_MAX)}ms" if pool.idle_ms > 0 else "")


def by_header(pool: Pool, header: str) -> Iterator[str]:
    """Lines of a backend: clients that belong to a server by what they say, as long as it is up."""
    for server in pool.servers:
        if server.header_value:
            yield f"use-server {name(server)} if {{ req.fhdr({header}) -m str {quoted(server.header_value)} }}"


def same_names(old: Mapping[str, Server], new: Mapping[str, Server]) -> bool:
    """Whether what the file says of servers that stay, beside their lines, still holds."""
    return all(
        (old[one].called, old[one].header_value) == (server.called, server.header_value)
        if one in old
        else not server.header_value
        for one, server in new.items()
    )
