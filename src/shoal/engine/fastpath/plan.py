"""Which servers of a virtual service take new flows of its fast paths, and which only keep theirs. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from shoal.wire import policy
from shoal.wire.desired import Listener, Pool, Server, Service

from . import buckets
from .family import FAMILIES
from .gate import PHASES, Ungated, gate, limits

HASHES = {
    "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS": "saddr",
    "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT": "saddr and port",
}
ROUND_ROBIN, RANDOM, HASH = "LB_ALGORITHM_ROUND_ROBIN", "LB_ALGORITHM_RANDOM", "LB_ALGORITHM_CONSISTENT_HASH"
OURS = 1 << 31
"""Set in every mark of ours."""
TCP = 1 << 30
"""Set in the marks of TCP's flows."""
KIND = OURS | TCP
KEEPS_CLIENT = 1 << 29
"""Set in the marks of flows whose servers see the client's own address."""
FLOWS_MAX = 2**31


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server of one virtual service, by one protocol. Its flows bear ``mark`` in conntrack; the same in every life of
    the agent."""

    service: str
    name: str
    address: str
    port: int
    """0 = that the client came to."""
    mark: int
    flows_max: int = 0
    """At a time; 0 = any number."""
    rate: policy.Limit | None = None
    """Of new ones."""
    interface: str = ""
    """Where packets leave for it, if it answers clients itself."""

    @property
    def version(self) -> int:
        """Of IP."""
        return 6 if ":" in self.address else 4

    @property
    def protocol(self) -> str:
        return "tcp" if self.mark & TCP else "udp"


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    """The VIP's."""
    first: int
    last: int
    idle_s: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual service by one protocol and version of IP. ``choice``: ``turns``, ``random``, ``saddr`` or ``saddr and
    port``; ``shares`` are the marks it chooses from. ``keeping`` get no new flows. ``notes``: what is served otherwise
    than asked for."""

    service: str
    protocol: str
    ports: tuple[Ports, ...]
    choice: str
    shares: tuple[int, ...]
    mask: str = ""
    """Of clients' addresses, where not all of it is hashed."""
    taking: tuple[Target, ...]
    keeping: tuple[Target, ...]
    rules: tuple[policy.Rule, ...] = ()
    """On new connections."""
    flows_max: int = 0
    """At a time; 0 = any number."""
    mbit_max: int = 0
    sources: tuple[str, ...] = ()
    """What servers see; () is the engine's own address, or the client's where the marks say so."""
    direct: bool = False
    """Servers answer clients themselves."""
    notes: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        return (*self.taking, *self.keeping)


class Near(msgspec.Struct, frozen=True):
    """A network that the engine is in, and by which interface."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    interface: str


class Gated(msgspec.Struct, frozen=True, kw_only=True):
    """Ports that HAProxy serves, and whose new connections the kernel looks at before. ``ports``: (address, first, last).
    ``shut``: none comes through."""

    service: str
    version: int
    ports: tuple[tuple[str, int, int], ...]
    rules: tuple[policy.Rule, ...]
    shut: bool = False


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """Servers of a pool that HAProxy may connect to only so often, each: (address, first port, last)."""

    service: str
    pool: str
    version: int
    servers: tuple[tuple[str, int, int], ...]
    rate: policy.Limit


class Unservable(ValueError):
    """Says why the service can't be carried."""


def versions(service: Service) -> tuple[int, ...]:
    """Of IP, of the VIP's addresses. Raises Unservable."""
    return tuple(sorted({_parsed(vip).version for vip in service.addresses}))


def carried(service: Service, protocol: str = "") -> list[Listener]:
    """Its ports on fast paths."""
    return [one for one in service.listeners if one.carried and protocol in ("", one.protocol)]


def mirrored(service: Service) -> bool:
    """Whether its connections are to go on at another engine, and can: servers see an address that moves with the VIP."""
    return any(one.mirrored for one in service.listeners) and (service.keeps_client or bool(service.sources))


def plan(
    service: Service,
    version: int,
    down: Collection[str],
    draining: Iterable[Target],
    *,
    protocol: str = "udp",
    near: Sequence[Near] = (),
) -> Plan:
    """How the VIP's addresses of one version of IP are served, by the servers of the same. ``down``: names of servers
    whose monitors fail. ``draining``: targets that may finish what they have. ``near``: where servers can be that answer
    clients themselves. Raises Unservable."""
    vips = [str(vip) for vip in map(_parsed, service.addresses) if vip.version == version]
    ports = tuple(
        Ports(address=vip, first=one.port, last=one.port_end, idle_s=max(1, one.idle_s))
        for vip in vips
        for one in carried(service, protocol)
    )
    named = protocol.upper()
    for one in ports:
        if not 0 < one.first <= one.last <= 65535:
            raise Unservable(f"The {named} ports {one.first} to {one.last} are no range.")
    pool = service.pool or Pool(id="", name="")
    direct = directly(service, protocol)
    choice, notes = _direct_choice(pool, named) if direct else _choice(pool, named)
    if pool.persistence is not None and pool.persistence.kind != "client":
        notes += (f"{named} has no cookies and no headers: the pool's persistence has no effect on it.",)
    if pool.tls is not None:
        notes += (f"{named} goes to the servers as it comes: ssl_profile_ref of the pool has no effect on it.",)
    same = [(server, target(service, server, protocol)) for server in pool.servers]
    same = [(server, one) for server, one in same if one.version == version]
    if direct:
        notes += tuple(_left_out(service, pool))
        reached = [(server, reachable(one, near)) for server, one in same]
        notes += tuple(
            f"{server.name[:60]} is in no network of the engine's: it can't answer clients itself."
            for server, one in reached
            if one is None
        )
        same = [(server, one) for server, one in reached if one is not None]
        draining = [found for one in draining if (found := reachable(one, near)) is not None]
    if not direct and any(one.mirrored for one in carried(service, protocol)) and not mirrored(service):
        notes += ("connection_mirror has no effect: servers see this engine's own address, which ends with it.",)
    if pool.servers and not same:
        notes += (f"No server has an IPv{version} address: {named} to {', '.join(vips)} is refused.",)
    usable = [(server, one) for server, one in same if server.enabled and server.ratio > 0 and server.name not in down]
    if sum(server.enabled and server.name not in down for server in pool.servers) < pool.servers_min:
        usable = []
    taking = tuple(one for _, one in usable)
    known = _known(pool)
    weights = {known[server.name]: server.ratio for server, _ in usable}
    marks = {known[one.name]: one.mark for one in taking}
    rules = _rules(service, protocol, version)
    table = buckets.hashed(weights) if choice in HASHES.values() else buckets.turns(weights)
    return Plan(
        service=service.id,
        protocol=protocol,
        ports=ports,
        choice=choice,
        mask=_mask(pool, version) if choice == "saddr" else "",
        shares=tuple(marks[name] for name in table),
        taking=taking,
        keeping=tuple(one for one in draining if one.mark not in marks.values()),
        rules=rules,
        flows_max=max(0, service.connections_max),
        mbit_max=max(0, service.mbit_max),
        sources=()
        if service.keeps_client or direct
        else tuple(str(s) for s in map(_parsed, service.sources) if s.version == version),
        direct=direct,
        notes=notes,
    )


def directly(service: Service, protocol: str) -> bool:
    """Whether servers answer clients themselves. Raises Unservable: all of a protocol's ports have it, or none."""
    found = {one.direct for one in carried(service, protocol)}
    if len(found) > 1:
        raise Unservable(f"Some of its {protocol.upper()} ports have a dsr_profile, and some have none.")
    return True in found


def reachable(one: Target, near: Iterable[Near]) -> Target | None:
    """Where it is; None if it is in none of these networks."""
    address = ipaddress.ip_address(one.address)
    for there in near:
        if address in there.network:  # whoever does not see answers does not know how many connections there are
            return msgspec.structs.replace(one, interface=there.interface, port=0, flows_max=0)
    return None


def _direct_choice(pool: Pool, named: str) -> tuple[str, tuple[str, ...]]:
    choice, notes = _choice(pool, named)
    if choice in HASHES.values():
        return choice, notes
    why = "every engine has to choose the same server"
    note = f"For {named} with a dsr_profile there is no {pool.algorithm[:60]}: {why}, by the client's address and port."
    return HASHES["LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT"], (note,)


def _left_out(service: Service, pool: Pool) -> Iterator[str]:
    """What an engine can't do that does not see the answers."""
    if service.connections_max or pool.connections_max:
        yield "With a dsr_profile the end of connections is not seen: their number is not limited."
    if service.sources or service.keeps_client:
        yield "With a dsr_profile servers see clients' own addresses: snat_ip, use_vip_as_snat and preserve_client_ip have no effect."
    if service.copies_to:
        yield "With a dsr_profile nothing is copied to the listeners of a traffic_clone_profile."
    ports = [(one.port, one.port_end) for one in carried(service) if one.direct]
    others = [
        s for s in pool.servers if not pool.service_port and not any(low <= s.port <= high for low, high in ports)
    ]
    if others:
        yield f"With a dsr_profile ports are not translated: {others[0].name[:60]} gets clients at the port they came to, not at {others[0].port}."


def gated(service: Service, version: int, *, shut: bool = False) -> Gated | None:
    """Its proxied TCP ports, if any connection to them is counted, or they are ``shut``. Raises Unservable."""
    listeners = [one for one in service.listeners if not one.carried]
    vips = [str(vip) for vip in map(_parsed, service.addresses) if vip.version == version]
    if service.parent or not listeners or not vips or not (shut or limits(service.rules)):
        return None
    ports = tuple((vip, one.port, one.port_end) for vip in vips for one in listeners)
    return Gated(service=service.id, version=version, ports=ports, rules=_rules(service, "tcp", version), shut=shut)


def paced(service: Service, version: int) -> Iterator[Paced]:
    """Of its proxied ports. Raises Unservable."""
    ports = [(one.port, one.port_end) for one in service.listeners if not one.carried]
    for pool in service.pools if ports else ():
        if pool.rate is not None:
            found = [(_parsed(server.address), server.port) for server in pool.servers]
            servers = [
                (str(address), *one)
                for address, port in found
                if address.version == version
                for one in (ports if pool.service_port else [(port, port)])
            ]
            if servers:
                yield Paced(service=service.id, pool=pool.id, version=version, servers=tuple(servers), rate=pool.rate)


def _rules(service: Service, protocol: str, version: int) -> tuple[policy.Rule, ...]:
    rules = tuple(rule for rule in service.rules if rule.phase in PHASES)
    try:
        gate(rules, protocol, next(one for one in FAMILIES if one.version == version), "")
    except Ungated as error:
        raise Unservable(str(error)) from None
    return rules


def target(service: Service, server: Server, protocol: str = "udp") -> Target:
    """Raises Unservable."""
    parsed = _parsed(server.address)
    if not 0 < server.port <= 65535:
        raise Unservable(f"The server {server.name[:60]!r} has the port {server.port}.")
    text = f"{service.id}\0{server.name}\0{parsed}\0{server.port}\0{protocol}".encode(errors="surrogatepass")
    keeps_client = service.keeps_client and not directly(service, protocol)
    kind = OURS | (TCP if protocol == "tcp" else 0) | (KEEPS_CLIENT if keeps_client else 0)
    most = service.pool.connections_max if service.pool else 0
    mark = kind | int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) & ~(KIND | KEEPS_CLIENT)
    return Target(
        service=service.id,
        name=server.name,
        address=str(parsed),
        port=0 if service.pool and service.pool.service_port else server.port,
        mark=mark,
        flows_max=min(max(0, most), FLOWS_MAX),
        rate=service.pool.rate if service.pool else None,
    )


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise Unservable(f"{address[:60]!r} is no IP address.") from None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None:  # any text can be one
        raise Unservable(f"{address[:60]!r} has a scope; an address of the data network has none.")
    return parsed


def _known(pool: Pool) -> dict[str, str]:
    """By name: what hashing knows each server by."""
    found: dict[str, str] = {}
    for server in sorted(pool.servers, key=lambda one: one.name):
        taken = not pool.known_by_address or server.address in found.values()
        found[server.name] = server.name if taken else server.address
    return found


def _mask(pool: Pool, version: int) -> str:
    kept = pool.persistence
    if kept is None or kept.kind != "client" or not 0 <= kept.bits < (32 if version == 4 else 128):
        return ""
    return str(ipaddress.ip_network(f"{'0.0.0.0' if version == 4 else '::'}/{kept.bits}").netmask)


def _choice(pool: Pool, named: str) -> tuple[str, tuple[str, ...]]:
    kept = pool.persistence
    if kept is not None and kept.kind == "client":
        return "saddr", ()
    if pool.algorithm == HASH:
        if pool.hash in HASHES or not pool.hash:
            return HASHES.get(pool.hash, "saddr"), ()
        return "saddr", (f"{named} has nothing to hash by {pool.hash[:80]}; the client's address is hashed.",)
    if pool.algorithm == RANDOM:
        return "random", ()
    if pool.algorithm == ROUND_ROBIN:
        return "turns", ()
    return "turns", (f"For {named} there is no {pool.algorithm[:60]}; its ports use round robin, the nearest.",)
