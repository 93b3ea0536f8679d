"""The snapshot of a group from plan to plan: what may be otherwise than in the last one is made anew, the rest is kept.

What a VIP's part follows from, and who says when it changes:

- the intent: `Intents.changed`, through `touch`;
- its record: `Ledger.on_written`, through `touch`;
- which list its engines run, and who owns it: `Fleet` (``on_vips``), through `touch`;
- how an engine stands that its record names, or that owns it: looked at each time, engine by engine (and VIP by VIP
  where the owner is no engine of the group);
- whether it is drained, must not be placed yet, or has been told for long: looked at each time, of those that drain, must
  not be placed yet or were just placed, and while anything could stand in the way of those that are nowhere (`may_block`);
- the wall clock, if it was set back: then all is made anew.

Now and then everything is made anew all the same (`SnapshotKeeper.review`), and what was not as it was kept is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from shoal.objects import views
from shoal.placement.model import Engine, EngineState, Need, Pace, Placement, PlacementState, Snapshot, Vip

from .desired import VipIntent
from .fleet import Fleet
from .ledger import Ledger
from .records import EngineRecord, VipRecord
from .snapshot import emptied, engine_value, group_value, requests_of, vip_value


class Fresh(msgspec.Struct):
    """What is not as it was in the snapshot before; None = it is gone. ``whole``: the snapshot was made anew, and may be
    another one in all."""

    vips: dict[str, Vip | None] = {}
    engines: dict[str, Engine | None] = {}
    looked_at: dict[str, None] = {}
    """VIPs that were made anew, or are no more, the same as before or not."""
    engines_looked_at: dict[str, None] = {}
    """Engines of which something is not as it was: also what plans do not depend on."""
    whole: bool = False


class _Seen(msgspec.Struct, frozen=True):
    """What an engine's part was made of."""

    record: EngineRecord
    document: Mapping[str, Any] | None
    state: EngineState
    down_since: float | None
    blank: bool
    """It is connected and has put nothing into effect."""
    value: Engine


class SnapshotKeeper:
    """Of one group. ``document(engine id)`` is the stored one; ``blocked``: why a VIP must not be placed yet, "" if it may,
    ``may_block``: whether that can be said of any that was not told of as changed;
    ``needs``: which networks it wants its engines in."""

    def __init__(
        self,
        group: str,
        ledger: Ledger,
        fleet: Fleet,
        document: Callable[[str], Mapping[str, Any] | None],
        blocked: Callable[[VipIntent, VipRecord], str],
        needs: Callable[[VipIntent], tuple[Need, ...]] = lambda intent: (),
        may_block: Callable[[], bool] = lambda: True,
    ) -> None:
        self._group = group
        self._ledger = ledger
        self._fleet = fleet
        self._document = document
        self._blocked = blocked
        self._needs = needs
        self._may_block = may_block
        self._engines: dict[str, _Seen] = {}
        self._vips: dict[str, Vip] = {}
        self._unsteady: dict[str, None] = {}
        """VIPs that drain, must not be placed yet, were just placed, or are owned by an engine of another group."""
        self._nowhere: dict[str, None] = {}
        """VIPs that are on no engine and could be placed, if there were room."""
        self._touched: dict[str, None] = {}
        self._at = float("-inf")
        self.advanced: dict[str, None] = {}
        """VIPs whose engines have come further than their record says."""
        self.orphans: dict[str, None] = {}
        """VIPs that have a record and are not wanted any more."""
        self.blocked: dict[str, None] = {}
        """VIPs that must not be placed yet."""
        self.review = False
        """The next one is to be made anew, and to be compared with what was kept."""
        self.stale = True
        """Nothing is known any more; likewise made anew."""

    def touch(self, vips: Iterable[str]) -> None:
        """These may be otherwise than before; also ones of other groups."""
        self._touched |= dict.fromkeys(vips)

    def placements(self, vip: str) -> tuple[Placement, ...]:
        """As they stand in the last snapshot."""
        return self._vips[vip].placements

    def make(
        self,
        revision: int,
        group: views.ServiceEngineGroup,
        intents: Mapping[str, VipIntent],
        now: float,
        *,
        retry_at: float,
        pace: Callable[[], Pace | None],
        networks: Callable[[], tuple[str, ...]] = tuple,
    ) -> tuple[Snapshot, Fresh, list[str]]:
        """The group as it is now, what is new about it, and what ought to have been known to be new (a fault). ``networks()``:
        in which an engine that is made will be by VLANs; asked where any engine is in one."""
        states = self._fleet.look(self._ledger.engines)
        stale = self.stale or now < self._at
        fresh = Fresh(whole=stale or self.review)
        self._at, self.stale, self.review = now, False, False
        self._look_at_engines(states, fresh)
        touched, self._touched = self._touched | self._unsteady, {}
        if self._may_block():
            touched |= self._nowhere
        missed: list[str] = []
        if fresh.whole:
            known = self._ledger.vips.get(self._group, {})
            order = {**dict.fromkeys(intents), **dict.fromkeys(known), **dict.fromkeys(self._vips)}
            before, self._vips, self.orphans = self._vips, {}, {}
            for id in order:
                self._make_vip(id, intents, states, now, fresh, before)
            missed = [id for id in fresh.vips if id not in touched] if not stale else []
        else:
            for id in touched:
                self._make_vip(id, intents, states, now, fresh, self._vips)
        records = self._ledger.engines_of(self._group)
        snapshot = Snapshot(
            revision=revision,
            group=group_value(
                group,
                retry_at=retry_at,
                ever_used=bool(records or self._ledger.vips.get(self._group)),
                networks=networks() if any(seen.value.vlans for seen in self._engines.values()) else (),
                upgrading=emptied(self._ledger, self._group),
            ),
            engines=tuple(self._engines[record.id].value for record in records),
            vips=tuple(self._vips.values()),
            requests=requests_of(self._ledger, self._group),
            pace=pace(),
        )
        return snapshot, fresh, missed

    def _look_at_engines(self, states: Mapping[str, EngineState], fresh: Fresh) -> None:
        records = self._ledger.engines_of(self._group)
        gateways = self._fleet.without_gateway(record.id for record in records)
        for record in records:
            id, live, document = record.id, self._fleet.live(record.id), self._document(record.id)
            known, state, blank = self._engines.get(id), states[id], live.session is not None and live.applied == ""
            if (
                known is not None
                and known.record is record
                and known.document is document
                and known.state is state
                and known.down_since == live.down_since
                and known.blank is blank
                and known.value.lost_gateway == gateways.get(id, "")
            ):
                continue
            fresh.engines_looked_at[id] = None
            value = engine_value(record, state, document, live.down_since, gateways.get(id, ""))
            self._engines[id] = _Seen(record, document, state, live.down_since, blank, value)
            if known is None or known.value != value:
                fresh.engines[id] = value
            if known is None or known.state is not state or known.blank is not blank:
                self._touch_all_of(id)
        if len(self._engines) > len(records):
            for id in self._engines.keys() - {record.id for record in records}:
                del self._engines[id]
                fresh.engines[id] = fresh.engines_looked_at[id] = None
                self._touch_all_of(id)

    def _touch_all_of(self, engine: str) -> None:
        self.touch(record.id for record in self._ledger.naming(engine) if record.group == self._group)
        self.touch(self._fleet.owned(engine))

    def _make_vip(
        self,
        id: str,
        intents: Mapping[str, VipIntent],
        states: Mapping[str, EngineState],
        now: float,
        fresh: Fresh,
        before: Mapping[str, Vip],
    ) -> None:
        record, intent, known = self._ledger.vips.get(self._group, {}).get(id), intents.get(id), before.get(id)
        fresh.looked_at[id] = None
        for marks in (self.advanced, self.orphans, self.blocked, self._unsteady, self._nowhere):
            marks.pop(id, None)
        if intent is None:
            if record is not None:
                self.orphans[id] = None
            if self._vips.pop(id, None) is not None or known is not None:
                fresh.vips[id] = None
            return
        stored = record or self._ledger.fresh_vip(self._group, id)
        value = vip_value(intent, stored, states, self._fleet, now, self._blocked, self._needs)
        if record is not None and value.placements != record.placements:
            self.advanced[id] = None
        if value.blocked:
            self.blocked[id] = None
        owner = self._fleet.owner(id)
        elsewhere = owner is not None and owner.engine not in self._engines
        moves = any(p.state in (PlacementState.DRAINING, PlacementState.ASSIGNED) for p in value.placements)
        nowhere = not stored.placements
        if elsewhere or moves or (nowhere and (record is None or stored.elsewhere or value.blocked)):
            self._unsteady[id] = None
        elif nowhere:
            self._nowhere[id] = None
        if known == value:
            self._vips[id] = known
        else:
            self._vips[id] = fresh.vips[id] = value
