"""Objects as command lines and back: ``--servers.1.port 80`` (reference: elastic-ha 8.7). Lists are counted from 1."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Field, MessageType, ObjectType
from shoal.objects.check import meant
from shoal.objects.types import SENSITIVE_MASK, SERVER_MADE

from .fields import ADDRESS, addresses, given, name_in, parsed
from .tables import harmless

Document = dict[str, Any]
LEFT_OUT = SERVER_MADE | {"uuid", "name", "tenant_ref"}
"""Members that the command names otherwise, or that the controller makes."""
PREFIX = "--"
END = "END"
NUMBERED = re.compile(r"[1-9][0-9]{0,5}")
CONTINUED = " \\\n  "


# --- out ---


def command_of(kind: ObjectType, document: Mapping[str, Any], *, one_line: bool) -> str:
    """The ``configure`` that makes the object, or makes it so again. Secrets can't be in it, and are named above it."""
    words = [f"configure {kind.endpoint}" + ("" if kind.singleton else f" {word(str(document.get('name', '')))}")]
    bodies: list[str] = []
    secret: list[str] = []
    for path, value in options(kind.message, document):
        if value == SENSITIVE_MASK:
            secret.append(path)
        elif isinstance(value, str) and "\n" in value:
            mark = _mark(value, len(bodies))
            words.append(f"{PREFIX}{path} <<{mark}")
            bodies.append(f"{harmless(value)}\n{mark}")
        else:
            words.append(option(path, value))
    lines = [f"# Secret, and not in it: {', '.join(secret)}."] if secret else []
    lines.append((" " if one_line else CONTINUED).join(words))
    return "\n".join([*lines, *bodies])


def options(message: MessageType, document: Mapping[str, Any], *, whole: bool = False) -> Iterator[tuple[str, Any]]:
    """(path, value) of every scalar, in listing order; ``whole``: also what the controller made."""
    document = document if whole else given(message, document)
    for name, field in message.fields.items():
        if document.get(name) is None or (not whole and (name in LEFT_OUT or field.read_only)):
            continue
        yield from _below(field, name, document[name])


def _below(field: Field, path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for number, entry in enumerate(value, 1):
            yield from _below(field.item or field, f"{path}.{number}", entry)
    elif field.message is None or not isinstance(value, Mapping):
        name = name_in(value) if field.ref and isinstance(value, str) else ""
        yield path, name or value
    elif field.message.name == ADDRESS and addresses(field, [str(value.get("addr"))]) == [value]:
        yield path, value["addr"]
    else:
        value = given(field.message, value)
        inner = [pair for name, member in field.message.fields.items() for pair in _member(member, path, name, value)]
        yield from inner or [(path, None)]


def _member(field: Field, path: str, name: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if value.get(name) is not None and not field.read_only:
        yield from _below(field, f"{path}.{name}", value[name])


def plain_options(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The same of a document without a schema."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            yield from plain_options(value, f"{path}.{name}" if path else str(name))
    elif isinstance(document, list):
        for number, value in enumerate(document, 1):
            yield from plain_options(value, f"{path}.{number}" if path else str(number))
    else:
        linked = isinstance(document, str) and "#" in document and "/api/" in document
        yield path, document.rpartition("#")[2] if linked else document


def option(path: str, value: Any) -> str:
    """``--path value``, as the shell reads it."""
    if value is None:
        return PREFIX + path
    text = word(str(value))
    return f"{PREFIX}{path}={text}" if str(value).startswith(PREFIX) else f"{PREFIX}{path} {text}"


def word(text: str) -> str:
    """One word of a line: quoted where that is needed."""
    return shlex.quote(harmless(text))


def _mark(text: str, number: int) -> str:
    lines = text.split("\n")
    mark = f"{END}{number or ''}"
    while mark in lines:
        mark += "_"
    return mark


# --- in ---


def asked(words: list[str]) -> bool:
    return bool(words) and words[0].startswith(PREFIX)


def put(message: MessageType, content: Document, words: list[str]) -> None:
    """Set ``--path value ...`` in a pending document: all of it, or nothing. Raises Invalid, NotFound."""
    changed = copy.deepcopy(content)
    for path, values in _pairs(words):
        _set(message, changed, path.split("."), values, path)
    content.clear()
    content.update(changed)


def _pairs(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    pairs: list[tuple[str, list[str]]] = []
    for typed in words:
        if typed.startswith(PREFIX):
            path, equals, value = typed.removeprefix(PREFIX).partition("=")
            pairs.append((path, [value] if equals else []))
        elif pairs:
            pairs[-1][1].append(typed)
        else:
            raise Invalid([Problem(path="", value=typed[:60], why="a --field must come before it")])
    yield from pairs


def _set(message: MessageType, content: Document, steps: list[str], values: list[str], path: str) -> None:
    field = message.fields.get(steps[0])
    if field is None:
        raise NotFound(
            f"{message.name} has no field {steps[0][:60]} (--{path[:80]}).", hint=meant(steps[0], message.fields)
        )
    if field.read_only or steps[0] in ("uuid", "url"):
        raise Invalid([Problem(path=f"--{path}", why="is read-only")])
    if field.item is None:
        content[field.name] = _value(field, content.get(field.name), steps[1:], values, path)
        return
    entries = content.setdefault(field.name, [])
    if not steps[1:]:
        entries.extend(addresses(field, values) or [_value(field.item, None, [], [value], path) for value in values])
        return
    if not NUMBERED.fullmatch(steps[1]) or int(steps[1]) > len(entries) + 1:
        why = f"must be a number from 1 to {len(entries) + 1}: {field.name} has {len(entries)} entries"
        raise Invalid([Problem(path=f"--{path}", value=steps[1][:60], why=why)])
    index = int(steps[1]) - 1
    before = entries[index] if index < len(entries) else None
    entries[index:] = [_value(field.item, before, steps[2:], values, path), *entries[index + 1 :]]


def _value(field: Field, before: Any, steps: list[str], values: list[str], path: str) -> Any:
    if field.message is not None:
        if steps:
            inner = dict(before or {})
            _set(field.message, inner, steps, values, path)
            return inner
        if not values:
            return dict(before or {})
        found = addresses(field, values)
        if not found:
            why = f"is made of {', '.join(field.message.fields)}"
            raise Invalid(
                [Problem(path=f"--{path}", value=" ".join(values)[:60], why=why, hint=f"Set --{path}.<member>.")]
            )
        return found[0]
    if steps:
        raise Invalid([Problem(path=f"--{path}", why=f"{field.name} has no members")])
    if not values and field.kind != "boolean":
        raise Invalid([Problem(path=f"--{path}", why="a value is required")])
    return parsed(field, " ".join(values) or "true")
