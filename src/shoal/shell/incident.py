"""``shoal incident``: the timeline of what happened, as a table."""

from __future__ import annotations

import datetime
import getpass
import re
import sys
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shoal.errors import Invalid, Problem, Unauthenticated

from .client import Client, Document
from .tables import one_line

BEFORE_MS = 500.0
"""So much before the first sign is shown."""
WIDE = 120
"""Columns of a screen that has room for a column of each thing."""
ROWS_MAX = 300
TAKEOVERS_MAX = 10
UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> int:
    """``90``, ``90s``, ``10m``, ``1h``. Raises Invalid."""
    match = re.fullmatch(r"(\d{1,6})([smh]?)", text.strip())
    if match is None:
        raise Invalid([Problem(path="--since", value=text, why="is no duration", hint="Give 90s, 10m or 1h.")])
    return int(match[1]) * UNITS_S[match[2]]


def fetch(controller: str, user: str, password: str | None, ca: str | None, since: str, service: str) -> Document:
    """The controller's answer. Raises ShoalErrors in words."""
    seconds = seconds_of(since)
    if password is None:
        if not sys.stdin.isatty():
            raise Unauthenticated("No password. Set SHOAL_PASSWORD, or give --password.")
        password = getpass.getpass(f"Password of {user}: ")
    client = Client(controller, user, password, ca=ca)
    try:
        client.login()
        query = f"since={seconds}" + (f"&virtualservice={quote(service, safe='')}" if service else "")
        found: Document = client.call("GET", f"analytics/incident?{query}")
        return found
    finally:
        client.close()


def show(found: Document, console: Console, *, everything: bool) -> None:
    entries, zero = found["entries"], found["first_sign"]
    if not entries:
        console.print("Nothing is recorded of that time.")
        return
    if not zero:
        console.print("No sign of trouble in that time. What was recorded:")
        zero, everything = entries[0]["at"], True
        entries = [{**entry, "after_ms": (entry["at"] - zero) * 1000} for entry in entries]
    moment = datetime.datetime.fromtimestamp(zero, datetime.UTC)
    console.print(f"+0.0 ms is {moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC.")
    shown = [e for e in entries if everything or e["after_ms"] >= -BEFORE_MS]
    console.print(_table(shown[:ROWS_MAX], wide=console.width >= WIDE))
    for note in _notes(found, len(entries) - len(shown), len(shown) - ROWS_MAX):
        console.print(note, markup=False)
    takeovers = found["takeovers"]
    for takeover in takeovers[:TAKEOVERS_MAX]:
        console.print(one_line(takeover["sentence"]), markup=False)
    if len(takeovers) > TAKEOVERS_MAX:
        console.print(f"... and {len(takeovers) - TAKEOVERS_MAX} more takeovers (--json has them all).")


def _table(entries: list[Document], *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("ms", justify="right", no_wrap=True)
    for title in ("who", "what", *(("virtual service", "about") if wide else ()), "detail"):
        table.add_column(title, overflow="fold", no_wrap=title == "who" and not wide)
    for entry in entries:
        who = f"{entry['who']} {entry['part']}".strip()
        length = f" ({entry['ms']:.1f} ms)" if entry["ms"] else ""
        said = [entry["vip"], entry["about"], entry["text"] + length]
        said = (
            said
            if wide
            else [", ".join(filter(None, said[:2])) + (": " if any(said[:2]) and said[2] else "") + said[2]]
        )
        cells = (f"{entry['after_ms']:+.1f}", who, entry["what"], *said)
        table.add_row(*(Text(one_line(cell)) for cell in cells))  # what others wrote is no markup
    return table


def _entries(count: int) -> str:
    return "1 entry is" if count == 1 else f"{count} entries are"


def _notes(found: Document, earlier: int, further: int) -> list[str]:
    notes = []
    if earlier > 0:
        notes.append(f"{_entries(earlier)} left out before it; --all shows them.")
    if further > 0:
        notes.append(f"{_entries(further)} left out at the end; --json has them, --virtualservice chooses.")
    if not found["prober"]:
        notes.append("No prober runs (shoal up --no-probe): what clients saw is not known.")
    if found["silent"]:
        notes.append(f"Nothing recorded by: {', '.join(found['silent'])}.")
    if found["clock_error_ms"]:
        notes.append(f"Clocks of other machines were compared to within {found['clock_error_ms']:.1f} ms.")
    return notes
