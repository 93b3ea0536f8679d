"""The objects every Shoal starts with (api.md, section 4). Idempotent: makes only what is missing."""

from __future__ import annotations

import ipaddress
import uuid as uuids
from collections.abc import Iterable
from typing import Any

import msgspec

from .acme.profile import SCRIPT
from .intent import SYSTEM, Intent
from .permissions import made_roles, privileges
from .view import View

Document = dict[str, Any]
ADMIN_PROFILE = "No-Lockout-User-Account-Profile"
USER_PROFILE = "Default-User-Account-Profile"
PROPERTIES = "controllerproperties-default"
"""The uuid of the one ControllerProperties."""
SSL_EVERYWHERE = (
    "http_to_https", "secure_cookie_enabled", "hsts_enabled", "httponly_enabled", "server_side_redirect_to_https",
    "x_forwarded_proto_enabled",
)  # fmt: skip
"""What System-Secure-HTTP has on beside System-HTTP (the vendor's documentation of SSL Everywhere)."""
FORWARD_SECRET = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
TEXTS = (
    "text/html", "text/xml", "text/plain", "text/css", "text/javascript", "application/javascript",
    "application/x-javascript", "application/xml", "application/json",
)  # fmt: skip
STATIC = (
    "text/css", "text/javascript", "application/javascript", "application/x-javascript", "application/pdf", "image/gif",
    "image/jpeg", "image/png", "image/svg+xml", "image/webp", "font/woff", "font/woff2",
)  # fmt: skip
PHONES = ("Android", "iPhone", "iPad", "iPod", "Mobile", "Windows Phone", "BlackBerry", "Opera Mini")
PERSISTENCE: dict[str, tuple[str, Document]] = {
    "Http-Cookie": ("HTTP_COOKIE", {"http_cookie_persistence_profile": {}}),
    "App-Cookie": ("APP_COOKIE", {"app_cookie_persistence_profile": {"prst_hdr_name": "customhttpcookiename"}}),
    "Custom-Http-Header": ("CUSTOM_HTTP_HEADER", {"hdr_persistence_profile": {"prst_hdr_name": "customhttphdrname"}}),
    "Client-IP": ("CLIENT_IP_ADDRESS", {"ip_persistence_profile": {}}),
    "TLS": ("TLS", {}),
}
ACTION_SCRIPT = "# Not run: it stands for the ACME client in the controller (docs/operations.md)."
NAMESPACE = uuids.UUID("5b0a6d2e-5e0c-4f6e-9d55-0c3c2f6a3a11")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``certificates``: name -> (key PEM, certificate PEM) of the default certificates."""

    vip_networks: tuple[str, ...]
    node_name: str = "Controller-1"
    node_address: str = "127.0.0.1"
    certificates: dict[str, tuple[str, str]] = {}


def uuid_for(type: str, name: str) -> str:
    """The same in every Shoal, so that a system object is known by its uuid."""
    return "admin" if type == "tenant" else f"{type}-{uuids.uuid5(NAMESPACE, f'{type}/{name}')}"


def system_objects(options: Options) -> Iterable[tuple[str, Document]]:
    """(type, document) in an order in which references resolve."""
    yield "tenant", {"name": "admin", "local": True}
    for name, levels in made_roles():
        yield "role", {"name": name, "privileges": privileges(levels)}
    yield "useraccountprofile", {"name": ADMIN_PROFILE, "max_login_failure_count": 0}
    yield "useraccountprofile", {"name": USER_PROFILE}
    yield "cloud", {"name": "Default-Cloud", "vtype": "CLOUD_NONE"}
    yield "vrfcontext", {"name": "global", "system_default": True}
    yield "vrfcontext", {"name": "management", "system_default": True}
    yield "serviceenginegroup", {"name": "Default-Group"}
    yield "analyticsprofile", {"name": "System-Analytics-Profile"}
    http = {"http_request": "HEAD / HTTP/1.0", "http_response_code": ["HTTP_2XX", "HTTP_3XX"]}
    yield "healthmonitor", {"name": "System-HTTP", "type": "HEALTH_MONITOR_HTTP", "http_monitor": http}
    yield "healthmonitor", {"name": "System-HTTPS", "type": "HEALTH_MONITOR_HTTPS", "https_monitor": http}
    yield "healthmonitor", {"name": "System-TCP", "type": "HEALTH_MONITOR_TCP", "tcp_monitor": {}}
    yield "healthmonitor", {"name": "System-UDP", "type": "HEALTH_MONITOR_UDP", "udp_monitor": {}}
    yield "healthmonitor", {"name": "System-Ping", "type": "HEALTH_MONITOR_PING"}
    secure = dict.fromkeys(SSL_EVERYWHERE, True)
    for name, kind, more in (
        ("System-HTTP", "HTTP", {"http_profile": {}}),
        ("System-Secure-HTTP", "HTTP", {"http_profile": secure}),
        ("System-L4-Application", "L4", {}),
        ("System-SSL-Application", "SSL", {}),
    ):
        yield "applicationprofile", {"name": name, "type": f"APPLICATION_PROFILE_TYPE_{kind}", **more}
    for name, kind in (
        ("System-TCP-Proxy", "TCP_PROXY"),
        ("System-TCP-Fast-Path", "TCP_FAST_PATH"),
        ("System-UDP-Fast-Path", "UDP_FAST_PATH"),
    ):
        yield "networkprofile", {"name": name, "profile": {"type": f"PROTOCOL_TYPE_{kind}"}}
    versions = [{"type": "SSL_VERSION_TLS1_2"}, {"type": "SSL_VERSION_TLS1_3"}]
    yield "sslprofile", {"name": "System-Standard", "accepted_versions": versions}
    yield (
        "sslprofile",
        {"name": "System-Standard-PFS", "accepted_versions": versions, "accepted_ciphers": FORWARD_SECRET},
    )
    for name, (kind, body) in PERSISTENCE.items():
        found = {"name": f"System-Persistence-{name}", "persistence_type": f"PERSISTENCE_TYPE_{kind}"}
        yield "applicationpersistenceprofile", found | body
    for name, texts in (
        ("Compressible-Content-Types", TEXTS),
        ("Rewritable-Content-Types", TEXTS),
        ("Cacheable-Resource-Types", STATIC),
        ("Devices-Mobile", PHONES),
    ):
        pairs = [{"key": text} for text in texts]
        yield "stringgroup", {"name": f"System-{name}", "type": "SG_TYPE_STRING", "kv": pairs}
    for level in ("High", "Medium", "Low"):
        action = {"name": f"System-Alert-Level-{level}", "level": f"ALERT_{level.upper()}", "external_only": False}
        yield "actiongroupconfig", action
    for name, (key, certificate) in options.certificates.items():
        yield "sslkeyandcertificate", {"name": name, "key": key, "certificate": {"certificate": certificate}}
    yield "alertscriptconfig", {"name": SCRIPT, "action_script": ACTION_SCRIPT}
    subnets = [{"prefix": _prefix(ipaddress.ip_network(network))} for network in options.vip_networks]
    yield "network", {"name": "vip-network", "configured_subnets": subnets}
    node = {"name": options.node_name, "ip": {"addr": options.node_address, "type": "V4"}}
    yield "cluster", {"name": "cluster-0-1", "nodes": [node]}
    yield "systemconfiguration", {}
    yield "controllerproperties", {}
    yield "seproperties", {}


def _prefix(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Document:
    return {
        "ip_addr": {"addr": str(network.network_address), "type": f"V{network.version}"},
        "mask": network.prefixlen,
    }


async def bootstrap(intent: Intent, view: View, options: Options) -> None:
    """Make what is missing. Safe to repeat, and to be cut short anywhere. What an operator made by the name of an object
    that only later versions start with stays theirs."""
    for type, document in system_objects(options):
        name = document.get("name", "default")
        uuid = uuid_for(type, name)
        if type in ("systemconfiguration", "controllerproperties", "seproperties"):
            uuid = "default" if type == "systemconfiguration" else f"{type}-default"
        if view.get(type, uuid) is None and view.named(type, name) is None:
            await intent.create(type, document, SYSTEM, slug=uuid)
            await intent.mark_system(type, uuid)
