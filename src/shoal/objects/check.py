"""The thorough way: walks a document that the structs refused and tells everything that is wrong with it."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.errors import Invalid, Problem

from .structs import INT_BOUNDS, LIST_ITEMS_MAX, STRING_CHARACTERS_MAX, in_range

if TYPE_CHECKING:
    from .types import Field, MessageType

DOCUMENT_BYTES_MAX = 1_000_000
DEPTH_MAX = 24
PROBLEMS_MAX = 25
SHOWN_CHARACTERS_MAX = 60


def parse(data: bytes | bytearray) -> dict[str, Any]:
    """A JSON object from bytes. Raises Invalid on anything else, however hostile."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise Invalid(f"the body has {len(data)} bytes; at most {DOCUMENT_BYTES_MAX} are taken")
    try:
        document = msgspec.json.decode(data)
    except RecursionError:
        raise Invalid(f"the body is nested too deeply; at most {DEPTH_MAX} levels are taken") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise Invalid(f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(document, dict):
        raise Invalid(f"the body must be a JSON object, not {kind_of(document)}")
    return document


def kind_of(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "?" for c in text[: SHOWN_CHARACTERS_MAX + 1])
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."


PART_LEAST = 3
"""Characters of a name that may stand for the whole."""


def meant(word: str, known: Iterable[str]) -> str:
    """``Did you mean x?`` or ""."""
    names = list(known)
    near = difflib.get_close_matches(word[:80], names, n=1, cutoff=0.6)
    if not near and len(word) >= PART_LEAST:
        near = [name for name in names if word.lower() in name.lower()]
    return f"Did you mean {near[0]}?" if len(near) == 1 else ""


@functools.cache
def _has_secrets(message: MessageType) -> bool:
    return any(holds_secret(field) for field in message.fields.values())


def holds_secret(field: Field) -> bool:
    """Whether a value given for it may be, or hold, a secret: such a value is not repeated to anybody."""
    return field.sensitive or (field.nested is not None and _has_secrets(field.nested))


def prepared(message: MessageType, document: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Without nulls and read-only members at the top, and with ``<x>_name`` turned into ``<x>_ref``."""
    result: dict[str, Any] = {}
    for name, value in document.items():
        field = message.fields.get(name)
        if value is None or (field is not None and field.read_only):
            continue
        if field is None and isinstance(name, str) and name.endswith("_name") and isinstance(value, str):
            reference = message.fields.get(name[:-5] + "_ref")
            if reference is not None and reference.ref:
                result.setdefault(reference.name, f"/api/{reference.ref.lower()}/?name={value}")
                continue
        result[name] = value
    return result


def inspect(message: MessageType, document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The document with small things mended (case of enum values, read-only members dropped), and all problems."""
    inspector = _Inspector()
    mended = inspector.message(message, document, "", 0)
    return mended, inspector.problems[:PROBLEMS_MAX]


class _Inspector:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def _wrong(self, path: str, why: str, value: Any = "", hint: str = "") -> None:
        self.problems.append(Problem(path=path, why=why, value=shown(value) if value != "" else "", hint=hint))

    def message(self, message: MessageType, document: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        if depth > DEPTH_MAX:
            self._wrong(path, f"nested too deeply; at most {DEPTH_MAX} levels are taken")
            return {}
        result: dict[str, Any] = {}
        for name, value in prepared(message, document).items():
            here = f"{path}.{name}" if path else str(name)
            field = message.fields.get(name)
            if field is None:
                self._wrong(shown(here), "unknown field", hint=meant(name, message.fields))
            elif len(self.problems) < PROBLEMS_MAX:
                known = len(self.problems)
                result[name] = self.value(field, value, here, depth)
                if holds_secret(field):
                    hidden = [msgspec.structs.replace(problem, value="") for problem in self.problems[known:]]
                    self.problems[known:] = hidden
        for name, field in message.fields.items():
            needed = field.required and not field.read_only and not field.has_default
            if needed and name not in result and document.get(name) is None:
                self._wrong(f"{path}.{name}" if path else name, "required, and missing", hint=_needs(field))
        return result

    def value(self, field: Field, value: Any, path: str, depth: int) -> Any:
        match field.kind:
            case "message":
                if not isinstance(value, Mapping):
                    self._wrong(path, f"must be an object, not {kind_of(value)}", value)
                    return value
                assert field.message is not None
                return self.message(field.message, value, path, depth + 1)
            case "array":
                return self.array(field, value, path, depth)
            case "boolean":
                if not isinstance(value, bool):
                    self._wrong(path, f"must be true or false, not {kind_of(value)}", value)
                return value
            case "integer" | "number":
                return self.number(field, value, path)
            case _:
                return self.string(field, value, path)

    def array(self, field: Field, value: Any, path: str, depth: int) -> Any:
        if not isinstance(value, list):
            self._wrong(path, f"must be a list, not {kind_of(value)}", value)
            return value
        most = field.max_items or LIST_ITEMS_MAX
        if not (field.min_items or 0) <= len(value) <= most:
            self._wrong(path, f"has {len(value)} entries; {field.min_items or 0}..{most} are allowed")
            return value
        assert field.item is not None
        return [self.value(field.item, entry, f"{path}[{i}]", depth) for i, entry in enumerate(value)]

    def number(self, field: Field, value: Any, path: str) -> Any:
        whole = field.kind == "integer"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(
                path, f"must be a {'whole ' if whole else ''}number, not {kind_of(value)}", value, _needs(field)
            )
            return value
        if not math.isfinite(value) or (whole and value != int(value)):
            self._wrong(path, "must be a whole number" if whole else "must be a finite number", value, _needs(field))
            return value
        low, high = INT_BOUNDS.get(field.format, INT_BOUNDS["int64"])
        if whole and not low <= value <= high:
            self._wrong(path, f"does not fit {field.format or 'int64'}", value, _needs(field))
        elif not in_range(field, value) or (field.allowed and value not in field.allowed):
            self._wrong(path, f"must be {field.choices()}", value)
        return int(value) if whole else value

    def string(self, field: Field, value: Any, path: str) -> Any:
        if not isinstance(value, str):
            self._wrong(path, f"must be a string, not {kind_of(value)}", value, _needs(field))
            return value
        if len(value) > STRING_CHARACTERS_MAX:
            self._wrong(path, f"has {len(value)} characters; at most {STRING_CHARACTERS_MAX} are taken")
        if field.enum and value not in field.enum:
            if value.upper() in field.enum:
                return value.upper()
            self._wrong(path, f"must be {field.choices()}", value, meant(value.upper(), field.enum))
        return value


def _needs(field: Field) -> str:
    choices = field.choices()
    return f"Allowed: {choices}." if choices else ""
