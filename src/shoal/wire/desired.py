"""The desired state of one engine: what the controller wants it to serve.

It is cut into **parts**, each with an id and a content hash; the sorted (id, hash) list is the **manifest** and its hash
the **root**. An engine fetches only the parts it lacks and acknowledges the root it runs.

Part ids: ``settings``, ``vip/<vip id>``, ``service/<virtual service uuid>``, ``certificate/<uuid>``,
``trust/<PKI profile uuid>``, ``bgp/<vrf uuid>``, ``routes/<vrf uuid>``, ``gateways/<vrf uuid>``,
``interfaces``, ``tickets/<group uuid>``, ``networks/<its hash>``.
Values are plain and complete: an engine needs nothing else to serve, nor to fail over, with the controller gone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from shoal.wire.client_logs import LogPolicy

from .monitors import Monitor as Monitor
from .networks import Networks
from .policy import Close, Http, Limit, Redirect, Respond, Rule, Test

PROXIED_PORTS_MAX = 1_024
"""Of one virtual service: each is a socket per address. Fast paths have as many as they like."""
SERVER_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
"""What a certificate can be for, and what a server can be told by TLS: a host name, no address."""
TLS_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
"""As HAProxy writes them; SSL 3 is in no OpenSSL that is supported."""
SUITES_DEFAULT = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
SUITES = (*SUITES_DEFAULT.split(":"), "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256")
"""Of TLS 1.3 (RFC 8446, appendix B.4)."""
DH_PARAMETERS = re.compile(
    r"-----BEGIN DH PARAMETERS-----\n([A-Za-z0-9+/=]{1,76}\n){1,40}-----END DH PARAMETERS-----\n"
)
"""Of finite-field key exchange (PKCS #3), in PEM."""
DH_BITS = (2048, 4096)
"""OpenSSL takes no smaller ones; larger ones cost an engine more than their clients gain."""
CURVES = ("X25519", "X448", "P-256", "P-384", "P-521", "prime256v1", "secp256r1", "secp384r1", "secp521r1")
"""Of key exchange, as OpenSSL names them."""
DEFAULT_PORTS = (80, 443)
RETRIED_STATUSES = (401, 403, 404, 408, 425, 500, 501, 502, 503, 504)
"""Answers that an engine can take for none: HAProxy 2.6 knows no others."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another engine of the group on the data network. ``slots`` is how many more services it may take over."""

    id: str
    name: str
    rank: int
    address: str
    mac: str


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Failure detection, in force (not the vendor's defaults; see `shoal.controller.timing`)."""

    heartbeat_interval_ms: int = 100
    heartbeat_misses: int = 3
    lease_ms: int = 200
    """The kernel lease's life. Must stay below ``heartbeat_interval_ms * heartbeat_misses``: the dead fall silent
    before a peer may claim."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, tag="settings"):
    """Engine-wide. ``peers`` are all engines that share a VIP with this one (owner, member or successor)."""

    group: str
    group_name: str
    peers: tuple[Peer, ...]
    timing: Timing
    slots_max: int
    """``max_vs_per_se``: an engine declines to take over beyond it and the next successor takes."""
    gateway: str = ""
    return_through_primary: bool = False
    """A VIP's replies leave from its primary's MAC only: its other engines hand theirs to it."""
    heartbeat_key: bytes = b""
    """What the group's guards sign their messages to one another with."""
    announce_every_s: int = 0
    """Addresses are announced anew so often; 0 = when they are taken only."""
    count_packets: bool = False
    """Packets of each VIP are wanted (auto-rebalance is on)."""
    link_mbit: int = 0
    """What the data link carries, which services share by weight; 0 = not known."""


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A VIP is announced by BGP: to the peers of ``vrf`` (`Bgp.id`), those of ``labels`` only where any are given."""

    vrf: str
    labels: tuple[str, ...] = ()
    though_down: bool = False
    """Also while no service behind it is up."""
    own: bool = True
    """The VIP's own addresses are; ``sources`` are those of its sources that are."""
    sources: tuple[str, ...] = ()


class Vip(msgspec.Struct, frozen=True, kw_only=True, tag="vip"):
    """Who answers for an address, now and next.

    ``owner`` is the primary's engine id, ``members`` every engine that serves (owner first), ``succession`` who takes
    over, in order, when the owner dies (members other than the owner first). ``generation`` grows with each change of
    owner the controller decides. A succession list with ``armed`` False is not to be acted upon yet (it is armed once every
    engine in it has acknowledged it): until then ``in_force`` rules, the last one that was armed.
    ``draining`` engines keep their established connections and get no new ones.
    """

    id: str
    addresses: tuple[str, ...]
    generation: int
    owner: str
    members: tuple[str, ...]
    succession: tuple[str, ...]
    list_version: int
    armed: bool
    in_force: tuple[str, ...] = ()
    in_force_version: int = 0
    """Its version; 0 = none, or ``succession`` is."""
    draining: tuple[str, ...] = ()
    slots: int = 1
    route: Route | None = None
    """Announced by its owner, and by every member where ``ecmp`` is set; None: not announced."""
    ecmp: bool = False
    """The network spreads flows over the members: no member passes new ones on to another."""
    sources: tuple[str, ...] = ()
    """Addresses that are owned with the VIP's own: connections to servers come from them."""

    @property
    def owned(self) -> tuple[str, ...]:
        return (*self.addresses, *self.sources)

    @property
    def ruling(self) -> tuple[tuple[str, ...], int]:
        """(the list that may be acted upon, its version); version 0 = none."""
        return (self.succession, self.list_version) if self.armed else (self.in_force, self.in_force_version)


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """Ports of a virtual service. ``protocol``: ``tcp`` or ``udp``."""

    port: int
    port_end: int
    tls: bool = False
    http2: bool = False
    protocol: str = "tcp"
    fast: bool = False
    """TCP without a proxy."""
    idle_s: int = 10
    """On a fast path: how long a flow keeps its server without a packet either way."""
    mss: int = 0
    """Of a proxied client's connection, in bytes; 0 = what the network's MTU gives."""
    mirrored: bool = False
    """Of fast TCP: the successors know its connections."""
    direct: bool = False
    """On a fast path: servers have the VIP's address too, and answer clients themselves."""
    unheard_ms: int = 0
    """A proxied client that does not acknowledge for so long is gone; 0 = as the kernel has it."""

    @property
    def carried(self) -> bool:
        """On a fast path: the kernel carries its flows, and HAProxy has no part in it."""
        return self.fast or self.protocol == "udp"


class Server(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    address: str
    port: int
    ratio: int = 1
    enabled: bool = True
    hostname: str = ""
    called: str = ""
    """What it is told as Host, where it is told its own name (`Pool.tells_names`); HAProxy knows it by this then."""
    header_value: str = ""
    """Clients that are kept by a header and have this value there are its own; "" = no such value."""


COOKIES = ("cookie", "app_cookie")


class Persistence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How clients come back to their server. ``kind``: ``client`` (its address), ``header`` (what ``name`` says), ``cookie``
    (one of the engine's own) or ``app_cookie`` (the application's cookie ``name``). No kind needs a table, so all engines of a
    virtual service agree."""

    kind: str
    name: str = ""
    timeout_s: int = 0
    """Of a ``cookie``; 0 = as long as the client's session."""
    http_only: bool = False
    bits: int = -1
    """Of a ``client``'s address that count; -1 = all."""
    when_down: str = "leave"
    """What becomes of clients whose ``cookie`` or ``app_cookie`` leads to a server that is down: they ``leave`` for another
    one, they ``stay`` with it, or they are ``refuse``d."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one side's connections; "" is what HAProxy takes by itself. Versions as HAProxy writes them, ``TLSv1.2``."""

    version_min: str = ""
    version_max: str = ""
    ciphers: str = ""
    """OpenSSL's list, up to TLS 1.2."""
    suites: str = ""
    """Of TLS 1.3."""
    client_order: bool = False
    curves: str = ""
    """Of key exchange, OpenSSL's names between colons."""
    early_data: bool = False
    """Requests that are safe to repeat may come with the handshake (RFC 8470)."""
    session_s: int = 0
    """How long a session may be resumed; 0 = HAProxy's own."""
    resumes: bool = True
    """Sessions may be resumed at all."""
    tickets: bool = False
    """Sessions are resumed by tickets that all engines of the group can read (`Tickets`)."""
    dh: str = ""
    """`DH_PARAMETERS` of key exchange with clients, up to TLS 1.2; "" = HAProxy's own."""


class TlsFor(msgspec.Struct, frozen=True, kw_only=True):
    """What certain clients, told by their addresses, speak instead of the service's ``tls``."""

    clients: Test
    tls: Tls


class ServerTls(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """TLS towards a pool's servers."""

    tls: Tls = Tls()
    trust: str = ""
    """Whose certificates they must have (a `Trust`); "" = any."""
    revoked: bool = False
    """Whether that trust names revoked ones."""
    certificate: str = ""
    """The engine's own towards them (a `Certificate`); "" = none."""
    tells: str = ""
    """The server name (RFC 6066) they are told: ``name``, ``host`` (that of each request) or "" (none). Who is told a name and
    verified must have a certificate for it."""
    name: str = ""
    """What they are told with ``name``; with "" what their certificate must be for, "" = anything."""


class ClientCertificates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What clients are asked for at TLS ports. Where it is not ``required``, one that has none or a bad one is served
    all the same."""

    trust: str
    revoked: bool = False
    """Whether that trust names revoked ones."""
    required: bool = False
    leaf_only: bool = True
    """Only the client's own certificate is looked for among the revoked, not those of its issuers."""
    lenient: bool = False
    """Of those ``required``: a bad one will do, too; servers judge."""


class Trust(msgspec.Struct, frozen=True, kw_only=True, tag="trust"):
    """Who may have issued a certificate, and which are revoked: both in PEM."""

    id: str
    name: str
    authorities: str
    revoked: str = ""
    """"" = nobody looks."""


class Retry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request that a server did not answer, or with one of ``statuses``, goes to another one, ``times`` at most. Only
    those that may be repeated (RFC 9110, 9.2.2), or with ``every_method`` all."""

    times: int
    timeout_ms: int = 0
    """After so long without an answer, too; 0 = then it has failed, by the pool's own time."""
    statuses: tuple[int, ...] = ()
    every_method: bool = False


class Pool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    name: str
    algorithm: str = "LB_ALGORITHM_LEAST_CONNECTIONS"
    feedback_s: int = 10
    """How often LB_ALGORITHM_FEWEST_TASKS goes by what monitors say of tasks."""
    affinity: int = 2
    """Of LB_ALGORITHM_CORE_AFFINITY: by so many threads each server is used."""
    hash: str = ""
    """For consistent hash: ``LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS`` and its siblings."""
    hash_header: str = ""
    servers: tuple[Server, ...] = ()
    monitors: tuple[Monitor, ...] = ()
    monitors_min: int = 0
    """So many of them suffice for a server to be up; 0 = all must pass."""
    passive: bool = False
    """Connections to servers that fail count as failed checks."""
    tls: ServerTls | None = None
    tls_as_client: bool = False
    """Only for clients that came to a port with TLS."""
    graceful_disable_s: int = 60
    """How long a disabled server keeps its connections; -1 = until they end by themselves."""
    admits_kept: bool = False
    """Clients whose cookie leads to a disabled server go on coming to it for that time."""
    servers_min: int = 1
    """With fewer up there is none."""
    ramp_s: int = 0
    """A server that comes up gets its whole share of new connections only after so long (of least connections)."""
    known_by_address: bool = False
    """Hashing knows a server by its address alone, whatever its port."""
    persistence: Persistence | None = None
    service_port: bool = False
    """Connections go to a server's port of the number that the client came to; ``port`` is only checked."""
    connections_max: int = 0
    """Of each server at a time; 0 = no limit."""
    rate: Limit | None = None
    """New connections to each server, by each engine; those beyond go to another one, or wait. Only its numbers count."""
    queue_max: int = 0
    """Requests that may wait for a server at its limit."""
    timeout_ms: int = 0
    """A server's silence that ends a request; 0 = as for clients."""
    proxy_protocol: int = 0
    """Version of the PROXY protocol that tells TCP servers of the client; 0 = none."""
    host: str = ""
    """The Host header that servers get; "" = the client's."""
    tells_names: bool = False
    """Each server gets its own name as Host header (`Server.called`)."""
    tells_port: str = "NEVER"
    """Whether health monitors name the port in Host: ``NEVER``, ``ALWAYS`` or ``NON_DEFAULT_80_443``."""
    idle_max: int = 0
    """Connections to each server that are kept for the next request; 0 = any number."""
    idle_ms: int = 0
    """How long one is kept; 0 = as HAProxy likes."""
    retry: Retry | None = None
    http2: bool = False
    """Servers are spoken to by HTTP/2 (by TLS: where they agree); of HTTP services only."""
    field_octets_max: int = 0
    """Of the name and of the value of each header that servers answer with by HTTP/2; 0 = as HAProxy takes it."""
    without_servers: Redirect | Respond | Close | None = None
    """What clients get while no server is up; None = HAProxy's own 503."""


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pool's part in a group. ``ratio``: its share among the members of the same ``priority``; the highest goes first."""

    pool: str
    ratio: int = 1
    priority: int = 0


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pools that new requests are shared among. A pool without a server that is up gets none; lower priorities get some
    while the higher ones have fewer than ``servers_min`` servers up.

    ``persistence`` keeps clients at their pool, as that pool keeps them at their server.
    """

    id: str
    name: str
    members: tuple[Member, ...] = ()
    servers_min: int = 1
    persistence: Persistence | None = None
    without_servers: Redirect | Respond | Close | None = None
    """What clients get while no pool has a server up; None = what the first pool does."""


def with_port(host: str, port: int, told: str) -> str:
    """As a Host header has it. ``told``: as `Pool.tells_port`."""
    named = told == "ALWAYS" or (told == "NON_DEFAULT_80_443" and port not in DEFAULT_PORTS)
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if named else host


class ServerId(NamedTuple):
    """One server as one virtual service uses it."""

    service: str
    pool: str
    server: str


class Service(msgspec.Struct, frozen=True, kw_only=True, tag="service"):
    """One virtual service as an engine serves it. ``mode``, of its TCP ports: ``http`` or ``tcp``.

    What no rule sends elsewhere goes to ``pool``, or to the group of id ``group``. ``others`` are the further pools that
    groups and rules name; no pool is there twice.

    With ``parent`` it is a virtual host: it gets what clients ask for at the TLS ports of that virtual service, by one of
    ``hosts`` (``www.example.org``, ``*.example.org``) as the name they tell (RFC 6066); ``listeners`` are those ports.
    With ``by_request`` (its parent's, too) it gets the requests at any port there that meet one of ``matches``, each of
    which is several tests that must all hold; TLS is then the parent's alone.
    """

    id: str
    name: str
    vip: str
    addresses: tuple[str, ...]
    enabled: bool
    mode: str
    listeners: tuple[Listener, ...]
    parent: str = ""
    hosts: tuple[str, ...] = ()
    by_request: bool = False
    matches: tuple[tuple[Test, ...], ...] = ()
    pool: Pool | None = None
    others: tuple[Pool, ...] = ()
    groups: tuple[Group, ...] = ()
    group: str = ""
    certificates: tuple[str, ...] = ()
    tls: Tls = Tls()
    tls_for: tuple[TlsFor, ...] = ()
    """The first whose clients are meant counts."""
    client_certificates: ClientCertificates | None = None
    http: Http = Http()
    rules: tuple[Rule, ...] = ()
    client_idle_s: int = 60
    keepalive: bool = False
    """Proxied TCP is probed when it has been idle for so long, and closed only if nobody answers."""
    keepalive_halves: bool = True
    """Also after one side has said that it sends no more."""
    dscp: int = 0
    """Of packets to proxied clients."""
    connections_max: int = 0
    """0 = no limit but the engine's. Of fast paths: of each protocol."""
    mbit_max: int = 0
    """Of its fast paths, each protocol's, both ways together, in Mbit/s; 0 = no limit."""
    keeps_client: bool = False
    """Servers see the client's address on fast paths: they route to clients through the VIP."""
    sources: tuple[str, ...] = ()
    """What servers see instead of the engine's own address on fast paths; needs one engine at a time, as does the above."""
    flow_dist: str = "LOAD_AWARE"
    """How the VIP's primary shares new flows to its ports over the engines: ``LOAD_AWARE``,
    ``CONSISTENT_HASH_SOURCE_IP_ADDRESS`` or ``CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT``."""
    log: LogPolicy | None = None
    """Which requests are logged; None = none, and no percentiles."""
    server_idle_s: int = 0
    """Of servers' connections; 0 = as of clients'. ``server_keepalive`` likewise, of TCP."""
    server_keepalive: bool = False
    pools_up_min: int = 0
    """Of the `default_pools`: with fewer up the service is down; 0 = with none of all."""
    shut_when_down: bool = False
    """While it is down its proxied ports refuse clients."""
    sessions: int = 1024
    """Of TLS, that an engine keeps for clients who have no tickets: about so many."""
    copies_to: tuple[str, ...] = ()
    """Machines on the engine's own network that get a copy of each packet to and from its servers, each flow's one of them."""
    weight: int = 1
    """Its share of what the engine sends to clients, when the link is full."""
    cuts_clients: bool = False
    """When anything of this part changes, the connections that its clients have at proxied ports end."""

    @property
    def default_pools(self) -> tuple[str, ...]:
        """Ids of the pools of what no rule sends elsewhere."""
        if self.pool is not None:
            return (self.pool.id,)
        members = (one for group in self.groups if group.id == self.group for one in group.members)
        return tuple(one.pool for one in members if one.ratio > 0)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All it may use."""
        return (self.pool, *self.others) if self.pool is not None else self.others

    @property
    def terminates_tls(self) -> bool:
        """On one port at least; a virtual host that is told by requests leaves that to its parent."""
        return any(listener.tls for listener in self.listeners) and not (self.parent and self.by_request)

    @property
    def spoken(self) -> tuple[Tls, ...]:
        """All TLS that one client or another speaks: first that of those whom ``tls_for`` does not name."""
        return (self.tls, *(one.tls for one in self.tls_for))

    @property
    def lists(self) -> Iterator[str]:
        """Ids of the lists of networks that its rules name."""
        return (id for rule in self.rules for test in rule.tests for id in test.lists)

    @property
    def servers(self) -> Iterator[tuple[ServerId, Pool, Server]]:
        """Of all its pools."""
        return ((ServerId(self.id, pool.id, one.name), pool, one) for pool in self.pools for one in pool.servers)


class Stapled(msgspec.Struct, frozen=True, kw_only=True):
    """An OCSP response (DER) that clients get with a certificate, and who issued the certificate (PEM). ``until`` in seconds
    since the epoch; 0 = its end is not known."""

    response: bytes
    issuer: str
    until: float = 0.0


class Certificate(msgspec.Struct, frozen=True, kw_only=True, tag="certificate"):
    id: str
    name: str
    pem: str
    """Certificate, chain and private key, in that order."""
    stapled: Stapled | None = None


class BgpPeer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A router that an engine speaks with. Times in seconds; 0 = as BIRD takes it."""

    address: str
    local_as: int
    remote_as: int
    label: str = ""
    secret: str = ""
    """Of TCP MD5 (RFC 2385)."""
    bfd: bool = True
    multihop: int = 0
    """Hops at most; 0 = a neighbour on the engine's own network, or one of the same AS at any distance."""
    hold_s: int = 180
    keepalive_s: int = 60
    connect_s: int = 10
    advertise: bool = True
    """It is told of VIPs."""


class Communities(msgspec.Struct, frozen=True):
    """Of the addresses from ``first`` to ``last``."""

    first: str
    last: str
    communities: tuple[tuple[int, int], ...]


class Bgp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="bgp"):
    """Whom an engine speaks BGP with, and what it says with each route. ``id``: the VRF's uuid."""

    id: str
    peers: tuple[BgpPeer, ...]
    communities: tuple[tuple[int, int], ...] = ()
    by_address: tuple[Communities, ...] = ()
    """They count instead of ``communities`` for these addresses."""
    local_preference: int = 0
    """Towards the own AS; 0 = none given."""
    prepend: int = 0
    """How often the own AS stands in the path beside the once that it must."""
    bfd_tx_ms: int = 100
    bfd_rx_ms: int = 100
    bfd_misses: int = 3


class Interface(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A VLAN of the data interface. ``addresses``: the engine's own there, as ``10.0.0.2/24``; VIPs in these networks are
    answered for there."""

    name: str
    vlan: int
    addresses: tuple[str, ...]


class Interfaces(msgspec.Struct, frozen=True, kw_only=True, tag="interfaces"):
    """Those that an engine has beside the data interface."""

    interfaces: tuple[Interface, ...]


class StaticRoute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``id``: what people call it. ``prefix`` as ``10.0.0.0/8``; ``interface`` "" = the one that ``next_hop`` is reached by.
    Routes of one prefix share its flows."""

    id: str
    prefix: str
    next_hop: str
    interface: str = ""


class Routes(msgspec.Struct, frozen=True, kw_only=True, tag="routes"):
    """The static routes of a VRF; ``id`` is its uuid."""

    id: str
    name: str
    routes: tuple[StaticRoute, ...]


class GatewayMonitor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A next hop that is pinged; ``fall`` and ``rise`` are answers in a row. ``interface``: where a link-local address is."""

    address: str
    interval_ms: int
    fall: int
    rise: int
    interface: str = ""


class Gateways(msgspec.Struct, frozen=True, kw_only=True, tag="gateways"):
    """Those of a VRF that engines of a group are to watch; ``id`` is its uuid."""

    id: str
    monitors: tuple[GatewayMonitor, ...]


class Tickets(msgspec.Struct, frozen=True, kw_only=True, tag="tickets"):
    """What the keys of TLS session tickets are made from, of a group (``id``): the last day's, this one's (which new tickets
    are made with) and the next one's."""

    id: str
    secrets: tuple[bytes, bytes, bytes]


Credential = Certificate | Trust | Tickets
Part = Settings | Vip | Service | Credential | Bgp | Routes | Gateways | Interfaces | Networks


class PartReference(msgspec.Struct, frozen=True, order=True):
    id: str
    hash: str


class Manifest(msgspec.Struct, frozen=True):
    """``root`` names the whole; equal roots mean equal desired states."""

    root: str
    parts: tuple[PartReference, ...]


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[Part] = msgspec.msgpack.Decoder(Part)


def encode_part(part: Part) -> bytes:
    return _encoder.encode(part)


def decode_part(data: bytes) -> Part:
    """Raises `msgspec.ValidationError` (a ValueError) on anything that is not a well-formed part."""
    return _decoder.decode(data)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def manifest(references: Iterable[PartReference]) -> Manifest:
    parts = tuple(sorted(references))
    return Manifest(root=digest(_encoder.encode([[p.id, p.hash] for p in parts])), parts=parts)
