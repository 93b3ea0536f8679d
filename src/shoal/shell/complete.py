"""What may come next at the cursor, with a word of help: commands, types, names, fields, values."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document as TypedText

from shoal.errors import NotFound, ShoalError
from shoal.objects import Field, MessageType, ObjectType

from . import pipes, whatif
from .session import (
    EDIT_HELP,
    HELP,
    OPERATED,
    OPERATION_FLAGS,
    OPERATION_WORDS,
    OPERATIONS,
    PLAIN_OPERATIONS,
    REBALANCE_WORDS,
    VIEWS,
    Session,
)
from .words import cut

NAMES_KEPT_S = 5.0
NAMES_WITHIN_S = 2.0
"""A slow controller costs a completion, never the line that is being typed."""
HELP_COLUMN_MAX = 40


class Choice(NamedTuple):
    """A word that may stand here; ``free`` if it only describes one (``WORD``, ``NUMBER``)."""

    word: str
    help: str = ""
    free: bool = False


class Choices:
    """Object names are asked for at most every `NAMES_KEPT_S`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: dict[str, tuple[float, list[Choice]]] = {}

    def next(self, text: str) -> list[Choice]:
        """Everything that may stand where ``text`` ends. Case does not matter, as it doesn't in an enum's value."""
        typed = cut(text)
        begun = (typed.last or "").lower()
        if len(typed.parts) > 1:
            found: Iterable[Choice] = [] if typed.parts[-1] else _of(pipes.COMMANDS)
        else:
            found = self._after(typed.parts[0])
        return [choice for choice in found if choice.free or choice.word.lower().startswith(begun)]

    def _after(self, words: list[str]) -> Iterable[Choice]:
        edit = self._session.edit
        if edit is None:
            return self._command(words)
        match words:
            case ["do", *rest]:
                return self._command(rest)
            case ["show", *_]:
                return self._command(words)
            case []:
                return [*_fields(edit.level.message), *_of(EDIT_HELP)]
            case ["no", *rest]:
                return self._unset(edit.level.message, edit.level.content, rest)
        return self._value(edit.level.message, edit.level.content, words)

    def _command(self, words: list[str]) -> Iterable[Choice]:
        match words:
            case []:
                return _of(HELP)
            case ["switchto"]:
                return [Choice("tenant")]
            case ["switchto", "tenant"]:
                return self._known("tenant")
            case ["whatif", *rest]:
                return self._whatif(rest)
            case ["terminal"]:
                return [Choice("length", "0 = no paging")]
            case ["terminal", "length"]:
                return [Choice("NUMBER", "lines", free=True)]
            case ["rebalance", *_, "se_group_ref"]:
                return self._known("serviceenginegroup")
            case ["rebalance", *_, "interval"]:
                return [Choice("NUMBER", "minutes", free=True)]
            case ["rebalance", *given]:
                return [Choice(word) for word in REBALANCE_WORDS if word not in given]
            case [command]:
                return self._types(command)
            case [command, word, *rest] if command in ("show", "delete", "configure", *OPERATIONS, *PLAIN_OPERATIONS):
                kind = self._kind(word)
                return [] if kind is None else self._of_object(command, kind, rest)
        return []

    def _of_object(self, command: str, kind: ObjectType, words: list[str]) -> Iterable[Choice]:
        """After ``command type``."""
        if kind.singleton:
            words = ["", *words]
        if not words:
            new = [Choice("WORD", "a new name", free=True)] if command == "configure" else []
            return [*self._known(kind.endpoint), *new]
        if command == "configure":
            return self._value(kind.message, {}, words[1:]) if words[1:] else _fields(kind.message)
        if command == "show" and len(words) == 1 and not kind.singleton:
            return [Choice(view) for view in VIEWS]
        if command in OPERATIONS:
            return self._options(words[1:])
        return []

    def _options(self, words: list[str]) -> Iterable[Choice]:
        if words and words[-1] in OPERATION_WORDS:
            engine = words[-1].endswith("_se_ref") or words[-1] == "se_uuid"
            return self._known("serviceengine") if engine else [Choice("WORD", free=True)]
        return [Choice(word) for word in (*OPERATION_WORDS, *OPERATION_FLAGS) if word not in words]

    def _whatif(self, words: list[str]) -> Iterable[Choice]:
        """A word and its value, any number of times."""
        words = [word for word in words if word != "all"]
        if len(words) % 2 == 0 or words[-1] not in whatif.WORDS:
            return [*_of(whatif.WORDS), Choice("all", "every virtual service, not the first ones only")]
        match words[-1]:
            case "group":
                return self._known("serviceenginegroup")
            case "fail_engine" | "drain_engine" | "remove_engine":
                return self._known("serviceengine")
            case "fail_any" | "add":
                return [Choice("NUMBER", whatif.WORDS[words[-1]], free=True)]
        return [Choice("WORD", whatif.WORDS[words[-1]], free=True)]

    def _types(self, command: str) -> Iterable[Choice]:
        if command in OPERATIONS:
            return [Choice(type) for type in OPERATED.get(command, ("virtualservice",))]
        if command in PLAIN_OPERATIONS:
            return [Choice(PLAIN_OPERATIONS[command])]
        if command not in ("show", "configure", "delete"):
            return []
        kinds = [k for k in self._session.registry.types.values() if command == "show" or not k.read_only]
        types = [Choice(kind.endpoint, kind.name) for kind in kinds]
        return [Choice("events", "what has happened"), *types] if command == "show" else types

    def _kind(self, word: str) -> ObjectType | None:
        try:
            kind = self._session.registry.type(word)
        except NotFound:
            return None
        return kind if kind.endpoint else None

    # --- in a message ---

    def _value(self, message: MessageType, content: Mapping[str, Any], words: list[str]) -> Iterable[Choice]:
        """After a field's name, and for a nested message after the names that lead down."""
        field = message.fields.get(words[0])
        if field is None:
            return []
        if field.nested is None:
            return self._values(field, content.get(field.name)) if field.item or len(words) == 1 else []
        rest = words[1:]
        if field.item and rest[:1] == ["index"]:
            if len(rest) == 1:
                return [Choice("NUMBER", "of the entry, from 1", free=True)]
            rest = rest[2:]
        if rest:
            return self._value(field.nested, {}, rest)
        index = [Choice("index", "an entry that is there")] if field.item and len(words) == 1 else []
        return [*_fields(field.nested), *index]

    def _values(self, field: Field, present: Any) -> Iterable[Choice]:
        item = field.item or field
        if item.enum:
            here = present if isinstance(present, list) else [present]
            marks = {v: ", ".join(["present"] * (v in here) + ["default"] * (v == field.default)) for v in item.enum}
            return _of(marks)
        if item.ref:
            return self._known(item.ref.lower())
        if field.kind == "boolean":
            return [Choice("true"), Choice("false")]
        return [Choice("NUMBER" if item.kind in ("integer", "number") else "WORD", _help(field), free=True)]

    def _unset(self, message: MessageType, content: Mapping[str, Any], words: list[str]) -> Iterable[Choice]:
        if not words:
            return [Choice(name, _help(field)) for name, field in message.fields.items() if name in content]
        field = message.fields.get(words[0])
        if field is None or field.item is None or len(words) > 1:
            return []
        entries = [] if field.nested else [str(entry).rpartition("#")[2] for entry in content.get(field.name) or []]
        return [*map(Choice, entries), Choice("index", "an entry by its number")]

    def _known(self, type: str) -> list[Choice]:
        at, names = self._names.get(type, (0.0, []))
        if time.monotonic() - at > NAMES_KEPT_S:
            names = self._asked(type)
            self._names[type] = (time.monotonic(), names)
        return names

    def _asked(self, type: str) -> list[Choice]:
        try:
            found = self._session.client.all(type, "name", within_s=NAMES_WITHIN_S)
        except ShoalError as error:
            return [Choice("WORD", f"the names can't be had: {error.message}", free=True)]
        return [Choice(name) for name in sorted(str(document.get("name", "")) for document in found) if name]


class ShellCompleter(Completer):
    """For prompt_toolkit."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def get_completions(self, document: TypedText, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        typed = cut(text)
        found = [choice for choice in self._choices.next(text) if not choice.free]
        # The only one is finished with a blank, as shells do; in the middle of a line the blank is there already.
        end = " " if len(found) == 1 and document.is_cursor_at_the_end else ""
        for word, help, _ in found:
            shown = _quoted(word, text[typed.start : typed.start + 1]) + end
            yield Completion(shown, start_position=typed.start - len(text), display=word, display_meta=help)


def page(choices: list[Choice], columns: int) -> str:
    """The choices and their help in two columns, for a screen that wide."""
    if not choices:
        return "  Nothing is known that may stand here."
    width = min(max(len(choice.word) for choice in choices), HELP_COLUMN_MAX) + 4
    lines = []
    for word, help, _ in choices:
        first, *more = textwrap.wrap(help, max(columns - width - 1, HELP_COLUMN_MAX // 2)) or [""]
        lines.append(f"  {word:<{width - 3}} {first}".rstrip())
        lines += [" " * width + line for line in more]
    return "\n".join(lines)


def _quoted(word: str, opened: str) -> str:
    """As a word of the line, in the quotes that the operator has opened, if any."""
    if opened in ("'", '"') and not set(word) & {opened, "\\"}:
        return opened + word + opened
    return shlex.quote(word) if set(word) & set(" \t|'\"\\") else word


def _of(texts: Mapping[str, str]) -> list[Choice]:
    return [Choice(word, help) for word, help in texts.items()]


def _fields(message: MessageType) -> list[Choice]:
    return [Choice(name, _help(field)) for name, field in message.fields.items() if not field.read_only]


def _help(field: Field) -> str:
    item = field.item or field
    parts = [
        f"list of {item.kind}" if field.item else field.kind,
        "" if item.enum or item.allowed else item.choices(),
        f"default {field.default}" if field.default is not None else "",
        "required" if field.required else "",
    ]
    return ", ".join(part for part in parts if part)
