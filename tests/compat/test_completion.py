"""Completion of `shoal` in real Linux shells, and its man pages, as `shoal manual --install` puts them there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_served import Controller
from tests.api_world import PASSWORD
from tests.compat.terminal import BASH, CTRL_U, ENTER, PATH, SHOAL, TAB, Terminal

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
PROMPT = "$"
COMPLETED = {
    "stat": "status ",
    "get serviceenginegr": "get serviceenginegroup ",
    "get pool,vsv": "get pool,vsvip ",
    "get serviceenginegroup De": "get serviceenginegroup Default-Group ",
    "whatif --fail-a": "whatif --fail-any ",
}


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("completion")) as controller:
        yield controller


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed, as below /usr/local."""
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run([*SHOAL, "manual", "--install", str(prefix)], check=True, capture_output=True)
    return prefix


@pytest.fixture
def environment(controller: Controller, prefix: Path, tmp_path: Path) -> dict[str, str]:
    share = f"{prefix / 'share'}:/usr/local/share:/usr/share"
    return {
        "SHOAL_CONTROLLER": f"https://127.0.0.1:{controller.port}", "SHOAL_PASSWORD": PASSWORD, "HOME": str(tmp_path),
        "PATH": PATH, "PS1": f"{PROMPT} ", "XDG_DATA_DIRS": share, "MANPATH": str(prefix / "share" / "man"),
    }  # fmt: skip


def completes(terminal: Terminal) -> None:
    for typed, whole in COMPLETED.items():
        terminal.type(f"shoal {typed}{TAB}")
        terminal.stands_at(f"{PROMPT} shoal {whole}")
        terminal.type("x")  # behind the blank that ends the word
        terminal.stands_at(f"{PROMPT} shoal {whole}x")
        terminal.type(CTRL_U)
        terminal.stands_at(PROMPT)
    terminal.clear(PROMPT)
    terminal.type(f"shoal w{TAB}{TAB}")
    terminal.stands_at(f"{PROMPT} shoal whatif")
    terminal.type(CTRL_U)
    terminal.stands_at(PROMPT)
    terminal.clear(PROMPT)
    terminal.type(f"shoal s{TAB}{TAB}")
    terminal.shows("shell", "simulate", "status")
    terminal.type(CTRL_U)


@pytest.mark.skipif(not BASH_COMPLETION.exists(), reason="no bash-completion here")
def test_bash_finds_what_is_installed(environment: dict[str, str]) -> None:
    with Terminal(environment=environment, program=BASH, columns=80) as terminal:
        terminal.stands_at(PROMPT)
        terminal.type(f". {BASH_COMPLETION}{ENTER}")
        terminal.until(lambda: terminal.line == PROMPT and str(BASH_COMPLETION) in terminal.text, "the prompt")
        completes(terminal)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_finds_what_is_installed(environment: dict[str, str], prefix: Path) -> None:
    with Terminal("-f", environment=environment, program=("zsh",), columns=80) as terminal:
        terminal.stands_at(PROMPT)
        functions = prefix / "share" / "zsh" / "site-functions"
        terminal.type(f"fpath=({functions} $fpath); autoload -U compinit; compinit -u{ENTER}")
        terminal.until(lambda: terminal.line == PROMPT and "compinit" in terminal.text, "the prompt")
        completes(terminal)


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
@pytest.mark.parametrize("columns", [80, 200])
def test_the_man_page_is_found_and_fits_the_screen(environment: dict[str, str], prefix: Path, columns: int) -> None:
    found = subprocess.run(["man", "-w", "shoal-shell"], env=os.environ | environment, text=True, capture_output=True)
    assert found.stdout.strip() == str(prefix / "share" / "man" / "man1" / "shoal-shell.1"), found.stderr
    with Terminal("shoal", environment=environment, program=("man",), columns=columns) as terminal:
        terminal.shows("SHOAL(1)", "a software-defined load balancer", "SYNOPSIS")
        assert any(row.strip().startswith("shoal COMMAND") for row in terminal.rows)
        terminal.type("q")
        assert terminal.ends() == 0


def test_scripts_setup_has_installed_them() -> None:
    """Beside the program that is in the PATH, where `man` looks."""
    share = Path(SHOAL[0]).parents[1] / "share"
    assert (share / "man" / "man1" / "shoal.1").exists() and (share / "zsh" / "site-functions" / "_shoal").exists()
    assert "shoal-whatif" in (share / "man" / "man1" / "shoal.1").read_text().replace("\\-", "-")
