"""When each group is looked at for auto-rebalance, and what comes of a look (the rules: `shoal.placement.rebalance`).

A change becomes an ordinary request, written in one transaction with the record that it was made: a controller that
starts later carries it out, and makes no other one within the interval.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from shoal.objects import views
from shoal.placement import load as placement_load
from shoal.placement import rebalance
from shoal.placement.load import EngineLoad, Marks
from shoal.placement.model import EngineState, Request, Snapshot
from shoal.placement.presets import LEGACY

from .clock import Clock, FreshId
from .desired import VipIntent
from .events import EventLog
from .ledger import Changes, Ledger
from .loads import WINDOW_S, Loads
from .records import DECISIONS_MAX, Noted, RebalanceRecord, RequestRecord

INTERVAL_S_MIN = 10
"""Engines tell their counters every 5 s: a shorter interval has nothing to look at."""
USER = "auto-rebalance"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The last look of a group."""

    at: float
    window_s: float
    marks: Marks
    look: rebalance.Look
    acted: bool


class Balance:
    """Used by the reconciler alone, which owns all plans."""

    def __init__(self, clock: Clock, ledger: Ledger, loads: Loads, events: EventLog, fresh_id: FreshId) -> None:
        self._clock = clock
        self._ledger = ledger
        self._loads = loads
        self._events = events
        self._fresh_id = fresh_id
        self._looked: dict[str, float] = {}
        """Group -> when, on the monotonic clock; at first so that the next look is where a former controller left it."""
        self._crossed: dict[str, frozenset[str]] = {}
        """Thresholds that an event was raised of, while auto-rebalance is off."""
        self.seen: dict[str, Seen] = {}

    def next_at(self, group: views.ServiceEngineGroup) -> float | None:
        """When the group is to be looked at next, by the wall clock; None = never (legacy)."""
        if group.ha_mode == LEGACY:
            return None
        return self._clock.now() + self._looked_at(group) + interval_s(group) - self._clock.monotonic()

    def forget(self, group: str) -> None:
        self._looked.pop(group, None)
        self._crossed.pop(group, None)
        self.seen.pop(group, None)

    async def look(
        self, group: views.ServiceEngineGroup, snapshot: Snapshot, intents: Collection[VipIntent], now: float
    ) -> bool:
        """To be called before the group is planned. True when a change was written: then the snapshot has one request
        more. Raises `Conflict`; the look is made again then."""
        at = self.next_at(group)
        if at is None or at > now:
            return False
        self._loads.forget(self._ledger.engines)
        window_s = min(WINDOW_S, interval_s(group))
        marks, problem = marks_of(group)
        loads = self._measured(snapshot, intents, window_s) if marks.capacity else {}
        found = rebalance.look(snapshot, marks, loads, now) if marks.capacity else rebalance.Look()
        if problem:
            found = msgspec.structs.replace(found, why="; ".join(filter(None, [problem, found.why])))
        fresh = self._unsettled(group.uuid, window_s, now) if found.action is not None else ""
        if fresh:
            found = msgspec.structs.replace(found, action=None, decision=None, why=fresh)
        acts = found.action is not None and group.auto_rebalance
        self.seen[group.uuid] = Seen(at=now, window_s=window_s, marks=marks, look=found, acted=acts)
        if acts:
            await self._ledger.write(self._changes(group, found, now))
            self._raise(group, intents, found)
        self._looked[group.uuid] = self._clock.monotonic()
        if group.auto_rebalance:
            self._crossed.pop(group.uuid, None)
        else:
            self._tell(group, snapshot, found)
        return acts

    def _looked_at(self, group: views.ServiceEngineGroup) -> float:
        known = self._looked.get(group.uuid)
        if known is None:
            last = self._ledger.rebalances.get(group.uuid)
            gone = max(0.0, self._clock.now() - last.at) if last is not None else interval_s(group)
            known = self._clock.monotonic() - min(gone, interval_s(group) - min(WINDOW_S, interval_s(group)))
            self._looked[group.uuid] = known
        return known

    def _measured(self, snapshot: Snapshot, intents: Collection[VipIntent], window_s: float) -> dict[str, EngineLoad]:
        vips: dict[str, list[str]] = {}
        for intent in intents:
            for service in intent.services:
                vips.setdefault(service.uuid, []).append(intent.id)
        found: dict[str, EngineLoad] = {}
        for engine in snapshot.engines:
            if engine.state is EngineState.UP:
                load = self._loads.of(engine.id, lambda service: vips.get(service, ()), window_s)
                if load is not None:
                    found[engine.id] = load
        return found

    def _unsettled(self, group: str, window_s: float, now: float) -> str:
        """Why the figures are still those of before the last change; "" if they are not."""
        last = self._ledger.rebalances.get(group)
        record = self._ledger.vips.get(group, {}).get(last.vip) if last is not None else None
        if record is None or not 0 <= now - record.changed_at < window_s:
            return ""
        return (
            f"the last change ended {now - record.changed_at:.0f} s ago, and figures are of the last {window_s:.0f} s"
        )

    # --- doing ---

    def _changes(self, group: views.ServiceEngineGroup, found: rebalance.Look, now: float) -> Changes:
        action, decision = found.action, found.decision
        assert action is not None and decision is not None
        request = Request(
            id=self._fresh_id(),
            kind=action.kind,
            vip=action.vip,
            at=now,
            to_engine=action.to_engine,
            to_new=action.to_new,
            from_engine=action.from_engine,
        )
        changes = Changes(
            requests={(group.uuid, request.id): RequestRecord(request=request, user=USER)},
            rebalances={
                group.uuid: RebalanceRecord(
                    group=group.uuid,
                    at=now,
                    vip=action.vip,
                    request=request.id,
                    what=action.kind.value,
                    why=found.why,
                )
            },
        )
        record = self._ledger.vips.get(group.uuid, {}).get(action.vip)
        if record is not None:
            noted = (*record.decisions, Noted(at=now, decision=decision))[-DECISIONS_MAX:]
            changes.vips[group.uuid, action.vip] = msgspec.structs.replace(record, decisions=noted)
        return changes

    def _raise(self, group: views.ServiceEngineGroup, intents: Collection[VipIntent], found: rebalance.Look) -> None:
        action = found.action
        assert action is not None
        service = next((s.uuid for intent in intents if intent.id == action.vip for s in intent.services), "")
        self._events.add(
            rebalance.EVENTS[action.kind],
            found.why,
            virtualservice=service,
            vip=action.vip,
            serviceengine=action.to_engine or action.from_engine,
            from_serviceengine=action.from_engine,
            serviceenginegroup=group.uuid,
        )

    # --- off ---

    def _tell(self, group: views.ServiceEngineGroup, snapshot: Snapshot, found: rebalance.Look) -> None:
        """With auto-rebalance off a threshold that is crossed is an event, once. The low mark counts where something
        would follow: an idle group is no news."""
        names = {engine.id: engine.name for engine in snapshot.engines}
        marks, _ = marks_of(group)
        before = self._crossed.get(group.uuid, frozenset())
        crossed: dict[str, tuple[str, str]] = {}
        unknown = {f"over {engine}" for engine in found.at("unknown")} & before
        for engine in found.engines:
            if engine.level == "over" and engine.load is not None:
                detail = f"{names[engine.engine]} has {marks.words(engine.load)}, above {marks.high:.0f} %"
                crossed[f"over {engine.engine}"] = ("SE_LOAD_HIGH", detail)
        action = found.action
        if action is not None and not crossed:
            crossed[f"under {action.vip}"] = ("SE_LOAD_LOW", found.why)
        for what, (name, detail) in crossed.items():
            if what not in before:
                self._events.add(
                    name,
                    f"{detail}; auto_rebalance is off, nothing is moved",
                    level="warning" if name == "SE_LOAD_HIGH" else "info",
                    serviceengine=what.removeprefix("over ") if name == "SE_LOAD_HIGH" else "",
                    serviceenginegroup=group.uuid,
                )
        self._crossed[group.uuid] = frozenset((*unknown, *crossed))


def interval_s(group: views.ServiceEngineGroup) -> float:
    """In force; at least `INTERVAL_S_MIN`."""
    return float(max(INTERVAL_S_MIN, group.auto_rebalance_interval))


def marks_of(group: views.ServiceEngineGroup) -> tuple[Marks, str]:
    """And what is wrong with them."""
    return placement_load.marks(
        float(group.max_cpu_usage),
        float(group.min_cpu_usage),
        group.auto_rebalance_criteria,
        group.auto_rebalance_capacity_per_se,
    )


def warnings(group: views.ServiceEngineGroup) -> list[str]:
    """Sentences for values that are kept, and do not do what they seem to."""
    found = []
    if group.auto_rebalance and group.ha_mode == LEGACY:
        found.append("auto_rebalance has no effect in a legacy active/standby group.")
    _, problem = marks_of(group)
    if problem:
        found.append(f"{problem}.")
    if group.auto_rebalance_interval < INTERVAL_S_MIN:
        given = group.auto_rebalance_interval
        found.append(f"auto_rebalance_interval {given} acts as {INTERVAL_S_MIN}: engines tell their load every 5 s.")
    return found


def shown(
    group: views.ServiceEngineGroup,
    balance: Balance,
    last: RebalanceRecord | None,
    names: Mapping[str, str],
    now: float,
) -> dict[str, object]:
    """For the group's runtime."""
    if group.ha_mode == LEGACY:
        return {"enabled": False, "why": "legacy active/standby groups are not rebalanced"}
    seen = balance.seen.get(group.uuid)
    next_at = balance.next_at(group)
    marks, problem = marks_of(group)
    found: dict[str, object] = {
        "enabled": group.auto_rebalance,
        "interval_s": interval_s(group),
        "high_percent": marks.high,
        "low_percent": marks.low,
        "capacity": dict(marks.capacity),
        "next_look_in_s": max(0.0, round(next_at - now, 1)) if next_at is not None else None,
        "why": problem or "not looked at yet",
        "last_change": {"at": last.at, "what": last.what, "vip": last.vip, "why": last.why} if last else None,
    }
    if seen is None:
        return found
    look = seen.look
    would = "" if seen.acted or look.action is None else "auto_rebalance is off, nothing is done; it would be: "
    return found | {
        "looked_at": seen.at,
        "window_s": seen.window_s,
        "decided": look.action.kind.value if look.action is not None and seen.acted else "nothing",
        "why": would + look.why,
        "notes": list(look.notes),
        "engines": [
            {
                "name": names.get(engine.engine, engine.engine),
                "level": engine.level,
                "percent": {name: round(value, 1) for name, value in engine.percent.items()},
                "load": {n: round(v, 2) for n, v in msgspec.structs.asdict(engine.load).items()} if engine.load else {},
            }
            for engine in look.engines
        ],
    }
