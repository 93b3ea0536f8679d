"""What follows a ``|``: more, grep, count."""

from __future__ import annotations

import re
from collections.abc import Callable

from shoal.errors import Invalid, Problem
from shoal.objects.check import meant

COMMANDS = {
    "more": "a screen at a time",
    "grep": "[-v] [-i] [-e|-E] PATTERN: the lines that match",
    "count": "how many lines",
}
Filter = Callable[[str], str]


def filters(parts: list[list[str]]) -> tuple[list[Filter], bool]:
    """(the filters, whether to page). Raises Invalid for an unknown pipe or a pattern that is none."""
    found: list[Filter] = []
    paged = False
    for words in parts:
        match words[0] if words else "":
            case "more":
                paged = True
            case "count":
                found.append(lambda text: str(len(text.splitlines())))
            case "grep":
                found.append(_grep(words[1:]))
            case other:
                hint = meant(other, COMMANDS) or f"There are: {', '.join(COMMANDS)}."
                raise Invalid([Problem(path="|", value=other, why="unknown pipe", hint=hint)])
    return found, paged


def _grep(words: list[str]) -> Filter:
    flags = [word for word in words if word.startswith("-")]
    patterns = [word for word in words if not word.startswith("-")]
    unknown = [flag for flag in flags if set(flag[1:]) - set("eEvi")]
    if unknown or not patterns:
        raise Invalid([Problem(path="grep", value=" ".join(unknown), why="use grep [-v] [-i] [-e|-E] PATTERN")])
    letters = "".join(flags)
    pattern = "|".join(p if "E" in letters else p.replace(r"\|", "|") for p in patterns)
    try:
        compiled = re.compile(pattern, re.IGNORECASE if "i" in letters else 0)
    except re.error as error:
        raise Invalid([Problem(path="grep", value=pattern, why=f"is no pattern: {error}")]) from None
    wanted = "v" not in letters
    return lambda text: "\n".join(line for line in text.splitlines() if bool(compiled.search(line)) is wanted)
