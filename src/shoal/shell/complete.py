"""What may come next at the cursor, with a word of help: commands, types, names, fields, values."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document as TypedText

from shoal.errors import ShoalError

from .edit import Level
from .session import EDIT_HELP, HELP, OPERATION_FLAGS, OPERATION_WORDS, OPERATIONS, VIEWS, Session

NAMES_KEPT_S = 5.0
Choice = tuple[str, str]


class Choices:
    """Object names are asked for at most every `NAMES_KEPT_S`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: dict[str, tuple[float, list[str]]] = {}

    def next(self, text: str) -> list[Choice]:
        """(word, help) of everything that may stand where ``text`` ends."""
        try:
            words = shlex.split(text)
        except ValueError:
            return []
        partial = words.pop() if words and not text.endswith(" ") else ""
        return [choice for choice in self._after(words) if choice[0].startswith(partial)]

    def _after(self, words: list[str]) -> Iterable[Choice]:
        edit = self._session.edit
        if edit is not None and words[:1] != ["do"]:
            return self._in_edit(edit.level, words)
        words = words[1:] if words[:1] == ["do"] else words
        if not words:
            return HELP.items()
        if len(words) == 1:
            return self._types(words[0])
        if len(words) == 2:
            return [(name, "") for name in self._known(words[1])]
        if words[0] == "show":
            return [(view, "") for view in VIEWS]
        if words[0] in OPERATIONS:
            return [(word, "") for word in (*OPERATION_WORDS, *OPERATION_FLAGS)]
        if words[0] == "configure":
            kind = self._session.registry.type(words[1])
            return self._in_edit(Level(kind.endpoint, kind.message, {}), words[3:])
        return []

    def _types(self, command: str) -> Iterable[Choice]:
        if command in OPERATIONS:
            return [("virtualservice", "")]
        if command in ("reboot", "forcedelete"):
            return [("serviceengine", "")]
        types = self._session.registry.types.values()
        return [(t.endpoint, t.name) for t in types if command in ("show", "configure", "delete")]

    def _in_edit(self, level: Level, words: list[str]) -> Iterable[Choice]:
        if not words:
            fields = [
                (f.name, _help(f.kind, f.choices(), f.default))
                for f in level.message.fields.values()
                if not f.read_only
            ]
            return [*fields, *(EDIT_HELP.items() if self._session.edit else ())]
        field = level.message.fields.get(words[-1] if words[0] == "no" else words[0])
        if words == ["no"]:
            return [(name, "") for name in level.content]
        if field is None:
            return []
        item = field.item or field
        if item.enum:
            return [(value, "default" if value == field.default else "") for value in item.enum]
        if item.ref:
            return [(name, "") for name in self._known(item.ref.lower())]
        return [("true", ""), ("false", "")] if field.kind == "boolean" else []

    def _known(self, type: str) -> list[str]:
        at, names = self._names.get(type, (0.0, []))
        if time.monotonic() - at > NAMES_KEPT_S:
            try:
                found = self._session.client.all(type, "name")
                names = sorted(str(document.get("name", "")) for document in found)
            except ShoalError:
                names = []
            self._names[type] = (time.monotonic(), names)
        return names


class ShellCompleter(Completer):
    """For prompt_toolkit."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def get_completions(self, document: TypedText, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        partial = "" if not text or text.endswith(" ") else text.split(" ")[-1]
        for word, help in self._choices.next(text):
            shown = shlex.quote(word) if " " in word else word
            yield Completion(shown, start_position=-len(partial), display=word, display_meta=help)


def _help(kind: str, choices: str, default: object) -> str:
    parts = [
        kind,
        choices[:60] if not choices.startswith("one of") else "",
        f"default {default}" if default is not None else "",
    ]
    return ", ".join(part for part in parts if part)
