"""An engine is ready for a VIP once it has acknowledged it, and all that serve the VIP have heard of it."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.controller.clock import SystemClock
from shoal.controller.desired import VipIntent
from shoal.controller.fleet import Fleet
from shoal.controller.ledger import Changes, Ledger
from shoal.controller.records import EngineRecord, VipRecord
from shoal.controller.snapshot import EXPECTED_WITHIN_S, build
from shoal.objects import views
from shoal.placement.model import Placement, PlacementState, Role
from shoal.store.memory import MemoryStore

SESSION: Any = object()
VERSION = 7
NOW = 1_000.0


class Group:
    """``a`` serves, ``b`` was told to; each has acknowledged some version of the list. ``session``: of ``a``."""

    def __init__(self, acknowledged: dict[str, int], *, since: float, session: Any, first: PlacementState) -> None:
        self.ledger = Ledger(MemoryStore())
        self.fleet = Fleet(
            SystemClock(),
            record=lambda engine: self.ledger.engines.get(engine),
            desired=lambda engine, having: {},
            on_change=lambda engine: None,
            on_ownership=lambda engine, message: None,
        )
        for engine, version in acknowledged.items():
            self.fleet.live(engine).runs.lists = {"v": version}
        self.fleet.live("a").session, self.fleet.live("b").session = session, SESSION
        self.placements = (
            Placement(engine="a", role=Role.PRIMARY, state=first, since=1.0),
            Placement(engine="b", role=Role.SECONDARY, state=PlacementState.ASSIGNED, since=since),
        )

    async def of_b(self) -> PlacementState:
        """As it stands in the snapshot."""
        await self.ledger.load()
        engines: dict[str, EngineRecord | None] = {
            id: EngineRecord(id=id, name=id, rank=rank, group="g", created=True, seen=True)
            for rank, id in enumerate("ab")
        }
        record = VipRecord(id="v", group="g", placements=self.placements, succession=("a",), list_version=VERSION)
        await self.ledger.write(Changes(engines=engines, vips={("g", "v"): record}))
        intent = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=(), created=1.0)
        snapshot = build(
            1, views.ServiceEngineGroup(uuid="g", name="g"), [intent], lambda engine: None, self.ledger, self.fleet, NOW
        )
        return snapshot.vips[0].placements[1].state


@pytest.mark.parametrize(
    ("why", "acknowledged", "ready"),
    [
        ("both know", {"a": VERSION, "b": VERSION}, True),
        ("it has not acknowledged itself", {"a": VERSION, "b": VERSION - 1}, False),
        ("the owner goes by the list before", {"a": VERSION - 1, "b": VERSION}, False),
        ("the owner knows a newer one", {"a": VERSION + 1, "b": VERSION}, True),
    ],
)
@pytest.mark.parametrize("first", [PlacementState.READY, PlacementState.DRAINING, PlacementState.ASSIGNED])
async def test_all_that_serve_must_know_of_who_comes(
    why: str, acknowledged: dict[str, int], ready: bool, first: PlacementState
) -> None:
    group = Group(acknowledged, since=NOW - 1.0, session=SESSION, first=first)
    assert (await group.of_b() is PlacementState.READY) is ready, why


async def test_an_engine_that_is_still_being_made_has_nothing_to_know() -> None:
    waiting = Group({"b": VERSION}, since=NOW - 1.0, session=SESSION, first=PlacementState.WAITING)
    assert await waiting.of_b() is PlacementState.READY


async def test_who_is_not_connected_or_hangs_holds_nobody_up() -> None:
    behind = {"a": VERSION - 1, "b": VERSION}
    away = Group(behind, since=NOW - 1.0, session=None, first=PlacementState.READY)
    assert await away.of_b() is PlacementState.READY
    waits = Group(behind, since=NOW - EXPECTED_WITHIN_S + 1.0, session=SESSION, first=PlacementState.READY)
    assert await waits.of_b() is PlacementState.ASSIGNED
    hangs = Group(behind, since=NOW - EXPECTED_WITHIN_S, session=SESSION, first=PlacementState.READY)
    assert await hangs.of_b() is PlacementState.READY
