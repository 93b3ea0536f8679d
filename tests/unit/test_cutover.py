"""A virtual service moves between two Shoal systems, over both their APIs, and back by itself if it does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shoal.errors import NotReady
from shoal.shell import cutover
from shoal.shell.client import Client
from shoal.shell.cutover import EXIT_ROLLED_BACK, EXIT_STUCK, Target, main
from shoal.shell.transfer import export_main, import_main
from tests.api_served import Controller
from tests.api_world import PASSWORD, controlled_world

Document = dict[str, Any]


class Segment:
    """The network that both are in: whoever has the service enabled answers for its address."""

    def __init__(self, old: Controller, new: Controller) -> None:
        self.old, self.new = old, new
        self.broken = False
        """What is served from the new one gives errors."""
        self.dead = False
        self.both_at_once = False
        self.asked: list[Target] = []

    @staticmethod
    def enabled(controller: Controller) -> bool:
        found = controller.world.view.named("virtualservice", "web")
        return bool(found and found["enabled"])

    def probe(self, target: Target) -> str:
        self.asked.append(target)
        old, new = self.enabled(self.old), self.enabled(self.new)
        self.both_at_once = self.both_at_once or (old and new)
        if self.dead or not (old or new):
            return ""
        return "503" if new and self.broken else "200"


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Controller, Controller]]:
    """``web`` and ``web-too`` share an address at the old one; the new one has imported them, disabled."""
    folder = tmp_path_factory.mktemp("systems")
    for name in ("old", "new"):
        (folder / name).mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        Controller(folder / "old", controlled_world) as old,
        Controller(folder / "new", controlled_world) as new,
    ):

        async def services() -> None:
            await old.world.service()
            more = {"name": "web-too", "services": [{"port": 81}], "vsvip_ref": "/api/vsvip?name=web-vip"}
            await old.world.post("/api/virtualservice", more)
            await old.world.service("other", "10.9.0.6")

        patch.setenv("SHOAL_PASSWORD", PASSWORD)
        old.ask(services)
        file = str(folder / "configuration.json")
        assert export_main(["--controller", url(old), file]) == 0
        assert import_main(["--controller", url(new), file, "--disabled", "--apply"]) in (0, 3)
        yield old, new


@pytest.fixture
def segment(systems: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch) -> Iterator[Segment]:
    old, new = systems
    for name in ("SHOAL_PASSWORD", "SHOAL_FROM_PASSWORD"):
        monkeypatch.setenv(name, PASSWORD)
    monkeypatch.setattr(cutover, "PROBE_INTERVAL_S", 0.01)
    monkeypatch.setattr(cutover, "BACK_WITHIN_S", 0.3)
    monkeypatch.setattr(cutover, "TRY_AGAIN_S", 0.01)
    segment = Segment(old, new)
    monkeypatch.setattr(cutover, "asked", segment.probe)
    assert states(segment) == BEFORE
    yield segment
    for controller, enabled in ((new, False), (old, True)):
        for name in BEFORE:
            put(controller, name, enabled=enabled)


def put(controller: Controller, name: str, **fields: Any) -> None:
    async def patch() -> None:
        document = controller.world.view.named("virtualservice", name)
        assert document is not None
        body = {"replace": fields}
        await controller.world.call("PATCH", f"/api/virtualservice/{document['uuid']}", 200, json=body)

    controller.ask(patch)


def url(controller: Controller) -> str:
    return f"https://127.0.0.1:{controller.port}"


def run(segment: Segment, *more: str) -> int:
    words = [
        "web",
        "--from",
        url(segment.old),
        "--controller",
        url(segment.new),
        "--http",
        "/",
        "--within",
        "0.3",
        *more,
    ]
    return main(words)


def states(segment: Segment) -> dict[str, tuple[bool, bool]]:
    """Name -> (enabled at the old one, at the new one)."""
    names = [document["name"] for document in segment.old.world.view.all("virtualservice")]

    def on(controller: Controller, name: str) -> bool:
        return bool((controller.world.view.named("virtualservice", name) or {})["enabled"])

    return {name: (on(segment.old, name), on(segment.new, name)) for name in names}


BEFORE = {"web": (True, False), "web-too": (True, False), "other": (True, False)}
MOVED = {"web": (False, True), "web-too": (False, True), "other": (True, False)}


def test_it_moves_with_what_shares_its_address_and_with_nothing_else(
    segment: Segment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(segment, "--check", "--json") == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert answers == {"10.9.0.5:80/": "200", "10.9.0.5:81/": "200"}
    assert states(segment) == BEFORE
    assert run(segment, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"virtualservice": "web", "result": "moved"}
    assert states(segment) == MOVED
    assert not segment.both_at_once
    assert {target.port for target in segment.asked} == {80, 81}


def test_it_goes_back_by_itself_when_it_answers_otherwise(segment: Segment, capsys: pytest.CaptureFixture[str]) -> None:
    segment.broken = True
    assert run(segment) == EXIT_ROLLED_BACK
    assert states(segment) == BEFORE
    assert not segment.both_at_once
    assert "10.9.0.5:80/ gives 503 instead of 200" in capsys.readouterr().err


def refusing(monkeypatch: pytest.MonkeyPatch, where: str, enabled: bool, times: int) -> None:
    """The controller at that address does not do this, so many times."""
    real, left = Client.call, times

    def call(client: Client, method: str, path: str, body: Document | None = None, **more: Any) -> Any:
        nonlocal left
        if method == "PATCH" and client.url == where and body == {"replace": {"enabled": enabled}} and left > 0:
            left -= 1
            raise NotReady("it has gone away")
        return real(client, method, path, body, **more)

    monkeypatch.setattr(Client, "call", call)


@pytest.mark.parametrize(("where", "enabled"), [("old", False), ("new", True)])
def test_it_goes_back_when_one_of_the_two_does_not_do_its_part(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, where: str, enabled: bool
) -> None:
    refusing(monkeypatch, url(getattr(segment, where)), enabled, 1)
    assert run(segment) == EXIT_ROLLED_BACK
    assert states(segment) == BEFORE


def test_the_way_back_is_insisted_on(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    segment.broken = True
    refusing(monkeypatch, url(segment.old), True, 3)
    assert run(segment) == EXIT_ROLLED_BACK
    assert states(segment) == BEFORE


def test_what_can_neither_go_nor_return_says_what_to_do(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segment.broken = True
    refusing(monkeypatch, url(segment.old), True, 1000)
    assert run(segment) == EXIT_STUCK
    told = capsys.readouterr().err
    assert f"disabled at {url(segment.new)} and enabled at {url(segment.old)}" in told
    assert not any(here for _, here in states(segment).values()), "at least it is on at one of the two only"


def test_one_that_was_cut_short_is_gone_on_with(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command was killed when the service was off at both."""

    for name in ("web", "web-too"):
        put(segment.old, name, enabled=False)
    assert run(segment) == 1, "it may be off on purpose"
    assert run(segment, "--resume") == 0
    assert states(segment) == MOVED


def test_what_is_not_the_same_or_not_answering_is_left_alone(
    segment: Segment, capsys: pytest.CaptureFixture[str]
) -> None:
    segment.dead = True
    assert run(segment) == 1
    assert "Run this where clients are" in capsys.readouterr().err
    segment.dead = False

    put(segment.new, "web-too", services=[{"port": 82}])
    assert run(segment) == 1
    assert "They are not the same" in capsys.readouterr().err
    assert states(segment) == BEFORE
    put(segment.new, "web-too", services=[{"port": 81}])


def test_both_enabled_is_refused(segment: Segment, capsys: pytest.CaptureFixture[str]) -> None:
    put(segment.new, "web", enabled=True)
    assert run(segment) == 1
    assert "enabled at both controllers" in capsys.readouterr().err
