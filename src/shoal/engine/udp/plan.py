"""Which servers of a virtual service take new UDP flows, and which only keep theirs. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable

import msgspec

from shoal.wire.desired import Pool, Server, Service

from . import buckets

HASHES = {
    "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS": "saddr",
    "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT": "saddr and port",
}
ROUND_ROBIN, RANDOM, HASH = "LB_ALGORITHM_ROUND_ROBIN", "LB_ALGORITHM_RANDOM", "LB_ALGORITHM_CONSISTENT_HASH"
OURS = 1 << 31
"""Set in every mark of ours."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server of one virtual service. Its flows bear ``mark`` in conntrack; the same in every life of the agent."""

    service: str
    name: str
    address: str
    port: int
    mark: int

    @property
    def version(self) -> int:
        """Of IP."""
        return 6 if ":" in self.address else 4


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    """The VIP's."""
    first: int
    last: int
    idle_s: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual service by one version of IP. ``choice``: ``turns``, ``random``, ``saddr`` or ``saddr and port``; ``shares`` are the marks
    it chooses from. ``keeping`` get no new flows. ``notes``: what is served otherwise than asked for."""

    service: str
    ports: tuple[Ports, ...]
    choice: str
    shares: tuple[int, ...]
    taking: tuple[Target, ...]
    keeping: tuple[Target, ...]
    notes: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        return (*self.taking, *self.keeping)


class Unservable(ValueError):
    """Says why the service can't be carried."""


def versions(service: Service) -> tuple[int, ...]:
    """Of IP, of the VIP's addresses. Raises Unservable."""
    return tuple(sorted({_parsed(vip).version for vip in service.addresses}))


def plan(service: Service, version: int, down: Collection[str], draining: Iterable[Target]) -> Plan:
    """How the VIP's addresses of one version of IP are served, by the servers of the same. ``down``: names of servers
    whose monitors fail. ``draining``: targets that may finish what they have. Raises Unservable."""
    vips = [str(vip) for vip in map(_parsed, service.addresses) if vip.version == version]
    ports = tuple(
        Ports(address=vip, first=one.port, last=one.port_end, idle_s=max(1, one.idle_s))
        for vip in vips
        for one in service.listeners
        if one.protocol == "udp"
    )
    for one in ports:
        if not 0 < one.first <= one.last <= 65535:
            raise Unservable(f"The UDP ports {one.first} to {one.last} are no range.")
    pool = service.pool or Pool(id="", name="")
    choice, notes = _choice(pool)
    if pool.tls is not None:
        notes += ("UDP goes to the servers as it comes: ssl_profile_ref of the pool has no effect on it.",)
    same = [(server, target(service.id, server)) for server in pool.servers]
    same = [(server, one) for server, one in same if one.version == version]
    if pool.servers and not same:
        notes += (f"No server has an IPv{version} address: UDP to {', '.join(vips)} is refused.",)
    usable = [(server, one) for server, one in same if server.enabled and server.ratio > 0 and server.name not in down]
    taking = tuple(one for _, one in usable)
    weights = {server.name: server.ratio for server, _ in usable}
    marks = {one.name: one.mark for one in taking}
    table = buckets.hashed(weights) if choice in HASHES.values() else buckets.turns(weights)
    return Plan(
        service=service.id,
        ports=ports,
        choice=choice,
        shares=tuple(marks[name] for name in table),
        taking=taking,
        keeping=tuple(one for one in draining if one.mark not in marks.values()),
        notes=notes,
    )


def target(service: str, server: Server) -> Target:
    """Raises Unservable."""
    parsed = _parsed(server.address)
    if not 0 < server.port <= 65535:
        raise Unservable(f"The server {server.name[:60]!r} has the port {server.port}.")
    text = f"{service}\0{server.name}\0{parsed}\0{server.port}".encode(errors="surrogatepass")
    mark = OURS | int.from_bytes(hashlib.blake2b(text, digest_size=4).digest())
    return Target(service=service, name=server.name, address=str(parsed), port=server.port, mark=mark)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise Unservable(f"{address[:60]!r} is no IP address.") from None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None:  # any text can be one
        raise Unservable(f"{address[:60]!r} has a scope; an address of the data network has none.")
    return parsed


def _choice(pool: Pool) -> tuple[str, tuple[str, ...]]:
    if pool.algorithm == HASH:
        if pool.hash in HASHES or not pool.hash:
            return HASHES.get(pool.hash, "saddr"), ()
        return "saddr", (f"UDP has nothing to hash by {pool.hash[:80]}; the client's address is hashed.",)
    if pool.algorithm == RANDOM:
        return "random", ()
    if pool.algorithm == ROUND_ROBIN:
        return "turns", ()
    return "turns", (f"For UDP there is no {pool.algorithm[:60]}; its ports use round robin, the nearest.",)


def served_by_udp(service: Service) -> bool:
    return any(listener.protocol == "udp" for listener in service.listeners)
