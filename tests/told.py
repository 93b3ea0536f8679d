"""Objects in which every acting field matters, for `tests.unit.test_told`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from joserfc.jwk import ECKey, KeySet

from tests.issuer import Issuer

Document = dict[str, Any]

TYPES = (
    "VirtualService", "Pool", "HealthMonitor", "ApplicationProfile", "NetworkProfile", "HTTPPolicySet", "SSLProfile",
    "ApplicationPersistenceProfile", "PoolGroup", "L4PolicySet", "NetworkSecurityPolicy", "SSOPolicy", "JWTServerProfile",
)  # fmt: skip
CLIENTS = {"match_criteria": "IS_IN", "addrs": [{"addr": "192.0.2.1", "type": "V4"}]}
MATCH: Document = {
    "client_ip": CLIENTS,
    "source_ip": CLIENTS,
    "vs_port": {"match_criteria": "IS_IN", "ports": [80]},
    "protocol": {"match_criteria": "IS_IN", "protocols": "HTTP"},
    "method": {"match_criteria": "IS_IN", "methods": ["HTTP_METHOD_GET"]},
    "version": {"match_criteria": "IS_IN", "versions": ["ONE_ONE"]},
    "path": {"match_criteria": "BEGINS_WITH", "match_str": ["/a"]},
    "query": {"match_criteria": "QUERY_MATCH_CONTAINS", "match_str": ["a"]},
    "hdrs": [{"match_criteria": "HDR_EXISTS", "hdr": "A"}],
    "cookie": {"match_criteria": "HDR_EXISTS", "name": "a"},
    "host_hdr": {"match_criteria": "HDR_EQUALS", "value": ["a.example"]},
}
FINGERPRINT = {"tls_fingerprint_match": {"match_operation": "IS_IN", "fingerprints": ["a" * 32]}}
RATE: Document = {"rate_limiter": {"count": 10, "period": 1}, "action": {"type": "RL_ACTION_DROP_CONN"}}
PAGE = {"content_type": "text/plain", "file_content": "away"}
REDIRECT = {
    "host": "a.example",
    "protocol": "HTTPS",
    "path": "a",
    "query": "a=1",
    "status_code": "HTTP_REDIRECT_STATUS_CODE_301",
}
PATH = {"type": "URI_PARAM_TYPE_TOKENIZED", "tokens": [{"type": "URI_TOKEN_TYPE_STRING", "str_value": "a"}]}
HEADER = {"action": "HTTP_ADD_HDR", "hdr": {"name": "A", "value": {"val": "a"}}}
HTTP_CHECK = {
    "http_request": "GET /a HTTP/1.0", "http_request_body": "", "exact_http_request": False, "http_response": "a",
    "http_response_code": ["HTTP_2XX"], "maintenance_code": [503], "maintenance_response": "a", "response_size": 2048,
}  # fmt: skip
MAIL = {"domainname": "a.example", "sender_id": "a@a.example", "recipients_ids": ["b@a.example"], "mail_data": "a"}
FILE = {"filename": "a", "mode": "FTP_PASSIVE_MODE"}
DIRECTORY = {"base_dn": "dc=a", "filter": "(a=b)", "scope": "LDAP_BASE_MODE", "attributes": "a"}
TLS = {
    "ssl_attributes": {
        "ssl_profile_ref": "/api/sslprofile?name=base", "pki_profile_ref": "/api/pkiprofile?name=base",
        "ssl_key_and_certificate_ref": "/api/sslkeyandcertificate?name=base", "server_name": "a.example",
    }
}  # fmt: skip
KNOWN = {"authentication": {"username": "a", "password": "a"}}
MONITORS: dict[str, Document] = {
    "tcp": {"tcp_monitor": {"tcp_request": "a", "tcp_response": "a", "maintenance_response": "a"}},
    "http": {"http_monitor": HTTP_CHECK, **KNOWN},
    "https": {"https_monitor": {**HTTP_CHECK, **TLS}, **KNOWN},
    "udp": {"udp_monitor": {"udp_request": "a", "udp_response": "a", "maintenance_response": "a"}},
    "dns": {
        "dns_monitor": {
            "query_name": "a.example", "record_type": "DNS_RECORD_A", "qtype": "DNS_QUERY_TYPE",
            "rcode": "RCODE_NO_ERROR", "response_string": "a",
        }
    },
    "external": {"external_monitor": {"command_code": "true", "command_parameters": "a", "command_variables": "A=b"}},
    "smtp": {"smtp_monitor": MAIL, **KNOWN},
    "smtps": {"smtps_monitor": {**MAIL, **TLS}, **KNOWN},
    "pop3s": {"pop3s_monitor": TLS, **KNOWN},
    "imap": {"imap_monitor": {"folder": "a"}, **KNOWN},
    "imaps": {"imaps_monitor": {"folder": "a", **TLS}, **KNOWN},
    "ftp": {"ftp_monitor": FILE, **KNOWN},
    "ftps": {"ftps_monitor": {**FILE, **TLS}, **KNOWN},
    "ldap": {"ldap_monitor": DIRECTORY, **KNOWN},
    "ldaps": {"ldaps_monitor": {**DIRECTORY, **TLS}, **KNOWN},
    "radius": {"radius_monitor": {"username": "a", "password": "a", "shared_secret": "a"}},
    "sip": {"sip_monitor": {"sip_monitor_transport": "SIP_UDP_PROTO", "sip_response": "a"}},
}  # fmt: skip
PERSISTENCE: dict[str, Document] = {
    "cookie": {
        "persistence_type": "PERSISTENCE_TYPE_HTTP_COOKIE",
        "http_cookie_persistence_profile": {"cookie_name": "a", "timeout": 10, "is_persistent_cookie": True},
    },
    "app": {
        "persistence_type": "PERSISTENCE_TYPE_APP_COOKIE",
        "app_cookie_persistence_profile": {"prst_hdr_name": "a", "timeout": 10},
    },
    "hdr": {
        "persistence_type": "PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER",
        "hdr_persistence_profile": {"prst_hdr_name": "A"},
    },
    "ip": {
        "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
        "ip_persistence_profile": {"ip_persistent_timeout": 5, "ip_mask": 24},
    },
}
HTTP_PROFILE: Document = {
    "hsts_enabled": True,
    "cache_config": {
        "enabled": True,
        "mime_types_list": ["text/css"],
        "mime_types_block_lists": ["text/html"],
        "uri_non_cacheable": {"match_criteria": "BEGINS_WITH", "match_str": ["/a"]},
    },
    "compression_profile": {
        "compression": True,
        "type": "CUSTOM_COMPRESSION",
        "filter": [{"name": "a", "index": 1, "level": "NORMAL_COMPRESSION", "match": "IS_IN", "user_agent": ["a"]}],
        "remove_accept_encoding_header": True,
    },
    "use_true_client_ip": True,
    "true_client_ip": {"headers": ["A"], "index_in_header": 1, "direction": "LEFT"},
    "http2_profile": {"max_http2_concurrent_streams_per_connection": 64},
    "ssl_client_certificate_mode": "SSL_CLIENT_CERTIFICATE_REQUEST",
    "pki_profile_ref": "/api/pkiprofile?name=base",
    "ssl_client_certificate_action": {
        "headers": [{"request_header": "A", "request_header_value": "HTTP_POLICY_VAR_SSL_CLIENT_SUBJECT"}],
        "close_connection": False,
    },
}
LIMITS = {
    **{
        f"{what}_rate_limit": RATE
        for what in (
            "client_ip_connections", "client_ip_requests", "uri_requests", "client_ip_to_uri_requests",
            "client_ip_failed_requests", "uri_failed_requests", "client_ip_to_uri_failed_requests",
            "client_ip_scanners_requests", "uri_scanners_requests",
        )
    },
    "http_header_rate_limits": [{**RATE, "http_header": "A", "http_cookie": "a"}],
}  # fmt: skip
TWO = ((11, "base"), (12, "local"))
PAIR = {"search_string": {"val": "a"}, "replacement_string": {"val": "b"}}
RULE, NEXT = {"name": "a", "index": 1, "enable": True}, {"name": "b", "index": 2, "enable": True}


def objects() -> Iterator[tuple[str, Document]]:
    """In the order in which they can be made."""
    for name in ("base", "local", "other"):
        issuer = Issuer(name)
        yield "pkiprofile", {"name": name, "ca_certs": [{"certificate": issuer.pem}]}
        own = issuer.issue(f"{name}.example")
        yield "sslkeyandcertificate", {"name": name, "key": own.key, "certificate": {"certificate": own.certificate}}
        yield "stringgroup", {"name": name, "type": "SG_TYPE_STRING", "kv": [{"key": f"text/{name}"}]}
        yield from _tokens(name)
        yield "ipaddrgroup", {"name": name, "addrs": [{"addr": "192.0.2.7", "type": "V4"}]}
        yield "errorpagebody", {"name": name, "error_page_body": name}
        page = {
            "index": 1,
            "enable": True,
            "error_page_body_ref": f"/api/errorpagebody?name={name}",
            "match": {"match_criteria": "IS_IN", "status_codes": [503]},
        }
        yield "errorpageprofile", {"name": name, "error_pages": [page]}
        yield "analyticsprofile", {"name": name, "apdex_response_threshold": 400 if name == "base" else 500}
        yield (
            "prioritylabels",
            {"name": name, "equivalent_labels": [{"labels": ["10", "9"] if name == "base" else ["8", "7"]}]},
        )
        yield (
            "trafficcloneprofile",
            {
                "name": name,
                "clone_servers": [
                    {"ip_address": {"addr": "192.0.2.9" if name == "base" else "192.0.2.8", "type": "V4"}}
                ],
            },
        )
        yield (
            "vsdatascriptset",
            {
                "name": name,
                "datascript": [{"evt": "VS_DATASCRIPT_EVT_HTTP_REQ", "script": f'avi.http.add_header("A", "{name}")'}],
            },
        )
        yield (
            "sslprofile",
            {
                "name": name,
                "accepted_versions": [{"type": "SSL_VERSION_TLS1_2"}, {"type": "SSL_VERSION_TLS1_3"}],
                "accepted_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"
                if name == "base"
                else "ECDHE-ECDSA-AES256-GCM-SHA384",
            },
        )
    enums = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"]
    yield (
        "sslprofile",
        {
            "name": "enums",
            "accepted_versions": [{"type": "SSL_VERSION_TLS1_2"}, {"type": "SSL_VERSION_TLS1_3"}],
            "cipher_enums": enums,
        },
    )
    for kind, body in MONITORS.items():
        yield "healthmonitor", {"name": kind, "type": f"HEALTH_MONITOR_{kind.upper()}", "monitor_port": 7, **body}
    yield "healthmonitor", {"name": "other", "type": "HEALTH_MONITOR_PING"}
    for kind, body in PERSISTENCE.items():
        yield "applicationpersistenceprofile", {"name": kind, **body}
    yield "applicationpersistenceprofile", {"name": "other", "persistence_type": "PERSISTENCE_TYPE_TLS"}
    yield from _pools()
    yield from _profiles()
    yield from _policies()
    yield from _services()


def _tokens(name: str) -> Iterator[tuple[str, Document]]:
    yield "jwtserverprofile", {"name": name, "issuer": name, "jwks_keys": key_set()}
    yield (
        "authprofile",
        {"name": name, "type": "AUTH_PROFILE_JWT", "jwt_profile_ref": f"/api/jwtserverprofile?name={name}"},
    )
    path = {"match": {"path": MATCH["path"]}}
    rules = [{**RULE, **path, "action": {"type": "SKIP_AUTHENTICATION"}}, {**NEXT, **path}]
    asked = {"default_auth_profile_ref": f"/api/authprofile?name={name}", "authn_rules": rules}
    permissions = [{**RULE, **path, "action": {"type": "HTTP_LOCAL_RESPONSE"}}, {**NEXT, **path, "action": {}}]
    yield (
        "ssopolicy",
        {
            "name": name,
            "type": "SSO_TYPE_JWT",
            "authentication_policy": asked,
            "authorization_policy": {"authz_rules": permissions},
        },
    )


def key_set() -> str:
    return json.dumps(KeySet([ECKey.generate_key("P-256", private=False)]).as_dict(private=False))


def _pools() -> Iterator[tuple[str, Document]]:
    servers = [{"ip": {"addr": "192.0.2.10", "type": "V4"}, "port": 8080, "hostname": "a.example", "prst_hdr_val": "a"}]
    yield "pool", {"name": "other", "servers": servers}
    yield (
        "pool",
        {
            "name": "monitored",
            "servers": servers,
            "health_monitor_refs": [f"/api/healthmonitor?name={kind}" for kind in MONITORS],
        },
    )
    for kind in PERSISTENCE:
        yield (
            "pool",
            {
                "name": kind,
                "servers": servers,
                "application_persistence_profile_ref": f"/api/applicationpersistenceprofile?name={kind}",
            },
        )
    yield "pool", {
        "name": "base", "servers": servers, "ssl_profile_ref": "/api/sslprofile?name=base", "sni_enabled": True,
        "pki_profile_ref": "/api/pkiprofile?name=base", "host_check_enabled": True, "domain_name": ["a.example", "b.example"],
        "ssl_key_and_certificate_ref": "/api/sslkeyandcertificate?name=base", "server_name": "a.example",
        "health_monitor_refs": ["/api/healthmonitor?name=tcp", "/api/healthmonitor?name=http"],
        "request_queue_enabled": True, "max_concurrent_connections_per_server": 10,
        "server_reselect": {"enabled": True, "svr_resp_code": {"codes": [404], "ranges": [{"begin": 425, "end": 425}]}},
        "conn_pool_properties": {"upstream_connpool_conn_idle_tmo": 60000, "upstream_connpool_server_max_cache": 5},
        "max_conn_rate_per_server": RATE, "enable_http2": True, "http2_properties": {"max_http2_header_field_size": 4096},
        "analytics_profile_ref": "/api/analyticsprofile?name=base", "analytics_policy": {"enable_realtime_metrics": False},
    }  # fmt: skip
    unnamed = {"ssl_profile_ref": "/api/sslprofile?name=base", "sni_enabled": True, "host_check_enabled": True}
    yield (
        "pool",
        {
            "name": "unnamed",
            "servers": [{"ip": {"addr": "192.0.2.10", "type": "V4"}}],
            **unnamed,
            "pki_profile_ref": "/api/pkiprofile?name=base",
            "domain_name": ["a.example"],
        },
    )
    yield (
        "pool",
        {
            "name": "hashed",
            "servers": servers,
            "lb_algorithm": "LB_ALGORITHM_CONSISTENT_HASH",
            "lb_algorithm_hash": "LB_ALGORITHM_CONSISTENT_HASH_CUSTOM_HEADER",
            "lb_algorithm_consistent_hash_hdr": "A",
        },
    )
    for kind, how in (("redirect", "HTTP_REDIRECT"), ("local_rsp", "HTTP_LOCAL_RSP")):
        more = (
            {"redirect": REDIRECT}
            if kind == "redirect"
            else {"local_rsp": {"status_code": "FAIL_HTTP_STATUS_CODE_503", "file": PAGE}}
        )
        yield "pool", {"name": kind, "servers": servers, "fail_action": {"type": f"FAIL_ACTION_{how}", **more}}
        members = [
            {"pool_ref": f"/api/pool?name={name}", "ratio": 2, "priority_label": "10"} for name in ("other", kind)
        ]
        yield (
            "poolgroup",
            {
                "name": kind,
                "members": members,
                "priority_labels_ref": "/api/prioritylabels?name=base",
                "fail_action": {"type": f"FAIL_ACTION_{how}", **more},
            },
        )
    labelled = [
        {"pool_ref": f"/api/pool?name={name}", "priority_label": label}
        for name, label in (("other", "10"), ("unnamed", "9"))
    ]
    yield "poolgroup", {"name": "implicit", "members": labelled, "implicit_priority_labels": True}
    yield "poolgroup", {"name": "other", "members": [{"pool_ref": "/api/pool?name=other"}]}


def _profiles() -> Iterator[tuple[str, Document]]:
    http, stream = "APPLICATION_PROFILE_TYPE_HTTP", "APPLICATION_PROFILE_TYPE_L4"
    yield (
        "applicationprofile",
        {"name": "base", "type": http, "http_profile": HTTP_PROFILE, "dos_rl_profile": {"rl_profile": LIMITS}},
    )
    yield "applicationprofile", {"name": "other", "type": http, "http_profile": {"hsts_enabled": True}}
    yield "applicationprofile", {"name": "stream", "type": stream, "tcp_app_profile": {"proxy_protocol_enabled": True}}
    certificates = {
        "ssl_client_certificate_mode": "SSL_CLIENT_CERTIFICATE_REQUEST",
        "pki_profile_ref": "/api/pkiprofile?name=base",
    }
    yield (
        "applicationprofile",
        {
            "name": "tls",
            "type": "APPLICATION_PROFILE_TYPE_SSL",
            "tcp_app_profile": certificates,
            "l4_ssl_profile": {"ssl_stream_idle_timeout": 60},
        },
    )
    for name, profile in (
        ("other", {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": {"ip_dscp": 9}}),
        (
            "stream",
            {
                "type": "PROTOCOL_TYPE_TCP_PROXY",
                "tcp_proxy_profile": {
                    "idle_connection_timeout": 90,
                    "max_segment_size": 1000,
                    "use_interface_mtu": False,
                },
            },
        ),
        ("fast", {"type": "PROTOCOL_TYPE_TCP_FAST_PATH", "tcp_fast_path_profile": {"session_idle_timeout": 90}}),
        ("datagrams", {"type": "PROTOCOL_TYPE_UDP_FAST_PATH", "udp_fast_path_profile": {"session_idle_timeout": 90}}),
        ("questions", {"type": "PROTOCOL_TYPE_UDP_PROXY", "udp_proxy_profile": {"session_idle_timeout": 90}}),
    ):
        yield "networkprofile", {"name": name, "profile": profile}


def _policies() -> Iterator[tuple[str, Document]]:
    pool = {
        "action": "HTTP_SWITCHING_SELECT_POOL",
        "pool_ref": "/api/pool?name=other",
        "server": {"ip": {"addr": "192.0.2.10", "type": "V4"}, "port": 8080},
    }
    group = {"action": "HTTP_SWITCHING_SELECT_POOLGROUP", "pool_group_ref": "/api/poolgroup?name=redirect"}
    local = {
        "action": "HTTP_SWITCHING_SELECT_LOCAL",
        "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_200",
        "file": PAGE,
    }
    asked = {**MATCH, **FINGERPRINT}
    for name, does in (
        ("base", {"hdr_action": [HEADER], "switching_action": pool}),
        ("group", {"switching_action": group}),
        ("local", {"switching_action": local}),
        (
            "redirect",
            {"redirect_action": {"protocol": "HTTPS", "status_code": "HTTP_REDIRECT_STATUS_CODE_302", "host": PATH}},
        ),
        ("rewrite", {"rewrite_url_action": {"path": PATH}}),
    ):
        security = {**RULE, "match": asked, "action": {"action": "HTTP_SECURITY_ACTION_CLOSE_CONN"}, "log": False}
        answer = {**RULE, "hdr_action": [HEADER], "loc_hdr_action": {"protocol": "HTTPS", "host": PATH}, "log": False}
        told = {
            "status": {"match_criteria": "IS_IN", "status_codes": [404]},
            "rsp_hdrs": MATCH["hdrs"],
            "loc_hdr": {"match_criteria": "HDR_CONTAINS", "value": ["a"]},
        }
        body: Document = {
            "name": name,
            "http_request_policy": {"rules": [{**RULE, "match": asked, "log": False, **does}]},
        }
        if name == "base":
            body["http_request_policy"]["rules"].append({**NEXT, "hdr_action": [HEADER]})
            body["http_security_policy"] = {"rules": [security, {**security, **NEXT}]}
            body["http_response_policy"] = {
                "rules": [{**answer, "match": {**MATCH, **told}}, {**NEXT, "hdr_action": [HEADER]}]
            }
        yield "httppolicyset", body
    yield "httppolicyset", {"name": "other", "http_request_policy": {"rules": [{**RULE, "hdr_action": [HEADER]}]}}
    for name, port in (("base", 80), ("local", 82), ("other", 81)):
        select = {"select_pool": {"action_type": "L4_RULE_ACTION_SELECT_POOL", "pool_ref": "/api/pool?name=other"}}
        match = {
            "client_ip": CLIENTS,
            "port": {"match_criteria": "IS_IN", "ports": [port]},
            "protocol": {"match_criteria": "IS_IN", "protocol": "PROTOCOL_TCP"},
        }
        yield (
            "l4policyset",
            {
                "name": name,
                "l4_connection_policy": {"rules": [{**one, "match": match, "action": select} for one in (RULE, NEXT)]},
            },
        )
        clients = {
            "client_ip": CLIENTS,
            "client_port": {"match_criteria": "IS_IN", "ports": [port]},
            "vs_port": {"match_criteria": "IS_IN", "ports": [80]},
        }
        limit = {
            "action": "NETWORK_SECURITY_POLICY_ACTION_TYPE_RATE_LIMIT",
            "rl_param": {"max_rate": port, "burst_size": 10},
        }
        yield (
            "networksecuritypolicy",
            {"name": name, "rules": [{**one, "match": clients, **limit} for one in (RULE, NEXT)]},
        )


def _services() -> Iterator[tuple[str, Document]]:
    plain = {"services": [{"port": 80, "port_range_end": 80}]}
    secure = {
        "services": [{"port": 443, "port_range_end": 445, "enable_ssl": True}, {"port": 80, "port_range_end": 80}],
        "ssl_key_and_certificate_refs": ["/api/sslkeyandcertificate?name=base"],
        "ssl_profile_ref": "/api/sslprofile?name=base",
    }
    stream = {
        "application_profile_ref": "/api/applicationprofile?name=stream",
        "network_profile_ref": "/api/networkprofile?name=stream",
    }
    web = {
        **secure,
        "application_profile_ref": "/api/applicationprofile?name=base",
        "pool_ref": "/api/pool?name=base",
        "http_policies": [
            {"index": index, "http_policy_set_ref": f"/api/httppolicyset?name={name}"} for index, name in TWO
        ],
        "network_security_policy_ref": "/api/networksecuritypolicy?name=base",
        "error_page_profile_ref": "/api/errorpageprofile?name=base",
        "analytics_profile_ref": "/api/analyticsprofile?name=base",
        "vs_datascripts": [
            {"index": index, "vs_datascript_set_ref": f"/api/vsdatascriptset?name={name}"} for index, name in TWO
        ],
        "service_pool_select": [
            {"service_port": 80, "service_port_range_end": 80, "service_pool_ref": "/api/pool?name=hashed"}
        ],
        "performance_limits": {"max_concurrent_connections": 1000, "max_throughput": 100},
        "connections_rate_limit": RATE,
        "requests_rate_limit": RATE,
        "limit_doser": True,
        "max_cps_per_client": 10,
        "analytics_policy": {
            "metrics_realtime_update": {"enabled": False, "duration": 0},
            "full_client_logs": {"enabled": True, "duration": 5, "throttle": 3},
        },
        "ssl_profile_selectors": [{"client_ip_list": CLIENTS, "ssl_profile_ref": "/api/sslprofile?name=base"}],
        "snat_ip": [{"addr": "10.9.0.200", "type": "V4"}],
        "snat_ip6_addresses": [{"addr": "fd00:9::200", "type": "V6"}],
        "content_rewrite": {
            "rewritable_content_ref": "/api/stringgroup?name=base",
            "rsp_rewrite_rules": [{**RULE, "pairs": [PAIR]}],
        },
        "sso_policy_ref": "/api/ssopolicy?name=base",
        "jwt_config": {"audience": "a", "jwt_location": "JWT_LOCATION_QUERY_PARAM", "jwt_name": "a"},
        "enable_rhi": True,
        "enable_rhi_snat": True,
        "bgp_peer_labels": ["a"],
    }
    yield from _service("web", web)
    select = {
        "service_port": 80,
        "service_port_range_end": 80,
        "service_pool_group_ref": "/api/poolgroup?name=redirect",
    }
    yield "vsvip", {"name": "other", "vip": [{"vip_id": "1", "auto_allocate_ip": True}]}
    yield from _service(
        "bare",
        {
            **plain,
            "application_profile_ref": "/api/applicationprofile?name=other",
            "pool_ref": "/api/pool?name=other",
            "service_pool_select": [select],
        },
    )
    yield from _service(
        "stream",
        {
            **plain,
            **stream,
            "pool_ref": "/api/pool?name=monitored",
            "l4_policies": [
                {"index": index, "l4_policy_set_ref": f"/api/l4policyset?name={name}"} for index, name in TWO
            ],
        },
    )
    yield from _service(
        "tls",
        {
            **secure,
            "ssl_profile_ref": "/api/sslprofile?name=enums",
            "application_profile_ref": "/api/applicationprofile?name=tls",
            "pool_ref": "/api/pool?name=other",
        },
    )
    for name in ("fast", "datagrams", "questions"):
        yield from _service(
            name,
            {
                **plain,
                **stream,
                "network_profile_ref": f"/api/networkprofile?name={name}",
                "pool_ref": "/api/pool?name=other",
            },
        )
    for name in (*PERSISTENCE, "hashed", "unnamed", "redirect", "local_rsp"):
        yield from _service(name, {**plain, "pool_ref": f"/api/pool?name={name}"})
    for name in ("redirect", "local_rsp", "implicit"):
        yield from _service(f"group-{name}", {**plain, "pool_group_ref": f"/api/poolgroup?name={name}"})
    for name in ("group", "local", "redirect", "rewrite"):
        yield from _service(
            f"policy-{name}",
            {
                **plain,
                "pool_ref": "/api/pool?name=other",
                "http_policies": [{"index": 11, "http_policy_set_ref": f"/api/httppolicyset?name={name}"}],
            },
        )
    parent = {**secure, "type": "VS_TYPE_VH_PARENT", "pool_ref": "/api/pool?name=other"}
    for name, kind in (("parent", "SNI"), ("other", "SNI"), ("parent2", "ENHANCED")):
        yield from _service(name, {**parent, "vh_type": f"VS_TYPE_VH_{kind}"})
    yield (
        "virtualservice",
        {
            "name": "child",
            "type": "VS_TYPE_VH_CHILD",
            "vh_parent_vs_ref": "/api/virtualservice?name=parent",
            "vh_domain_name": ["a.example"],
            "vh_type": "VS_TYPE_VH_SNI",
            "pool_ref": "/api/pool?name=other",
            "ssl_key_and_certificate_refs": secure["ssl_key_and_certificate_refs"],
        },
    )
    yield (
        "virtualservice",
        {
            "name": "child2",
            "type": "VS_TYPE_VH_CHILD",
            "vh_parent_vs_ref": "/api/virtualservice?name=parent2",
            "vh_type": "VS_TYPE_VH_ENHANCED",
            "vh_matches": [{"host": "a.example", "rules": [{"name": "a", "matches": {"path": MATCH["path"]}}]}],
            "pool_ref": "/api/pool?name=other",
        },
    )


def _service(name: str, body: Document) -> Iterator[tuple[str, Document]]:
    yield (
        "vsvip",
        {"name": f"{name}-vip", "vip": [{"vip_id": "1", "auto_allocate_ip": True, "auto_allocate_ip_type": "V4_V6"}]},
    )
    yield "virtualservice", {"name": name, "vsvip_ref": f"/api/vsvip?name={name}-vip", **body}


def of(type: str, path: str) -> tuple[str, str]:
    """The object in which a field matters, and the virtual service that has it."""
    first = path.partition(".")[0]
    match type:
        case "VirtualService":
            bare = dict.fromkeys(("service_pool_select.service_pool_group_ref", "vsvip_ref"), "bare")
            if path in bare:
                return "bare", "bare"
            own = {
                "pool_group_ref": "group-redirect",
                "vh_domain_name": "child",
                "vh_parent_vs_ref": "child",
                "vh_matches": "child2",
                "vh_type": "child2",
                "l4_policies": "stream",
            } | ({"services": "stream"} if "override" in path else {})
            name = own.get(first, "web")
            return name, name
        case "Pool":
            if path.startswith("fail_action."):
                name = "local_rsp" if "local_rsp" in path else "redirect"
            else:
                name = "hashed" if "hash" in path else "unnamed" if path in UNNAMED else "base"
            return name, "web" if name == "base" else name
        case "HealthMonitor":
            kind = first.removesuffix("_monitor")
            return (kind if kind in MONITORS else "smtp"), "stream"
        case "ApplicationProfile":
            if first == "type":
                return "other", "bare"
            name = {"tcp_app_profile": "stream" if "proxy" in path else "tls", "l4_ssl_profile": "tls"}.get(
                first, "base"
            )
            return name, "web" if name == "base" else name
        case "NetworkProfile":
            for name, part in (
                ("fast", "connection_mirror"),
                ("fast", "tcp_fast"),
                ("datagrams", "udp_fast"),
                ("questions", "udp_proxy"),
            ):
                if part in path:
                    return name, name
            return "stream", "stream"
        case "HTTPPolicySet":
            for name, part in (
                ("group", "pool_group_ref"),
                ("local", "status_code"),
                ("local", "file"),
                ("redirect", "redirect"),
                ("rewrite", "rewrite"),
            ):
                if part in path and "match" not in path:
                    return name, f"policy-{name}"
            return "base", "web"
        case "SSLProfile" if first == "cipher_enums":
            return "enums", "tls"
        case "ApplicationPersistenceProfile":
            name = next((kind for kind in PERSISTENCE if first.removeprefix("http_").startswith(kind)), "cookie")
            return name, name
        case "PoolGroup":
            name = "local_rsp" if "local_rsp" in path else "implicit" if "implicit" in path else "redirect"
            return name, f"group-{name}"
    return "base", {"L4PolicySet": "stream"}.get(type, "web")


UNNAMED = ("host_check_enabled", "domain_name", "default_server_port")
ANSWER = {"type": "RL_ACTION_LOCAL_RSP", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_429"}
REWRITTEN = {
    "path": {"type": "URI_PARAM_TYPE_TOKENIZED", "tokens": [{"type": "URI_TOKEN_TYPE_STRING", "str_value": "b"}]}
}
OTHER_POOL = {"action_type": "L4_RULE_ACTION_SELECT_POOL", "pool_ref": "/api/pool?name=base"}
OTHER_FILTER = {"name": "a", "index": 1, "level": "NO_COMPRESSION", "match": "IS_IN", "user_agent": ["a"]}
VALUES: dict[str, Document] = {
    "VirtualService": {
        "services.override_network_profile_ref": "/api/networkprofile?name=datagrams",
        "service_pool_select.service_protocol": "PROTOCOL_TYPE_UDP_FAST_PATH",
        "l4_policies.index": 13,
        "http_policies.index": 13,
        "vs_datascripts.index": 13,
        "snat_ip": [{"addr": "10.9.0.201", "type": "V4"}],
        "snat_ip6_addresses": [{"addr": "fd00:9::201", "type": "V6"}],
        "requests_rate_limit.action": ANSWER,
        "content_rewrite.rsp_rewrite_rules.pairs": [{**PAIR, "replacement_string": {"val": "c"}}],
    },
    "Pool": {
        "servers.ip": {"addr": "192.0.2.11", "type": "V4"},
        "server_reselect.svr_resp_code.codes": [403],
        "server_reselect.svr_resp_code.ranges": [{"begin": 408, "end": 408}],
        "server_name": "b.example",
        "domain_name": ["b.example"],
        "fail_action.type": "FAIL_ACTION_CLOSE_CONN",
        "application_persistence_profile_ref": "/api/applicationpersistenceprofile?name=ip",
    },
    "HealthMonitor": {
        "http_monitor.http_request": "GET /b HTTP/1.0",
        "https_monitor.http_request": "GET /b HTTP/1.0",
        "dns_monitor.record_type": "DNS_RECORD_AAAA",
        "external_monitor.command_variables": "A=c",
    },
    "ApplicationProfile": {
        "http_profile.compression_profile.filter": [OTHER_FILTER],
        "http_profile.keepalive_timeout": 45_000,
        "http_profile.true_client_ip.headers": ["B"],
        "dos_rl_profile.rl_profile.http_header_rate_limits.http_header": "B",
        **{f"dos_rl_profile.rl_profile.{name}.action": ANSWER for name in LIMITS},
    },
    "HTTPPolicySet": {
        **{f"http_{what}_policy.rules.index": 3 for what in ("security", "request", "response")},
        "http_request_policy.rules.rewrite_url_action": REWRITTEN,
        "http_request_policy.rules.switching_action.other_status_code": 404,
        "http_request_policy.rules.switching_action.pool_ref": "/api/pool?name=hashed",
    },
    "SSLProfile": {
        "accepted_ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ciphersuites": "TLS_AES_128_GCM_SHA256",
        "ec_named_curve": "P-384",
        "cipher_enums": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"],
    },
    "PoolGroup": {
        "members.pool_ref": "/api/pool?name=base",
        "members.deployment_state": "OUT_OF_SERVICE",
        "min_servers": 2,
        "fail_action.type": "FAIL_ACTION_CLOSE_CONN",
    },
    "L4PolicySet": {
        "l4_connection_policy.rules.index": 3,
        "l4_connection_policy.rules.action.select_pool": OTHER_POOL,
    },
    "NetworkSecurityPolicy": {"rules.index": 3},
    "SSOPolicy": {
        "authentication_policy.authn_rules.index": 3,
        "authorization_policy.authz_rules.index": 3,
        "authorization_policy.authz_rules.action": {"type": "CLOSE_CONNECTION"},
    },
    "JWTServerProfile": {"jwks_keys": key_set()},
}
"""What to try where not any other value will do."""
VIP = ("vip_id", "ip_address", "ip6_address", "auto_allocate_ip", "auto_allocate_ip_type", "ipam_network_subnet")
RECORD = (
    "fqdn",
    "type",
    "ttl",
    "ip_address",
    "ip6_address",
    "cname",
    "ns",
    "mx_records",
    "txt_records",
    "service_locator",
)
BY_NAME = ("servers.resolve_server_by_dns", "delete_server_on_dns_refresh", "resolve_pool_by_dns", "ipaddrgroup_ref")
LISTS = ("geo_matches", "ip_reputation_type")
BY_ADDRESS = dict.fromkeys(("geo_db_ref", "ip_reputation_db_ref"), "unit/test_addresses.py")
SHOWN_BY: dict[str, dict[str, str]] = {
    "SSOPolicy": {"type": "unit/test_rules_sso.py"},
    "JWTServerProfile": {"jwt_profile_type": "unit/test_rules_sso.py"},
    "VirtualService": {
        "type": "unit/test_virtual_hosts.py",
        "vh_type": "unit/test_virtual_hosts.py",
        "se_group_ref": "unit/test_operations.py",
        "vrf_context_ref": "integration/test_networks.py",
        "ign_pool_net_reach": "unit/test_placement_networks.py",
        "content_rewrite.rsp_rewrite_rules.index": "integration/test_rewriting.py",
        "vh_parent_vs_ref": "unit/test_virtual_hosts.py",
        "vip.placement_networks": "unit/test_placement_networks.py",
        "vip.enabled": "unit/test_inline_vips.py",
        **{f"vip.{name}": "unit/test_rules_vips.py" for name in VIP},
        **{f"dns_info.{name}": "unit/test_zones.py" for name in ("fqdn", "type", "ttl", "cname")},
        **{f"static_dns_records.{name}": "unit/test_zones.py" for name in RECORD},
        "fqdn": "unit/test_zones.py",
    },
    "Pool": {
        **dict.fromkeys(("vrf_ref",), "integration/test_networks.py"),
        **dict.fromkeys(BY_NAME, "unit/test_names.py"),
        **dict.fromkeys(
            ("analytics_profile_ref", "lookup_server_by_name", "min_servers_up"), "integration/test_pools.py"
        ),
        "placement_networks": "unit/test_placement_networks.py",
        "autoscale_policy_ref": "unit/test_autoscale.py",
        "use_service_ssl_mode": "unit/test_server_modes.py",
        "capacity_estimation": "unit/test_capacity.py",
        "capacity_estimation_ttfb_thresh": "unit/test_capacity.py",
    },
    "ApplicationProfile": {
        "dos_rl_profile.rl_profile.http_header_rate_limits.http_cookie": "integration/test_http_profile.py",
    },
    "HTTPPolicySet": BY_ADDRESS
    | {
        f"http_{kind}_policy.rules.match.{one}": "unit/test_addresses.py"
        for kind in ("security", "request")
        for one in LISTS
    },
    "NetworkSecurityPolicy": BY_ADDRESS | {f"rules.match.{one}": "unit/test_addresses.py" for one in LISTS},
    "SSLProfile": dict.fromkeys(("dhparam", "send_close_notify"), "integration/test_tls.py"),
    "NetworkProfile": {
        "profile.udp_fast_path_profile.snat": "unit/test_rules_services.py",
        "profile.tcp_fast_path_profile.dsr_profile.dsr_type": "integration/test_fastpath.py",
        "profile.udp_fast_path_profile.dsr_profile.dsr_type": "integration/test_fastpath.py",
    },
    "PoolGroup": {
        "deactivate_primary_pool_on_down": "unit/test_primaries.py",
        "deployment_policy_ref": "unit/test_deployments.py",
    },
}
"""What acts in the controller, by the test that shows it."""
