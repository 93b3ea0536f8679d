"""How much of a VIP's new flows each engine gets, by the CPU it has free (``flow_dist`` LOAD_AWARE; elastic-ha 3.2).

A primary forwards beside what it serves, engines do other things too, machines differ: shares follow the free CPU that
is measured. Nothing else depends on them. They are kept in memory only: engines remember what they were told, and a
controller that has just started goes on from there; with none at all the last shares stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from shoal.placement.model import PlacementState
from shoal.wire.messages import EQUAL_SHARE
from shoal.wire.messages import Shares as SharesMessage

from .clock import Clock
from .desired import engines_of
from .records import VipRecord

Weights = dict[str, int]
"""Engine -> thousandths of an equal share."""

LOAD_AWARE = "LOAD_AWARE"
LOOK_INTERVAL_S = 5.0
STEP_INTERVAL_S = 30.0
"""Of one VIP. As long as the figures look back, so that each step is judged by what was measured after the one before."""
BEGIN_DIFFERENCE = 0.15
"""Shares begin to shift when the engine with most CPU free has this much more of its CPU free than the one with least;"""
END_DIFFERENCE = 0.05
"""and go on until they are this near to one another."""
GAIN = 0.5
"""An engine with 10 % more of its CPU free than the mean gets 5 % more. Slow, because flows last: a share acts late."""
WEIGHT_MIN = EQUAL_SHARE // 4
WEIGHT_MAX = EQUAL_SHARE * 4
BLIND_S = 60.0
"""Without figures of an engine for so long, it gets an equal share; until then nothing changes."""


def step(weights: Mapping[str, int], free: Mapping[str, float]) -> Weights:
    """The next weights, towards engines with more free CPU. Both have the same engines; the mean stays an equal share
    as far as the bounds allow."""
    mean = sum(free.values()) / len(free)
    raw = {engine: weight * (1 + GAIN * (free[engine] - mean)) for engine, weight in weights.items()}
    scale = EQUAL_SHARE * len(raw) / sum(raw.values())
    return {engine: min(max(round(value * scale), WEIGHT_MIN), WEIGHT_MAX) for engine, value in raw.items()}


class _Vip(msgspec.Struct):
    """``told``: the engines that should know. Times are monotonic seconds."""

    weights: Weights
    stepped_at: float
    """At first: since when it is known."""
    stepped: bool = False
    told: frozenset[str] = frozenset()
    shifting: bool = False
    blind_since: float | None = None


NOTHING = SharesMessage({})


class LedgerLike(Protocol):
    @property
    def vips(self) -> Mapping[str, Mapping[str, VipRecord]]:
        """By group, by id."""
        ...


class Shares:
    """``free_cpu(engine)``: 0..1, None when nothing is known; ``by_load(group, vip)``: has the VIP services whose flows are
    shared by load? ``push(engine)``: it should hear of a change."""

    def __init__(
        self,
        clock: Clock,
        ledger: LedgerLike,
        *,
        free_cpu: Callable[[str], float | None],
        by_load: Callable[[str, str], bool],
        push: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._free_cpu = free_cpu
        self._by_load = by_load
        self._push = push
        self._vips: dict[str, _Vip] = {}
        self._said: dict[str, SharesMessage] | None = None
        """By engine; None = to be made anew."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(LOOK_INTERVAL_S)
            self.look()

    def of(self, engine: str) -> SharesMessage:
        if self._said is None:
            said: dict[str, dict[str, Weights]] = {}
            for id, vip in self._vips.items():
                for one in vip.told if not _equal(vip.weights) else ():
                    said.setdefault(one, {})[id] = vip.weights
            self._said = {one: SharesMessage(vips) for one, vips in said.items()}
        return self._said.get(engine, NOTHING)

    def adopt(self, shares: Mapping[str, Mapping[str, int]]) -> None:
        for id, weights in shares.items():
            known = self._vips.get(id)
            record = next((vips[id] for vips in self._ledger.vips.values() if id in vips), None)
            if record is not None and (known is None or (not known.stepped and _equal(known.weights))):
                self._vips[id] = _Vip(dict(weights), self._clock.monotonic(), told=engines_of(record))
                self._said = None

    def weights(self, vip: str) -> Weights:
        """Empty: equal shares."""
        found = self._vips.get(vip)
        return found.weights if found is not None else {}

    def look(self) -> None:
        """Shift what is to be shifted now. Cheap where a VIP has one engine."""
        free: dict[str, float | None] = {}
        seen: set[str] = set()
        for group, records in self._ledger.vips.items():
            for record in records.values():
                members = [p.engine for p in record.placements if p.state is PlacementState.READY]
                if len(members) < 2 or not self._by_load(group, record.id):
                    continue
                seen.add(record.id)
                for engine in members:
                    if engine not in free:
                        free[engine] = self._free_cpu(engine)
                self._consider(record, {engine: free[engine] for engine in members})
        for id in [id for id in self._vips if id not in seen]:
            gone = self._vips.pop(id)
            if not _equal(gone.weights):
                self._tell(gone.told)

    def _consider(self, record: VipRecord, free: Mapping[str, float | None]) -> None:
        vip = self._vips.get(record.id)
        if vip is None:
            vip = self._vips[record.id] = _Vip({}, self._clock.monotonic())
        before, told = (vip.weights, vip.told), engines_of(record)
        vip.weights = {engine: vip.weights.get(engine, EQUAL_SHARE) for engine in free}
        known = {engine: value for engine, value in free.items() if value is not None}
        if len(known) == len(free):
            vip.blind_since = None
            self._shift(vip, known)
        else:
            self._go_blind(vip, [engine for engine in free if engine not in known])
        vip.told = told
        if (vip.weights, vip.told) != before and not (_equal(vip.weights) and _equal(before[0])):
            self._tell(told | before[1])

    def _shift(self, vip: _Vip, free: Mapping[str, float]) -> None:
        now = self._clock.monotonic()
        apart = max(free.values()) - min(free.values())
        vip.shifting = apart > (END_DIFFERENCE if vip.shifting else BEGIN_DIFFERENCE)
        if vip.shifting and now - vip.stepped_at >= STEP_INTERVAL_S:
            vip.stepped_at, vip.stepped = now, True
            vip.weights = step(vip.weights, free)

    def _go_blind(self, vip: _Vip, unknown: list[str]) -> None:
        now = self._clock.monotonic()
        if vip.blind_since is None:
            vip.blind_since = now
        if now - vip.blind_since >= BLIND_S:
            vip.weights = vip.weights | dict.fromkeys(unknown, EQUAL_SHARE)

    def _tell(self, engines: frozenset[str]) -> None:
        self._said = None
        for engine in sorted(engines):
            self._push(engine)


def _equal(weights: Weights) -> bool:
    return set(weights.values()) <= {EQUAL_SHARE}
