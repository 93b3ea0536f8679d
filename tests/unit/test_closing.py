"""Where an engine's connections end because it serves there no more."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.engine.closing import ended
from shoal.wire.desired import Vip


def vip(id: str = "v", **changes: Any) -> Vip:
    value: dict[str, Any] = {
        "addresses": ("10.0.0.1",),
        "generation": 1,
        "owner": "a",
        "members": ("a", "b"),
        "succession": ("a", "b"),
        "list_version": 1,
        "armed": True,
    }
    return Vip(id=id, **{**value, **changes})


DRAINS = vip(members=("a",), draining=("b",))


@pytest.mark.parametrize(
    ("why", "before", "after", "addresses"),
    [
        ("it goes on", [vip()], [vip(generation=2)], set()),
        ("it begins to drain", [vip()], [DRAINS], set()),
        ("it drains on", [DRAINS], [DRAINS], set()),
        ("its drain is over", [DRAINS], [], {"10.0.0.1"}),
        ("its drain is over, and it stays a successor", [DRAINS], [vip(members=("a",))], {"10.0.0.1"}),
        ("its drain was called off", [DRAINS], [vip()], set()),
        ("it took the VIP over while it drained", [DRAINS], [vip(owner="b", members=("b",))], set()),
        ("a successor is no successor any more", [vip(members=("a",))], [vip(members=("a",), succession=())], set()),
        ("another address", [vip()], [vip(addresses=("10.0.0.2",))], {"10.0.0.1"}),
        ("the address has gone to another VIP", [vip()], [vip("w")], set()),
    ],
)
def test_what_has_ended(why: str, before: list[Vip], after: list[Vip], addresses: set[str]) -> None:
    assert ended("b", before, after) == addresses, why


def test_what_it_has_taken_over_does_not_end_with_its_drain() -> None:
    """The plan after a takeover may end the drain before it knows of the takeover."""
    after = vip(members=("a",))
    assert ended("b", [DRAINS], [after], held={"v"}) == set()
    assert ended("b", [DRAINS], [after], held={"w"}) == ended("b", [DRAINS], [], held={"v"}) == {"10.0.0.1"}
