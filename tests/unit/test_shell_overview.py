"""``shoal top`` and ``shoal status`` against a controller with engines on paper: what is in trouble comes first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shoal.main import cli
from shoal.shell.overview import Engine, Group, Overview, Service
from shoal.shell.placement import PLAIN
from shoal.shell.top import BARS, drawn, sparkline
from tests.api_served import Controller
from tests.api_world import PASSWORD, controlled_world


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("overview"), controlled_world) as controller:
        for number, name in enumerate(("shop", "mail", "forum")):
            controller.ask(partial(controller.world.service, name, f"10.9.0.{10 + number}"))
        controller.ask(partial(controller.world.staged, 2))  # type: ignore[attr-defined]
        yield controller


@pytest.fixture
def shoal(controller: Controller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SHOAL_CONTROLLER", f"https://127.0.0.1:{controller.port}")
    monkeypatch.setenv("SHOAL_PASSWORD", PASSWORD)

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, words, standalone_mode=False)

    return run


def test_top_shows_groups_engines_and_services(shoal: Any) -> None:
    text = shoal("top", "--once").output
    assert "GROUP" in text and "Default-Group" in text and "ENGINE" in text and "SERVICE" in text
    assert all(name in text for name in ("shop", "mail", "forum"))
    found = json.loads(shoal("top", "--json").output)
    assert {s["name"] for s in found["virtualservices"]} == {"shop", "mail", "forum"}
    assert found["counts"]["virtualservices"] == 3 and found["groups"][0]["name"] == "Default-Group"


def test_machines_get_one_json_object(shoal: Any, tmp_path: Path) -> None:
    objects, whole = tmp_path / "site.yaml", tmp_path / "all.json"
    objects.write_text("stringgroup: [{name: site, type: SG_TYPE_STRING}]")
    shoal("export", str(whole))
    for words in (
        ("status",), ("top",), ("get", "pool"), ("get", "all"), ("diff", "-f", objects), ("apply", "-f", objects),
        ("delete", "-f", objects), ("whatif",), ("incident",), ("import", whole),
    ):  # fmt: skip
        done = shoal(*map(str, words), "--json")
        assert isinstance(json.loads(done.stdout), dict), words


def test_status_tells_of_another_machine(shoal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = shoal("status")
    assert done.exit_code == 0
    assert "CLUSTER_UP_NO_HA" in done.output and "Default-Group: shared, " in done.output
    found = json.loads(shoal("status", "--json").output)
    assert found["ready"] and found["overview"]["virtualservices"] == 3
    monkeypatch.setenv("SHOAL_PASSWORD", "wrong")
    assert shoal("status").exit_code == 0 and "services     not known: " in shoal("status").output
    monkeypatch.delenv("SHOAL_PASSWORD")
    assert "services" not in shoal("status").output
    monkeypatch.setenv("SHOAL_CONTROLLER", "127.0.0.1:1")
    away = shoal("status")
    assert away.exit_code == 1 and "not answering" in away.output


def service(name: str, **more: Any) -> Service:
    return Service(uuid=name, name=name, group="g", **{"state": "OPER_UP", "requested": 1, "assigned": 1, **more})


PICTURE = Overview(
    at=0.0,
    url="https://ctl:9443",
    state="CLUSTER_UP_NO_HA",
    groups=[
        Group(name="g", ha_mode="HA_MODE_SHARED", engines=2, engines_up=1, max_se=4, virtualservices=3, slots=20, used=3,
              free=7, needed=10, kept=False)
    ],
    engines=[
        Engine(uuid="a", name="se-a", group="g", host="h1", state="OPER_UP", vips=2, load={"cpu_percent": 80.0}),
        Engine(uuid="b", name="se-b", group="g", host="h2", state="OPER_DOWN", reason="no sign of life"),
    ],
    virtualservices=[
        service("calm", load={"bits_per_s": 2e6}, history=[1.0, 2.0]),
        service("busy", load={"bits_per_s": 3.2e9, "requests_per_s": 1200.0, "errors_percent": 0.5}),
        service("lost", state="OPER_RESOURCES", reason="no engine has room", assigned=0),
        service("half", requested=2),
        service("off", state="OPER_DISABLED", requested=0, assigned=0),
    ],
)  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_what_is_in_trouble_comes_first_and_nothing_is_wider_than_the_screen(columns: int) -> None:
    lines = drawn(PICTURE, columns, 30, PLAIN, BARS, lambda services, engines: None)
    assert all(len(line) <= columns for line in lines) and len(lines) <= 30
    services = [line.split()[0] for line in lines[[line[:7] for line in lines].index("SERVICE") + 1 :]]
    assert services == ["lost", "half", "busy", "calm", "off"]
    assert [line.split()[0] for line in lines if line.startswith("se-")] == ["se-b", "se-a"]
    assert any("3.2G" in line and "1.2k" in line and "0.5 %" in line for line in lines) or columns < 80


def test_problems_are_sentences() -> None:
    assert PICTURE.problems() == [
        "lost is not served: no engine has room.",
        "half has 1 of 2 engines.",
        "g has lost its buffer: 7 free slots, 10 needed.",
        "se-b is down: no sign of life.",
    ]
    assert PICTURE.counts()["down"] == 1


def test_a_small_screen_says_what_it_leaves_out() -> None:
    lines = drawn(PICTURE, 80, 14, PLAIN, BARS, lambda services, engines: None)
    assert len(lines) <= 14 and lines[-1] == "... 0 more engines, 2 more virtual services"


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 4, 8], 4, BARS) == "▂▃▅█"
    assert sparkline([50], 4, BARS, 100.0) == "▅"
    assert sparkline([], 4, BARS) == "" and sparkline([0, 0], 4, BARS) == "▁▁"
