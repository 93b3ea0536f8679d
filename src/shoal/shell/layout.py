"""What is printed, laid out for a screen that wide: prose breaks between words, tables in their last columns."""

from __future__ import annotations

import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

PROSE_INDENT = "  "
LABEL = re.compile(r" {0,12}\S+(?: \S+){0,2} {2,}(?=\S)")
"""``Free slots   before ...``, ``  09:45:14  waits ...``"""
NOT_PROSE = re.compile(r"configure |API: |\S+$")
"""What may be pasted back, or has no place to break."""
COLOURED = re.compile(r"((?:\x1b\[[\d;]*m)+)([^\x1b]*)(\x1b\[0m)")
TABLE = re.compile(r"\+-[-+]*\+|\| .* \|")
FIELDS = "| Field "
PART = re.compile(r"[^\s-]*-?")
WHOLE: tuple[tuple[Callable[[str], Sequence[str]], int, bool], ...] = (
    (str.split, 12, False),
    (str.split, 6, True),
    (PART.findall, 6, True),
    (lambda text: (), 6, True),
)
"""By and by less: what of a cell stays in one line, characters a column keeps, whether the widest give way, or the last."""
VALUE_LEAST = 24
"""Characters that the values of a table of fields keep, with their frame."""


def on_screen(text: str, stream: TextIO | None = None) -> str:
    """Laid out for the terminal that it goes to (``stream`` None = standard output); what goes elsewhere is as it is."""
    stream = sys.stdout if stream is None else stream
    return fitted(text, shutil.get_terminal_size().columns) if stream.isatty() else text


def fitted(text: str, columns: int) -> str:
    """The same for a screen of so many columns. What may be pasted back is left as it is, and wraps."""
    lines: list[str] = []
    for block in _blocks(text.split("\n")):
        if max(map(len, block)) <= columns:
            lines += block
        elif TABLE.fullmatch(block[0]):
            lines += _of_fields(block, columns) or _narrowed(block, columns) or [_padded(one, columns) for one in block]
        else:
            lines += [part for line in block for part in _broken(line, columns)]
    return "\n".join(lines)


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Tables whole (or what grep has left of them), other lines each alone."""
    block: list[str] = []
    for line in lines:
        goes_on = block and len(line) == len(block[0]) and TABLE.fullmatch(line) and TABLE.fullmatch(block[0])
        if goes_on and not line[0] == block[-1][0] == "+":
            block.append(line)
            continue
        if block:
            yield block
        block = [line]
    if block:
        yield block


def _broken(line: str, columns: int) -> list[str]:
    """A sentence breaks between words, what stands behind a label under its beginning; nothing else does."""
    if coloured := COLOURED.fullmatch(line):
        on, text, off = coloured.groups()
        return [f"{on}{part}{off}" for part in _broken(text, columns)]
    if len(line) <= columns:
        return [line]
    label = LABEL.match(line)
    if not (label or line[0].isalnum()) or NOT_PROSE.match(line):
        return [line]
    indent = " " * len(label[0]) if label and len(label[0]) < columns // 2 else PROSE_INDENT
    return textwrap.wrap(
        line,
        columns,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )


def _padded(line: str, columns: int) -> str:
    """Padding and rules give way, so that only rows with long values wrap."""
    if len(line) <= columns:
        return line
    if line.startswith("+-"):
        return line[: columns - 1] + "+"
    if not (line.startswith("| ") and line.endswith(" |")):
        return line
    kept = line[:-1].rstrip()
    return f"{kept:<{columns - 1}}|" if len(kept) < columns - 1 else kept + " |"


def _edges(block: list[str]) -> list[int]:
    """Where its columns begin and end: by its rules, or where all its rows have a line."""
    rule = next((line for line in block if line[0] == "+"), None)
    if rule is not None:
        return [place for place, character in enumerate(rule) if character == "+"]
    inner = (p for p in range(2, len(block[0]) - 2) if all(line[p - 1 : p + 2] == " | " for line in block))
    return [0, *inner, len(block[0]) - 1]


# --- a table of fields ---


def _of_fields(block: list[str], columns: int) -> list[str] | None:
    """Of ``Field`` and ``Value``: a field a row, unless its value is too long for any row. None if it is no such table."""
    edges = _edges(block)
    ruled = any(line[0] == "+" for line in block)
    if columns < 1.5 * VALUE_LEAST or len(edges) != 3 or (ruled and not any(line.startswith(FIELDS) for line in block)):
        return None
    edge = min(edges[1], columns - VALUE_LEAST)
    rule = "+" + "-" * (edge - 1) + "+" + "-" * (columns - edge - 2) + "+"
    shown = []
    for line in block:
        if line[0] == "+":
            shown.append(rule)
            continue
        field, value = _cells(line, edges)
        shown += _field_row(field, value, columns, edge)
    return shown


def _field_row(field: str, value: str, columns: int, edge: int) -> list[str]:
    """One row, the edge moved to the left for a long value; several rows for one that is longer than that."""
    edge = max(min(edge, columns - len(value) - 4), len(field) + 3 if len(field) < columns // 2 else edge)
    first, rest = _cell(field, edge - 3), _cell(value, columns - edge - 4)
    return [
        f"| {name:<{edge - 3}} | {text:<{columns - edge - 4}} |"
        for name, text in itertools.zip_longest(first, rest, fillvalue="")
    ]


# --- other tables ---


def _cells(line: str, edges: list[int]) -> list[str]:
    return [line[a + 2 : b - 1].rstrip() for a, b in itertools.pairwise(edges)]


def _narrowed(block: list[str], columns: int) -> list[str] | None:
    """A table of several columns with its long cells in several rows, the last columns first; None if it can't be."""
    edges = _edges(block)
    rows = [_cells(line, edges) for line in block if line[0] == "|"]
    widths = _widths(rows, columns) if rows else None
    if widths is None:
        return None
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    shown = []
    for line in block:
        if line[0] == "+":
            shown.append(rule)
            continue
        cells = [_cell(cell, width) for cell, width in zip(_cells(line, edges), widths, strict=True)]
        for texts in itertools.zip_longest(*cells, fillvalue=""):
            shown.append("|" + "|".join(f" {text:<{width}} " for text, width in zip(texts, widths, strict=True)) + "|")
    return shown


def _widths(rows: list[list[str]], columns: int) -> list[int] | None:
    """Of the columns. Words stay whole if they can, and the last columns give way first; else what is between hyphens
    stays whole, else nothing, and the widest columns give way."""
    cells = list(zip(*rows, strict=True))
    room = columns - 3 * len(cells) - 1
    for parts, fewest, widest_first in WHOLE:
        widths = [max(map(len, column)) for column in cells]
        least = [
            min(width, max([fewest, *(len(part) for cell in column for part in parts(cell))]))
            for width, column in zip(widths, cells, strict=True)
        ]
        if sum(least) > room:
            continue
        while sum(widths) > room:
            give = [n for n, width in enumerate(widths) if width > least[n]]
            widths[max(give, key=lambda n: widths[n]) if widest_first else give[-1]] -= 1
        return widths
    return None


def _cell(text: str, width: int) -> list[str]:
    """The lines of a cell: broken between words; a word that is too long behind a hyphen, if there is one."""
    if len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if len(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        while len(word) > width:
            cut = word.rfind("-", 1, width) + 1 or width
            lines[-1:] = [word[:cut], ""]
            word = word[cut:]
        lines[-1] = word
    return [line for line in lines if line] or [""]
