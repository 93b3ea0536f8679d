"""A typed line cut into words as a POSIX shell does: quotes, backslashes, and the ``|`` between commands."""

from __future__ import annotations

from typing import NamedTuple

from shoal.errors import Invalid, Problem


class Cut(NamedTuple):
    """``parts`` holds the finished words of each command between pipes; ``last`` is the word that the text ends in,
    without its quotes (None after a blank), ``start`` where it begins, ``open`` the quote or backslash left open."""

    parts: list[list[str]]
    last: str | None
    start: int
    open: str


def cut(text: str) -> Cut:
    """Any text, finished or not."""
    parts: list[list[str]] = [[]]
    word, begun, start, quote, escaped = "", False, len(text), "", False
    for index, character in enumerate(text):
        ends = not quote and not escaped and (character.isspace() or character == "|")
        if ends:
            if begun:
                parts[-1].append(word)
            if character == "|":
                parts.append([])
            word, begun = "", False
            continue
        if not begun:
            begun, start = True, index
        if escaped:
            word += character if quote != '"' or character in '"\\' else "\\" + character
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote, word = ("", word) if character == quote else (quote, word + character)
        elif character in "'\"":
            quote = character
        else:
            word += character
    return Cut(parts, word if begun else None, start if begun else len(text), "\\" if escaped else quote)


def commands(line: str) -> list[list[str]]:
    """The words of the command and of each pipe. Raises Invalid when a quote is left open."""
    found = cut(line)
    if found.open:
        why = "can't be read: " + (
            "nothing follows the \\" if found.open == "\\" else f"the {found.open} is not closed"
        )
        raise Invalid([Problem(path="", value=line.strip()[:60], why=why)])
    if found.last is not None:
        found.parts[-1].append(found.last)
    return found.parts
