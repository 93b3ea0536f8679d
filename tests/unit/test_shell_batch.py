"""Scripts and ``-c``: a line that fails never leads to half an edit being saved."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from shoal.errors import NotFound, ShoalError
from shoal.objects import load
from shoal.shell.batch import batch
from shoal.shell.client import Client
from shoal.shell.complete import Choices
from shoal.shell.session import Session


class FakeClient:
    """One pool ``web`` is stored; ``sent`` is what was written."""

    tenant = "admin"
    cloud = ""
    object = Client.object

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.warnings: list[str] = []
        self.stored = {"uuid": "pool-1", "name": "web", "default_server_port": 80}

    def named(self, type: str, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.stored) if name == "web" else None

    def call(self, method: str, path: str, body: dict[str, Any], **how: float) -> dict[str, Any]:
        self.sent.append((method, path, body))
        return {"name": "web"}


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def session(client: FakeClient) -> Session:
    return Session(cast(Client, client), load(), "ctl")


def entered(session: Session) -> dict[str, Any]:
    assert session.edit is not None
    return session.edit.level.content


@pytest.mark.parametrize("line", ["servers ip nonsense", "servers prot 80", "servers port eighty"])
def test_a_one_liner_that_fails_leaves_the_mode_as_it_was(session: Session, line: str) -> None:
    session.run("configure pool web")
    before = copy.deepcopy(entered(session))
    with pytest.raises(ShoalError):
        session.run(line)
    assert session.prompt == "[admin:ctl]: pool> "
    assert entered(session) == before


def test_one_value_is_an_address(session: Session) -> None:
    session.run("configure pool web")
    session.run("servers ip 10.1.1.1")
    assert session.prompt == "[admin:ctl]: pool:servers> "
    assert entered(session) == {"ip": {"addr": "10.1.1.1", "type": "V4"}}
    assert session.run("ip 2001:db8::1")[0] == "Overwriting the previously entered value for ip"
    assert entered(session)["ip"] == {"addr": "2001:db8::1", "type": "V6"}
    session.run("ip addr 10.1.1.2")
    assert session.prompt == "[admin:ctl]: pool:servers:ip> "


def test_values_are_added_to_a_list_of_addresses(session: Session) -> None:
    session.run("configure ipaddrgroup known")
    session.run("addrs 10.1.1.1 10.1.1.2")
    assert [entry["addr"] for entry in entered(session)["addrs"]] == ["10.1.1.1", "10.1.1.2"]


def test_a_whole_edit_is_saved(session: Session, client: FakeClient) -> None:
    assert batch(session, ["configure pool web", "default_server_port 81", "save"]) == 0
    assert client.sent == [("PATCH", "pool/pool-1", {"replace": {"default_server_port": 81}})]


@pytest.mark.parametrize(
    "lines",
    [
        ["default_server_prot 1", "default_server_port 81", "save"],
        ["default_server_port 81", "servers port eighty", "save", "exit"],
        ["default_server_port 81", "servers", "prot 1", "save", "save"],
        ["default_server_port 81", "servers", "cancel", "servers ip nonsense", "save"],
    ],
)
def test_an_edit_with_a_failed_line_is_not_saved(
    session: Session, client: FakeClient, capsys: pytest.CaptureFixture[str], lines: list[str]
) -> None:
    assert batch(session, ["configure pool web", *lines]) == 1
    assert client.sent == []
    assert "Error: pool web is not saved: a line of it has failed." in capsys.readouterr().err


@pytest.mark.parametrize("fresh", ["cancel", ""])
def test_a_fresh_edit_is_saved_after_a_spoiled_one(session: Session, client: FakeClient, fresh: str) -> None:
    lines = ["configure pool web", "nonsense 1", "save", fresh, "configure pool web", "default_server_port 82", "save"]
    assert batch(session, lines) == 1
    assert client.sent == [("PATCH", "pool/pool-1", {"replace": {"default_server_port": 82}})]


def test_a_nested_mode_that_failed_can_be_cancelled_alone(session: Session, client: FakeClient) -> None:
    lines = ["configure pool web", "servers", "prot 1", "cancel", "default_server_port 81", "save"]
    assert batch(session, lines) == 1
    assert client.sent == [("PATCH", "pool/pool-1", {"replace": {"default_server_port": 81}})]


def test_a_failure_outside_an_edit_spoils_none(session: Session, client: FakeClient) -> None:
    with pytest.raises(NotFound):
        session.run("nonsense")
    assert batch(session, ["nonsense", "configure pool web", "default_server_port 81", "save"]) == 1
    assert len(client.sent) == 1


class Operated:
    """One object of every type, and what was asked of it."""

    tenant = "admin"
    cloud = ""
    object = Client.object

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def named(self, type: str, name: str) -> dict[str, Any]:
        return {"uuid": f"{type}-1", "name": name}

    def call(self, method: str, path: str, body: dict[str, Any], **how: float) -> dict[str, Any]:
        self.asked.append((path, body))
        return {"status": "done"}


@pytest.mark.parametrize(
    ("line", "path", "body"),
    [
        ("switchover virtualservice web", "virtualservice/virtualservice-1/switchover", {"vip_id": "0"}),
        ("switchover serviceengine se-1", "serviceengine/serviceengine-1/switchover", {}),
        ("redistribute serviceenginegroup g", "serviceenginegroup/serviceenginegroup-1/redistribute", {}),
    ],
)
def test_the_operations_of_legacy_pairs(line: str, path: str, body: dict[str, Any]) -> None:
    client = Operated()
    assert Session(cast(Client, client), load(), "ctl").run(line)[0] == "done"
    assert client.asked == [(path, body)]


@pytest.mark.parametrize(
    ("text", "types"),
    [("switchover ", ["virtualservice", "serviceengine"]), ("redistribute ", ["serviceenginegroup"])],
)
def test_what_they_are_for_is_completed(session: Session, text: str, types: list[str]) -> None:
    assert [choice.word for choice in Choices(session).next(text)] == types
