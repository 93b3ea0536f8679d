"""Virtual services: their profiles, ports and VIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.objects.views import uuid_of

from . import profiles
from .change import Around, Change
from .profiles import USE_TCP

DEFAULT_CERTIFICATE = "System-Default-Cert"


def fill(change: Change, around: Around) -> None:
    change.default(around.view, "se_group_ref", "serviceenginegroup", "Default-Group")
    change.default(around.view, "vrf_context_ref", "vrfcontext", "global")
    change.default(around.view, "analytics_profile_ref", "analyticsprofile", "System-Analytics-Profile")
    change.default(around.view, "network_profile_ref", "networkprofile", "System-TCP-Proxy")
    change.default(around.view, "application_profile_ref", "applicationprofile", "System-HTTP")
    if not change.raw.get("cloud_type"):
        change.raw["cloud_type"] = "CLOUD_NONE"
    if _wants_tls(change.raw.get("services")) and not change.raw.get("ssl_key_and_certificate_refs"):
        found = next((d for d in around.view.all("sslkeyandcertificate") if d["name"] == DEFAULT_CERTIFICATE), None)
        if found is not None:
            change.raw["ssl_key_and_certificate_refs"] = [f"/api/sslkeyandcertificate/{found['uuid']}"]
            change.warnings.append(
                f"No certificate was given: {DEFAULT_CERTIFICATE} is used, which clients don't trust."
            )


def _wants_tls(ports: object) -> bool:
    return isinstance(ports, list) and any(isinstance(port, dict) and port.get("enable_ssl") is True for port in ports)


def check(change: Change, around: Around) -> None:
    service = change.document
    for index, port in enumerate(service.get("services", ())):
        if not 1 <= port["port"] <= 65535:
            change.wrong(f"services[{index}].port", "must be 1..65535", port["port"])
        port["port_range_end"] = port.get("port_range_end") or port["port"]
        if port["port_range_end"] < port["port"]:
            change.wrong(f"services[{index}].port_range_end", f"must not be below port {port['port']}")
    if not service.get("services"):
        change.wrong("services", "required, and missing", hint='Give at least one, such as [{"port": 80}].')
    if service.get("vip"):
        change.wrong("vip", "is not taken on a virtual service", hint="Create a VsVip and give vsvip_ref.")
    if not service.get("vsvip_ref"):
        change.wrong("vsvip_ref", "required, and missing", hint="Create a VsVip first.")
        return
    overlap = _overlap(ports_of(service))
    if overlap:
        change.wrong("services", f"port {overlap} is given twice")
    _transport(change, around)
    _certificates(change, around)
    _same_group(change, around)


def _transport(change: Change, around: Around) -> None:
    """HAProxy serves TCP. A service that says UDP and is served as TCP would be up, and dead to its clients."""
    service = change.document
    given = {"network_profile_ref": service.get("network_profile_ref", "")}
    for index, port in enumerate(service.get("services", ())):
        given[f"services[{index}].override_network_profile_ref"] = port.get("override_network_profile_ref", "")
    for path, reference in given.items():
        profile = around.view.get("networkprofile", uuid_of(reference))
        if profile is not None and not profiles.served(profile):
            change.wrong(
                path, f"{profile['name']} is {profiles.protocol(profile)}, which is not served yet", hint=USE_TCP
            )


def _certificates(change: Change, around: Around) -> None:
    """TLS needs a certificate with its key: without, the whole service would not be served."""
    refs = change.document.get("ssl_key_and_certificate_refs", ())
    for index, reference in enumerate(refs):
        found = around.view.get("sslkeyandcertificate", uuid_of(reference)) or {}
        if not found.get("key"):
            why = f"{found.get('name')} has no private key"
            change.wrong(f"ssl_key_and_certificate_refs[{index}]", why, hint="Give one with certificate and key.")
    if _wants_tls(change.document.get("services")) and not refs:
        hint = "Give the reference of a certificate, or set enable_ssl to false."
        change.wrong("ssl_key_and_certificate_refs", "required by enable_ssl, and missing", hint=hint)


def _same_group(change: Change, around: Around) -> None:
    """All virtual services of a VIP live in one group: the VIP is the unit of placement."""
    service = change.document
    for type, uuid, name in around.view.referrers(uuid_of(service["vsvip_ref"])):
        other = around.view.get(type, uuid)
        if type != "virtualservice" or uuid == change.uuid or other is None:
            continue
        if uuid_of(other["se_group_ref"]) != uuid_of(service["se_group_ref"]):
            hint = "Use the same se_group_ref for all virtual services of a VsVip."
            change.wrong("se_group_ref", f"virtual service {name} shares this VIP and is in another group", hint=hint)


def ports_of(service: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(p["port"], p.get("port_range_end") or p["port"]) for p in service.get("services", ())]


def _overlap(ranges: list[tuple[int, int]]) -> int:
    """The first port that two ranges share; 0 if none."""
    last = 0
    for low, high in sorted(ranges):
        if low <= last:
            return low
        last = max(last, high)
    return 0


def overlap_between(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int:
    for low, high in one:
        for low2, high2 in other:
            if max(low, low2) <= min(high, high2):
                return max(low, low2)
    return 0
