"""From intent and placement to what each engine should serve: the parts of :mod:`shoal.wire.desired`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives import serialization

from shoal.objects import views
from shoal.objects.views import uuid_of, view
from shoal.placement.model import PlacementState
from shoal.placement.pair import SIDES
from shoal.wire import desired as wire
from shoal.wire.networks import KIND
from shoal.wire.policy import Http, Rule, Switch

from . import datascripts, ocsp, pools, protocols
from .acme.profile import read as read_acme
from .answers import cache_of, error_pages
from .bearer import bearer_of
from .http_profile import http_of
from .idle import client_idle_s
from .limits import limits_of
from .log_policy import log_policy
from .monitors import Unseal, monitor_part, why_not_run, withheld
from .policies import clients_of, connection_rules_of, rules_of
from .pool_groups import group_part
from .protocols import Documents
from .records import VipRecord
from .rewriting import rewriting_of
from .selection import selection_rules_of
from .sources import wire_sources
from .tls import NO_CLIENT_CERTIFICATE, client_certificates, server_tls, tls_as_client, tls_of, trust_of
from .virtual_hosts import by_request, matches_of

Document = Mapping[str, Any]
SECONDS_PER_MINUTE = 60
DSCP_MAX = 63
L4_SSL = "APPLICATION_PROFILE_TYPE_SSL"
VIRTUAL_HOST = "VS_TYPE_VH_CHILD"


class Encoded(msgspec.Struct, frozen=True):
    """A part as it is sent. ``vip``: the part itself, of a VIP."""

    hash: str
    data: bytes
    vip: wire.Vip | None = None


EngineParts = dict[str, Encoded]


def encoded(part: wire.Part) -> Encoded:
    data = wire.encode_part(part)
    return Encoded(wire.digest(data), data, part if isinstance(part, wire.Vip) else None)


class VipIntent(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One VIP of one group: its addresses (IPv4, IPv6 or both) and the virtual services that share it."""

    id: str
    name: str
    addresses: tuple[str, ...]
    services: tuple[views.VirtualService, ...]
    created: float
    vrf: str = ""
    labels: tuple[str, ...] = ()
    """Of the BGP peers that it is announced to; empty = all."""

    @property
    def address(self) -> str:
        """What people know it by: its IPv4 address, else the IPv6 one."""
        return self.addresses[0]

    @property
    def tag(self) -> str:
        """Which engine of a legacy pair it is to be active on: the oldest of its virtual services decides."""
        return self.services[0].active_standby_se_tag if self.services else SIDES[0]

    @functools.cached_property
    def owned(self) -> tuple[str, ...]:
        return (*self.addresses, *self.sources)

    @functools.cached_property
    def sources(self) -> tuple[str, ...]:
        """Addresses that its owner has beside its own."""
        return tuple(source for service in self.enabled if not service.use_vip_as_snat for source in service.sources)

    @functools.cached_property
    def enabled(self) -> tuple[views.VirtualService, ...]:
        return tuple(service for service in self.services if service.enabled)

    @functools.cached_property
    def serving(self) -> tuple[views.VirtualService, ...]:
        """Those that take traffic."""
        return tuple(service for service in self.enabled if service.traffic_enabled)

    @functools.cached_property
    def route(self) -> wire.Route | None:
        """How it is announced: where one of its virtual services wants that."""
        own = [service for service in self.serving if service.enable_rhi]
        sources = [one for one in self.serving if one.enable_rhi_snat and one.sources and not one.use_vip_as_snat]
        announced = (*own, *(one for one in sources if not one.enable_rhi))
        if not announced:
            return None
        labels = {*self.labels, *(label for service in announced for label in service.bgp_peer_labels)}
        though_down = any(service.advertise_down_vs for service in announced)
        return wire.Route(
            vrf=self.vrf,
            labels=tuple(sorted(labels)),
            though_down=though_down,
            own=bool(own),
            sources=tuple(source for service in sources for source in service.sources),
        )

    @functools.cached_property
    def ecmp(self) -> bool:
        """The network spreads its flows: all of its virtual services say so."""
        return bool(self.enabled) and all(service.scaleout_ecmp for service in self.enabled)


# --- services ---


def service_part(
    documents: Documents,
    service: views.VirtualService,
    vip: VipIntent,
    unseal: Unseal = withheld,
    account: Callable[[str], str] = lambda profile: "",
) -> wire.Service:
    """How an engine serves a virtual service. References were checked at write time; one that is gone meanwhile
    (its deletion is on the way) is passed over. ``unseal`` opens the secrets of monitors; ``account`` is the thumbprint of the ACME
    account of a management profile."""
    document = documents.get("applicationprofile", uuid_of(service.application_profile_ref or ""))
    profile = view(document, views.ApplicationProfile) if document is not None else None
    http = profile is None or profile.type == "APPLICATION_PROFILE_TYPE_HTTP"
    http_profile = profile.http_profile if profile and profile.http_profile else views.HttpProfile()
    rules = (
        *connection_rules_of(documents, service.network_security_policy_ref),
        *limits_of(documents, service.uuid, profile.uuid if profile else "", http=http),
        *(rules_of(documents, service.http_policies) if http else ()),
        *(datascripts.rules_of(documents, service.vs_datascripts) if http else ()),
        *selection_rules_of(documents, service),
    )
    reached = _reached(documents, service)
    modes = {port.tls for port in reached["listeners"] if not port.carried}
    version = 0 if http else _proxy_protocol(profile)
    routed = _pools(documents, service, rules, unseal, proxied=version, modes=modes, http=http)
    network = _fetch(documents, "networkprofile", service.network_profile_ref, views.NetworkProfile)
    proxy = (network.profile.tcp_proxy_profile if network else None) or views.TcpProxyProfile()
    most = service.performance_limits or views.PerformanceLimits()
    idle_s = client_idle_s(http_profile if http else None, network.profile if network else None)
    stream = profile.l4_ssl_profile if profile is not None and profile.type == L4_SSL else None
    return wire.Service(
        id=service.uuid,
        name=service.name,
        vip=vip.id,
        addresses=vip.addresses,
        enabled=_takes_traffic(documents, service),
        mode="http" if http else "tcp",
        **reached,
        **routed,
        certificates=tuple(uuid_of(ref) for ref in service.ssl_key_and_certificate_refs),
        tls=tls_of(_fetch(documents, "sslprofile", service.ssl_profile_ref, views.SslProfile), of_clients=True),
        tls_for=tuple(_tls_for(documents, service)),
        client_certificates=_client_certificates(
            documents, profile, http=http, lenient=service.allow_invalid_client_cert
        )
        if service.type != VIRTUAL_HOST or not by_request(service)
        else None,  # TLS is its parent's
        http=_http(documents, service, document or {}, vip, account) if http else Http(),
        rules=rules,
        connections_max=most.max_concurrent_connections,
        mbit_max=most.max_throughput,
        client_idle_s=stream.ssl_stream_idle_timeout if stream else idle_s,
        keepalive=proxy.idle_connection_type == "KEEP_ALIVE"
        and proxy.idle_connection_timeout > 0
        and not http
        and not stream,
        keepalive_halves=proxy.keepalive_in_halfclose_state,
        dscp=proxy.ip_dscp if proxy.ip_dscp <= DSCP_MAX else 0,
        keeps_client=profile.preserve_client_ip if profile else False,
        sources=wire_sources(service, vip.addresses),
        flow_dist=service.flow_dist,
        weight=service.weight,
        log=log_policy(documents, service, [pool.id for pool in (routed["pool"], *routed["others"]) if pool]),
        **_towards_servers(documents, service, http=http),
        pools_up_min=service.min_pools_up,
        shut_when_down=service.remove_listening_port_on_vs_down,
        sessions=service.ssl_sess_cache_avg_size,
        copies_to=_copies_to(documents, service.traffic_clone_profile_ref),
        cuts_clients=service.close_client_conn_on_config_update,
    )


def _http(
    documents: Documents,
    service: views.VirtualService,
    profile: Document,
    vip: VipIntent,
    account: Callable[[str], str],
) -> Http:
    """An ACME authority asks at port 80 of the address, whichever of its services has the certificate."""
    own = profile.get("http_profile") or {}
    found = msgspec.structs.replace(
        http_of(documents, own),
        server_host=service.host_name_xlate,
        cache=cache_of(documents, own),
        rewriting=rewriting_of(documents, service.content_rewrite),
        bearer=bearer_of(documents, service),
        errors=error_pages(documents, service.error_page_profile_ref),
    )
    references = (reference for one in vip.services for reference in one.ssl_key_and_certificate_refs)
    certificates = (documents.get("sslkeyandcertificate", uuid_of(reference)) or {} for reference in references)
    managed = (read_acme(documents, one.get("certificate_management_profile_ref", "")) for one in certificates)
    first = next((profile for profile in managed if profile is not None), None)
    return msgspec.structs.replace(found, acme=account(first.uuid)) if first is not None else found


def _tls_for(documents: Documents, service: views.VirtualService) -> Iterator[wire.TlsFor]:
    for one in service.ssl_profile_selectors:
        profile = _fetch(documents, "sslprofile", one.ssl_profile_ref, views.SslProfile)
        if profile is not None:
            yield wire.TlsFor(clients=clients_of(documents, one.client_ip_list), tls=tls_of(profile, of_clients=True))


def _towards_servers(documents: Documents, service: views.VirtualService, *, http: bool) -> dict[str, Any]:
    """The members of `wire.Service` that say how long servers' connections may be idle, where that is another time."""
    profile = _fetch(documents, "networkprofile", service.server_network_profile_ref, views.NetworkProfile)
    if profile is None:
        return {}
    proxy = profile.profile.tcp_proxy_profile or views.TcpProxyProfile()
    keeps = proxy.idle_connection_type == "KEEP_ALIVE" and proxy.idle_connection_timeout > 0
    return {"server_idle_s": client_idle_s(None, profile.profile), "server_keepalive": keeps and not http}


def _client_certificates(
    documents: Documents, profile: views.ApplicationProfile | None, *, http: bool, lenient: bool = False
) -> wire.ClientCertificates | None:
    asked = profile and (profile.http_profile if http else profile.tcp_app_profile)
    if not asked or asked.ssl_client_certificate_mode == NO_CLIENT_CERTIFICATE:
        return None
    authorities = _fetch(documents, "pkiprofile", asked.pki_profile_ref, views.PkiProfile)
    return client_certificates(asked.ssl_client_certificate_mode, authorities, lenient=lenient)


def _copies_to(documents: Documents, reference: str) -> tuple[str, ...]:
    profile = documents.get("trafficcloneprofile", uuid_of(reference)) if reference else None
    servers = (profile or {}).get("clone_servers") or ()
    return tuple(one["ip_address"]["addr"] for one in servers if one.get("ip_address"))


def _takes_traffic(documents: Documents, service: views.VirtualService) -> bool:
    """A virtual host with its parent only."""
    parent = documents.get("virtualservice", uuid_of(service.vh_parent_vs_ref)) if service.vh_parent_vs_ref else None
    open_ = parent is None or (parent.get("enabled", True) and parent.get("traffic_enabled", True))
    return service.enabled and service.traffic_enabled and open_


def _reached(documents: Documents, service: views.VirtualService) -> dict[str, Any]:
    """The members of `wire.Service` that say where clients reach it."""
    all_ports = by_request(service)
    if service.type != VIRTUAL_HOST:
        ports = tuple(_listener(documents, service, port) for port in service.services)
        return {"listeners": ports, "by_request": all_ports}
    parent = _fetch(documents, "virtualservice", service.vh_parent_vs_ref, views.VirtualService)
    shared = [port for port in parent.services if port.enable_ssl or all_ports] if parent is not None else []
    return {
        "listeners": tuple(_listener(documents, parent, port) for port in shared) if parent is not None else (),
        "parent": uuid_of(service.vh_parent_vs_ref),
        "hosts": () if all_ports else tuple(host.lower() for host in service.vh_domain_name),
        "by_request": all_ports,
        "matches": matches_of(documents, service) if all_ports else (),
    }


def _pools(
    documents: Documents,
    service: views.VirtualService,
    rules: Iterable[Rule],
    unseal: Unseal,
    *,
    proxied: int,
    modes: Collection[bool],
    http: bool,
) -> dict[str, Any]:
    """The members of `wire.Service` that say where its requests may go. ``proxied``: the version of the PROXY protocol
    that servers are told of clients by; ``modes``: whether its ports have TLS."""
    default, group = uuid_of(service.pool_ref), uuid_of(service.pool_group_ref)
    switches = [action for rule in rules for action in rule.actions if isinstance(action, Switch)]
    ids = dict.fromkeys(id for id in (group, *(one.group for one in switches)) if id)
    groups = [found for id in ids if (found := group_part(documents, id)) is not None]
    named = [default, *(one.pool for found in groups for one in found.members), *(one.pool for one in switches)]
    there = (_fetch(documents, "pool", id, views.Pool) for id in dict.fromkeys(named) if id)
    parts = {pool.uuid: pool_part(documents, pool, unseal, proxied, modes) for pool in there if pool is not None}
    if not http:
        parts = {id: msgspec.structs.replace(part, http2=False) for id, part in parts.items()}
    return {
        "pool": parts.pop(default, None),
        "others": tuple(parts.values()),
        "groups": tuple(groups),
        "group": group if not default and any(one.id == group for one in groups) else "",
    }


def _listener(documents: Documents, service: views.VirtualService, port: views.Port) -> wire.Listener:
    reference = port.override_network_profile_ref or service.network_profile_ref
    profile = documents.get("networkprofile", uuid_of(reference)) if reference else None
    kind, fast = protocols.protocol(profile) if profile is not None else "tcp", protocols.fast(profile)
    return wire.Listener(
        port=port.port,
        port_end=port.port_range_end or port.port,
        tls=port.enable_ssl,
        http2=port.enable_http2,
        protocol="udp" if kind == "udp" else "tcp",
        fast=fast and kind == "tcp",
        idle_s=protocols.idle_s(profile) if fast else protocols.UDP_IDLE_S,
        mss=protocols.segment(profile),
        unheard_ms=protocols.unheard_ms(profile),
        mirrored=protocols.mirrors(profile),
        direct=protocols.direct_return(profile) is not None,
    )


def _proxy_protocol(profile: views.ApplicationProfile | None) -> int:
    """Version that the servers of a TCP service are told of the client with; 0 = they are not."""
    wanted = profile.tcp_app_profile if profile else None
    if wanted is None or not wanted.proxy_protocol_enabled:
        return 0
    return 2 if wanted.proxy_protocol_version == "PROXY_PROTOCOL_VERSION_2" else 1


def pool_part(
    documents: Documents,
    pool: views.Pool,
    unseal: Unseal = withheld,
    proxy_protocol: int = 0,
    modes: Collection[bool] = (),
) -> wire.Pool:
    """``modes``: as of `_pools`."""
    monitors = _monitors(documents, pool.health_monitor_refs)
    graceful = pool.graceful_disable_timeout
    kept = pool.application_persistence_profile_ref
    profile = _fetch(documents, "applicationpersistenceprofile", kept, views.ApplicationPersistenceProfile)
    called, as_client = pools.names_told(pool), tls_as_client(pool)
    return wire.Pool(
        id=pool.uuid,
        name=pool.name,
        algorithm=pool.lb_algorithm,
        hash=pool.lb_algorithm_hash,
        hash_header=pool.lb_algorithm_consistent_hash_hdr,
        servers=tuple(_server(pool, server, called) for server in pool.servers),
        monitors=tuple(monitor_part(documents, one, unseal) for one in monitors if not why_not_run(one)),
        monitors_min=pool.min_health_monitors_up,
        passive=pool.inline_health_monitor,
        tls=server_tls(
            pool,
            _fetch(documents, "sslprofile", pool.ssl_profile_ref, views.SslProfile),
            _fetch(documents, "pkiprofile", pool.pki_profile_ref, views.PkiProfile),
        )
        if not as_client or True in modes
        else None,
        tls_as_client=as_client and len(modes) > 1,
        proxy_protocol=proxy_protocol,
        host=pools.told_host(pool),
        tells_names=bool(called),
        tells_port=pool.append_port,
        **pools.balance(pool),
        graceful_disable_s=graceful if graceful < 0 else graceful * SECONDS_PER_MINUTE,
        persistence=pools.persistence(profile) if profile else None,
        service_port=pool.use_service_port,
        connections_max=pool.max_concurrent_connections_per_server,
        queue_max=pool.request_queue_depth if pool.request_queue_enabled else 0,
        timeout_ms=pool.server_timeout,
        http2=pool.enable_http2,
        retry=pools.retry(pool.server_reselect),
        without_servers=pools.without_servers(pool.fail_action),
    )


def _server(pool: views.Pool, server: views.PoolServer, called: Mapping[str, str]) -> wire.Server:
    port = server.port or pool.default_server_port
    name = pools.server_name(pool, server)
    return wire.Server(
        name=name,
        called=called.get(name, ""),
        header_value=server.prst_hdr_val,
        address=server.ip.addr,
        port=port,
        ratio=server.ratio,
        enabled=server.enabled and pool.enabled,
        hostname=server.hostname,
    )


def passed_over(documents: Documents, pool: Document) -> list[str]:
    """One sentence for each health monitor of a pool document that is not run."""
    return [
        f"{why}: the pool is served without {monitor['name']}."
        for monitor in _monitors(documents, pool.get("health_monitor_refs", ()))
        if (why := why_not_run(monitor))
    ]


def _monitors(documents: Documents, references: Iterable[str]) -> Iterator[Document]:
    found = (documents.get("healthmonitor", uuid_of(reference)) for reference in references)
    return (monitor for monitor in found if monitor is not None)


def certificate_part(
    documents: Documents,
    uuid: str,
    unseal: Callable[[str, str], str],
    answer: Callable[[str], ocsp.Answer | None] = lambda uuid: None,
) -> wire.Certificate | None:
    """Certificate, chain and private key in one PEM. ``unseal`` opens what is encrypted at rest; ``answer`` is what OCSP says
    of it."""
    found = _fetch(documents, "sslkeyandcertificate", f"/api/sslkeyandcertificate/{uuid}", views.SslKeyAndCertificate)
    if found is None or found.certificate is None:
        return None
    authorities = (
        _fetch(documents, "sslkeyandcertificate", ca.ca_ref, views.SslKeyAndCertificate) for ca in found.ca_certs
    )
    chain = [
        found.certificate.certificate,
        *(ca.certificate.certificate for ca in authorities if ca and ca.certificate),
    ]
    key = unseal(found.key, f"sslkeyandcertificate/{uuid}/key") if found.key else ""
    pem = "\n".join(text.strip() for text in [*chain, key] if text.strip())
    return wire.Certificate(id=uuid, name=found.name, pem=pem + "\n", stapled=_stapled("\n".join(chain), answer(uuid)))


def _stapled(chain: str, answer: ocsp.Answer | None) -> wire.Stapled | None:
    if answer is None:
        return None
    try:
        _, issuer = ocsp.pair(chain)
    except ocsp.Disbelieved:
        return None
    return wire.Stapled(
        response=answer.der,
        issuer=issuer.public_bytes(serialization.Encoding.PEM).decode(),
        until=answer.until,
    )


def trust_part(documents: Documents, uuid: str) -> wire.Trust | None:
    found = _fetch(documents, "pkiprofile", f"/api/pkiprofile/{uuid}", views.PkiProfile)
    return trust_of(found) if found else None


def credentials_of(service: wire.Service) -> Iterator[tuple[str, str]]:
    """(part's kind, uuid) of what a virtual service needs beside its own part."""
    for uuid in service.certificates:
        yield "certificate", uuid
    if service.client_certificates is not None:
        yield "trust", service.client_certificates.trust
    for list in dict.fromkeys(service.lists):
        yield KIND, list
    for servers in (pool.tls for pool in service.pools if pool.tls is not None):
        if servers.certificate:
            yield "certificate", servers.certificate
        if servers.trust:
            yield "trust", servers.trust


_T = TypeVar("_T", bound=msgspec.Struct)


def _fetch(documents: Documents, type: str, reference: str, kind: type[_T]) -> _T | None:
    document = documents.get(type, uuid_of(reference)) if reference else None
    return view(document, kind) if document is not None else None


# --- vips ---


def vip_part(intent: VipIntent, record: VipRecord, *, armed: bool) -> wire.Vip | None:
    """None while no engine can own it yet (its only engines are still being created)."""
    if not record.succession:
        return None
    owner = record.succession[0]
    # An engine gets connections once it has acknowledged that it is to serve: before that it may still be at work on an
    # older state, in which it left the VIP. Where the network spreads it says itself when it does: it announces the VIP.
    serving = [
        p.engine
        for p in record.placements
        if p.state is PlacementState.READY
        or (p.state is PlacementState.ASSIGNED and (p.engine == owner or intent.ecmp))
    ]
    return wire.Vip(
        id=intent.id,
        addresses=intent.addresses,
        generation=record.generation,
        owner=owner,
        members=tuple(sorted(serving, key=lambda engine: engine != owner)),
        succession=record.succession,
        list_version=record.list_version,
        armed=armed,
        in_force=() if armed else record.in_force,
        in_force_version=0 if armed else record.in_force_version,
        draining=tuple(p.engine for p in record.placements if p.state is PlacementState.DRAINING),
        slots=max(1, len(intent.enabled)),
        route=intent.route,
        ecmp=intent.ecmp,
        sources=intent.sources,
    )


def engines_of(record: VipRecord) -> frozenset[str]:
    """Every engine that must have the VIP's configuration: who serves, who drains, who may take over."""
    placed = (p.engine for p in record.placements if p.state is not PlacementState.WAITING)
    return frozenset([*placed, *record.succession])


def concerned(record: VipRecord) -> frozenset[str]:
    """`engines_of`, and those that take over until its list is armed: they keep the configuration so long."""
    return engines_of(record).union(record.in_force)


def references(parts: Mapping[str, Encoded]) -> Iterable[wire.PartReference]:
    return (wire.PartReference(id, part.hash) for id, part in parts.items())
