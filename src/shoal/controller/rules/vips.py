"""VIPs: addresses that are given or allocated, each in one VsVip only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shoal.controller import interfaces, ipam
from shoal.controller.ipam import FIELDS, SUBNETS, addresses_of
from shoal.controller.names.members import is_name
from shoal.controller.zones import wanted as zones
from shoal.errors import Duplicate, Refused
from shoal.objects.views import uuid_of

from . import networks, segments
from .change import Address, Around, Change, Document

HOST_BITS = 32
ALLOCATED = {"V4_ONLY": (4,), "V6_ONLY": (6,), "V4_V6": (4, 6)}
THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


def fill(change: Change, around: Around) -> None:
    change.default(around.view, "vrf_context_ref", "vrfcontext", "global")
    fill_entries(change)


def fill_entries(change: Change) -> None:
    vips = change.raw.get("vip")
    if isinstance(vips, list):
        change.raw["vip"] = [
            {"vip_id": str(index), "prefix_length": HOST_BITS, **vip} if isinstance(vip, dict) else vip
            for index, vip in enumerate(vips)
        ]


def check(change: Change, around: Around) -> None:
    vips = change.document.get("vip", [])
    if not vips:
        change.wrong("vip", "required, and missing", hint='Give one, such as [{"auto_allocate_ip": true}].')
    published(change, around, [(f"dns_info[{n}]", one) for n, one in enumerate(change.document.get("dns_info") or ())])
    before = {v.get("vip_id"): v for v in (change.before or {}).get("vip", ())}
    for index, vip in enumerate(vips):
        where = f"vip[{index}]"
        networks.placement(change, around, f"{where}.placement_networks", vip.get("placement_networks") or [])
        _fill_addresses(around, vip, before.get(vip["vip_id"], {}), vips)
        if not any(field in vip for field in FIELDS.values()):
            hint = "Give ip_address, ip6_address or both, or auto_allocate_ip true."
            change.wrong(where, "has no address", hint=hint)
        for version, field in FIELDS.items():
            if field in vip:
                address = change.address(f"{where}.{field}", vip[field], version)
                if address is not None:
                    fit(change, around, f"{where}.{field}.addr", address)
    if not change.problems:
        _unused(change, around, vips)
        segments.of_vsvip(change, around)
        for vip in vips:
            _safe(change, around, vip, before.get(vip["vip_id"], {}))


def published(change: Change, around: Around, infos: Iterable[tuple[str, Document]]) -> None:
    """``infos``: (path, DnsInfo)."""
    for path, info in infos:
        if info.get("type") == "DNS_RECORD_CNAME" and not is_name((info.get("cname") or {}).get("cname", "")):
            change.wrong(f"{path}.cname.cname", "must be a name of DNS")
        publishable(change, around, f"{path}.fqdn", str(info.get("fqdn", "")))


def publishable(change: Change, around: Around, path: str, given: str) -> None:
    name = given.rstrip(".").lower()
    if not is_name(name):
        change.wrong(path, "must be a name of DNS", given)
    provider = zones.provider_for(around.view, change.document)
    if provider is None:
        change.warnings.append(f"{name} is not published: the cloud has no dns_provider_ref to a DNS server.")
    elif not zones.zone_of(provider, name):
        change.warnings.append(f"{name} is not published: it is in none of the provider's usable_domains.")


def _fill_addresses(around: Around, vip: Document, before: Mapping[str, Any], siblings: list[Document]) -> None:
    """What is to be allocated and was not given stays what it was, or is allocated now."""
    if not vip.get("auto_allocate_ip"):
        return
    for version in ALLOCATED[vip.get("auto_allocate_ip_type", "V4_ONLY")]:
        field = FIELDS[version]
        if field not in vip:
            vip[field] = before.get(field) or {
                "addr": _allocate(around, vip, siblings, version),
                "type": f"V{version}",
            }


def _safe(change: Change, around: Around, vip: Document, before: Mapping[str, Any]) -> None:
    """An address that another VIP has just given up may still be answered for. A new VIP waits for that; one that has
    an address keeps it meanwhile."""
    fresh = set(addresses_of({"vip": [vip]})) - set(addresses_of({"vip": [before]}))
    group = next((uuid_of(service["se_group_ref"]) for service in around.services_of(change)), "")
    why = around.freed.obstacle(sorted(fresh), f"{change.uuid}/{vip['vip_id']}", group)
    if why and before:
        hint = "Try again when they have, or delete those that are dead for good by forcedelete."
        raise Refused(f"{why}.", hint=hint)
    if why:
        change.warnings.append(f"{why}. The virtual service is placed when that is over.")


def fit(change: Change, around: Around, path: str, address: Address) -> None:
    """A VIP is the address of one machine, that others can reach."""
    subnets = [s for document in around.view.all("network") for s in ipam.subnets(document, address.version)]
    why = _no_host(address, subnets)
    if why:
        hint = "Give the address of one machine, or auto_allocate_ip true without an address."
        change.wrong(path, why, address, hint)
    elif around.reserved(str(address)):
        change.wrong(path, "is one of the engines' own addresses", address)
    elif engine := interfaces.owner(around.view.all("serviceengine"), address):
        change.wrong(path, f"is the address of {engine}", address)
    elif not any(address in subnet for subnet in subnets):
        change.warnings.append(
            f"{path}: {address} lies in no configured network: only machines on the engines' own segment can reach it."
        )


def _no_host(address: Address, subnets: list[ipam.Network]) -> str:
    """Why it can't be the address of one machine; "" if it can."""
    if address.is_unspecified or address in THIS_NETWORK:
        return "stands for no particular address: a listener on it would take every VIP's traffic"
    if address.is_loopback:
        return "is a loopback address"
    if address.is_multicast:
        return "is a multicast address"
    if address.is_link_local:
        return "is a link-local address"
    if address.is_reserved:
        return "is a broadcast or reserved address" if address.version == 4 else "is reserved (RFC 4291)"
    for subnet in subnets:
        if subnet.prefixlen >= subnet.max_prefixlen - 1:  # it has no such addresses (RFC 3021, RFC 6164)
            continue
        if address == subnet.network_address:
            kind = "network" if address.version == 4 else "subnet-router anycast"
            return f"is the {kind} address of {subnet}"
        if address.version == 4 and address == subnet.broadcast_address:
            return f"is the broadcast address of {subnet}"
    return ""


def _allocate(around: Around, vip: Mapping[str, Any], siblings: list[Document], version: int) -> str:
    wanted = vip.get("ipam_network_subnet") or {}
    uuid = uuid_of(wanted.get("network_ref", ""))
    view = around.view
    network = view.get("network", uuid) if uuid else view.named("network", "vip-network", cloud=None)
    if network is None:
        raise Refused("There is no network to allocate from.", hint="Give ipam_network_subnet.network_ref.")
    beside = {*_numbers(siblings, version), *_numbers_of(interfaces.all_addresses(view.all("serviceengine")), version)}
    kept = set(_numbers_of(around.freed.kept(), version))
    field = SUBNETS[version]
    try:
        only = ipam.prefix(wanted[field]) if field in wanted else None
    except ValueError as error:
        raise Refused(f"ipam_network_subnet.{field}: {error}", hint="Give a subnet that the network has.") from None
    return ipam.allocate(network, view.free, version, only, beside=beside, kept=kept)


def _numbers(vips: list[Document], version: int) -> Iterator[int]:
    """Their addresses of one version of IP; what is none is told with the rest of the document."""
    return _numbers_of(addresses_of({"vip": vips}), version)


def _numbers_of(addresses: Iterable[str], version: int) -> Iterator[int]:
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.version == version:
            yield int(address)


def _unused(change: Change, around: Around, vips: list[Document]) -> None:
    vrf = uuid_of(change.document.get("vrf_context_ref", ""))
    mine = addresses_of({"vip": vips})
    if len(set(mine)) != len(mine):
        change.wrong("vip", "an address is given twice")
    for address in mine:
        for other in around.view.holders(ipaddress.ip_address(address)):
            if other["uuid"] != change.uuid and uuid_of(other.get("vrf_context_ref", "")) == vrf:
                if not change.sight.sees("vsvip", other):
                    raise Duplicate(f"{address} is in use already.", hint="Take another one, or auto_allocate_ip.")
                why = f"{address} is the address of VsVip {other['name']} already."
                raise Duplicate(why, hint="Refer to that one.")
        if around.view.users(ipaddress.ip_address(address)):
            raise Duplicate(f"{address} is in use already, as a virtual service's snat_ip.", hint="Take another one.")
