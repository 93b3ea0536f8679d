"""Rows of HAProxy's ``show stat``. Most rows of a large engine are idle: those are known again by their beginning, and
only what has changed is parsed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from sys import intern

import msgspec

LAST_QUIET_COLUMN = "chkdown"
"""The columns up to it hold names, every total of bytes and sessions, state and failed checks. Those after it change by
themselves (``lastchg``, ``lastsess``) or together with these."""
FRONTEND = "FRONTEND"
TEXTS = ("pxname", "svname", "status", "check_status", "last_chk")
NUMBERS = (
    "scur",
    "stot",
    "req_tot",
    "bin",
    "bout",
    "econ",
    "eresp",
    "ereq",
    "wretr",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "qtime",
    "ctime",
    "rtime",
    "ttime",
)


class Row(msgspec.Struct, frozen=True):
    """What is used of one row. ``proxy`` and ``name`` as in the configuration. ``total``: sessions, for a frontend
    connections. Times are HAProxy's means over the last 1,024 sessions, in ms; a frontend has none."""

    proxy: str
    name: str
    status: str
    check: str
    current: int = 0
    total: int = 0
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    errors: int = 0
    retries: int = 0
    responses: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    """By class, 1xx to 5xx."""
    queue_ms: int = 0
    connect_ms: int = 0
    response_ms: int = 0
    total_ms: int = 0


class Table:
    """Reads one worker's ``show stat`` again and again. What is unchanged is the very object it was before: a row, and
    all of them."""

    def __init__(self) -> None:
        self._header = ""
        self._beginnings: list[str] = []
        self._rows: list[Row | None] = []
        self._read: Sequence[Row] = ()

    def read(self, text: str) -> Sequence[Row]:
        """The CSV of ``show stat``; rows that are cut short are left out."""
        header, *lines = text.lstrip("# ").splitlines() or [""]
        if header != self._header:
            self._header, self._beginnings, self._rows = header, [], []
        known = len(self._beginnings)
        changed = [
            number
            for number, line in enumerate(lines)
            if number >= known or not line.startswith(self._beginnings[number])
        ]
        more = len(lines) - known
        if not changed and not more and known:
            return self._read
        if more > 0:
            self._beginnings += [""] * more
            self._rows += [None] * more
        else:
            del self._beginnings[len(lines) :], self._rows[len(lines) :]
        names = header.split(",")
        quiet = names.index(LAST_QUIET_COLUMN) + 1 if LAST_QUIET_COLUMN in names else 0
        for number, row in zip(changed, _parsed(names, [lines[n] for n in changed]), strict=True):
            self._beginnings[number], self._rows[number] = _beginning(lines[number], row, quiet), row
        self._read = tuple(row for row in self._rows if row is not None)
        return self._read


def parse_rows(text: str) -> Sequence[Row]:
    """All rows of one ``show stat``."""
    return Table().read(text)


def _beginning(line: str, row: Row | None, quiet: int) -> str:
    """What a line that says the same begins with. A frontend's idle line is the same from end to end."""
    if row is None:
        return f"{line}\n"  # which no line is
    if row.name == FRONTEND or not quiet:
        return line
    beginning = ",".join(line.split(",", quiet)[:quiet]) + ","
    return line if '"' in beginning else beginning


def _parsed(names: Sequence[str], lines: Sequence[str]) -> Iterable[Row | None]:
    at = {name: index for index, name in enumerate(names)}
    texts, numbers = [at.get(name, -1) for name in TEXTS], [at.get(name, -1) for name in NUMBERS]

    def row(cells: list[str]) -> Row | None:
        if len(cells) < len(names) - 1:
            return None
        cells.append("")  # what a column is that this HAProxy does not have
        return _row([cells[i] for i in texts], [int(c) if (c := cells[i]).isdigit() else 0 for i in numbers])

    return map(row, csv.reader(lines))


def _row(texts: list[str], n: list[int]) -> Row:
    return Row(
        intern(texts[0]),  # thousands of rows share few texts
        intern(texts[1]),
        intern(texts[2]),
        intern(" ".join(filter(None, (texts[3].lstrip("* "), texts[4])))),
        n[0],
        n[1],
        n[2],
        n[3],
        n[4],
        n[5] + n[6] + n[7],
        n[8],
        (n[9], n[10], n[11], n[12], n[13]),
        n[14],
        n[15],
        n[16],
        n[17],
    )
