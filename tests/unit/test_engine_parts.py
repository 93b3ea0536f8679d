"""What an engine has received, what is in force, and what a controller takes it to run when it is greeted."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.controller.acknowledged import Acknowledged
from shoal.controller.desired import EngineParts, encoded
from shoal.engine.parts import Parts
from shoal.wire import desired as wire
from shoal.wire.messages import WIRE_VERSION, Hello


def state(version: int) -> EngineParts:
    only = ("se-1",)
    vip = wire.Vip(
        id="web/0", addresses=("10.0.0.5",), generation=1, owner="se-1", members=only, succession=only, list_version=version, armed=True
    )  # fmt: skip
    return {"vip/web/0": encoded(vip)}


def manifest(parts: EngineParts) -> wire.Manifest:
    return wire.manifest(wire.PartReference(id, part.hash) for id, part in parts.items())


def received(parts: Parts, of: EngineParts) -> None:
    parts.offer((id, part.data) for id, part in of.items())
    parts.accept(manifest(of), turn=1)


def restarted(file: Path) -> Parts:
    parts = Parts(file)
    parts.restore()
    return parts


def test_what_is_not_in_force_is_forgotten_by_a_restart(tmp_path: Path) -> None:
    file, first, second = tmp_path / "desired", state(1), state(2)
    parts = Parts(file)
    received(parts, first)
    assert not Parts(file).restore(), "it was only received"
    parts.keep(parts.current())
    under_way = parts.current()
    received(parts, second)
    parts.keep(under_way)
    again = restarted(file)
    assert again.root == again.kept == manifest(first).root
    assert again.hashes == (("vip/web/0", first["vip/web/0"].hash),)
    assert again.lacking(manifest(second)) == ("vip/web/0",)
    parts.keep(parts.current())
    assert restarted(file).kept == manifest(second).root


def test_what_is_in_force_while_another_state_comes_is_what_was_applied(tmp_path: Path) -> None:
    file, first, second = tmp_path / "desired", state(1), state(2)
    parts = Parts(file)
    received(parts, first)
    applied = parts.current()
    received(parts, second)
    parts.keep(applied)
    assert restarted(file).kept == manifest(first).root


@pytest.mark.parametrize(
    ("root", "kept", "runs"),
    [
        ("2", "1", {"web/0": 2}),  # it has put into effect what it has
        ("", "2", {"web/0": 2}),  # an earlier agent had, and this one begins with it
        ("", "1", {}),  # it began with an older one, and has only received this
        ("", "", {}),  # a new engine, or one whose disk was lost
        ("1", "1", {}),
    ],
)
def test_only_what_is_in_force_is_taken_for_run(root: str, kept: str, runs: dict[str, int]) -> None:
    roots = {"": "", "1": manifest(state(1)).root, "2": manifest(state(2)).root}
    has = state(2)
    hello = Hello(
        wire_version=WIRE_VERSION,
        engine="se-1",
        software="",
        incarnation="1",
        address="",
        mac="",
        root=roots[root],
        kept=roots[kept],
        parts=tuple((id, part.hash) for id, part in has.items()),
    )
    known = Acknowledged(lists={"web/0": 1, "gone/0": 7})  # by an earlier agent, or in an earlier session
    known.greet(hello, has, 0.0)
    assert known.lists == (runs or ({} if root == "" else {"web/0": 1, "gone/0": 7}))
