"""Kept transcripts at 80 and at 200 columns: read them, they are what an operator sees. Those in ``staged`` are of a system
with engines on paper.

``SHOAL_WRITE_TRANSCRIPTS=1 scripts/test tests/compat/test_transcripts.py`` writes them anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_served import Controller
from tests.api_world import PASSWORD, key_pair
from tests.compat.staged import staged_world
from tests.compat.terminal import BASH, SHOAL, Terminal
from tests.compat.transcript import LINUX_PROMPT, Reader, difference

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

KEPT = Path(__file__).parent / "transcripts"
FILES = KEPT / "files"
"""What stands where the transcripts are typed."""
WRITES = bool(os.environ.get("SHOAL_WRITE_TRANSCRIPTS"))
LINUX = "$ "


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("transcripts")) as controller:
        yield controller


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[Controller]:
    """Of each transcript's own: they move what runs."""
    (tmp_path / "staged").mkdir()
    with Controller(tmp_path / "staged", staged_world) as controller:
        yield controller


def named(file: Path) -> str:
    return str(file.relative_to(KEPT).with_suffix(""))


@pytest.mark.parametrize("file", sorted(KEPT.rglob("*-[0-9]*.txt")), ids=named)
def test_the_shell_says_what_was_kept(file: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    controller: Controller = request.getfixturevalue("staged" if file.parent.name == "staged" else "fresh")
    here = shutil.copytree(FILES, tmp_path / "here")
    for name, text in zip(("www.key", "www.pem"), key_pair(), strict=True):
        (here / name).write_text(text)
    kept = file.read_text()
    linux = kept.startswith(LINUX)
    environment = {
        "SHOAL_PASSWORD": PASSWORD, "SHOAL_CONTROLLER": f"https://127.0.0.1:{controller.port}", "HOME": str(tmp_path),
        **(LINUX_PROMPT if linux else {}),
    }  # fmt: skip
    program, words = (BASH, ()) if linux else (SHOAL, ("shell",))
    columns = int(file.stem.rpartition("-")[2])
    with Terminal(*words, environment=environment, program=program, columns=columns, directory=here) as terminal:
        now = Reader(terminal).play(kept)
    if WRITES:
        file.write_text(now)
    else:
        assert not (different := difference(kept, now)), different
    assert "Traceback" not in now
    assert not [line for line in now.splitlines() if line.startswith(("+-", "| ")) and len(line) > columns]
