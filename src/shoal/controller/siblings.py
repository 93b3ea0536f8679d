"""What a new engine has of its group: the VLANs that all of its engines are in, as far as there are addresses for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.objects.views import uuid_of

from . import interfaces, ipam
from .interfaces import Address, Network
from .view import View

Document = Mapping[str, Any]
Key = tuple[int, str, frozenset[Network]]


def vlans(documents: View, group: str, besides: str = "") -> list[dict[str, Any]]:
    """``vlan_interfaces`` for an engine that is made, with an address in each. ``besides``: its own uuid."""
    found = []
    for vlan in _common(documents, group, besides):
        given = [(network, address(documents, network)) for network in _networks(vlan)]
        if all(one for _, one in given):
            own = [_own(network, one) for network, one in given if one is not None]
            kept: dict[str, Any] = {field: vlan[field] for field in ("if_name", "vlan_id", "vrf_ref") if field in vlan}
            found.append({**kept, "vnic_networks": own})
    return found


def networks(documents: View, group: str) -> tuple[str, ...]:
    """In which an engine would be that is made now, beside the engines' own."""
    known = (_networks(vlan) for vlan in _common(documents, group))
    found = (network for own in known if all(address(documents, each) for each in own) for network in own)
    return tuple(sorted(map(str, found)))


def address(documents: View, network: Network) -> Address | None:
    """The lowest that is for engines and that nobody has."""
    kind = ipam.TYPES[network.version]
    engines = {
        own.ip
        for one in documents.all("serviceengine")
        for v in interfaces.vlans(one)
        for own in interfaces.addresses(v)
    }
    for first, last in ipam.engine_pools(documents.all("network"), network):
        numbers = itertools.islice(documents.free(network.version, first, last), ipam.SCAN_MAX)
        free = (kind(number) for number in numbers)
        found = next((one for one in free if one not in engines and one in network), None)
        if found is not None:
            return found
    return None


def _common(documents: View, group: str, besides: str = "") -> Iterator[dict[str, Any]]:
    """VLANs of every engine of the group, as the first of them has them."""
    engines = (one for one in documents.all("serviceengine") if uuid_of(one.get("se_group_ref") or "") == group)
    others = [one for one in engines if one["uuid"] != besides]
    first = list(interfaces.vlans(others[0])) if others else []
    if first:
        shared = set.intersection(*({_key(vlan) for vlan in interfaces.vlans(one)} for one in others))
        yield from (vlan for vlan in first if _key(vlan) in shared)


def _key(vlan: Document) -> Key:
    return vlan["vlan_id"], uuid_of(vlan.get("vrf_ref") or ""), frozenset(_networks(vlan))


def _networks(vlan: Document) -> list[Network]:
    return [own.network for own in interfaces.addresses(vlan)]


def _own(network: Network, address: Address) -> dict[str, Any]:
    prefix = {"ip_addr": {"addr": str(address), "type": f"V{network.version}"}, "mask": network.prefixlen}
    return {"ip": prefix, "mode": "STATIC", "ctlr_alloc": True}
