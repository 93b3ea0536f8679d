"""Boxes of ``+---+`` as the field's consoles print them (reference: elastic-ha 8.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shoal.objects import Field, MessageType
from shoal.objects.views import uuid_of

from .fields import name_in

HIDDEN = frozenset({"url", "_last_modified"})
INDENT = "  "
TIME = {"secs", "usecs"}
"""Members of a time."""


def box(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left aligned, one space of padding, columns as wide as their longest cell."""
    rows = [tuple(one_line(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in [tuple(header), *rows]) for i in range(len(header))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def line(cells: Sequence[str]) -> str:
        return "|" + "|".join(f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True)) + "|"

    return "\n".join([rule, line(header), rule, *(line(row) for row in rows), rule])


def object_table(message: MessageType, document: Mapping[str, Any]) -> str:
    """``Field | Value``: fields in listing order, members indented, lists counted from 1."""
    return box(("Field", "Value"), object_rows(message, document))


def object_rows(message: MessageType, document: Mapping[str, Any], indent: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, field in message.fields.items():
        if name in document and name not in HIDDEN and document[name] is not None:
            rows += _field_rows(field, name, document[name], indent)
    return rows


def _field_rows(field: Field, label: str, value: Any, indent: str) -> list[tuple[str, str]]:
    if isinstance(value, list):
        if field.item is None:
            return [(indent + label, str(value))]
        rows = []
        for number, entry in enumerate(value, 1):
            rows += _field_rows(field.item, f"{label}[{number}]", entry, indent)
        return rows
    if field.message is not None and isinstance(value, Mapping):
        return [(indent + label, ""), *object_rows(field.message, value, indent + INDENT)]
    return [(indent + label, cell(field, value))]


def cell(field: Field, value: Any) -> str:
    """One value: references by name, units behind numbers, True and False."""
    if isinstance(value, bool):
        return str(value)
    if field.ref and isinstance(value, str):
        return name_in(value) or uuid_of(value)
    suffix = field.unit_suffix if isinstance(value, int | float) else ""
    return f"{value} {suffix}" if suffix else str(value)


def plain_table(document: Any, moment: Callable[[float], str] | None = None) -> str:
    """A runtime document, which has no schema: the same layout from its own members; of a list, each entry. ``moment``
    writes times."""
    if isinstance(document, list) and all(isinstance(entry, Mapping) for entry in document):
        return "\n".join(plain_table(entry, moment) for entry in document) or "There is none."
    return box(("Field", "Value"), _plain(document, "", moment))


def _plain(value: Any, indent: str, moment: Callable[[float], str] | None) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    items = value.items() if isinstance(value, Mapping) else ((str(i), v) for i, v in enumerate(value, 1))
    for name, entry in items:
        entries = (
            [(name, entry)] if not isinstance(entry, list) else [(f"{name}[{i}]", e) for i, e in enumerate(entry, 1)]
        )
        for label, one in entries:
            if moment is not None and isinstance(one, Mapping) and one.keys() == TIME:
                rows.append((indent + label, moment(one["secs"])))
            elif isinstance(one, Mapping):
                rows += [(indent + label, ""), *_plain(one, indent + INDENT, moment)]
            else:
                text = one.rpartition("#")[2] if isinstance(one, str) and "#" in one and "/api/" in one else str(one)
                rows.append((indent + label, text))
    return rows


def one_line(text: str) -> str:
    """One line; what a terminal would obey instead of showing (an escape sequence in a name) is not passed on."""
    return harmless(text.replace("\n", "\\n").replace("\r", ""))


def harmless(text: str) -> str:
    """The same of several lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
