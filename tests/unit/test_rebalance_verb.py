"""The verb ``rebalance``: how often a group is inspected, and the last look (reference: elastic-ha 8.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from shoal.errors import Invalid, NotFound
from shoal.objects import load
from shoal.shell.client import Client
from shoal.shell.complete import Choices
from shoal.shell.session import Session
from tests.api_world import controlled_world

LOOK = {
    "engines": [
        {
            "name": "se-a",
            "level": "over",
            "percent": {"cpu": 85.0},
            "load": {"cpu": 85.0, "pps": 1200.4, "mbps": 3.2, "open_conns": 12.0, "cps": 7.0},
        },
        {"name": "se-b", "level": "unknown", "percent": {}, "load": {}},
    ]
}


async def test_the_interval_is_kept_in_minutes_and_the_last_look_answered(tmp_path: Path) -> None:
    async with controlled_world(tmp_path) as world:
        group = (await world.get("/api/serviceenginegroup"))["results"][0]["uuid"]
        path = f"/api/serviceenginegroup/{group}"
        said = await world.call("POST", f"{path}/rebalance", 200, json={"interval": 7})
        assert (await world.get(path))["auto_rebalance_interval"] == 420
        assert said["status"] == (
            "Inspected every 7 min; auto-rebalance is off (auto_rebalance): a look moves nothing. "
            "Last look: not looked at yet."
        )
        assert said["auto_rebalance"]["interval_s"] == 420
        await world.call("POST", f"{path}/rebalance", 200)
        assert (await world.get(path))["auto_rebalance_interval"] == 420


@pytest.mark.parametrize(
    "body", [{"interval": 0}, {"interval": 1.5}, {"interval": True}, {"interval": "x"}, {"every": 5}]
)
async def test_what_is_no_interval_is_refused_and_changes_nothing(tmp_path: Path, body: dict[str, Any]) -> None:
    async with controlled_world(tmp_path) as world:
        group = (await world.get("/api/serviceenginegroup"))["results"][0]["uuid"]
        path = f"/api/serviceenginegroup/{group}"
        refused = await world.call("POST", f"{path}/rebalance", 400, json=body)
        assert next(iter(body)) in refused["error"]
        assert (await world.get(path))["auto_rebalance_interval"] == 300


class FakeClient:
    tenant = "admin"
    cloud = ""
    object = Client.object

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.warnings: list[str] = []

    def named(self, type: str, name: str) -> dict[str, Any] | None:
        return {"uuid": "g-1", "name": "G"} if (type, name) == ("serviceenginegroup", "G") else None

    def all(self, type: str, fields: str = "", within_s: float = 0.0) -> list[dict[str, Any]]:
        return [{"uuid": "g-1", "name": "G"}] if type == "serviceenginegroup" else []

    def begun(self, type: str, text: str, within_s: float = 0.0) -> tuple[list[str], int]:
        return (["G"], 1) if type == "serviceenginegroup" else ([], 0)

    def call(self, method: str, path: str, body: dict[str, Any], **how: float) -> dict[str, Any]:
        self.sent.append((method, path, body))
        return {"status": "Inspected every 5 min.", "auto_rebalance": LOOK}


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def session(client: FakeClient) -> Session:
    return Session(cast(Client, client), load(), "ctl")


def test_the_shell_takes_both_orders_and_prints_the_loads(session: Session, client: FakeClient) -> None:
    for line in ("rebalance interval 5 se_group_ref G", "rebalance se_group_ref G interval 5"):
        text, _ = session.run(line)
        assert client.sent.pop() == ("POST", "serviceenginegroup/g-1/rebalance", {"interval": "5"})
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]
    assert text.startswith("Inspected every 5 min.")
    assert rows == [
        ["Engine", "Level", "CPU %", "Packets/s", "Mbit/s", "Open", "New/s", "Of its capacity"],
        ["se-a", "over", "85", "1200", "3", "12", "7", "cpu 85 %"],
        ["se-b", "unknown", "", "", "", "", "", ""],
    ]
    session.run("rebalance se_group_ref G")
    assert client.sent.pop()[2] == {}


@pytest.mark.parametrize("line", ["rebalance", "rebalance interval 5", "rebalance se_group_ref", "rebalance every 5"])
def test_the_shell_says_what_is_missing(session: Session, client: FakeClient, line: str) -> None:
    with pytest.raises(Invalid):
        session.run(line)
    assert not client.sent


def test_the_shell_knows_no_such_group(session: Session) -> None:
    with pytest.raises(NotFound):
        session.run("rebalance se_group_ref nobody")


def test_tab_knows_its_words_and_the_groups(session: Session) -> None:
    def words(text: str) -> list[str]:
        return [choice.word for choice in Choices(session).next(text)]

    assert "rebalance" in words("reba")
    assert words("rebalance ") == ["interval", "se_group_ref"]
    assert words("rebalance interval ") == ["NUMBER"]
    assert words("rebalance interval 5 ") == ["se_group_ref"]
    assert words("rebalance interval 5 se_group_ref ") == ["G"]
