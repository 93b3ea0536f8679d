"""What is printed, laid out for a screen that wide: prose breaks between words, tables in their last columns."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence

PROSE_INDENT = "  "
LABEL = re.compile(r" {0,12}\S+(?: \S+){0,2} {2,}(?=\S)")
"""``Free slots   before ...``, ``  09:45:14  waits ...``"""
NOT_PROSE = re.compile(r"configure |API: |\S+$")
"""What may be pasted back, or has no place to break."""
CELL_LEAST = 12
"""Characters a column keeps."""


def fitted(text: str, columns: int) -> str:
    """The same for a screen of so many columns. What can't be made to fit (a uuid in a table of fields) wraps as it is."""
    lines: list[str] = []
    for block in _blocks(text.split("\n")):
        if max(map(len, block)) <= columns:
            lines += block
        elif block[0].startswith("+-"):
            lines += _narrowed(block, columns) or [_padded(line, columns) for line in block]
        else:
            lines += [part for line in block for part in _broken(line, columns)]
    return "\n".join(lines)


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Tables whole, other lines each alone."""
    table: list[str] = []
    for line in lines:
        if line.startswith("+-") or (table and line.startswith("| ")):
            table.append(line)
            continue
        if table:
            yield table
            table = []
        yield [line]
    if table:
        yield table


def _broken(line: str, columns: int) -> list[str]:
    """A sentence breaks between words, what stands behind a label under its beginning; nothing else does."""
    label = None if line.startswith("|") else LABEL.match(line)  # a row of a table, picked by grep, stays one
    if len(line) <= columns or not (label or line[0].isalpha()) or NOT_PROSE.match(line):
        return [_padded(line, columns)]
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


def _narrowed(block: list[str], columns: int) -> list[str] | None:
    """A table of several columns with its long cells in several rows, the last columns first; None if it can't be."""
    rule = block[0]
    edges = [place for place, character in enumerate(rule) if character == "+"]
    if len(edges) < 4 or any(
        "\x1b" in line or len(line) != len(rule) for line in block
    ):  # Field and Value stay as they are
        return None
    rows = [[line[a + 2 : b - 1].rstrip() for a, b in itertools.pairwise(edges)] for line in block if line[0] == "|"]
    widths = [max(len(row[n]) for row in rows) for n in range(len(edges) - 1)]
    least = [max([CELL_LEAST, *(len(word) for row in rows for word in row[n].split())]) for n in range(len(widths))]
    excess = sum(widths) + 3 * len(widths) + 1 - columns
    for n in reversed(range(len(widths))):
        given = max(0, min(excess, widths[n] - least[n]))
        widths[n] -= given
        excess -= given
    if excess > 0:
        return None
    line = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    shown = [line]
    for number, row in enumerate(rows):
        cells = [
            textwrap.wrap(cell, width, break_on_hyphens=False) or [""] for cell, width in zip(row, widths, strict=True)
        ]
        for part in range(max(map(len, cells))):
            texts = [cell[part] if part < len(cell) else "" for cell in cells]
            shown.append("|" + "|".join(f" {text:<{width}} " for text, width in zip(texts, widths, strict=True)) + "|")
        shown += [line] if number == 0 else []
    return [*shown, line]
