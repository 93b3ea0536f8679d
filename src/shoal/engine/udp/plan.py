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


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    """The VIP's."""
    first: int
    last: int
    idle_s: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual service. ``choice``: ``turns``, ``random``, ``saddr`` or ``saddr and port``; ``shares`` are the marks
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


def plan(service: Service, down: Collection[str], draining: Iterable[Target]) -> Plan:
    """``down``: names of servers whose monitors fail. ``draining``: targets that may finish what they have. Raises
    Unservable."""
    ports = tuple(
        Ports(address=str(ipaddress.ip_address(vip)), first=one.port, last=one.port_end, idle_s=max(1, one.idle_s))
        for vip in service.addresses
        for one in service.listeners
        if one.protocol == "udp"
    )
    for one in ports:
        if not 0 < one.first <= one.last <= 65535:
            raise Unservable(f"The UDP ports {one.first} to {one.last} are no range.")
        if ":" in one.address:
            raise Unservable(f"UDP is served on IPv4 addresses only, and {one.address} is none.")
    pool = service.pool or Pool(id="", name="")
    choice, notes = _choice(pool)
    usable = [s for s in pool.servers if s.enabled and s.ratio > 0 and s.name not in down]
    taking = tuple(target(service.id, server) for server in usable)
    weights = {server.name: server.ratio for server in usable}
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
    try:
        parsed = ipaddress.ip_address(server.address)
    except ValueError:
        raise Unservable(f"{server.address[:60]!r} is no IP address.") from None
    if parsed.version != 4 or not 0 < server.port <= 65535:
        raise Unservable(f"The server {server.name[:60]!r} has no IPv4 address and port.")
    text = f"{service}\0{server.name}\0{parsed}\0{server.port}".encode(errors="surrogatepass")
    mark = OURS | int.from_bytes(hashlib.blake2b(text, digest_size=4).digest())
    return Target(service=service, name=server.name, address=str(parsed), port=server.port, mark=mark)


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
