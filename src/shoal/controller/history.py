"""The snapshots that recent plans were made from: out of them a decision is looked at in full, long after it was made.

In memory and bounded; a decision whose snapshot is gone is told as such.
"""

from __future__ import annotations

from collections import deque

import msgspec

from shoal.placement.model import Snapshot

SNAPSHOTS_MAX = 64
"""Kept per group."""
OBJECTS_MAX = 60_000
"""Engines and VIPs in all snapshots of one group (0.3 to 0.7 KB each); the last one is kept whatever its size."""


class Moment(msgspec.Struct, frozen=True):
    """A snapshot and the time it was planned at: together they give the same plan again."""

    at: float
    snapshot: Snapshot

    @property
    def objects(self) -> int:
        return len(self.snapshot.engines) + len(self.snapshot.vips)


class History:
    def __init__(self) -> None:
        self._moments: dict[str, deque[Moment]] = {}

    def keep(self, group: str, snapshot: Snapshot, at: float) -> None:
        """The oldest ones give way."""
        moments = self._moments.setdefault(group, deque())
        moments.append(Moment(at, snapshot))
        objects = sum(moment.objects for moment in moments)
        while len(moments) > 1 and (len(moments) > SNAPSHOTS_MAX or objects > OBJECTS_MAX):
            objects -= moments.popleft().objects

    def find(self, group: str, revision: int, at: float) -> Moment | None:
        """What was planned at that revision and time; None when it is gone."""
        for moment in reversed(self._moments.get(group, ())):
            if moment.at == at and moment.snapshot.revision == revision:
                return moment
        return None

    def forget(self, group: str) -> None:
        self._moments.pop(group, None)
