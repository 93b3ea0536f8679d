"""VIPs that are given with a virtual service, as clients of before VsVips do: each such service has a VsVip made for it, which
changes and goes with it. What the service's own ``vip`` says is a copy of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shoal.objects.views import uuid_of

from .ipam import addresses_of

if TYPE_CHECKING:
    from .intent import Caller, Guard, Intent
    from .view import View

Document = dict[str, Any]
SERVICE, VSVIP = "virtualservice", "vsvip"
PASSED_ON = ("tenant_ref", "tenant_name", "cloud_ref", "cloud_name", "vrf_context_ref", "vrf_context_name")
NAMES = ("vsvip_ref", "vsvip_name")
ID_CHARACTERS = 6
MADE = "vsvip-of-"
"""Begins the uuid of a VsVip that was made so."""


def asked(type: str, raw: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether a write of these fields makes a VsVip, or changes one that was made so."""
    if type != SERVICE or not raw.get("vip"):
        return False
    if before is None:
        return not any(raw.get(name) for name in NAMES)
    own = uuid_of(before.get("vsvip_ref") or "")
    stays = uuid_of(str(raw.get("vsvip_ref") or "")) == own
    return own.startswith(MADE) and stays and raw["vip"] != before.get("vip")


async def given(
    door: Intent, raw: Document, before: Document | None, caller: Caller, guard: Guard, id: str
) -> tuple[Document, tuple[str, ...]]:
    """(the fields with the VsVip that they ask for, what there is to say of it); it is written by ``door``. ``id``: the service's
    uuid."""
    own = {"vip": raw["vip"]}
    if before is None:
        name = f"vsvip-{raw.get('name', '')}-{id[-ID_CHARACTERS:]}"
        body = {"name": name, **{field: raw[field] for field in PASSED_ON if raw.get(field)}, **own}
        made = await door.create(VSVIP, body, caller, slug=f"{MADE}{id}", guard=guard)
        return {**raw, "vsvip_ref": f"/api/vsvip/{made.doc['uuid']}", "vip": made.doc["vip"]}, made.warnings
    vsvip = uuid_of(before.get("vsvip_ref") or "")
    changed = await door.patch(VSVIP, vsvip, {"replace": own}, caller, guard=guard)
    return {**raw, "vip": changed.doc["vip"]}, changed.warnings


def kept(raw: Document, before: Mapping[str, Any]) -> Document:
    """The fields of a PUT, with the VsVip that the service has."""
    named = raw.get("vip") and not any(raw.get(name) for name in NAMES)
    return {**raw, "vsvip_ref": before["vsvip_ref"]} if named and before.get("vsvip_ref") else raw


def left_over(view: View, service: Mapping[str, Any]) -> str:
    """The VsVip (a uuid) that goes with a virtual service: one that was made for it alone; "" for none."""
    uuid = uuid_of(service.get("vsvip_ref") or "")
    if not uuid.startswith(MADE) or view.get(VSVIP, uuid) is None:
        return ""
    return "" if any((type, one) != (SERVICE, service["uuid"]) for type, one, _ in view.referrers(uuid)) else uuid


def contradiction(view: View, service: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """Why the service's ``vip`` can't be what its VsVip has; "" if it can."""
    vip = service.get("vip")
    vsvip = view.get(VSVIP, uuid_of(service.get("vsvip_ref") or "")) or {}
    if not vip or (before is not None and vip == before.get("vip")):
        return ""
    same = set(addresses_of({"vip": vip})) == set(addresses_of(vsvip))
    return "" if same else f"is not that of the VsVip {vsvip.get('name', '')}"
