"""Schemathesis on a live controller, all checks on: a bounded number of examples of the types that are acted on.

``scripts/fuzz-api`` asks everything, for long.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.fuzz_api import asked

from .calls import seen

ACTED_ON = (
    "^/api/(macro|virtualservice|vsvip|pool|healthmonitor|serviceenginegroup|networkprofile|sslprofile|tenant|useraccount|"
    "controllerproperties|analytics/.*|whatif|initial-data|cluster/.*|virtualservice-inventory)(/.uuid.)?$"
)
EXAMPLES = 2
WITHIN_S = 280.0


@pytest.mark.timeout(300)
def test_the_api_keeps_what_its_document_promises(tmp_path: Path) -> None:
    found = asked(tmp_path, ["--phases", "fuzzing", "--max-examples", str(EXAMPLES)], ACTED_ON, within_s=WITHIN_S)
    assert not found.failures, found.text
    assert found.requests > 100 and found.writes > 10
    seen(f"schemathesis {version('schemathesis')}", "st run", "all checks: no server error, nothing undocumented")
