"""Kept transcripts of the shell at 80 and at 200 columns: read them, they are what an operator sees.

``SHOAL_WRITE_TRANSCRIPTS=1 scripts/test tests/compat/test_transcripts.py`` writes them anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_served import Controller
from tests.api_world import PASSWORD
from tests.compat.terminal import Terminal
from tests.compat.transcript import Reader, difference

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

KEPT = Path(__file__).parent / "transcripts"
WRITES = bool(os.environ.get("SHOAL_WRITE_TRANSCRIPTS"))


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("transcripts")) as controller:
        yield controller


@pytest.mark.parametrize("file", sorted(KEPT.glob("*.txt")), ids=lambda file: file.stem)
def test_the_shell_says_what_was_kept(controller: Controller, file: Path) -> None:
    columns = int(file.stem.rpartition("-")[2])
    environment = {"SHOAL_PASSWORD": PASSWORD, "SHOAL_CONTROLLER": f"https://127.0.0.1:{controller.port}"}
    kept = file.read_text()
    with Terminal("shell", environment=environment, columns=columns) as terminal:
        now = Reader(terminal).play(kept)
    if WRITES:
        file.write_text(now)
    else:
        assert not (different := difference(kept, now)), different
