"""How many engines each group may lose, kept current away from the event loop and from planning.

A group is thought about when a plan has found nothing left to do in it and it is another one than before; or when it has
not come to rest for `UNREST_S_MAX`, as it would be then. After each thought comes a pause of `PAUSES` times as long, so
all of it takes at most a twentieth of a core.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shoal.controller.clock import Clock
from shoal.controller.reconciler import Reconciler
from shoal.placement.margin import Guarantee, Margin, margin
from shoal.placement.model import EngineState, PlacementState, Plan, Snapshot
from shoal.placement.outcome import Changes
from shoal.placement.whatif import armed, edited

log = logging.getLogger("shoal.margins")

LOOK_INTERVAL_S = 1.0
UNREST_S_MAX = 15.0
PAUSES = 20.0


class Known(msgspec.Struct, kw_only=True):
    """``snapshot``: what the margin is of, its revision apart."""

    snapshot: Snapshot
    margin: Margin
    at: float
    took_ms: float


class Margins:
    def __init__(self, reconciler: Reconciler, clock: Clock) -> None:
        self._reconciler = reconciler
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._unrest: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            took_s = await self.look()
            await self._clock.sleep(max(LOOK_INTERVAL_S, PAUSES * took_s))

    async def look(self) -> float:
        """Think about every group that has changed; returns the seconds that took."""
        snapshots, plans = dict(self._reconciler.snapshots), dict(self._reconciler.plans)
        took_s = 0.0
        for group in [group for group in self._known if group not in snapshots]:
            del self._known[group]
        for group, snapshot in snapshots.items():
            if group not in plans:
                continue
            rests = at_rest(snapshot, plans[group])
            if self._due(group, _content(snapshot), rests):
                took_s += await self._think(group, _content(snapshot), rests)
        return took_s

    def _due(self, group: str, snapshot: Snapshot, rests: bool) -> bool:
        known = self._known.get(group)
        if known is not None and known.snapshot == snapshot:
            self._unrest.pop(group, None)
            return False
        if rests:
            return True
        since = self._unrest.setdefault(group, self._clock.monotonic())
        return self._clock.monotonic() - since >= UNREST_S_MAX

    async def _think(self, group: str, snapshot: Snapshot, rests: bool) -> float:
        self._unrest.pop(group, None)
        now, began = self._clock.now(), time.monotonic()
        try:
            found = await asyncio.to_thread(_margin, snapshot, now, rests)
        except Exception:  # nothing depends on it
            log.exception("the margin of %s", snapshot.group.name)
            return 0.0
        took_s = time.monotonic() - began
        self._known[group] = Known(snapshot=snapshot, margin=found, at=now, took_ms=round(took_s * 1000, 1))
        return took_s

    def document(self, group: str, name: Callable[[str], str]) -> dict[str, Any]:
        """``{}`` as long as nothing is known. ``current``: nothing has changed since."""
        known, snapshot = self._known.get(group), self._reconciler.snapshots.get(group)
        if known is None or snapshot is None:
            return {}
        return {
            **margin_document(known.margin, name),
            "current": known.snapshot == _content(snapshot),
            "at": known.at,
            "took_ms": known.took_ms,
        }


def at_rest(snapshot: Snapshot, plan: Plan) -> bool:
    """Nothing is left to do, nor to wait for."""
    made = all(engine.state is not EngineState.CREATING for engine in snapshot.engines)
    ready = all(p.state is PlacementState.READY for vip in snapshot.vips for p in vip.placements)
    return plan.empty and made and ready and not snapshot.requests


def margin_document(margin: Margin, name: Callable[[str], str]) -> Mapping[str, Any]:
    """``name(engine id)``: what people call it."""

    def guarantee(one: Guarantee) -> dict[str, Any]:
        broken_by = [name(e) for e in one.broken_by]
        return {"engines": one.engines, "exact": one.exact, "at_most": one.at_most, "broken_by": broken_by}

    return {
        "stays_up": guarantee(margin.stays_up),
        "keeps_capacity": guarantee(margin.keeps_capacity),
        "of_engines": margin.engines,
        "worst_host": margin.worst_host,
        "worst_host_vips_down": margin.worst_host_loss.down,
    }


def _content(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(snapshot, revision=0)


def _margin(snapshot: Snapshot, now: float, rests: bool) -> Margin:
    return margin(armed(snapshot) if rests else edited(snapshot, Changes(), now).snapshot, now)
