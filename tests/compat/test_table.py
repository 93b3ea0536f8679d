"""The table of client calls in docs/compatibility.md is what the suites have just seen. Runs after them (by its name)."""

from __future__ import annotations

import os

import pytest

from . import calls


def test_the_table_is_what_was_seen(request: pytest.FixtureRequest) -> None:
    config = request.config
    if not calls.SEEN or config.option.keyword or any("::" in argument for argument in config.args):
        pytest.skip("not all suites of a client have run")
    if os.environ.get("SHOAL_COMPAT_WRITE"):
        calls.write()
    section = calls.section().splitlines()
    for client in calls.SEEN:
        written = [line for line in section if line.startswith(f"| {client} |")]
        assert written == calls.rows(client), f"docs/compatibility.md differs on {client}: run scripts/compat"
