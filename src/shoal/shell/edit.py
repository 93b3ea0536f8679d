"""A pending edit: the document being configured, and the nested mode the operator stands in."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from shoal.errors import Invalid, NotFound, Problem, ShoalError
from shoal.objects import Field, MessageType, ObjectType
from shoal.objects.check import meant

from . import script
from .fields import addresses, choices, parsed

Document = dict[str, Any]


class Level:
    """One nested mode: a message and its pending content, which ``keep`` puts into the level above."""

    def __init__(
        self, name: str, message: MessageType, content: Document, keep: Callable[[Document], object] | None = None
    ) -> None:
        self.name = name
        self.message = message
        self.content = content
        self.keep = keep


class Edit:
    """``before`` is the stored document, None for a new object; ``named`` are the fields of it that somebody has typed,
    which no preset is to replace, even where they are as they were."""

    def __init__(self, kind: ObjectType, name: str, before: Document | None) -> None:
        self.kind = kind
        self.before = before
        self.named: set[str] = set()
        self.levels = [Level(kind.endpoint, kind.message, copy.deepcopy(before) if before else {"name": name})]

    @property
    def level(self) -> Level:
        return self.levels[-1]

    @property
    def title(self) -> str:
        """``serviceenginegroup Default-Group``."""
        name = str(self.levels[0].content.get("name", ""))
        return f"{self.kind.endpoint} {name}".rstrip()

    @property
    def prompt(self) -> str:
        return ":".join(level.name for level in self.levels)

    def field(self, name: str, words: Iterable[str] = ()) -> Field:
        """Raises NotFound with the nearest name, of a field or of the other ``words`` that could stand there."""
        found = self.level.message.fields.get(name)
        if found is None:
            hint = meant(name, (*self.level.message.fields, *words)) or "Type ? for the fields."
            raise NotFound(f"{self.level.message.name} has no field {name[:60]}.", hint=hint)
        return found

    def set(self, name: str, words: list[str]) -> str:
        """Set a field, or enter its message. Returns what to print."""
        field = self.field(name)
        if field.read_only or name in ("uuid", "url"):
            raise Invalid([Problem(path=name, why="is read-only")])
        if field.nested is not None:
            found = addresses(field, words)
            return self._put(field, found) if found else self._enter(field, words)
        if not words:
            if field.kind == "boolean":
                words = ["true"]
            else:
                return choices(field, self.level.content.get(name))
        if field.item is not None:
            return self._put(field, [parsed(field.item, word) for word in words])
        return self._put(field, [parsed(field, " ".join(words))])

    def _put(self, field: Field, values: list[Any]) -> str:
        """Set the field, or add to its list."""
        name, content = field.name, self.level.content
        self._note(name)
        if field.item is not None:
            content.setdefault(name, []).extend(values)
            return ""
        had = name in content
        (content[name],) = values
        return f"Overwriting the previously entered value for {name}" if had else ""

    def put(self, words: list[str]) -> None:
        """``--path value ...``: all of it, or nothing. Raises Invalid, NotFound."""
        script.put(self.level.message, self.level.content, words)
        for word in words:
            if word.startswith(script.PREFIX):
                self._note(re.split(r"[.=]", word.removeprefix(script.PREFIX))[0])

    def _note(self, name: str) -> None:
        if len(self.levels) == 1:
            self.named.add(name)

    def _enter(self, field: Field, words: list[str]) -> str:
        """A level of its own, on a copy: nothing reaches the level above before it is left with `leave`."""
        before = list(self.levels)
        level, words = self._below(field, words)
        self.levels.append(level)
        said = "" if level.content else "New object being created"
        if not words:
            return said
        try:
            return "\n".join(filter(None, [said, self.set(words[0], words[1:])]))
        except ShoalError:
            self.levels = before
            raise

    def _below(self, field: Field, words: list[str]) -> tuple[Level, list[str]]:
        """The level that a field's message opens, and the words left over: ``index N`` picks an entry of a list."""
        nested, name, above = field.nested, field.name, self.level.content
        assert nested is not None
        if field.item is None:
            return Level(name, nested, copy.deepcopy(above.get(name) or {}), lambda c: above.update({name: c})), words
        if words[:1] == ["index"] and len(words) > 1 and words[1].isdigit():
            index, entries = _index(name, above.get(name) or [], words[1])
            keep = functools.partial(entries.__setitem__, index)
            return Level(name, nested, copy.deepcopy(entries[index]), keep), words[2:]
        return Level(name, nested, {}, lambda c: above.setdefault(name, []).append(c)), words

    def unset(self, name: str, words: list[str]) -> None:
        """``no <field>``: away, or False for a boolean; ``no <list> index N`` one entry."""
        field = self.field(name)
        content = self.level.content
        if field.kind == "array" and words[:1] == ["index"] and len(words) > 1 and words[1].isdigit():
            index, entries = _index(name, content.get(name) or [], words[1])
            del entries[index]
        elif field.kind == "array" and words:
            content[name] = [entry for entry in content.get(name, []) if not _matches(entry, words)]
        elif field.kind == "boolean":
            self._note(name)
            content[name] = False
        else:
            content.pop(name, None)

    def leave(self, *, keep: bool) -> None:
        """One level up, with what was entered or without."""
        level = self.levels.pop()
        if keep and level.keep is not None:
            level.keep(level.content)

    def changes(self) -> tuple[str, Document]:
        """(method, body) that save the edit: POST of a new object, PATCH of the first-level fields that are changed, and
        then of those that are named."""
        content = self.levels[0].content
        if self.before is None:
            return "POST", content
        replaced = {f: v for f, v in content.items() if f in self.kind.fields and self.before.get(f) != v}
        gone = {f: None for f in self.before if f not in content and f in self.kind.fields}
        body: Document = {}
        if replaced or gone:
            replaced |= {f: v for f, v in content.items() if f in self.kind.fields and f in self.named}
        if replaced:
            body["replace"] = replaced
        if gone:
            body["delete"] = gone
        return "PATCH", body


def _index(name: str, entries: list[Any], number: str) -> tuple[int, list[Any]]:
    """Counted from 1, as the tables do."""
    if not 0 < int(number) <= len(entries):
        raise Invalid([Problem(path=name, value=number, why=f"there are {len(entries)} entries")])
    return int(number) - 1, entries


def _matches(entry: Any, words: list[str]) -> bool:
    if isinstance(entry, dict):
        return len(words) > 1 and str(entry.get(words[0])) == words[1]
    text = str(entry)
    return words[0] in (text, text.rpartition("#")[2])
