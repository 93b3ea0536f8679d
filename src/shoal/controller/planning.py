"""The planner of each group, kept between plans, and now and then held against the plan made from scratch."""

from __future__ import annotations

import logging

import msgspec

from shoal.placement import Planner, plan
from shoal.placement.model import Plan, Snapshot
from shoal.placement.standing import Standing

from .clock import Clock
from .events import EventLog
from .kept import Fresh

log = logging.getLogger("shoal.planning")

CHECK_INTERVAL_S_MIN = 10.0
CHECKS_SHARE_MAX = 0.001
"""Checks take this part of the time at most: a fleet is checked each few minutes only."""


class Planning:
    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._planners: dict[str, Planner] = {}
        self._check_at: dict[str, float] = {}
        """Monotonic time of the next check."""

    def plan(self, snapshot: Snapshot, now: float, fresh: Fresh | None = None) -> Plan:
        """What `shoal.placement.plan` answers, faster. Should it ever be something else, that is said loudly, and the
        plan made from scratch is the one that counts. ``fresh``: what is new since the last one of the group; without it
        that is found out."""
        group = snapshot.group.id
        try:
            result = self._followed(snapshot, fresh).plan(now)
        except Exception:
            log.exception("the planner of %s failed", snapshot.group.name)
            return self._distrust(snapshot, "it failed", plan(snapshot, now))
        if self._clock.monotonic() < self._check_at.get(group, 0.0):
            return result
        began = self._clock.monotonic()
        scratch = plan(snapshot, now)
        ended = self._clock.monotonic()
        self._check_at[group] = ended + max(CHECK_INTERVAL_S_MIN, (ended - began) / CHECKS_SHARE_MAX)
        if msgspec.json.encode(scratch) == msgspec.json.encode(result):
            return result
        log.error("the plans differ:\n%s\n%s", result, scratch)
        return self._distrust(snapshot, f'it answered "{result.sentence}"', scratch)

    def forget(self, group: str) -> None:
        """The group is gone."""
        self._planners.pop(group, None)
        self._check_at.pop(group, None)

    def standing(self, group: str) -> Standing | None:
        """The group as it was planned last, with its indexes."""
        planner = self._planners.get(group)
        return planner.standing if planner is not None else None

    def _followed(self, snapshot: Snapshot, fresh: Fresh | None) -> Planner:
        planner = self._planners.get(snapshot.group.id)
        if planner is None:
            planner = self._planners[snapshot.group.id] = Planner(snapshot)
        elif fresh is None or fresh.whole:
            planner.standing.follow(snapshot)
        else:
            planner.standing.follow_some(snapshot, fresh.engines, fresh.vips)
        return planner

    def _distrust(self, snapshot: Snapshot, why: str, scratch: Plan) -> Plan:
        """The planner has to begin anew."""
        self.forget(snapshot.group.id)
        sentence = (
            f"The plan of {snapshot.group.name} was made from scratch, because that of the changes alone was wrong: {why}, "
            f'where "{scratch.sentence}" was right. Please report this with the log.'
        )
        self._events.add("INVARIANT_BROKEN", sentence, level="error", serviceenginegroup=snapshot.group.id)
        return scratch
