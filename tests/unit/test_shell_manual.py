"""Man pages and shell completion are made of the commands, and complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from shoal.main import cli
from shoal.shell.commands import COMMANDS
from shoal.shell.manual import install, pages, plain, what_looks_there
from tests.api_served import Controller
from tests.api_world import PASSWORD


def test_every_command_and_option_has_its_place() -> None:
    found = pages(cli)
    for name in cli.commands:
        assert f"shoal-{name}.1" in found and f"shoal\\-{name}".replace("\\-\\-", "\\-") in found["shoal.1"]
    shell = plain(found["shoal-shell.1"])
    assert all(f"  {command.usage[0]}" in shell for command in COMMANDS.values())
    assert (
        "--controller" in shell
        and "SHOAL_PASSWORD" in shell
        and "~/.config/shoal/config.toml" in plain(found["shoal.1"])
    )


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_troff_has_nothing_to_say_against_them() -> None:
    for name, text in pages(cli).items():
        done = subprocess.run(
            ["groff", "-man", "-ww", "-Tascii"], input=text, text=True, capture_output=True, check=True
        )
        assert not done.stderr, name


def test_a_prefix_where_nobody_looks_is_told_of(tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["manual", "--install", str(tmp_path)]).output
    for way in ("bash: . ", "zsh:  fpath+=", "man:  export MANPATH="):
        assert way in told and str(tmp_path / "share") in told
    assert what_looks_there(Path("/usr/local")) == []


def test_install_puts_them_where_they_are_looked_for(tmp_path: Path) -> None:
    files = {str(path.relative_to(tmp_path)) for path in install(cli, tmp_path)}
    assert {"man/man1/shoal.1", "man/man1/shoal-shell.1", "bash-completion/completions/shoal"} <= files
    assert all(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_a_page_is_shown_and_a_wrong_one_told() -> None:
    assert "scaleout virtualservice" in CliRunner().invoke(cli, ["manual", "shell"]).output
    assert "Did you mean shell" in CliRunner().invoke(cli, ["manual", "shel"]).output


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("manual")) as controller:
        yield controller


COMPLETED = {
    "shoal sta": "status",
    "shoal get serviceenginegr": "serviceenginegroup",
    "shoal get pool,vsv": "pool,vsvip",
    "shoal get serviceenginegroup De": "Default-Group",
    "shoal whatif --fail-a": "--fail-any",
}


def test_bash_completes(controller: Controller) -> None:
    """The script that is installed, in a real bash, as Tab calls it."""
    tabs = "".join(
        f'COMP_WORDS=({line}) COMP_CWORD={line.count(" ")} COMPREPLY=(); _shoal_completion shoal; echo "${{COMPREPLY[*]}}"\n'
        for line in COMPLETED
    )
    program = Path(sys.executable).parent
    script = f'PATH={program}:$PATH\ncompopt() {{ :; }}\neval "$(shoal completion bash)"\n{tabs}'
    environment = {"SHOAL_CONTROLLER": f"https://127.0.0.1:{controller.port}", "SHOAL_PASSWORD": PASSWORD}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=os.environ | environment, check=True
    )
    for word, said in zip(COMPLETED.values(), done.stdout.splitlines(), strict=True):
        assert word in said.split(), done.stdout + done.stderr
