"""The margin against failures, as events: lost (VS_SE_HA_COMPROMISED) and back (VS_SE_HA_ACTIVE), each told once.

A group in N+M has it while its buffer is whole, a pair while every VIP has a standby; a VIP that wants several engines while two of them serve it. What was
lost when the controller ended is read from the event log.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shoal.placement.model import Event, Plan, Snapshot

from .events import EventLog
from .records import VipRecord
from .scaling import ready

COMPROMISED, ACTIVE = "VS_SE_HA_COMPROMISED", "VS_SE_HA_ACTIVE"
ENGINES_MIN = 2
"""Serving a VIP that wants several: with one less, its next failure is an interruption."""


class Change(msgspec.Struct, frozen=True):
    """A VIP's record before and after a plan."""

    before: VipRecord | None
    after: VipRecord | None


class Margins:
    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._lost: dict[str, set[str]] | None = None
        """Group -> VIPs, and "" for the group's buffer."""

    def told(self, snapshot: Snapshot, result: Plan, changes: Mapping[str, Change]) -> tuple[Event, ...]:
        """The plan's events, with those about margins as they changed. ``changes``: by VIP, those written now."""
        group = snapshot.group
        lost = self._known(group.id)
        found = [event for event in result.events if event.name != COMPROMISED or "" not in lost]
        gone = any(event.name == COMPROMISED for event in result.events)
        if "" in lost and not gone:
            free, needed = result.buffer.free, result.buffer.needed
            slots = f"{free} buffer slots are free, {needed} are needed"
            found.append(Event(name=ACTIVE, detail=slots if needed else "every virtual service has a standby"))
        _mark(lost, "", gone=gone)
        names = {vip.id: vip.name for vip in snapshot.vips} if changes else {}
        engines = {engine.id: engine.name for engine in snapshot.engines} if changes else {}
        for vip, change in changes.items():
            event = _of_vip(names.get(vip, vip), vip, change, vip in lost, engines)
            if event is not None:
                found.append(event)
                _mark(lost, vip, gone=event.name == COMPROMISED)
            if change.after is None or change.after.requested < ENGINES_MIN:
                lost.discard(vip)
        return tuple(found)

    def forget(self, group: str) -> None:
        if self._lost is not None:
            self._lost.pop(group, None)

    def _known(self, group: str) -> set[str]:
        if self._lost is None:  # what earlier controllers told
            self._lost = {}
            last: dict[tuple[str, str], str] = {}
            for event in self._events.read({"name": [COMPROMISED, ACTIVE]}):
                last.setdefault((event.objects.get("serviceenginegroup", ""), event.objects.get("vip", "")), event.name)
            for (of, subject), name in last.items():
                if name == COMPROMISED:
                    self._lost.setdefault(of, set()).add(subject)
        return self._lost.setdefault(group, set())


def _mark(lost: set[str], subject: str, *, gone: bool) -> None:
    if gone:
        lost.add(subject)
    else:
        lost.discard(subject)


def _of_vip(name: str, vip: str, change: Change, lost: bool, engines: Mapping[str, str]) -> Event | None:
    after = change.after
    if after is None or after.requested < ENGINES_MIN or after.scale_state == "SCALEOUT_ERROR_DISABLED":
        return None
    left = [engines.get(p.engine, p.engine) for p in ready(after)]
    if lost and len(left) >= ENGINES_MIN:
        return Event(name=ACTIVE, vip=vip, detail=f"{name} is served by {len(left)} engines again: {', '.join(left)}")
    if not lost and len(ready(change.before)) >= ENGINES_MIN > len(left):
        on = f"{left[0]} alone" if left else "no engine"
        return Event(name=COMPROMISED, vip=vip, detail=f"{name} is served by {on}, {after.requested} are wanted")
    return None
