"""The planted bugs still fit the source (`python -m tests.planted` shows that the suite finds them)."""

from __future__ import annotations

import pytest

from tests.planted.__main__ import PROJECT
from tests.planted.bugs import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_fits_the_source(bug: Bug) -> None:
    source = (PROJECT / "src/shoal" / bug.file).read_text()
    assert source.count(bug.old) == 1, f"mend tests/planted/bugs.py: {bug.file} has changed"


def test_there_are_twenty_and_no_two_are_alike() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20
