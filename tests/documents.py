"""Documents made from the schema: valid ones of any type, with any of its fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shoal.objects import Field, MessageType

Document = dict[str, Any]
Refer = Callable[[str], str | None]
"""A reference to some object of that type; None if there is none."""
TEXTS = {"addr": "10.0.0.9", "type": "V4"}
DEPTH_MAX = 8


def value(field: Field, refer: Refer = lambda type: None, depth: int = 0) -> Any:
    """A valid one; None where that takes a reference that is not to be had."""
    if field.ref and field.kind == "string":
        return refer(field.ref)
    match field.kind:
        case "message":
            assert field.message is not None
            return message(field.message, refer, depth + 1)
        case "array":
            assert field.item is not None
            entries = [value(field.item, refer, depth) for _ in range(max(1, field.min_items or 0))]
            return None if None in entries else entries
        case "boolean":
            return not field.default
        case "integer" | "number":
            if field.allowed:
                return field.allowed[-1]
            return int(field.range[1] if field.range and abs(field.range[1]) < 2**31 else 7)
        case _:
            return field.enum[-1] if field.enum else TEXTS.get(field.name, f"some {field.name}")


def message(type: MessageType, refer: Refer = lambda type: None, depth: int = 0) -> Document | None:
    """With the required fields alone."""
    made: Document = {}
    for name, field in type.fields.items():
        if field.required and not field.read_only:
            if depth > DEPTH_MAX:
                return None
            made[name] = value(field, refer, depth)
            if made[name] is None:
                return None
    return made


def with_path(type: MessageType, path: str, given: Any, refer: Refer = lambda type: None) -> Document | None:
    """A document that has ``given`` at a dotted path, and what is required on the way."""
    made = message(type, refer)
    if made is None:
        return None
    name, _, rest = path.partition(".")
    field = type.fields[name]
    if not rest:
        made[name] = given
        return made
    assert field.nested is not None
    inner = with_path(field.nested, rest, given, refer)
    if inner is None:
        return None
    made[name] = [inner] * max(1, field.min_items or 0) if field.kind == "array" else inner
    return made
