"""Making, changing, copying and deleting objects."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from shoal.errors import Duplicate, Invalid, NotFound, Problem
from shoal.objects import Field, MessageType, ObjectType, acts
from shoal.objects.types import SENSITIVE_MASK

from . import script
from .command import NUMBER, WORD, Choice, Command, Known, Said, of
from .edit import Edit
from .fields import help_of, name_in, placeholder
from .tables import object_table

if TYPE_CHECKING:
    from .session import Session

UPDATING = "Updating an existing object. Currently, the object is:"
CREATING = "New object being created"


def _configure(session: Session, words: list[str]) -> Said | str:
    if words and session.kind(words[0]).singleton:
        words = [words[0], "", *words[1:]]
    kind, name = session.two(words, "configure")
    if kind.read_only:
        raise Invalid([Problem(path="configure", value=kind.endpoint, why="is read-only")])
    before = session.client.singleton(kind.endpoint) if kind.singleton else session.client.named(kind.endpoint, name)
    edit = begun(session, kind, name, before)
    if script.asked(words[2:]):
        edit.put(words[2:])
        return session.save(edit)
    if len(words) == 3 and _asks(edit, words[2]):
        return edit.set(words[2], [])
    lines = [UPDATING, session.printed(kind, before).text] if before else [CREATING]
    if len(words) > 2:
        lines.append(edit.set(words[2], words[3:]))
    session.edit = edit
    return "\n".join(filter(None, lines))


def begun(session: Session, kind: ObjectType, name: str, before: dict[str, Any] | None) -> Edit:
    """An edit; a new object is one of the cloud the session works in."""
    edit = Edit(kind, name, before)
    if before is None and kind.cloud_scoped and session.client.cloud:
        edit.level.content["cloud_ref"] = f"/api/cloud/?name={session.client.cloud}"
    return edit


def _asks(edit: Edit, name: str) -> bool:
    """A field that needs a value, named without one: the operator asks what it takes."""
    field = edit.field(name)
    return field.nested is None and field.kind != "boolean"


def _copy(session: Session, words: list[str]) -> str:
    kind, name = session.two(words, "copy")
    if kind.singleton or kind.read_only:
        raise Invalid([Problem(path="copy", value=kind.endpoint, why="there is one only, or it is read-only")])
    if len(words) != 3 or not words[2]:
        raise Invalid([Problem(path="copy", why="the new name is required", hint="Use copy <type> <name> <new name>.")])
    stored = session.object(kind, name)
    if session.client.named(kind.endpoint, words[2]) is not None:
        raise Duplicate(f"There is a {kind.endpoint} {words[2][:80]} already.")
    edit = begun(session, kind, words[2], None)
    content = copy.deepcopy(stored)
    for member in script.LEFT_OUT:
        content.pop(member, None)
    secret = [path for path, value in script.options(kind.message, content) if value == SENSITIVE_MASK]
    edit.level.content.update({**content, "name": words[2]})
    session.edit = edit
    lines = [CREATING, object_table(kind.message, edit.level.content)]
    lines += [f"Secrets are not copied; set: {', '.join(secret)}."] if secret else []
    return "\n".join([*lines, "Change what differs, then save."])


def _delete(session: Session, words: list[str]) -> str:
    kind, name = session.two(words, "delete")
    if kind.singleton:
        raise Invalid([Problem(path="delete", value=kind.endpoint, why="there is one, always")])
    document = session.object(kind, name)
    session.change(kind, "DELETE", f"{kind.endpoint}/{document['uuid']}")
    return f"{kind.endpoint} {name} is deleted."


def _debug(session: Session, words: list[str]) -> Said | str:
    kind, name = session.two(words, "debug")
    if kind.endpoint != "virtualservice":
        hint = "Use debug virtualservice <name>; what happened: show events, `shoal incident`."
        raise Invalid([Problem(path="debug", value=kind.endpoint, why="is for virtualservice", hint=hint)])
    session.object(kind, name)
    said = _configure(session, ["debugvirtualservice", name, *words[2:]])
    if session.edit is None:
        return said
    what = f"Which packets `shoal capture {name}` takes; save keeps it, and starts nothing."
    return Said("\n".join(filter(None, [said.text if isinstance(said, Said) else said, what])))


# --- completion ---


def _kinds(known: Known, command: str) -> list[Choice]:
    kinds = (kind for kind in known.session.registry.types.values() if not kind.read_only)
    return [Choice(kind.endpoint, kind.name) for kind in kinds if command == "configure" or not kind.singleton]


def kind_of(known: Known, word: str) -> ObjectType | None:
    try:
        kind = known.session.registry.type(word)
    except NotFound:
        return None
    return kind if kind.endpoint else None


def _next_configure(known: Known, words: list[str]) -> Iterable[Choice]:
    if not words:
        return _kinds(known, "configure")
    kind = kind_of(known, words[0])
    if kind is None or kind.read_only:
        return ()
    if kind.singleton:
        words = [words[0], "", *words[1:]]
    if len(words) == 1:
        return [*known.names(kind.endpoint), Choice(WORD, "a new name", free=True)]
    return next_field(known, kind, kind.message, {}, words[2:])


def _next_debug(known: Known, words: list[str]) -> Iterable[Choice]:
    if not words:
        return [Choice("virtualservice", "which of its packets a capture takes")]
    if words[0] != "virtualservice":
        return ()
    return known.names(words[0]) if len(words) == 1 else _next_configure(known, ["debugvirtualservice", *words[1:]])


def _next_copy(known: Known, words: list[str]) -> Iterable[Choice]:
    if len(words) == 2 and kind_of(known, words[0]) is not None:
        return [Choice(WORD, "the new name", free=True)]
    return _next_delete(known, words) if len(words) < 2 else ()


def _next_delete(known: Known, words: list[str]) -> Iterable[Choice]:
    if not words:
        return _kinds(known, "delete")
    kind = kind_of(known, words[0])
    return known.names(kind.endpoint) if kind is not None and not kind.singleton and len(words) == 1 else ()


def fields_of(kind: ObjectType, message: MessageType, path: str = "") -> list[Choice]:
    """The fields of a message that stands at a path of the object."""
    return [
        Choice(name, help_of(field, idle=not acts.heeds(kind.name, f"{path}.{name}" if path else name)))
        for name, field in message.fields.items()
        if not field.read_only and name not in ("uuid", "url")
    ]


def next_field(
    known: Known, kind: ObjectType, message: MessageType, content: Mapping[str, Any], words: list[str], path: str = ""
) -> Iterable[Choice]:
    """A field of a message, or after its name what it takes; for a nested message after the names that lead down."""
    if known.begun.startswith(script.PREFIX) and (not words or script.asked(words)):
        return _paths(known, kind, message, path)
    if not words:
        return fields_of(kind, message, path)
    if script.asked(words):
        return _next_value(known, kind, message, words, path)
    field = message.fields.get(words[0])
    if field is None:
        return ()
    below = f"{path}.{field.name}" if path else field.name
    if field.nested is None:
        idle = not acts.heeds(kind.name, below)
        return _values(known, field, content.get(field.name), idle=idle) if field.item or len(words) == 1 else ()
    rest = words[1:]
    if field.item and rest[:1] == ["index"]:
        if len(rest) == 1:
            return [Choice(NUMBER, "of the entry, from 1", free=True)]
        rest = rest[2:]
    found = list(next_field(known, kind, field.nested, {}, rest, below))
    if len(words) == 1:
        free = placeholder(field)
        found += [Choice(free, "IPv4 or IPv6", free=True)] if free == "ADDRESS" else []
        found += [Choice("index", "an entry that is there, by its number")] if field.item else []
    return found


def _paths(known: Known, kind: ObjectType, message: MessageType, path: str) -> Iterable[Choice]:
    """``--servers.1.`` and then each member."""
    above = known.begun.removeprefix(script.PREFIX).split(".")[:-1]
    for step in above:
        if not step.isdecimal():
            field = message.fields.get(step)
            if field is None or field.nested is None:
                return
            message, path = field.nested, f"{path}.{step}" if path else step
    for choice in fields_of(kind, message, path):
        yield Choice(script.PREFIX + ".".join([*above, choice.word]), choice.help)


def _next_value(known: Known, kind: ObjectType, message: MessageType, words: list[str], path: str) -> Iterable[Choice]:
    """After ``--path``, its value; after a value, the next field."""
    if not words[-1].startswith(script.PREFIX):
        return [Choice(script.PREFIX + choice.word, choice.help) for choice in fields_of(kind, message, path)]
    field: Field | None = None
    for step in words[-1].removeprefix(script.PREFIX).split("."):
        if not step.isdecimal():
            field = message.fields.get(step)
            if field is None:
                return ()
            message = field.nested or message
    return _values(known, field, None) if field is not None and field.nested is None else ()


def _values(known: Known, field: Field, present: Any, *, idle: bool = False) -> Iterable[Choice]:
    item = field.item or field
    if item.enum:
        here = present if isinstance(present, list) else [present]
        marks = {v: ", ".join(["present"] * (v in here) + ["default"] * (v == field.default)) for v in item.enum}
        return of(marks)
    if item.ref:
        found = known.names(item.ref.lower())
        return found or [Choice(WORD, f"name of a {item.ref}; there is none yet", free=True)]
    if field.kind == "boolean":
        return [
            Choice("true", "default" if field.default is True else ""),
            Choice("false", "default" if field.default is False else ""),
        ]
    return [Choice(placeholder(field), help_of(field, idle=idle), free=True)]


def next_unset(message: MessageType, content: Mapping[str, Any], words: list[str]) -> Iterable[Choice]:
    """After ``no``."""
    if not words:
        return [Choice(name, help_of(field)) for name, field in message.fields.items() if name in content]
    field = message.fields.get(words[0])
    if field is None or field.item is None:
        return ()
    if words[1:] == ["index"]:
        return [Choice(NUMBER, f"1 to {len(content.get(field.name) or [])}", free=True)]
    if words[1:]:
        return ()
    entries = [] if field.nested else [name_in(str(entry)) or str(entry) for entry in content.get(field.name) or []]
    members = [] if field.nested is None else [Choice(name, "an entry by this member") for name in field.nested.fields]
    return [*map(Choice, entries), *members, Choice("index", "an entry by its number")]


CONFIGURE = Command(
    summary="change an object, or make a new one",
    usage=(
        "configure <type> <name>",
        "configure <type> <name> <field> [<value>]",
        "configure <type> <name> --<field> <value> --<list>.<n>.<field> <value> ...    (saved at once)",
    ),
    run=_configure,
    next=_next_configure,
)
COPY = Command(
    summary="a new object that begins as a copy of another",
    usage=("copy <type> <name> <new name>",),
    run=_copy,
    next=_next_copy,
)
DEBUG = Command(
    summary="which packets of a virtual service a capture takes",
    usage=("debug virtualservice <name>", "debug virtualservice <name> <field> [<value>]"),
    run=_debug,
    next=_next_debug,
)
DELETE = Command(summary="delete an object", usage=("delete <type> <name>",), run=_delete, next=_next_delete)
