"""A fleet of engines with open sessions, each silent for so long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.controller.fleet import Fleet
from shoal.controller.records import EngineRecord
from tests.api_world import Clock

SESSION: Any = object()
EARLIER_S = 200.0
"""The controller runs for so long already."""


def sighted(silent: Mapping[str, float], groups: Mapping[str, str]) -> tuple[Fleet, dict[str, EngineRecord], Clock]:
    """``silent``: engine -> seconds; ``groups``: engine -> its group."""
    records = {
        id: EngineRecord(id=id, name=id, rank=rank, group=groups[id], created=True, seen=True)
        for rank, id in enumerate(silent, 1)
    }
    clock = Clock()
    fleet = Fleet(
        clock,
        record=records.get,
        desired=lambda engine, having: {},
        on_change=lambda engine: None,
        on_ownership=lambda engine, message: None,
    )
    clock.s += EARLIER_S
    for id, seconds in silent.items():
        live = fleet.live(id)
        live.session, live.heard_at = SESSION, clock.s - seconds
    return fleet, records, clock
