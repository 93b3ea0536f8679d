"""What a client means by the body of a write, beyond what it says."""

from __future__ import annotations

from typing import Any

from shoal.errors import Invalid, Problem
from shoal.objects import ObjectType
from shoal.objects.check import kind_of, shown

Document = dict[str, Any]
ALL_VERSIONS = "9999"


def check_identity(kind: ObjectType, body: object, where: str = "") -> None:
    """Names and references are text. Raises Invalid: an empty list is a mistake, not a reference left out."""
    if not isinstance(body, dict):
        return
    problems = [
        Problem(path=f"{where}{name}", value=shown(value), why=f"must be a string, not {kind_of(value)}")
        for name, value in body.items()
        if value is not None and not isinstance(value, str) and (field := kind.fields.get(name)) is not None
        if field.kind == "string" and (field.ref or name in ("name", "uuid"))
    ]
    if problems:
        raise Invalid(problems)


def keep_unseen(kind: ObjectType, stored: Document, body: Document, version: str) -> None:
    """A client that can't see a field (it is newer than the client's version) does not mean to reset it."""
    everything = kind.emit(stored, version=ALL_VERSIONS)
    for name in everything.keys() - kind.emit(stored, version=version).keys() - body.keys():
        if name.removesuffix("_ref") + "_name" not in body:
            body[name] = everything[name]
