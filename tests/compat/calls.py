"""What was seen of each client's calls, and the table of it in docs/compatibility.md.

A suite notes a call when it has seen it do what it should. `test_table`, which runs last, compares with the table;
``scripts/compat`` has it written.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN = "<!-- calls: made by `scripts/compat` from what the suites in tests/compat saw; a test compares -->"
END = "<!-- /calls -->"
SEEN: dict[str, dict[str, str]] = {}
"""Client -> call -> what was seen."""
AVISDK = f"avisdk {version('avisdk')}"


def seen(client: str, call: str, result: str) -> None:
    before = SEEN.setdefault(client, {}).get(call)
    SEEN[client][call] = f"{before}; {result}" if before else result


def section() -> str:
    """The part of the document between the marks."""
    return DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0].strip("\n")


def rows(client: str) -> list[str]:
    """Of the table, as they would be written."""
    return sorted(f"| {client} | `{call}` | {result} |" for call, result in SEEN[client].items())


def write() -> None:
    """The rows of the clients seen replace theirs, and those of others stay."""
    head = ["| Client | Call | Seen |", "| --- | --- | --- |"]
    kept = [line for line in section().splitlines()[2:] if not line.startswith(tuple(f"| {c} |" for c in SEEN))]
    lines = sorted([*kept, *(row for client in SEEN for row in rows(client))])
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", *head, *lines, f"{END}{after}"]))
