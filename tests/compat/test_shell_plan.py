"""The question before a change that moves traffic, as a person meets it: a real terminal, API and controller."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from tests.api_served import Controller
from tests.api_world import PASSWORD, ControlledWorld, controlled_world
from tests.compat.terminal import CTRL_C, ENTER, Terminal

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

TOP = "[admin:Controller-1]: >"
ENGINE = "[admin:Controller-1]: serviceengine>"
GROUP = "[admin:Controller-1]: serviceenginegroup>"
QUESTION = "Apply? [y/N]"


class Stage:
    """Three engines that are up; two virtual services on the first two."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.world = cast(ControlledWorld, controller.world)
        controller.ask(partial(self.world.service, "web", "10.9.0.5"))
        controller.ask(partial(self.world.service, "shop", "10.9.0.6"))
        self.engines = controller.ask(partial(self.world.staged, 3))

    def open(self, *words: str, columns: int = 100) -> Terminal:
        url = f"https://127.0.0.1:{self.controller.port}"
        return Terminal("shell", "--controller", url, *words, environment={"SHOAL_PASSWORD": PASSWORD}, columns=columns)

    def enable_state(self, engine: str) -> str:
        found = next(d for d in self.world.view.all("serviceengine") if d["name"] == engine)
        return str(found.get("enable_state", "SE_STATE_ENABLED"))

    def dies(self, engine: str) -> None:
        found = next(d for d in self.world.view.all("serviceengine") if d["name"] == engine)
        self.world.controller.fleet.live(found["uuid"]).gone = True


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Controller(tmp_path, controlled_world) as controller:
        yield Stage(controller)


def disable(terminal: Terminal, engine: str) -> None:
    """An edit that is about to be saved."""
    terminal.stands_at(TOP)
    terminal.run(f"configure serviceengine {engine}", TOP, ENGINE)
    terminal.run("enable_state se_state_disabled", ENGINE)
    terminal.clear(ENGINE)
    terminal.type("save" + ENTER)


@pytest.mark.parametrize("columns", [80, 200])
def test_the_plan_is_shown_and_no_keeps_the_edit_and_yes_applies_it(stage: Stage, columns: int) -> None:
    first = stage.engines[0]
    with stage.open(columns=columns) as terminal:
        disable(terminal, first)
        terminal.stands_at(QUESTION)
        said = terminal.text
        assert "1 VIP moves to another owner" in said
        assert f"| 10.9.0.5 web | {first} | " in said and "| hand-over, drain |" in said
        assert "hand-over: another engine answers at once; open connections may last 30 s more." in said
        assert f"web: leaves {first}: " in said
        for answer in (ENTER, "n" + ENTER, "yay" + ENTER, CTRL_C):
            terminal.type(answer)
            terminal.shows("Nothing was done. The edit is kept: change it, or cancel.")
            terminal.stands_at(ENGINE)
            assert stage.enable_state(first) == "SE_STATE_ENABLED"
            terminal.clear(ENGINE)
            terminal.type("save" + ENTER)
            terminal.stands_at(QUESTION)
        terminal.type("y" + ENTER)
        terminal.stands_at(TOP)
        assert stage.enable_state(first) == "SE_STATE_DISABLED"
        assert "| enable_state | SE_STATE_DISABLED |" in terminal.everything


def test_a_plan_that_changed_while_the_operator_thought_is_shown_again(stage: Stage) -> None:
    first, _, third = stage.engines
    with stage.open() as terminal:
        disable(terminal, first)
        terminal.stands_at(QUESTION)
        stage.controller.ask(partial(_at_once, partial(stage.dies, third)))
        terminal.type("y" + ENTER)
        terminal.shows("Things have changed meanwhile, and nothing was done:", f"Engine {third} is down (it was up).")
        terminal.stands_at(QUESTION)
        assert stage.enable_state(first) == "SE_STATE_ENABLED"
        terminal.type("y" + ENTER)
        terminal.stands_at(TOP)
        assert stage.enable_state(first) == "SE_STATE_DISABLED"


async def _at_once(what: partial[None]) -> None:
    what()


def test_what_moves_nothing_is_saved_without_a_question(stage: Stage) -> None:
    with stage.open() as terminal:
        terminal.stands_at(TOP)
        terminal.run("configure serviceenginegroup Default-Group", TOP, GROUP)
        terminal.run("description harmless", GROUP)
        terminal.run("max_se 9", GROUP)
        assert "| max_se | 9 |" in terminal.run("save", GROUP, TOP)
        terminal.run("configure serviceenginegroup Default-Group max_se 3", TOP, GROUP)
        terminal.run("max_vs_per_se 1", GROUP)
        said = terminal.run("save", GROUP, TOP)
        assert "Warning: 1 of 1 buffer slots" not in said
        terminal.run("configure serviceenginegroup Default-Group buffer_se 2", TOP, GROUP)
        assert "Warning: 1 of 2 buffer slots are free and max_se 3 is reached." in terminal.run("save", GROUP, TOP)
        assert QUESTION not in terminal.everything


def test_engines_that_an_edit_of_the_group_makes_are_shown(stage: Stage) -> None:
    with stage.open() as terminal:
        terminal.stands_at(TOP)
        terminal.run("configure serviceenginegroup Default-Group", TOP, GROUP)
        terminal.run("buffer_se 3", GROUP)
        terminal.type("save" + ENTER)
        terminal.stands_at(QUESTION)
        assert "1 engine is made" in terminal.text and "Made: new engine 1: the N+M buffer is short" in terminal.text
        terminal.type("n" + ENTER)
        terminal.stands_at(GROUP)
        terminal.run("cancel", GROUP, TOP)


def test_what_takes_traffic_off_asks_too(stage: Stage) -> None:
    first = stage.engines[0]
    with stage.open() as terminal:
        terminal.stands_at(TOP)
        for command, words in (
            ("migrate virtualservice web", "| hand-over, drain |"),
            (f"forcedelete serviceengine {first}", "| connections CUT |"),
            ("delete virtualservice web", "| DOWN, as asked for |"),
        ):
            terminal.clear(TOP)
            terminal.type(command + ENTER)
            terminal.stands_at(QUESTION)
            assert words in terminal.text
            terminal.type(ENTER)
            terminal.shows("Nothing was done.")
            terminal.stands_at(TOP)
        assert stage.world.view.named("virtualservice", "web") is not None
        assert first in [engine.name for engine in stage.world.controller.ledger.engines.values()]


@pytest.mark.parametrize("words", [("--yes",), ("-c",)])
def test_nobody_is_asked_who_does_not_want_to_be(stage: Stage, words: tuple[str, ...]) -> None:
    first = stage.engines[0]
    lines = [f"configure serviceengine {first} enable_state SE_STATE_DISABLED", "save"]
    if words == ("-c",):
        with stage.open(*(word for line in lines for word in ("-c", line))) as terminal:
            assert terminal.ends() == 0
            said = terminal.everything
    else:
        with stage.open(*words) as terminal:
            terminal.stands_at(TOP)
            terminal.run(lines[0], TOP, ENGINE)
            said = terminal.run(lines[1], ENGINE, TOP)
    assert QUESTION not in said and stage.enable_state(first) == "SE_STATE_DISABLED"


def test_pasted_lines_after_a_no_are_left_out(stage: Stage) -> None:
    first = stage.engines[0]
    with stage.open() as terminal:
        terminal.stands_at(TOP)
        lines = [f"configure serviceengine {first} enable_state SE_STATE_DISABLED", "save", "show tenant"]
        terminal.type("\x1b[200~" + "\n".join(lines) + "\n\x1b[201~")
        terminal.shows(*lines)
        terminal.type(ENTER)
        terminal.stands_at(QUESTION)
        terminal.type("n" + ENTER)
        terminal.shows("Nothing was done.", "1 more pasted lines were left out, from: show tenant")
        terminal.stands_at(ENGINE)
