"""docs/elastic-ha.md names a test, or a difference, for every statement; what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs/elastic-ha.md"
NAMED = re.compile(r"`(test_\w+|\w+\.txt)`")


def rows() -> list[tuple[str, str]]:
    lines = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return [(cells[0], cells[-1]) for cells in lines if cells[0] not in ("Statement", "---")]


@pytest.fixture(scope="module")
def known() -> set[str]:
    functions = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
    names = {name for path in TESTS.rglob("test_*.py") for name in functions.findall(path.read_text())}
    return names | {path.name for path in TESTS.rglob("*.txt")}


@pytest.mark.parametrize(("statement", "held_by"), rows())
def test_a_statement_has_its_test_or_says_how_shoal_differs(statement: str, held_by: str, known: set[str]) -> None:
    named = NAMED.findall(held_by)
    assert named or held_by.startswith("Differs: "), f"nothing holds Shoal to: {statement}"
    assert set(named) <= known, f"no such test: {set(named) - known}"
