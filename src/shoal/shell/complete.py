"""What may come next at the cursor, with a word of help: commands, types, names, fields, values."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document as TypedText

from shoal.errors import ShoalError

from . import pipes
from .command import Choice, of
from .commands import COMMANDS
from .configure import fields_of, next_field, next_unset
from .session import DETAIL, EDIT_HELP, Session
from .tables import one_line
from .words import cut

NAMES_KEPT_S = 5.0
NAMES_WITHIN_S = 2.0
"""A slow controller costs a completion, never the line that is being typed."""
HELP_COLUMN_MAX = 40
CASELESS = str.casefold


class Choices:
    """Object names are asked for at most every `NAMES_KEPT_S`, and only those that begin as the word typed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.begun = ""
        self._names: dict[tuple[str, ...], tuple[float, list[Choice]]] = {}

    def next(self, text: str) -> list[Choice]:
        """Everything that may stand where ``text`` ends. Case does not matter, as it doesn't in an enum's value."""
        typed = cut(text)
        self.begun = typed.last or ""
        begun = CASELESS(self.begun)
        words = [word for word in typed.parts[-1] if word != DETAIL]
        found = pipes.next_word(words) if len(typed.parts) > 1 else self._after(words)
        return [choice for choice in found if choice.free or CASELESS(choice.word).startswith(begun)]

    def _after(self, words: list[str]) -> Iterable[Choice]:
        edit = self.session.edit
        if edit is None:
            return self._command(words)
        level = edit.level
        path = ".".join(one.name for one in edit.levels[1:])
        match words:
            case ["do", *rest]:
                return self._command(rest)
            case ["show" | "watch" | "help", *_]:
                return self._command(words)
            case []:
                return [*fields_of(edit.kind, level.message, path), *of(EDIT_HELP)]
            case ["no", *rest]:
                return next_unset(level.message, level.content, rest)
        return next_field(self, edit.kind, level.message, level.content, words, path)

    def _command(self, words: list[str]) -> Iterable[Choice]:
        if not words:
            return [Choice(name, command.summary) for name, command in COMMANDS.items()]
        command = COMMANDS.get(words[0])
        return command.next(self, words[1:]) if command is not None else ()

    def names(self, type: str) -> list[Choice]:
        kind = self.session.registry.types.get(type)
        if kind is None or kind.singleton:
            return []
        client = self.session.client
        place = (client.tenant, client.cloud, type)
        for length in range(len(self.begun) + 1):  # what a shorter beginning has found holds the longer one's, too
            at, found = self._names.get((*place, CASELESS(self.begun[:length])), (-NAMES_KEPT_S, []))
            if time.monotonic() - at < NAMES_KEPT_S and not any(choice.free for choice in found):
                return found
        found = self._asked(type)
        if len(self._names) > 1000:
            self._names.clear()
        self._names[(*place, CASELESS(self.begun))] = (time.monotonic(), found)
        return found

    def _asked(self, type: str) -> list[Choice]:
        try:
            names, count = self.session.client.begun(type, self.begun, within_s=NAMES_WITHIN_S)
        except ShoalError as error:
            return [Choice("WORD", f"the names can't be had: {error.message}", free=True)]
        more = (
            [Choice("...", f"{count - len(names)} more: type their beginning", free=True)] if count > len(names) else []
        )
        return [*(Choice(name) for name in sorted(names) if name), *more]


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
        lines.append(f"  {one_line(word):<{width - 3}} {first}".rstrip())
        lines += [" " * width + line for line in more]
    return "\n".join(lines)


def _quoted(word: str, opened: str) -> str:
    """As a word of the line, in the quotes that the operator has opened, if any."""
    if opened in ("'", '"') and not set(word) & {opened, "\\"}:
        return opened + word + opened
    return shlex.quote(word) if set(word) & set(" \t|'\"\\") else word
