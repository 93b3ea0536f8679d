"""PATCH: ``add``, ``replace``, ``delete`` (``remove``) on first-level fields, and ``json_patch`` (api.md 5.3)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from shoal.errors import Invalid, Problem
from shoal.objects import ObjectType
from shoal.objects.check import kind_of, meant, shown

from . import json_patch

OPERATORS = ("add", "replace", "delete", "remove", "json_patch", "update")
SETTING = ("add", "replace", "update")
"""Those that give fields a value."""
Canonical = Callable[[Mapping[str, Any]], dict[str, Any]]


def patched(
    kind: ObjectType, document: Mapping[str, Any], body: Mapping[str, Any], canonical: Canonical = dict
) -> tuple[dict[str, Any], set[str]]:
    """(the document after the patch, the first-level fields it names). Raises Invalid.

    ``canonical(fields)`` puts references into the stored form: the same object is the same entry however it is named.
    """
    result: dict[str, Any] = copy.deepcopy(dict(document))
    touched: set[str] = set()
    known = [name for name in body if name in OPERATORS]
    if not known or len(known) != len([n for n in body if not n.startswith("_") and n not in ("uuid", "url")]):
        odd = next((name for name in body if name not in OPERATORS), "")
        hint = meant(odd, OPERATORS) or f"Use {', '.join(OPERATORS[:5])}."
        raise Invalid([Problem(path=shown(odd), why="a PATCH body holds operators, not fields", hint=hint)])
    for operator in known:
        value = body[operator]
        if operator == "json_patch":
            touched |= json_patch.apply(result, value)
        elif not isinstance(value, Mapping):
            raise Invalid([Problem(path=operator, why=f"must be an object of fields, not {kind_of(value)}")])
        else:
            for field, change in canonical(value).items():
                _one(kind, result, operator, field, change)
                touched.add(field)
    return result, touched


def _one(kind: ObjectType, result: dict[str, Any], operator: str, field: str, change: Any) -> None:
    if field not in kind.fields:
        hint = meant(field, kind.fields)
        raise Invalid([Problem(path=f"{operator}.{shown(field)}", why="unknown field", hint=hint)])
    if operator in ("replace", "update"):
        result[field] = change
    elif operator == "add":
        result[field] = _added(kind, field, result.get(field), change)
    else:
        _delete(kind, result, field, change)


def _added(kind: ObjectType, field: str, present: Any, change: Any) -> Any:
    if kind.fields[field].kind != "array":
        return {**present, **change} if isinstance(present, dict) and isinstance(change, Mapping) else change
    if _is_no_list(present):
        return present
    entries = list(present or [])
    keys = [kind.entry_key(field, entry) for entry in entries]
    for entry in change if isinstance(change, list) else [change]:
        key = kind.entry_key(field, entry)
        if key in keys:
            old = entries[keys.index(key)]
            entries[keys.index(key)] = (
                {**old, **entry} if isinstance(old, dict) and isinstance(entry, Mapping) else entry
            )
        else:
            entries.append(entry)
            keys.append(key)
    return entries


def _is_no_list(present: Any) -> bool:
    """An operator before this one put it there: it stays, to be refused as what it is."""
    return present is not None and not isinstance(present, list)


def _delete(kind: ObjectType, result: dict[str, Any], field: str, change: Any) -> None:
    if kind.fields[field].kind != "array" or change in (None, [], {}):
        result.pop(field, None)
        return
    present = result.get(field)
    if _is_no_list(present):
        return
    gone = [kind.entry_key(field, entry) for entry in (change if isinstance(change, list) else [change])]
    left = [entry for entry in present or [] if kind.entry_key(field, entry) not in gone]
    if left:
        result[field] = left
    else:
        result.pop(field, None)
