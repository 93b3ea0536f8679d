"""The quick way: each message as a msgspec struct that checks types, ranges and enums and fills defaults in one pass.

What msgspec can't express (a special value outside the range) is checked after, for the few fields that need it.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

if TYPE_CHECKING:
    from .types import Field, MessageType

INT_BOUNDS = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**63 - 1),
}
STRING_CHARACTERS_MAX = 262_144
LIST_ITEMS_MAX = 10_000


def special_numbers(field: Field) -> tuple[float, ...]:
    """The special values (and the default) that lie outside the range."""
    values: list[float] = []
    candidates: list[Any] = [*field.special, field.default if field.has_default else None]
    for text in candidates:
        try:
            values.append(float(text))
        except (TypeError, ValueError):
            continue
    low, high = field.range or (float("-inf"), float("inf"))
    return tuple(v for v in values if not low <= v <= high)


def _number(field: Field, kind: type[int] | type[float]) -> Any:
    low, high = INT_BOUNDS.get(field.format, INT_BOUNDS["int64"]) if kind is int else (-math.inf, math.inf)
    if field.range:
        outside = special_numbers(field)
        low = max(low, min(field.range[0], *outside, field.range[0]))
        high = min(high, max(field.range[1], *outside, field.range[1]))
    if math.isinf(low) or math.isinf(high):
        return kind
    return Annotated[kind, msgspec.Meta(ge=kind(low), le=kind(high))]


def _type(field: Field) -> Any:
    match field.kind:
        case "message":
            assert field.message is not None
            return struct(field.message)
        case "array":
            assert field.item is not None
            bounds = msgspec.Meta(min_length=field.min_items or 0, max_length=field.max_items or LIST_ITEMS_MAX)
            return Annotated[list[_type(field.item)], bounds]  # type: ignore[misc]
        case "boolean":
            return bool
        case "integer":
            return Literal[tuple(int(v) for v in field.allowed)] if field.allowed else _number(field, int)
        case "number":
            return _number(field, float)
        case _:
            if field.enum:
                return Literal[field.enum]
            return Annotated[str, msgspec.Meta(max_length=STRING_CHARACTERS_MAX)]


@functools.cache
def struct(message: MessageType) -> type[msgspec.Struct]:
    """The struct of a message. Fields are named ``f0``, ``f1`` ... inside and as in the model on the wire."""
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for index, (name, field) in enumerate(message.fields.items()):
        inner = f"f{index}"
        rename[inner] = name
        kind = _type(field)
        if field.has_default and field.kind not in ("array", "message"):
            fields.append((inner, kind, field.default))
        elif field.required and not field.read_only:
            fields.append((inner, kind))
        else:
            fields.append((inner, kind | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(message.name, fields, kw_only=True, rename=rename, forbid_unknown_fields=True, frozen=True)


@functools.cache
def _gapped(message: MessageType) -> tuple[tuple[str, Field], ...]:
    """Fields to look at after decoding: those whose range has a gap, and the messages that hold such."""
    return tuple(
        (name, field)
        for name, field in message.fields.items()
        if (field.range and special_numbers(field)) or (field.nested is not None and _gapped(field.nested))
    )


def in_range(field: Field, value: float) -> bool:
    """In the range, or a listed special value, or the default (41 fields need that)."""
    if field.range is None or field.range[0] <= value <= field.range[1]:
        return True
    return float(value) in special_numbers(field)


def _look(message: MessageType, document: dict[str, Any]) -> None:
    for name, field in _gapped(message):
        value = document.get(name)
        if value is None:
            continue
        if field.nested is not None:
            for entry in value if isinstance(value, list) else [value]:
                _look(field.nested, entry)
        else:
            for entry in value if isinstance(value, list) else [value]:
                if not in_range(field, entry):
                    raise ValueError(name)


def complete(message: MessageType, document: dict[str, Any]) -> dict[str, Any]:
    """The document with defaults filled. Raises msgspec.ValidationError or ValueError at the first fault."""
    result: dict[str, Any] = msgspec.to_builtins(msgspec.convert(document, struct(message)))
    _look(message, result)
    return result


@functools.cache
def decoder(message: MessageType) -> msgspec.json.Decoder[Any]:
    """From JSON bytes to the struct, the quickest way (the bench measures it)."""
    return msgspec.json.Decoder(struct(message))
