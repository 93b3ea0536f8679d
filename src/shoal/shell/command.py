"""What a command of the shell is: its help, what it does, and what may come next while it is typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shoal.errors import Invalid, Problem
from shoal.objects.check import meant

if TYPE_CHECKING:
    from .session import Session

NUMBER, WORD, FILE = "NUMBER", "WORD", "FILE"
"""What an option takes, where it is no name of an object."""


class Said(NamedTuple):
    """What a command prints; ``data`` is the same for ``| json``, None if there is no such thing; ``verbatim``: to be
    pasted elsewhere, so it is not laid out for the screen."""

    text: str
    data: Any = None
    verbatim: bool = False


class Choice(NamedTuple):
    """A word that may stand here; ``free`` if it only describes one (``WORD``, ``NUMBER``)."""

    word: str
    help: str = ""
    free: bool = False


class Known(Protocol):
    """What completion may ask for."""

    @property
    def session(self) -> Session: ...

    @property
    def begun(self) -> str:
        """The word at the cursor, as far as it is typed."""
        ...

    def names(self, type: str) -> list[Choice]:
        """Of the objects of a type, those that begin as the word at the cursor does."""
        ...


def nothing_more(known: Known, words: list[str]) -> Iterable[Choice]:
    return ()


class Command(NamedTuple):
    """``usage``: one line each, as it is typed. ``run`` gets the words after the command's own; ``next`` gives what may
    follow them. ``options`` are explained in the command's help."""

    summary: str
    usage: tuple[str, ...]
    run: Callable[[Session, list[str]], Said | str]
    next: Callable[[Known, list[str]], Iterable[Choice]] = nothing_more
    options: tuple[Option, ...] = ()


class Option(NamedTuple):
    """A word of a command, and what follows it: ``takes`` is "" for nothing, NUMBER, WORD, FILE, or an object type whose
    names are meant."""

    word: str
    help: str
    takes: str = ""


def options_of(command: str, options: Sequence[Option], words: list[str]) -> dict[str, Any]:
    """Word -> its value (True for one that takes none). Raises Invalid."""
    known = {option.word: option for option in options}
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option = known.get(word)
        if option is None:
            hint = meant(word, known) or (f"There are: {', '.join(known)}." if known else "It takes none.")
            raise Invalid([Problem(path=command, value=word[:60], why="unknown option", hint=hint)])
        if not option.takes:
            found[word] = True
        elif not rest:
            raise Invalid([Problem(path=f"{command} {word}", why=f"a value is required: {option.help}")])
        else:
            found[word] = rest.pop(0)
            if option.takes == NUMBER and not found[word].isdecimal():
                why = f"must be a whole number: {option.help}"
                raise Invalid([Problem(path=f"{command} {word}", value=found[word][:60], why=why)])
    return found


def next_option(known: Known, options: Sequence[Option], words: list[str]) -> list[Choice]:
    """After the words of a command that come before its options."""
    by_word = {option.word: option for option in options}
    last = by_word.get(words[-1]) if words else None
    before = by_word.get(words[-2]) if len(words) > 1 else None
    if last is not None and last.takes and not (before is not None and before.takes):
        if last.takes in (NUMBER, WORD, FILE):
            return [Choice(last.takes, last.help, free=True)]
        return known.names(last.takes)
    return [Choice(option.word, option.help) for option in options if option.word not in words]


def of(texts: Mapping[str, str]) -> list[Choice]:
    return [Choice(word, help) for word, help in texts.items()]


def manual(name: str, command: Command) -> str:
    """``help <command>``."""
    lines = [f"{name}: {command.summary}.", "", *(f"  {line}" for line in command.usage)]
    if command.options:
        width = max(len(option.word) for option in command.options)
        lines += ["", *(f"  {option.word:<{width}}  {option.help}" for option in command.options)]
    return "\n".join(lines)
