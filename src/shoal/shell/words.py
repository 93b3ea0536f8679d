"""A typed line cut into words as a POSIX shell does: quotes, backslashes, the ``|`` between commands, here-documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from shoal.errors import Invalid, Problem

HERE = re.compile(r"(?<!\S)<<([A-Za-z_][A-Za-z0-9_]*)(?!\S)")


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


def commands(text: str) -> list[list[str]]:
    """The words of the command and of each pipe; a ``<<END`` is replaced by the lines up to ``END``. Raises Invalid when
    a quote or a here-document is left open."""
    line, _, rest = text.partition("\n")
    marks = here_documents(line)
    if not marks:
        line, rest = text, ""
    found = cut(line)
    if found.open:
        why = "can't be read: " + (
            "nothing follows the \\" if found.open == "\\" else f"the {found.open} is not closed"
        )
        raise Invalid([Problem(path="", value=line.strip()[:60], why=why)])
    if found.last is not None:
        found.parts[-1].append(found.last)
    bodies = _bodies(marks, rest.split("\n"))
    return [[bodies[word].pop(0) if bodies.get(word) else word for word in part] for part in found.parts]


def here_documents(line: str) -> list[str]:
    """The end words of the here-documents that a line begins."""
    return [match[1] for match in HERE.finditer(line) if not cut(line[: match.start()]).open]


def _bodies(marks: list[str], lines: list[str]) -> dict[str, list[str]]:
    """``<<END`` -> the texts that stand for it, in order."""
    bodies: dict[str, list[str]] = {}
    for mark in marks:
        if mark not in lines:
            why = f"the text after <<{mark} has no end"
            raise Invalid([Problem(path="", why=why, hint=f"End it with a line that is just {mark}.")])
        end = lines.index(mark)
        bodies.setdefault(f"<<{mark}", []).append("\n".join(lines[:end]))
        lines = lines[end + 1 :]
    return bodies


def unfinished(text: str) -> bool:
    """Whether more lines belong to it: it ends in a backslash, or in the middle of a here-document."""
    joined = _joined(text)
    line, _, rest = joined.partition("\n")
    lines = rest.split("\n")
    for mark in here_documents(line):
        if mark not in lines:
            return True
        lines = lines[lines.index(mark) + 1 :]
    return cut(line).open == "\\"


def whole_commands(lines: Iterable[str]) -> Iterator[str]:
    """Lines of a script or of a pasted text, each with those that belong to it."""
    pending: list[str] = []
    for line in lines:
        pending.append(line)
        if not unfinished("\n".join(pending)):
            yield _joined("\n".join(pending))
            pending = []
    if pending:
        yield _joined("\n".join(pending))


def _joined(text: str) -> str:
    """The first line with those it is continued on by a backslash at its end, as one line."""
    line, newline, rest = text.partition("\n")
    while newline and cut(line).open == "\\":
        more, newline, rest = rest.partition("\n")
        line = line[:-1] + more
    return line + newline + rest
