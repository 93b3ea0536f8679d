"""What servers on fast paths see as the address of their client: the engine's, the client's own, or one of a pool (SNAT).

The last two bring servers' answers to whoever owns the VIP, so they need one engine at a time. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.placement import presets

from . import protocols
from .protocols import Documents

Document = Mapping[str, Any]
FIELDS = ("snat_ip", "snat_ip6_addresses")


def addresses_of(service: Document | None) -> list[str]:
    return [one["addr"] for field in FIELDS for one in (service or {}).get(field) or ()]


def given(documents: Documents, service: Document) -> list[str]:
    """What asks for other addresses than the engine's, in words."""
    found = [field for field in (*FIELDS, "use_vip_as_snat") if service.get(field)]
    application = documents.get("applicationprofile", uuid_of(service.get("application_profile_ref", ""))) or {}
    if application.get("preserve_client_ip"):
        found.insert(0, f"preserve_client_ip of {application['name']}")
    return found


def ports(documents: Documents, service: Document, *, fast: bool) -> list[int]:
    """First ports of those that are on fast paths, or of those that are not."""
    entries = service.get("services", ())
    return [one["port"] for one in entries if protocols.fast(protocols.profile_of(documents, service, one)) is fast]


def obstacle(documents: Documents, service: Document) -> str:
    """Why these addresses can't be had in the service's group; "" if they can, or none are asked for."""
    asked = given(documents, service)
    if not asked or not ports(documents, service, fast=True):
        return ""
    group = documents.get("serviceenginegroup", uuid_of(service.get("se_group_ref", ""))) or {}
    most = group.get("max_scaleout_per_vs", 1)
    if group.get("ha_mode") == presets.LEGACY or most <= 1:
        return ""
    why = "servers answer to the engine that owns the VIP, so it has to be the only one"
    return f"{asked[0]}: {why}, and {group.get('name')} scales out to {most}"


HINT = "Use a group with max_scaleout_per_vs 1, or a legacy active/standby one."


class Changed:
    """The documents as they are after one of them is written."""

    def __init__(self, documents: Documents, type: str, uuid: str, document: dict[str, Any]) -> None:
        self._documents, self._key, self._document = documents, (type, uuid), document

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return self._document if (type, uuid) == self._key else self._documents.get(type, uuid)


def obstacles(documents: Documents, services: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """(service, why) of those that can't have what they ask for."""
    for service in services:
        if why := obstacle(documents, service):
            yield service, why


def wire_sources(service: views.VirtualService, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """``addresses``: the VIP's."""
    return addresses if service.use_vip_as_snat else service.sources
