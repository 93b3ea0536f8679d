"""Service engines are the controller's: an operator enables, disables and renames them, and gives them VLANs."""

from __future__ import annotations

from shoal.errors import NotAllowed, Refused
from shoal.objects.views import uuid_of
from shoal.placement import presets

from . import interfaces
from .change import Around, Change

EDITABLE = frozenset({"enable_state", "name", "availability_zone", "data_vnics"})
ENABLED = "SE_STATE_ENABLED"
HINTS = {"se_group_ref": "Disable it: what it serves moves, and the other group makes engines of its own."}


def fill(change: Change, around: Around) -> None:
    """What a write leaves out stays."""
    if change.system:
        return
    if change.before is None:
        raise NotAllowed("Service engines are made by the controller.", hint="Create a virtual service, or scale out.")
    given = {name: value for name, value in change.raw.items() if value is not None}
    change.raw = {**change.before, **given}


def check(change: Change, around: Around) -> None:
    if change.system or change.before is None:
        return
    before, after = change.before, change.document
    for field in sorted((before.keys() | after.keys()) - EDITABLE):
        if field[0] != "_" and field not in ("uuid", "url") and before.get(field) != after.get(field):
            change.wrong(field, "can't be changed on a service engine", hint=HINTS.get(field, "enable_state can."))
    interfaces.check(change, around, before)
    if after["enable_state"] not in (before["enable_state"], ENABLED):
        _not_of_a_pair(change, around)


def _not_of_a_pair(change: Change, around: Around) -> None:
    """With one of two disabled nothing would have a standby: there is another way (reference: elastic-ha 1.3)."""
    group = around.view.get("serviceenginegroup", uuid_of(change.document.get("se_group_ref", ""))) or {}
    if group.get("ha_mode") == presets.LEGACY:
        name = change.document["name"]
        raise Refused(
            f"{name} is one of the two service engines of {group['name']}, a legacy active/standby group, and can't be "
            "disabled.",
            hint=f"Use switchover serviceengine {name}, wait until it is active for nothing, then delete it: the group "
            "makes a new standby.",
        )
