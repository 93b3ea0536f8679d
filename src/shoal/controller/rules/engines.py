"""Service engines are the controller's: an operator enables, disables and renames them."""

from __future__ import annotations

from shoal.errors import Invalid, NotAllowed

from .change import Around, Change

EDITABLE = frozenset({"enable_state", "name", "availability_zone"})


def fill(change: Change, around: Around) -> None:
    if change.system:
        return
    if change.before is None:
        raise NotAllowed("Service engines are made by the controller.", hint="Create a virtual service, or scale out.")
    for field in sorted(set(change.raw) & set(change.before) - EDITABLE):
        if field.startswith("_") or field.endswith("_ref") or field in ("uuid", "url"):
            continue
        if change.raw[field] != change.before[field]:
            change.wrong(field, "can't be changed on a service engine", hint="enable_state can.")
    if change.problems:
        raise Invalid(change.problems)
    change.raw = {**change.before, **{f: change.raw[f] for f in EDITABLE if f in change.raw}}
