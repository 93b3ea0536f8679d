"""Typed views of the fields the product acts on. A stored document is complete and valid, so a view never fails on it.

Fields not named here are kept and echoed by the API, and have no effect; ``acts.json`` says which act.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec


class IpAddr(msgspec.Struct, frozen=True):
    addr: str
    type: str = "V4"


class IpAddrPrefix(msgspec.Struct, frozen=True, kw_only=True):
    ip_addr: IpAddr
    mask: int

    @property
    def network(self) -> str:
        """``10.0.0.0/8``, whatever bits of a host are set."""
        return str(ipaddress.ip_network(f"{self.ip_addr.addr}/{self.mask}", strict=False))


class ServiceEngineGroup(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    cloud_ref: str = ""
    ha_mode: str = "HA_MODE_SHARED"
    algo: str = "PLACEMENT_ALGO_PACKED"
    buffer_se: int = 1
    max_se: int = 10
    min_se: int = 1
    max_vs_per_se: int = 10
    per_app: bool = False
    min_scaleout_per_vs: int = 1
    max_scaleout_per_vs: int = 4
    vs_host_redundancy: bool = True
    se_deprovision_delay: int = 120
    vs_scaleout_timeout: int = 600
    vs_scalein_timeout: int = 30
    vs_scalein_timeout_for_upgrade: int = 30
    se_name_prefix: str = "Avi"
    vcpus_per_se: int = 1
    memory_per_se: int = 2048
    aggressive_failure_detection: bool = False
    dp_hb_frequency: int = 100
    dp_hb_timeout_count: int = 10
    dp_aggressive_hb_frequency: int = 100
    dp_aggressive_hb_timeout_count: int = 10
    se_tunnel_mode: int = 0
    enable_gratarp_permanent: bool = False
    gratarp_permanent_periodicity: int = 10
    auto_rebalance: bool = False
    auto_rebalance_interval: int = 300
    auto_rebalance_criteria: tuple[str, ...] = ()
    auto_rebalance_capacity_per_se: tuple[int, ...] = ()
    max_cpu_usage: int = 80
    min_cpu_usage: int = 30
    vs_switchover_timeout: int = 300
    distribute_load_active_standby: bool = False
    auto_redistribute_active_standby_load: bool = False
    data_link_mbit: int = 0
    host_gateway_monitor: bool = False


class VnicNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's own address in a network."""

    ip: IpAddrPrefix


class VlanInterface(msgspec.Struct, frozen=True, kw_only=True):
    if_name: str
    vlan_id: int = 0
    enabled: bool = True
    vnic_networks: tuple[VnicNetwork, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """``10.0.0.2/24``."""
        return tuple(f"{one.ip.ip_addr.addr}/{one.ip.mask}" for one in self.vnic_networks)


class Vnic(msgspec.Struct, frozen=True, kw_only=True):
    vlan_interfaces: tuple[VlanInterface, ...] = ()


class ServiceEngine(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    se_group_ref: str = ""
    enable_state: str = "SE_STATE_ENABLED"
    data_vnics: tuple[Vnic, ...] = ()

    @property
    def vlans(self) -> tuple[VlanInterface, ...]:
        """Those that are to be there."""
        return tuple(vlan for vnic in self.data_vnics for vlan in vnic.vlan_interfaces if vlan.enabled)


class VipAddress(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VsVip.vip``."""

    vip_id: str
    ip_address: IpAddr | None = None
    ip6_address: IpAddr | None = None
    enabled: bool = True

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(address.addr for address in (self.ip_address, self.ip6_address) if address is not None)


class VsVip(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    vip: tuple[VipAddress, ...] = ()
    vrf_context_ref: str = ""
    bgp_peer_labels: tuple[str, ...] = ()


class IpCommunity(msgspec.Struct, frozen=True, kw_only=True):
    ip_begin: IpAddr
    ip_end: IpAddr | None = None
    community: tuple[str, ...] = ()


class BgpPeer(msgspec.Struct, frozen=True, kw_only=True):
    """``hold_time`` and ``keepalive_interval`` override the profile's."""

    peer_ip: IpAddr | None = None
    peer_ip6: IpAddr | None = None
    remote_as: int | None = None
    local_as: int | None = None
    md5_secret: str = ""
    bfd: bool = True
    ebgp_multihop: int = 0
    hold_time: int | None = None
    keepalive_interval: int | None = None
    connect_timer: int = 10
    advertise_vip: bool = True
    label: str = ""
    shutdown: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(address.addr for address in (self.peer_ip, self.peer_ip6) if address is not None)


class BgpProfile(msgspec.Struct, frozen=True, kw_only=True):
    local_as: int
    ibgp: bool = True
    peers: tuple[BgpPeer, ...] = ()
    hold_time: int = 180
    keepalive_interval: int = 60
    send_community: bool = True
    community: tuple[str, ...] = ()
    ip_communities: tuple[IpCommunity, ...] = ()
    local_preference: int = 0
    num_as_path_prepend: int = 0
    shutdown: bool = False


class BfdProfile(msgspec.Struct, frozen=True, kw_only=True):
    """In milliseconds."""

    mintx: int = 1000
    minrx: int = 1000
    multi: int = 3


class StaticRoute(msgspec.Struct, frozen=True, kw_only=True):
    """``if_name``: an interface of the engine's; "" = the one that the next hop is reached by."""

    prefix: IpAddrPrefix
    next_hop: IpAddr
    route_id: str
    if_name: str = ""
    disable_gateway_monitor: bool = False


class GatewayMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """The interval is in milliseconds, the thresholds are answers in a row, given or missing."""

    gateway_ip: IpAddr
    gateway_monitor_interval: int = 1000
    gateway_monitor_fail_threshold: int = 10
    gateway_monitor_success_threshold: int = 15


class InternalGatewayMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """How next hops of static routes are monitored; see `GatewayMonitor`."""

    disable_gateway_monitor: bool = False
    gateway_monitor_interval: int = 1000
    gateway_monitor_failure_threshold: int = 10
    gateway_monitor_success_threshold: int = 15


class VrfContext(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    static_routes: tuple[StaticRoute, ...] = ()
    gateway_mon: tuple[GatewayMonitor, ...] = ()
    internal_gateway_monitor: InternalGatewayMonitor = InternalGatewayMonitor()
    bgp_profile: BgpProfile | None = None
    bfd_profile: BfdProfile | None = None


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VirtualService.services``."""

    port: int
    port_range_end: int = 0
    enable_ssl: bool = False
    enable_http2: bool = False
    override_network_profile_ref: str = ""


class FullClientLogs(msgspec.Struct, frozen=True, kw_only=True):
    """``duration`` in minutes, 0 = for ever; ``throttle`` a second, 0 = unlimited."""

    enabled: bool = False
    duration: int = 30
    throttle: int = 10


class RealTimeUpdate(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = False


class AnalyticsPolicy(msgspec.Struct, frozen=True, kw_only=True):
    all_headers: bool = False
    full_client_logs: FullClientLogs | None = None
    metrics_realtime_update: RealTimeUpdate | None = None
    significant_log_throttle: int = 10


class ClientLogConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    enable_significant_log_collection: bool = True


class StatusRange(msgspec.Struct, frozen=True, kw_only=True):
    begin: int
    end: int


class AnalyticsProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds in ms, penalties in points of 100, certificates' in points of 5."""

    enable_vs_analytics: bool = True
    client_log_config: ClientLogConfiguration | None = None
    exclude_http_error_codes: tuple[int, ...] = ()
    ranges: tuple[StatusRange, ...] = ()
    resp_code_block: tuple[str, ...] = ()
    apdex_response_threshold: int = 500
    apdex_response_tolerated_factor: float = 4.0
    apdex_server_response_threshold: int = 400
    apdex_server_response_tolerated_factor: float = 4.0
    hs_max_anomaly_penalty: int = 10
    hs_max_resources_penalty: int = 25
    hs_max_security_penalty: int = 100
    hs_performance_boost: int = 0
    hs_security_certscore_expired: float = 0.0
    hs_security_certscore_le07d: float = 2.0
    hs_security_certscore_le30d: float = 4.0
    hs_security_certscore_gt30d: float = 5.0
    hs_security_selfsignedcert_penalty: float = 1.0


class HttpPolicies(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VirtualService.http_policies``."""

    index: int
    http_policy_set_ref: str


class DataScripts(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VirtualService.vs_datascripts``."""

    index: int
    vs_datascript_set_ref: str


class L4Policies(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VirtualService.l4_policies``."""

    index: int
    l4_policy_set_ref: str


class ServicePool(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VirtualService.service_pool_select``."""

    service_port: int
    service_port_range_end: int = 0
    service_protocol: str = ""
    service_pool_ref: str = ""
    service_pool_group_ref: str = ""


class PerformanceLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_concurrent_connections: int = 0
    max_throughput: int = 0
    """Mbit/s."""


class SslProfileSelector(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VirtualService.ssl_profile_selectors``."""

    client_ip_list: Mapping[str, Any]
    ssl_profile_ref: str


class VhRule(msgspec.Struct, frozen=True, kw_only=True):
    """``matches`` is a ``MatchTarget``."""

    matches: Mapping[str, Any]


class VhMatch(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``VirtualService.vh_matches``: requests for ``host`` that one of the rules fits."""

    host: str
    rules: tuple[VhRule, ...] = ()


class JwtConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``VirtualService.jwt_config``."""

    audience: str = ""
    jwt_location: str = "JWT_LOCATION_AUTHORIZATION_HEADER"
    jwt_name: str = ""


class SearchString(msgspec.Struct, frozen=True, kw_only=True):
    val: str
    type: str = "SEARCH_LITERAL_STRING"


class ReplacementString(msgspec.Struct, frozen=True, kw_only=True):
    val: str = ""
    type: str = "LITERAL_STRING"


class RewritePair(msgspec.Struct, frozen=True, kw_only=True):
    search_string: SearchString
    replacement_string: ReplacementString | None = None


class RewriteRule(msgspec.Struct, frozen=True, kw_only=True):
    index: int = 0
    enable: bool = True
    pairs: tuple[RewritePair, ...] = ()


class ContentRewrite(msgspec.Struct, frozen=True, kw_only=True):
    """``VirtualService.content_rewrite``. ``rewritable_content_ref`` is a string group of content types."""

    rewritable_content_ref: str = ""
    rsp_rewrite_rules: tuple[RewriteRule, ...] = ()


class VirtualService(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    enabled: bool = True
    services: tuple[Port, ...] = ()
    type: str = "VS_TYPE_NORMAL"
    vh_parent_vs_ref: str = ""
    vh_domain_name: tuple[str, ...] = ()
    vh_type: str = "VS_TYPE_VH_SNI"
    weight: int = 1
    vh_matches: tuple[VhMatch, ...] = ()
    pool_ref: str = ""
    pool_group_ref: str = ""
    service_pool_select: tuple[ServicePool, ...] = ()
    l4_policies: tuple[L4Policies, ...] = ()
    vsvip_ref: str = ""
    se_group_ref: str = ""
    tenant_ref: str = ""
    application_profile_ref: str = ""
    network_profile_ref: str = ""
    server_network_profile_ref: str = ""
    host_name_xlate: str = ""
    ssl_key_and_certificate_refs: tuple[str, ...] = ()
    ssl_profile_ref: str = ""
    ssl_profile_selectors: tuple[SslProfileSelector, ...] = ()
    allow_invalid_client_cert: bool = False
    http_policies: tuple[HttpPolicies, ...] = ()
    network_security_policy_ref: str = ""
    performance_limits: PerformanceLimits | None = None
    flow_dist: str = "LOAD_AWARE"
    enable_rhi: bool = False
    enable_rhi_snat: bool = False
    scaleout_ecmp: bool = False
    advertise_down_vs: bool = False
    bgp_peer_labels: tuple[str, ...] = ()
    active_standby_se_tag: str = "ACTIVE_STANDBY_SE_1"
    analytics_profile_ref: str = ""
    analytics_policy: AnalyticsPolicy | None = None
    error_page_profile_ref: str = ""
    vs_datascripts: tuple[DataScripts, ...] = ()
    snat_ip: tuple[IpAddr, ...] = ()
    snat_ip6_addresses: tuple[IpAddr, ...] = ()
    use_vip_as_snat: bool = False
    ign_pool_net_reach: bool = False
    traffic_enabled: bool = True
    min_pools_up: int = 0
    remove_listening_port_on_vs_down: bool = False
    close_client_conn_on_config_update: bool = False
    traffic_clone_profile_ref: str = ""
    ssl_sess_cache_avg_size: int = 1024
    content_rewrite: ContentRewrite | None = None
    sso_policy_ref: str = ""
    jwt_config: JwtConfig | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Addresses that its servers see instead of the engine's."""
        return tuple(one.addr for one in (*self.snat_ip, *self.snat_ip6_addresses))


class PoolServer(msgspec.Struct, frozen=True, kw_only=True):
    ip: IpAddr
    port: int = 0
    ratio: int = 1
    enabled: bool = True
    hostname: str = ""
    rewrite_host_header: bool = False
    prst_hdr_val: str = ""


class LocalFile(msgspec.Struct, frozen=True, kw_only=True):
    content_type: str
    file_content: str


class FailRedirect(msgspec.Struct, frozen=True, kw_only=True):
    """``host`` as it is, ``path`` and ``query`` too."""

    host: str
    protocol: str = "HTTPS"
    path: str = ""
    query: str = ""
    status_code: str = "HTTP_REDIRECT_STATUS_CODE_302"


class FailResponse(msgspec.Struct, frozen=True, kw_only=True):
    status_code: str = "FAIL_HTTP_STATUS_CODE_503"
    file: LocalFile | None = None


class FailAction(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "FAIL_ACTION_CLOSE_CONN"
    redirect: FailRedirect | None = None
    local_rsp: FailResponse | None = None


class ReselectCodes(msgspec.Struct, frozen=True, kw_only=True):
    codes: tuple[int, ...] = ()
    ranges: tuple[StatusRange, ...] = ()
    resp_code_block: tuple[str, ...] = ()


class ServerReselect(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = False
    num_retries: int = 4
    retry_timeout: int = 0
    retry_nonidempotent: bool = False
    svr_resp_code: ReselectCodes | None = None


class Http2PoolProperties(msgspec.Struct, frozen=True, kw_only=True):
    max_http2_header_field_size: int = 4096


class PoolAnalyticsPolicy(msgspec.Struct, frozen=True, kw_only=True):
    enable_realtime_metrics: bool = False


class RateLimiter(msgspec.Struct, frozen=True, kw_only=True):
    """``period`` in seconds."""

    count: int = 1_000_000_000
    period: int = 1
    burst_sz: int = 0


class RateProfile(msgspec.Struct, frozen=True, kw_only=True):
    rate_limiter: RateLimiter | None = None


class ConnectionPool(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ms."""

    upstream_connpool_conn_idle_tmo: int = 60_000
    upstream_connpool_server_max_cache: int = 0


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    enabled: bool = True
    default_server_port: int = 80
    lb_algorithm: str = "LB_ALGORITHM_LEAST_CONNECTIONS"
    lb_algorithm_hash: str = "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS"
    lb_algorithm_consistent_hash_hdr: str = ""
    lb_algorithm_core_nonaffinity: int = 2
    capacity_estimation: bool = False
    capacity_estimation_ttfb_thresh: int = 0
    fewest_tasks_feedback_delay: int = 10
    graceful_disable_timeout: int = 1
    health_monitor_refs: tuple[str, ...] = ()
    servers: tuple[PoolServer, ...] = ()
    ssl_profile_ref: str = ""
    analytics_profile_ref: str = ""
    application_persistence_profile_ref: str = ""
    max_concurrent_connections_per_server: int = 0
    request_queue_enabled: bool = False
    request_queue_depth: int = 128
    server_timeout: int = 0
    use_service_port: bool = False
    use_service_ssl_mode: bool = False
    enable_http2: bool = False
    server_reselect: ServerReselect | None = None
    fail_action: FailAction | None = None
    inline_health_monitor: bool = True
    pki_profile_ref: str = ""
    ssl_key_and_certificate_ref: str = ""
    sni_enabled: bool = True
    server_name: str = ""
    host_check_enabled: bool = False
    domain_name: tuple[str, ...] = ()
    rewrite_host_header_to_sni: bool = False
    rewrite_host_header_to_server_name: bool = False
    append_port: str = "NON_DEFAULT_80_443"
    connection_ramp_duration: int = 10
    """Minutes."""
    conn_pool_properties: ConnectionPool | None = None
    analytics_policy: PoolAnalyticsPolicy | None = None
    http2_properties: Http2PoolProperties | None = None
    max_conn_rate_per_server: RateProfile | None = None
    ignore_server_port: bool = False
    min_servers_up: int = 0
    min_health_monitors_up: int = 0
    server_disable_type: str = "DISALLOW_NEW_CONNECTION"


class PoolGroupMember(msgspec.Struct, frozen=True, kw_only=True):
    pool_ref: str
    ratio: int = 1
    priority_label: str = ""
    deployment_state: str = ""


class PoolGroup(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    members: tuple[PoolGroupMember, ...] = ()
    min_servers: int = 0
    priority_labels_ref: str = ""
    implicit_priority_labels: bool = False
    fail_action: FailAction | None = None


class CookiePersistence(msgspec.Struct, frozen=True, kw_only=True):
    """``timeout`` in minutes."""

    cookie_name: str = ""
    timeout: int = 0
    is_persistent_cookie: bool = False
    http_only: bool = False


class AddressPersistence(msgspec.Struct, frozen=True, kw_only=True):
    ip_mask: int | None = None


class NamedPersistence(msgspec.Struct, frozen=True, kw_only=True):
    prst_hdr_name: str = ""


class ApplicationPersistenceProfile(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    persistence_type: str = "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS"
    http_cookie_persistence_profile: CookiePersistence | None = None
    app_cookie_persistence_profile: NamedPersistence | None = None
    hdr_persistence_profile: NamedPersistence | None = None
    ip_persistence_profile: AddressPersistence | None = None
    server_hm_down_recovery: str = "HM_DOWN_PICK_NEW_SERVER"


class SslVersion(msgspec.Struct, frozen=True, kw_only=True):
    type: str


class SslProfile(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    accepted_versions: tuple[SslVersion, ...] = ()
    accepted_ciphers: str = ""
    ciphersuites: str = ""
    prefer_client_cipher_ordering: bool = False
    ec_named_curve: str = "auto"
    enable_early_data: bool = False
    ssl_session_timeout: int = 86_400
    cipher_enums: tuple[str, ...] = ()
    enable_ssl_session_reuse: bool = True
    dhparam: str = ""


class HttpProfile(msgspec.Struct, frozen=True, kw_only=True):
    keepalive_timeout: int = 30000
    ssl_client_certificate_mode: str = "SSL_CLIENT_CERTIFICATE_NONE"
    pki_profile_ref: str = ""


class TcpApplicationProfile(msgspec.Struct, frozen=True, kw_only=True):
    proxy_protocol_enabled: bool = False
    proxy_protocol_version: str = "PROXY_PROTOCOL_VERSION_1"
    ssl_client_certificate_mode: str = "SSL_CLIENT_CERTIFICATE_NONE"
    pki_profile_ref: str = ""


class L4SslProfile(msgspec.Struct, frozen=True, kw_only=True):
    """``ssl_stream_idle_timeout`` in seconds."""

    ssl_stream_idle_timeout: int = 3600


class ApplicationProfile(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    type: str
    preserve_client_ip: bool = False
    http_profile: HttpProfile | None = None
    tcp_app_profile: TcpApplicationProfile | None = None
    l4_ssl_profile: L4SslProfile | None = None


class UdpFastPath(msgspec.Struct, frozen=True, kw_only=True):
    session_idle_timeout: int = 10
    snat: bool = True


class UdpProxy(msgspec.Struct, frozen=True, kw_only=True):
    session_idle_timeout: int = 10


class TcpProxyProfile(msgspec.Struct, frozen=True, kw_only=True):
    """``idle_connection_timeout``: seconds; 0 = infinite. ``max_segment_size``: bytes; 0 = as the MTU says."""

    idle_connection_timeout: int = 600
    idle_connection_type: str = "KEEP_ALIVE"
    max_segment_size: int = 0
    use_interface_mtu: bool = True
    ip_dscp: int = 0
    max_retransmissions: int = 8
    keepalive_in_halfclose_state: bool = True


class TcpFastPathProfile(msgspec.Struct, frozen=True, kw_only=True):
    """``session_idle_timeout``: seconds; 0 = infinite."""

    session_idle_timeout: int = 300


class Transport(msgspec.Struct, frozen=True, kw_only=True):
    """``NetworkProfile.profile``."""

    type: str = "PROTOCOL_TYPE_TCP_PROXY"
    tcp_proxy_profile: TcpProxyProfile | None = None
    tcp_fast_path_profile: TcpFastPathProfile | None = None
    udp_fast_path_profile: UdpFastPath | None = None
    udp_proxy_profile: UdpProxy | None = None


class NetworkProfile(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    profile: Transport = Transport()
    connection_mirror: bool = False


class CertificateBody(msgspec.Struct, frozen=True, kw_only=True):
    certificate: str = ""


class CertificateAuthority(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``SSLKeyAndCertificate.ca_certs``: the object that holds the next certificate of the chain."""

    ca_ref: str = ""


class SslKeyAndCertificate(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    key: str = ""
    certificate: CertificateBody | None = None
    ca_certs: tuple[CertificateAuthority, ...] = ()


class RevocationList(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``PKIProfile.crls``."""

    body: str = ""


class PkiProfile(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    ca_certs: tuple[CertificateBody, ...] = ()
    crls: tuple[RevocationList, ...] = ()
    crl_check: bool = True
    validate_only_leaf_crl: bool = True


_View = TypeVar("_View", bound=msgspec.Struct)


def view(document: Mapping[str, Any], kind: type[_View]) -> _View:
    """The typed view ``kind`` of a stored document. Unknown members are passed over."""
    return msgspec.convert(document, kind)


class Views(Generic[_View]):
    """The typed views of all documents of one type, made anew only of those that have been replaced: documents in the
    controller's view are never changed in place."""

    def __init__(self, kind: type[_View]) -> None:
        self._kind = kind
        self._known: dict[str, tuple[Mapping[str, Any], _View]] = {}

    def of(self, documents: Iterable[Mapping[str, Any]]) -> list[_View]:
        before, self._known = self._known, {}
        for document in documents:
            known = before.get(document["uuid"])
            same = known is not None and known[0] is document
            self._known[document["uuid"]] = known if known and same else (document, view(document, self._kind))
        return [typed for _, typed in self._known.values()]

    def one(self, document: Mapping[str, Any]) -> _View:
        """The typed view of this one, beside those that were asked for before."""
        known = self._known.get(document["uuid"])
        if known is None or known[0] is not document:
            known = self._known[document["uuid"]] = (document, view(document, self._kind))
        return known[1]


def is_address(text: str) -> bool:
    """Of IPv4 or IPv6, in any of their spellings."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def uuid_of(reference: str) -> str:
    """``/api/pool/pool-1a2b#web`` -> ``pool-1a2b``; "" for no reference."""
    return reference.rsplit("/", 1)[-1].split("#", 1)[0]
