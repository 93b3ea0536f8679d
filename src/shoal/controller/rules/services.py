"""Virtual services: their profiles, ports and VIP."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from shoal.controller import inline_vips, limits, protocols, sources
from shoal.errors import Refused
from shoal.objects.views import uuid_of
from shoal.placement import presets
from shoal.wire.desired import PROXIED_PORTS_MAX

from . import profiles, rewriting, segments, service_names, service_sides, sso, vips, virtual_hosts
from .change import Address, Around, Change

DEFAULT_CERTIFICATE = "System-Default-Cert"
L4_APPLICATION = "System-L4-Application"
ACT_AS = {
    "PROTOCOL_TYPE_UDP_PROXY": "PROTOCOL_TYPE_UDP_FAST_PATH",
}


def fill(change: Change, around: Around) -> None:
    virtual_hosts.fill(change, around)
    vips.fill_entries(change)
    change.default(around.view, "se_group_ref", "serviceenginegroup", "Default-Group")
    change.default(around.view, "vrf_context_ref", "vrfcontext", "global")
    change.default(around.view, "analytics_profile_ref", "analyticsprofile", "System-Analytics-Profile")
    change.default(around.view, "network_profile_ref", "networkprofile", "System-TCP-Proxy")
    application = L4_APPLICATION if _is_fast(change, around) else "System-HTTP"
    change.default(around.view, "application_profile_ref", "applicationprofile", application)
    if not change.raw.get("cloud_type"):
        change.raw["cloud_type"] = "CLOUD_NONE"
    if _wants_tls(change.raw.get("services")) and not change.raw.get("ssl_key_and_certificate_refs"):
        found = around.view.oldest_named("sslkeyandcertificate", DEFAULT_CERTIFICATE)
        if found is not None:
            change.raw["ssl_key_and_certificate_refs"] = [f"/api/sslkeyandcertificate/{found['uuid']}"]
            change.warnings.append(
                f"No certificate was given: {DEFAULT_CERTIFICATE} is used, which clients don't trust."
            )


def _is_fast(change: Change, around: Around) -> bool:
    """Whether the network profile a client gives, by reference or by name, is a fast path."""
    reference = str(change.raw.get("network_profile_ref") or "")
    name = str(change.raw.get("network_profile_name") or urllib.parse.unquote(reference.partition("name=")[2]))
    found = around.view.get("networkprofile", uuid_of(reference)) or (
        around.view.oldest_named("networkprofile", name) if name else None
    )
    return protocols.fast(found)


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
    if not service.get("services") and service.get("type") != virtual_hosts.CHILD:
        change.wrong("services", "required, and missing", hint='Give at least one, such as [{"port": 80}].')
    if why := inline_vips.contradiction(around.view, service, change.before):
        change.wrong("vip", why, hint="Change the VsVip, or leave vip out.")
    if not service.get("vsvip_ref"):
        change.wrong("vsvip_ref", "required, and missing", hint="Create a VsVip first.")
        return
    proxied = [port for port in service.get("services", ()) if not _on_fast_path(around, service, port)]
    count = sum(port["port_range_end"] - port["port"] + 1 for port in proxied)
    if count > PROXIED_PORTS_MAX:
        hint = "Give the range a TCP fast path profile (override_network_profile_ref)."
        change.wrong("services", f"{count} ports are proxied; {PROXIED_PORTS_MAX} can be", hint=hint)
    overlap = protocols.overlap(protocols.ports_of(around.view, service))
    if overlap:
        change.wrong("services", f"{overlap} is given twice")
    _announcement(change, around)
    segments.of_service(change, around)
    virtual_hosts.check(change, around)
    _transport(change, around)
    service_sides.check(change, around)
    service_names.check(change, around)
    rewriting.check(change, around)
    sso.check(change, around)
    _limits(change, around)
    _sources(change, around)
    _pools(change, around)
    _certificates(change, around)
    _same_group(change, around)
    _same_side(change, around)


def _announcement(change: Change, around: Around) -> None:
    vsvip = around.view.get("vsvip", uuid_of(change.document["vsvip_ref"])) or {}
    vrf = around.view.get("vrfcontext", uuid_of(vsvip.get("vrf_context_ref", ""))) or {}
    for field in ("enable_rhi", "enable_rhi_snat"):
        if change.document.get(field) and not (vrf.get("bgp_profile") or {}).get("peers"):
            change.warnings.append(
                f"{field}: the VRF {vrf.get('name', '')} has no BGP peers yet, so nothing is announced. "
                "Give its bgp_profile peers."
            )
    if change.document.get("enable_rhi_snat") and not sources.addresses_of(change.document):
        change.warnings.append("enable_rhi_snat has no effect without snat_ip or snat_ip6_addresses.")


def _transport(change: Change, around: Around) -> None:
    """A service that says one protocol and is served by another would be up, and dead to its clients."""
    service = change.document
    given = {"network_profile_ref": service.get("network_profile_ref", "")}
    for index, port in enumerate(service.get("services", ())):
        given[f"services[{index}].override_network_profile_ref"] = port.get("override_network_profile_ref", "")
        profile = protocols.profile_of(around.view, service, port)
        if profile is not None and protocols.fast(profile):
            _fast(change, around, index, port, protocols.kind(profile))
    if named := protocols.mixed(around.view, service):
        change.wrong("services", f"have a dsr_profile at some {named} ports, and none at others", hint=profiles.ONE_WAY)
    for path, reference in given.items():
        profile = around.view.get("networkprofile", uuid_of(reference))
        why = protocols.unserved(profile) if profile is not None else ""
        if profile is not None and why:
            change.wrong(path, f"{profile['name']} {why}", hint=profiles.OTHER)
        elif profile is not None and profile["profile"]["type"] in ACT_AS:
            change.warnings.append(f"{path}: {profile['name']} acts as {ACT_AS[profile['profile']['type']]}.")


def _fast(change: Change, around: Around, index: int, port: Mapping[str, Any], kind: str) -> None:
    """What a port on a fast path can't have."""
    if port.get("enable_ssl"):
        change.wrong(f"services[{index}].enable_ssl", f"can't be set on a {kind} port", hint="Set enable_ssl to false.")
    application = around.view.get("applicationprofile", uuid_of(change.document.get("application_profile_ref", "")))
    own = port.get("override_network_profile_ref")
    if application is not None and application["type"] == "APPLICATION_PROFILE_TYPE_HTTP" and not own:
        why = f"{application['name']} is HTTP, and port {port['port']} is {kind}"
        if not any(problem.path == "application_profile_ref" for problem in change.problems):
            change.wrong("application_profile_ref", why, hint=f"Use {L4_APPLICATION}.")


def _limits(change: Change, around: Around) -> None:
    service = change.document
    for problem in limits.problems(service, limits.OF_SERVICE):
        change.wrong(*problem)
    change.warnings += limits.untaken(service, limits.OF_SERVICE)
    if service.get("weight", 1) != 1:
        group = around.view.get("serviceenginegroup", uuid_of(service.get("se_group_ref") or "")) or {}
        if service.get("type") == "VS_TYPE_VH_CHILD":
            change.warnings.append("weight has no effect: a virtual host has its parent's.")
        elif not group.get("data_link_mbit"):
            name = group.get("name", "")
            change.warnings.append(
                f"weight has no effect until data_link_mbit of {name} says what an engine's link carries."
            )
    most = (service.get("performance_limits") or {}).get("max_throughput", 0)
    proxied = [port["port"] for port in service.get("services", ()) if not _on_fast_path(around, service, port)]
    if most and proxied:
        ports = ", ".join(map(str, proxied))
        change.warnings.append(f"performance_limits.max_throughput holds for fast paths only, not for ports {ports}.")


def _sources(change: Change, around: Around) -> None:
    """What servers are to see as their client."""
    service, view = change.document, around.view
    asked = sources.given(view, service)
    if not asked:
        change.warnings += _not_mirrored(service, around)
        return
    if proxied := sources.ports(view, service, fast=False):
        named = ", ".join(map(str, proxied))
        change.warnings.append(
            f"{asked[0]} holds for fast paths only: on ports {named} servers see the engine's address."
        )
    if why := sources.obstacle(view, service):
        change.wrong("se_group_ref", why, hint=sources.HINT)
    if len(asked) > 1:
        change.warnings.append(f"{asked[0]} makes {' and '.join(asked[1:])} have no effect.")
    given = [(field, number, one) for field in sources.FIELDS for number, one in enumerate(service.get(field) or ())]
    if given and len(_vips_of(service, around)) > 1:
        change.wrong(given[0][0], "has no place where the VsVip has several VIPs", hint="Give each a VsVip of its own.")
    for field, number, one in given:
        address = change.address(f"{field}[{number}]", one, *((6,) if field.endswith("6_addresses") else ()))
        if address is not None:
            vips.fit(change, around, f"{field}[{number}].addr", address)
            _free(change, around, f"{field}[{number}].addr", address)
    texts = sources.addresses_of(service)
    if len(set(texts)) < len(texts):
        change.wrong(given[0][0], "an address is given twice")
    if not change.problems:
        fresh = sorted(set(texts) - set(sources.addresses_of(change.before)))
        vip = next((f"{uuid_of(service['vsvip_ref'])}/{one['vip_id']}" for one in _vips_of(service, around)), "")
        if why := around.freed.obstacle(fresh, vip, uuid_of(service["se_group_ref"])):
            raise Refused(f"{why}.", hint="Try again when they have.")


def _not_mirrored(service: Mapping[str, Any], around: Around) -> list[str]:
    """Servers that see the engine's own address have nobody to answer to once it is gone."""
    profiles_of = (protocols.profile_of(around.view, service, port) for port in service.get("services", ()))
    asking = [one for one in profiles_of if one is not None and protocols.mirrors(one)]
    names = dict.fromkeys(one["name"] for one in asking if protocols.direct_return(one) is None)
    needed = "needs an address that moves with the VIP: give snat_ip or use_vip_as_snat, or an application profile with preserve_client_ip"
    return [f"connection_mirror of {name} has no effect: it {needed}." for name in names]


def _vips_of(service: Mapping[str, Any], around: Around) -> list[dict[str, Any]]:
    return (around.view.get("vsvip", uuid_of(service["vsvip_ref"])) or {}).get("vip") or []


def _free(change: Change, around: Around, path: str, address: Address) -> None:
    if around.view.holders(address):
        change.wrong(path, "is the address of a VIP", address, "For the service's own VIP set use_vip_as_snat.")
    elif any(other["uuid"] != change.uuid for other in around.view.users(address)):
        change.wrong(path, "is in use by another virtual service", address)


def _on_fast_path(around: Around, service: Mapping[str, Any], port: Mapping[str, Any]) -> bool:
    return protocols.fast(protocols.profile_of(around.view, service, port))


def _pools(change: Change, around: Around) -> None:
    """One default; and what fast paths, which the kernel serves, don't have."""
    service = change.document
    if service.get("pool_ref") and service.get("pool_group_ref"):
        change.wrong("pool_group_ref", "can't be given beside pool_ref", hint="Give the one that is the default.")
    if any(_on_fast_path(around, service, port) for port in service.get("services", ())):
        for field in ("pool_group_ref", "l4_policies", "service_pool_select"):
            if service.get(field):
                change.warnings.append(
                    f"{field} has no effect on fast paths and UDP: they are served by pool_ref alone."
                )
    for index, one in enumerate(service.get("service_pool_select") or ()):
        if not (one.get("service_pool_ref") or one.get("service_pool_group_ref")):
            change.wrong(f"service_pool_select[{index}].service_pool_ref", "required, and missing")


def _certificates(change: Change, around: Around) -> None:
    """TLS needs a certificate with its key: without, the whole service would not be served."""
    refs = change.document.get("ssl_key_and_certificate_refs", ())
    for index, reference in enumerate(refs):
        found = around.view.get("sslkeyandcertificate", uuid_of(reference)) or {}
        if not found.get("key"):
            why = f"{found.get('name')} has no private key"
            change.wrong(f"ssl_key_and_certificate_refs[{index}]", why, hint="Give one with certificate and key.")
        elif not found["certificate"].get("certificate"):
            why = f"{found.get('name')} is a signing request that has no certificate yet"
            hint = "Have its certificate_signing_request signed, and set certificate.certificate."
            change.wrong(f"ssl_key_and_certificate_refs[{index}]", why, hint=hint)
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


def _same_side(change: Change, around: Around) -> None:
    """In a legacy group that distributes load, the oldest virtual service of a VIP decides which engine it is on."""
    service, field = change.document, "active_standby_se_tag"
    group = around.view.get("serviceenginegroup", uuid_of(service.get("se_group_ref", ""))) or {}
    given = field in change.raw if change.before is None else change.before[field] != service[field]
    if group.get("ha_mode") != presets.LEGACY or not group.get("distribute_load_active_standby"):
        return
    vsvip = uuid_of(service["vsvip_ref"])
    sharing = {uuid for type, uuid, _ in around.view.referrers(vsvip) if type == "virtualservice"} - {change.uuid}
    if not sharing:
        return
    order = [d for d in around.view.all("virtualservice") if d["uuid"] in sharing or d["uuid"] == change.uuid]
    oldest = order[0]
    if oldest["uuid"] == change.uuid:
        if given:
            names = ", ".join(d["name"] for d in order[1:])
            change.warnings.append(f"{field} counts for {names}, too: they share this VIP.")
    elif not given:
        service[field] = oldest[field]
    elif oldest[field] != service[field]:
        hint = f"Change it there, and it counts for {service['name']}, too."
        why = f"virtual service {oldest['name']} is the oldest of this VIP and says {oldest[field]}"
        change.wrong(field, why, service[field], hint)
