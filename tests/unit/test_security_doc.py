"""docs/security.md: every line of its tables names a test, and the test exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOC = TESTS.parent / "docs" / "security.md"


def test_every_threat_names_a_test_that_exists() -> None:
    rows = [line for line in DOC.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    rows = [row for row in rows if not row.startswith("| Threat")]
    assert len(rows) >= 20
    for row in rows:
        cells = row.strip("| ").split(" | ")
        threat, proof = cells[0], cells[-1]
        files = re.findall(r"`([a-z]+/test_\w+\.py)`", proof)
        assert files, f"no test is named for: {threat}"
        text = "".join((TESTS / file).read_text() for file in files)
        for name in re.findall(r"`(test_\w+)`", proof):
            assert f"def {name}(" in text, f"{name} is in none of {files}"
