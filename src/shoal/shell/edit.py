"""A pending edit: the document being configured, and the nested mode the operator stands in."""

from __future__ import annotations

import copy
from typing import Any

from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Field, MessageType, ObjectType
from shoal.objects.check import meant

Document = dict[str, Any]


class Level:
    """One nested mode: a message, its pending content, and the list it will join, if any."""

    def __init__(self, name: str, message: MessageType, content: Document) -> None:
        self.name = name
        self.message = message
        self.content = content


class Edit:
    """``before`` is the stored document, None for a new object."""

    def __init__(self, kind: ObjectType, name: str, before: Document | None) -> None:
        self.kind = kind
        self.before = before
        self.levels = [Level(kind.endpoint, kind.message, copy.deepcopy(before) if before else {"name": name})]

    @property
    def level(self) -> Level:
        return self.levels[-1]

    @property
    def prompt(self) -> str:
        return ":".join(level.name for level in self.levels)

    def field(self, name: str) -> Field:
        """Raises NotFound with the nearest name."""
        found = self.level.message.fields.get(name)
        if found is None:
            hint = meant(name, self.level.message.fields) or "Type ? for the fields."
            raise NotFound(f"{self.level.message.name} has no field {name[:60]}.", hint=hint)
        return found

    def set(self, name: str, words: list[str]) -> str:
        """Set a field, or enter its message. Returns what to print."""
        field = self.field(name)
        if field.read_only or name in ("uuid", "url"):
            raise Invalid([Problem(path=name, why="is read-only")])
        if field.nested is not None:
            return self._enter(field, words)
        if not words:
            if field.kind == "boolean":
                words = ["true"]
            else:
                return choices(field, self.level.content.get(name))
        if field.item is not None:
            self.level.content.setdefault(name, []).extend(_parsed(field.item, word) for word in words)
            return ""
        had = name in self.level.content
        self.level.content[name] = _parsed(field, " ".join(words))
        return f"Overwriting the previously entered value for {name}" if had else ""

    def _enter(self, field: Field, words: list[str]) -> str:
        nested = field.nested
        assert nested is not None
        if field.item is not None:
            entries = self.level.content.setdefault(field.name, [])
            index = None
            if words[:1] == ["index"] and len(words) > 1 and words[1].isdigit():
                index, words = int(words[1]) - 1, words[2:]
                if not 0 <= index < len(entries):
                    raise Invalid([Problem(path=field.name, value=str(index + 1), why=f"there are {len(entries)}")])
            if index is None:
                entries.append({})
                index = len(entries) - 1
            content = entries[index]
        else:
            content = self.level.content.setdefault(field.name, {})
        self.levels.append(Level(field.name, nested, content))
        return self.set(words[0], words[1:]) if words else ""

    def unset(self, name: str, words: list[str]) -> None:
        """``no <field>``: away, or False for a boolean; ``no <list> index N`` one entry."""
        field = self.field(name)
        content = self.level.content
        if field.kind == "array" and words[:1] == ["index"] and len(words) > 1 and words[1].isdigit():
            entries = content.get(name, [])
            if not 0 < int(words[1]) <= len(entries):
                raise Invalid([Problem(path=name, value=words[1], why=f"there are {len(entries)} entries")])
            del entries[int(words[1]) - 1]
        elif field.kind == "array" and words:
            content[name] = [entry for entry in content.get(name, []) if not _matches(entry, words)]
        elif field.kind == "boolean":
            content[name] = False
        else:
            content.pop(name, None)

    def leave(self) -> None:
        """One level up, keeping what was entered."""
        self.levels.pop()

    def changes(self) -> tuple[str, Document]:
        """(method, body) that save the edit: POST of a new object, PATCH of the changed first-level fields."""
        content = self.levels[0].content
        if self.before is None:
            return "POST", content
        replaced = {f: v for f, v in content.items() if f in self.kind.fields and self.before.get(f) != v}
        gone = {f: None for f in self.before if f not in content and f in self.kind.fields}
        body: Document = {}
        if replaced:
            body["replace"] = replaced
        if gone:
            body["delete"] = gone
        return "PATCH", body


def _matches(entry: Any, words: list[str]) -> bool:
    if isinstance(entry, dict):
        return len(words) > 1 and str(entry.get(words[0])) == words[1]
    text = str(entry)
    return words[0] in (text, text.rpartition("#")[2])


def _parsed(field: Field, text: str) -> Any:
    """The value a word means for a field; the controller checks ranges, this only types."""
    match field.kind:
        case "integer" | "number":
            try:
                return int(text) if field.kind == "integer" else float(text)
            except ValueError:
                why = f"must be a {'whole ' if field.kind == 'integer' else ''}number"
                raise Invalid([Problem(path=field.name, value=text[:60], why=why, hint=field.choices())]) from None
        case "boolean":
            if text.lower() not in ("true", "false"):
                raise Invalid([Problem(path=field.name, value=text[:60], why="must be true or false")])
            return text.lower() == "true"
    if field.enum:
        if text.upper() not in field.enum:
            hint = meant(text.upper(), field.enum)
            raise Invalid([Problem(path=field.name, value=text[:60], why=f"must be {field.choices()}", hint=hint)])
        return text.upper()
    if field.ref and not text.startswith(("/api/", "https://", "http://")):
        return f"/api/{field.ref.lower()}/?name={text}"
    return text


def choices(field: Field, present: Any) -> str:
    """What a field takes, the present value marked. Nothing is changed by asking."""
    lines = [f"{field.name}: " + ("give one of these values" if field.enum else "a value is required")]
    if field.enum:
        lines += [f"  {'*' if value == present else ' '} {value}" for value in field.enum]
    else:
        default = f", default {field.default}" if field.has_default else ""
        lines.append(f"  {field.kind}{' ' + field.choices() if field.choices() else ''}{default}")
        if present is not None:
            lines.append(f"  present value: {present}")
    return "\n".join(lines)
