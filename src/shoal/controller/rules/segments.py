"""VRFs where they matter: an engine has one HAProxy and one table of routes, so one engine has an address once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from shoal.controller import interfaces
from shoal.controller.ipam import addresses_of
from shoal.objects.views import uuid_of

from .change import Around, Change, Document

GLOBAL = "global"
OWN_NETWORK = 0
"""In place of a VLAN's number."""


def of_service(change: Change, around: Around) -> None:
    """A virtual service: its VsVip in its group, and its pool."""
    service = change.document
    vsvip = around.view.get("vsvip", uuid_of(service["vsvip_ref"]))
    if vsvip is None:
        return
    _same(change, around, "vrf_context_ref", vsvip, "the VsVip")
    pool = around.view.get("pool", uuid_of(service.get("pool_ref") or ""))
    if pool is not None and _differ(around, pool.get("vrf_ref", ""), vsvip.get("vrf_context_ref", "")):
        names = [_name(around, reference) for reference in (pool.get("vrf_ref", ""), vsvip.get("vrf_context_ref", ""))]
        why = f"{pool['name']} is in VRF {names[0]} and {vsvip['name']} in {names[1]}"
        change.wrong("pool_ref", why, hint="Give the pool the vrf_ref of the VsVip.")
    for why in obstacles(around, vsvip, [uuid_of(service.get("se_group_ref") or "")]):
        change.wrong("vsvip_ref", why)


def of_vsvip(change: Change, around: Around) -> None:
    """A VsVip, in the groups of its virtual services."""
    groups = dict.fromkeys(uuid_of(service["se_group_ref"]) for service in around.services_of(change))
    for why in obstacles(around, {**change.document, "uuid": change.uuid}, groups):
        change.wrong("vip", why)


def of_pool(change: Change, around: Around) -> None:
    for service in around.services_of(change):
        vsvip = around.view.get("vsvip", uuid_of(service.get("vsvip_ref") or "")) or {}
        if _differ(around, change.document.get("vrf_ref", ""), vsvip.get("vrf_context_ref", "")):
            why = f"{change.named([service])} is in VRF {_name(around, vsvip.get('vrf_context_ref', ''))}"
            change.wrong("vrf_ref", why, _name(around, change.document.get("vrf_ref", "")))


def obstacles(
    around: Around, vsvip: Document, groups: Iterable[str], engines: Sequence[Document] | None = None
) -> Iterator[str]:
    """Why the VsVip can't be served in these groups. ``engines``: None = as they are."""
    known = around.view.all("serviceengine") if engines is None else engines
    vrf = vsvip.get("vrf_context_ref", "")
    for text in addresses_of(vsvip):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        others = [
            one
            for one in around.view.holders(address)
            if one["uuid"] != vsvip["uuid"] and uuid_of(one.get("vrf_context_ref", "")) != uuid_of(vrf)
        ]
        for group in groups:
            for engine, vlan in _vlans_with(known, group, address):
                if _vrf(around, vlan.get("vrf_ref") or "") != _vrf(around, vrf):
                    names = _name(around, vlan.get("vrf_ref") or ""), _name(around, vrf)
                    yield f"{address} lies in {vlan['if_name']} of {engine}, in VRF {names[0]}, and the VsVip is in {names[1]}"
            for other in others:
                yield from _clashes(around, address, group, other, known)


def _clashes(
    around: Around, address: interfaces.Address, group: str, other: Document, engines: Sequence[Document]
) -> Iterator[str]:
    """With a VsVip of the same address in another VRF."""
    services = [
        found
        for type, uuid, _ in around.view.referrers(other["uuid"])
        if type == "virtualservice" and (found := around.view.get(type, uuid)) is not None
    ]
    theirs = f"{address} is an address of VRF {_name(around, other.get('vrf_context_ref', ''))}, too"
    for used in dict.fromkeys(uuid_of(service["se_group_ref"]) for service in services):
        if used == group:
            yield f"{theirs}, in the same service engine group: one HAProxy can't have it for both. Use another group."
        elif shared := _segments(engines, group, address) & _segments(engines, used, address):
            where = f"VLAN {max(shared)}" if max(shared) else "the engines' own network"
            yield f"{theirs}, and both would be answered for in {where}. Give the groups' engines VLANs of their own for it."


def _segments(engines: Sequence[Document], group: str, address: interfaces.Address) -> set[int]:
    """VLANs in which the group answers for the address."""
    return {vlan["vlan_id"] for _, vlan in _vlans_with(engines, group, address)} or {OWN_NETWORK}


def _vlans_with(engines: Sequence[Document], group: str, address: interfaces.Address) -> Iterator[tuple[str, Document]]:
    """(engine's name, VLAN) of the group in whose networks the address is."""
    for engine in engines:
        if uuid_of(engine.get("se_group_ref") or "") == group:
            for vlan in interfaces.vlans(engine):
                if any(address in own.network for own in interfaces.addresses(vlan)):
                    yield str(engine["name"]), vlan


def _same(change: Change, around: Around, field: str, vsvip: Document, what: str) -> None:
    if _differ(around, change.document.get(field, ""), vsvip.get("vrf_context_ref", "")):
        why = f"{what} {vsvip['name']} is in VRF {_name(around, vsvip.get('vrf_context_ref', ''))}"
        change.wrong(field, why, _name(around, change.document.get(field, "")))


def _differ(around: Around, one: str, other: str) -> bool:
    """Two VRFs that somebody chose: ``global`` is what an object has that says nothing."""
    return uuid_of(one) != uuid_of(other) and _name(around, one) != GLOBAL


def _vrf(around: Around, reference: str) -> str:
    return uuid_of(reference) or str((around.view.oldest_named("vrfcontext", GLOBAL) or {}).get("uuid", ""))


def _name(around: Around, reference: str) -> str:
    return str((around.view.get("vrfcontext", uuid_of(reference)) or {}).get("name", GLOBAL))
