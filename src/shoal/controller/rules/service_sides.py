"""What a virtual service says of its clients' side and its servers' side, beside profiles that count for both."""

from __future__ import annotations

from shoal.controller import protocols
from shoal.controller.virtual_hosts import ENHANCED, KINDS
from shoal.objects.check import shown
from shoal.objects.views import uuid_of
from shoal.wire.desired import SERVER_NAME

from . import policies
from .change import Around, Change

PROXY = "PROTOCOL_TYPE_TCP_PROXY"


def check(change: Change, around: Around) -> None:
    _servers(change, around)
    _host(change, around)
    _selectors(change, around)
    _copies(change, around)


def _servers(change: Change, around: Around) -> None:
    service, field = change.document, "server_network_profile_ref"
    profile = around.view.get("networkprofile", uuid_of(service.get(field) or ""))
    if profile is not None and profile["profile"]["type"] != PROXY:
        why = f"{profile['name']} is {profile['profile']['type']}: the servers' side of a proxy speaks TCP"
        change.wrong(field, why, hint=f"Give one of {PROXY}.")
    ports = service.get("services") or ()
    if profile is not None and any(protocols.fast(protocols.profile_of(around.view, service, port)) for port in ports):
        change.warnings.append(f"{field} has no effect on fast paths and UDP: they have no side of their own.")


def _host(change: Change, around: Around) -> None:
    service, field = change.document, "host_name_xlate"
    name = service.get(field) or ""
    if name and not SERVER_NAME.fullmatch(name):
        change.wrong(field, "must be a host name", shown(name))
    application = around.view.get("applicationprofile", uuid_of(service.get("application_profile_ref") or "")) or {}
    if name and application.get("type") != "APPLICATION_PROFILE_TYPE_HTTP":
        change.warnings.append(f"{field} has no effect: {application.get('name')} is not HTTP, and tells no host.")


def _selectors(change: Change, around: Around) -> None:
    service, field = change.document, "ssl_profile_selectors"
    given = service.get(field) or ()
    for number, one in enumerate(given):
        policies.check_clients(change, f"{field}[{number}].client_ip_list", one["client_ip_list"])
    if given and service.get("type") in KINDS and service.get("vh_type") == ENHANCED:
        change.warnings.append(f"{field} has no effect with {ENHANCED}: TLS is that of the parent's ssl_profile_ref.")


def _copies(change: Change, around: Around) -> None:
    field = "traffic_clone_profile_ref"
    profile = around.view.get("trafficcloneprofile", uuid_of(change.document.get(field) or ""))
    if profile is None:
        return
    servers = profile.get("clone_servers") or ()
    for number, one in enumerate(servers):
        if not one.get("ip_address"):
            change.warnings.append(
                f"{field}: clone_servers[{number}] of {profile['name']} gets nothing without ip_address."
            )
    if profile.get("preserve_client_ip"):
        change.warnings.append(f"{field}: copies of {profile['name']} are what servers see, so their source is, too.")
