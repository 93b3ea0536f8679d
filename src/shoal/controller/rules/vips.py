"""VIPs: addresses that are given or allocated, each in one VsVip only."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from shoal.controller import ipam
from shoal.errors import Duplicate, Refused
from shoal.objects.views import uuid_of

from .change import Around, Change, Document

HOST_BITS = 32
POINT_TO_POINT_BITS = 31
"""From here on a subnet has no network and broadcast address (RFC 3021)."""
THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


def fill(change: Change, around: Around) -> None:
    change.default(around.view, "vrf_context_ref", "vrfcontext", "global")
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
    before = {v.get("vip_id"): v for v in (change.before or {}).get("vip", ())}
    for index, vip in enumerate(vips):
        where = f"vip[{index}]"
        if "ip_address" not in vip:
            old = before.get(vip["vip_id"], {}).get("ip_address")
            if old is not None and vip.get("auto_allocate_ip"):
                vip["ip_address"] = old
            elif vip.get("auto_allocate_ip") and vip.get("auto_allocate_ip_type", "V4_ONLY") == "V4_ONLY":
                vip["ip_address"] = {"addr": _allocate(around, vip, vips), "type": "V4"}
            else:
                hint = "Give ip_address, or auto_allocate_ip true."
                change.wrong(where, "has no address (IPv4 only for now)", hint=hint)
                continue
        address = change.address(f"{where}.ip_address.addr", vip["ip_address"]["addr"])
        if address:
            _fit(change, around, f"{where}.ip_address.addr", address)
    _unused(change, around, vips)


def _fit(change: Change, around: Around, path: str, address: str) -> None:
    """A VIP is the address of one machine, that others can reach."""
    subnets = [s for document in around.view.all("network") for s in ipam.subnets(document)]
    why = _no_host(ipaddress.IPv4Address(address), subnets)
    if why:
        hint = "Give the address of one machine, or auto_allocate_ip true without ip_address."
        change.wrong(path, why, address, hint)
    elif around.reserved(address):
        change.wrong(path, "is one of the engines' own addresses", address)
    elif not any(ipaddress.IPv4Address(address) in subnet for subnet in subnets):
        change.warnings.append(
            f"{path}: {address} lies in no configured network: only machines on the engines' own segment can reach it."
        )


def _no_host(address: ipaddress.IPv4Address, subnets: list[ipaddress.IPv4Network]) -> str:
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
        return "is a broadcast or reserved address"
    for subnet in subnets:
        if subnet.prefixlen < POINT_TO_POINT_BITS and address in (subnet.network_address, subnet.broadcast_address):
            edge = "network" if address == subnet.network_address else "broadcast"
            return f"is the {edge} address of {subnet}"
    return ""


def _allocate(around: Around, vip: Mapping[str, Any], siblings: list[Document]) -> str:
    wanted = uuid_of((vip.get("ipam_network_subnet") or {}).get("network_ref", ""))
    view = around.view
    network = view.get("network", wanted) if wanted else view.named("network", "vip-network", cloud=None)
    if network is None:
        raise Refused("There is no network to allocate from.", hint="Give ipam_network_subnet.network_ref.")
    used = [a for document in view.all("vsvip") for a in addresses_of(document)]
    used += [sibling["ip_address"]["addr"] for sibling in siblings if "ip_address" in sibling]
    return ipam.allocate(network, used)


def _unused(change: Change, around: Around, vips: list[Document]) -> None:
    vrf = uuid_of(change.document.get("vrf_context_ref", ""))
    mine = [vip["ip_address"]["addr"] for vip in vips if "ip_address" in vip]
    if len(set(mine)) != len(mine):
        change.wrong("vip", "an address is given twice")
    for other in around.view.all("vsvip"):
        if other["uuid"] == change.uuid or uuid_of(other.get("vrf_context_ref", "")) != vrf:
            continue
        for address in set(mine) & set(addresses_of(other)):
            raise Duplicate(f"{address} is the address of VsVip {other['name']} already.", hint="Refer to that one.")


def addresses_of(vsvip: Mapping[str, Any]) -> list[str]:
    return [vip["ip_address"]["addr"] for vip in vsvip.get("vip", ()) if "ip_address" in vip]
