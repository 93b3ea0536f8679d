"""Service engines are the controller's: an operator enables, disables and renames them."""

from __future__ import annotations

from shoal.errors import NotAllowed

from .change import Around, Change

EDITABLE = frozenset({"enable_state", "name", "availability_zone"})
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
