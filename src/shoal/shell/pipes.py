"""What follows a ``|``: more, grep, count, json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from shoal.errors import Invalid, Problem
from shoal.objects.check import meant

from .command import Choice, Said, of

COMMANDS = {
    "more": "a screen at a time",
    "grep": "the lines that match: grep [-v] [-i] [-e|-E] PATTERN",
    "count": "how many lines",
    "json": "the same as JSON; comes first",
}
GREP_FLAGS = {
    "-e": "the pattern follows; may be repeated, and \\| stands between several",
    "-E": "an extended pattern: a|b, (..), +, ?",
    "-v": "the lines that don't match",
    "-i": "in any case",
}
BASIC = re.compile(r"\[\^?\]?[^]]*\]|\\.|[|(){}+?]", re.DOTALL)
"""Of a basic pattern: a set of characters, an escape, or what only an escape makes special."""
Filter = Callable[[Said], Said]


def filters(parts: list[list[str]]) -> tuple[list[Filter], bool]:
    """(the filters, whether to page). Raises Invalid for an unknown pipe or a pattern that is none."""
    found: list[Filter] = []
    paged = False
    for words in parts:
        match words[0] if words else "":
            case "more":
                paged = True
            case "count":
                found.append(lambda said: Said(str(len(said.text.splitlines()))))
            case "json":
                found.append(_json)
            case "grep":
                found.append(_grep(words[1:]))
            case other:
                hint = meant(other, COMMANDS) or f"There are: {', '.join(COMMANDS)}."
                raise Invalid([Problem(path="|", value=other[:60], why="unknown pipe", hint=hint)])
        if words[0] != "grep" and words[1:]:
            raise Invalid([Problem(path=f"| {words[0]}", value=words[1][:60], why="takes nothing")])
    return found, paged


def next_word(words: list[str]) -> list[Choice]:
    """What may follow the words after a ``|``."""
    if not words:
        return of(COMMANDS)
    if words[0] != "grep":
        return []
    return [*(c for c in of(GREP_FLAGS) if c.word not in words), Choice("PATTERN", "a regular expression", free=True)]


def _json(said: Said) -> Said:
    if said.data is None:
        raise Invalid(
            [Problem(path="| json", why="that has no JSON form, or is filtered already", hint="Put it first.")]
        )
    text = json.dumps(said.data, indent=2, ensure_ascii=False)
    escaped = "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)
    return Said(escaped, None, verbatim=True)


def _swapped(found: re.Match[str]) -> str:
    """A basic pattern's part as Python has it: ``\\|`` is special there, ``|`` is not."""
    text = found[0]
    if len(text) == 1:
        return "\\" + text
    return text[1] if text[0] == "\\" and text[1] in "|(){}+?" else text


def _grep(words: list[str]) -> Filter:
    flags: list[str] = []
    patterns: list[str] = []
    rest = iter(words)
    for word in rest:
        if word.startswith("-") and word != "-":
            flags.append(word)
            patterns += [next(rest, "")] if "e" in word else []
        else:
            patterns.append(word)
    unknown = [flag for flag in flags if set(flag[1:]) - set("eEvi")]
    if unknown or not any(patterns):
        raise Invalid([Problem(path="grep", value=" ".join(unknown), why="use grep [-v] [-i] [-e|-E] PATTERN")])
    letters = "".join(flags)
    pattern = "|".join(p if "E" in letters else BASIC.sub(_swapped, p) for p in patterns)
    try:
        compiled = re.compile(pattern, re.IGNORECASE if "i" in letters else 0)
    except re.error as error:
        raise Invalid([Problem(path="grep", value=pattern[:60], why=f"is no pattern: {error}")]) from None
    wanted = "v" not in letters

    def matching(said: Said) -> Said:
        lines = [line for line in said.text.splitlines() if bool(compiled.search(line)) is wanted]
        return Said("\n".join(lines), None, said.verbatim)

    return matching
