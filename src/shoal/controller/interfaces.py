"""The VLAN interfaces that engines have by their ServiceEngine objects."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shoal.objects.views import ServiceEngine, view
from shoal.wire import desired as wire

Document = Mapping[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def vlans(engine: Document) -> Iterator[dict[str, Any]]:
    """Those that are to be there."""
    for vnic in engine.get("data_vnics") or ():
        for vlan in vnic.get("vlan_interfaces") or ():
            if vlan.get("enabled", True):
                yield vlan


def addresses(vlan: Document) -> Iterator[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """The engine's own there, with their networks."""
    for one in vlan.get("vnic_networks") or ():
        yield ipaddress.ip_interface(f"{one['ip']['ip_addr']['addr']}/{one['ip']['mask']}")


def networks(engine: Document) -> set[Network]:
    """In which it is by a VLAN."""
    return {address.network for vlan in vlans(engine) for address in addresses(vlan)}


def home(engine: Document) -> str:
    """The engines' own network, as ``10.0.0.0/20``; "" where the object does not say."""
    for vnic in engine.get("data_vnics") or ():
        for own in addresses(vnic):
            return str(own.network)
    return ""


def all_addresses(engines: Iterable[Document]) -> Iterator[str]:
    """Engines' own, on VLANs."""
    return (str(own.ip) for engine in engines for vlan in vlans(engine) for own in addresses(vlan))


def owner(engines: Iterable[Document], address: Address, besides: str = "") -> str:
    """The name of the engine that has the address on a VLAN; "" = none does. ``besides``: the uuid of one that may."""
    for engine in engines:
        if engine["uuid"] != besides:
            for vlan in vlans(engine):
                if any(own.ip == address for own in addresses(vlan)):
                    return str(engine["name"])
    return ""


def interfaces_part(document: Document | None) -> wire.Interfaces | None:
    """``document``: of the ServiceEngine. None where it has but the data interface."""
    if document is None or not any(True for _ in vlans(document)):
        return None
    found = view(document, ServiceEngine).vlans
    return wire.Interfaces(
        interfaces=tuple(
            wire.Interface(name=vlan.if_name, vlan=vlan.vlan_id, addresses=vlan.addresses) for vlan in found
        )
    )
