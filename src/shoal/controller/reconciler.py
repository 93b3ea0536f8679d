"""Level-triggered: on any change, snapshot -> plan -> commit -> carry out, one group at a time.

What a plan costs follows from what has changed (`kept`, `intents`, `Planning`). Losing a notification costs latency,
never correctness: every group is looked at in whole and planned again each `REVIEW_INTERVAL_S`, or less often where that
takes long.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import msgspec

from shoal.objects import views
from shoal.placement.board import ENABLED
from shoal.placement.invariants import violations, violations_near
from shoal.placement.model import (
    Decision,
    Placement,
    Plan,
    RequestResult,
    Snapshot,
    VipPlan,
)
from shoal.placement.model import Event as PlanEvent
from shoal.placement.presets import LEGACY
from shoal.store.patience import RETRY_S, patiently
from shoal.store.protocol import Conflict, Unavailable

from . import scaling, served, siblings
from . import snapshot as snapshots
from .balance import Balance
from .clock import Clock, woken
from .compiler import Compiler
from .desired import VipIntent, concerned
from .events import EventLog
from .fleet import Fleet
from .freed import Freed
from .history import History
from .intents import Intents
from .kept import Fresh, SnapshotKeeper
from .ledger import Changes, Ledger
from .lifecycle import Lifecycle
from .margin import Change, Margins
from .needs import Needs
from .planning import Planning
from .records import DECISIONS_MAX, EngineRecord, Noted, RequestRecord, VipRecord
from .shortfalls import Shortfalls, shortfalls
from .shortfalls import events as shortfall_events
from .uniqueness import vip_addresses
from .view import View

log = logging.getLogger("shoal.reconciler")

REVIEW_INTERVAL_S = 10.0
REVIEWS_SHARE_MAX = 0.01
"""Reviews take this part of the time at most."""
EXAMINED_WHOLE_MAX = 300
"""Engines and VIPs of a group whose every plan is held against all rules. In larger ones it is what a plan touches, and all
in a review."""
PAUSES_A_PLAN, PAUSE_S_MAX = 2.0, 0.25
"""After a plan others get so many times what it took, up to this: each turn of the loop would otherwise wait for a plan, and
a request takes some twenty turns. While changes keep coming, plans take a third of the time."""
MISSED_TOLD_MAX = 5
ROUNDS_MAX = 8
"""Plans in a row for one group before others get their turn (a plan can make the next one necessary)."""
VIP_TYPES = ("virtualservice", "vsvip")
"""What VIPs are made from."""
USED_BY_THEMSELVES = ("serviceenginegroup", "serviceengine", "virtualservice")
"""All other objects matter only through what refers to them."""


class Standing(msgspec.Struct, frozen=True):
    """A group for which the plan of ``snapshot``, made ``at``, had nothing to do."""

    snapshot: Snapshot
    result: Plan
    at: float

    def holds(self, snapshot: Snapshot, fresh: Fresh, now: float) -> bool:
        """A plan would come to the same, as none of what it is made from has changed and its time has not come."""
        before, until = self.snapshot, self.result.wake_at
        return (
            not (fresh.whole or fresh.vips or fresh.engines or fresh.engines_looked_at)
            and self.at <= now
            and (until is None or now < until)
            and not snapshot.requests
            and before.pace is snapshot.pace is None
            and before.group == snapshot.group
        )


class Reconciler:
    """One task owns all plans (`run`)."""

    def __init__(
        self,
        view: View,
        ledger: Ledger,
        fleet: Fleet,
        compiler: Compiler,
        events: EventLog,
        clock: Clock,
    ) -> None:
        self._view = view
        self._ledger = ledger
        self._fleet = fleet
        self._compiler = compiler
        self._events = events
        self._clock = clock
        self._planning = Planning(events, clock)
        self.lifecycle: Lifecycle | None = None
        self.balance: Balance | None = None
        self.freed = Freed(clock)
        """Addresses that new VIPs must wait for."""
        self.on_planned: Callable[[], None] = lambda: None
        """Called when a plan is written, before engines hear of it."""
        self.on_decided: Callable[[Snapshot, Plan, float], None] = lambda snapshot, plan, now: None
        """Called with each plan that did something, what it was made from and when, once it is written."""
        self.pause_s_min = 0.0
        """After a plan: for virtual time, in which it takes none and each word of an engine would be followed by one."""
        self.plans: dict[str, Plan] = {}
        """The last plan of each group, for reading."""
        self.snapshots: dict[str, Snapshot] = {}
        """The snapshot it was made from."""
        self.planned_at: dict[str, float] = {}
        """When."""
        self.shortfalls: dict[str, Shortfalls] = {}
        """What it could not place, and why."""
        self.history = History()
        """The snapshots of plans that decided something."""
        self._stands: dict[str, Standing] = {}
        """Groups for which nothing was to be done by the last plan."""
        self._margins = Margins(events)
        self._barred: dict[str, None] = {}
        """Groups with VIPs that must not be placed yet."""
        self._dirty: dict[str, None] = {}
        self._stale: dict[str, None] = {}
        """Virtual services whose engines may have to run something else, while the plan stands."""
        self._intents = Intents(view)
        self._needs = Needs(view)
        self._kept: dict[str, SnapshotKeeper] = {}
        self._groups = views.Views(views.ServiceEngineGroup)
        self._services = views.Views(views.VirtualService)
        self._vsvips = views.Views(views.VsVip)
        self._review_at = clock.monotonic() + REVIEW_INTERVAL_S
        self._reviews_took_s = 0.0
        self._wake: dict[str, float] = {}
        self._wanted = asyncio.Event()
        self._raised: dict[str, frozenset[PlanEvent]] = {}
        self._waiting: dict[str, asyncio.Future[RequestResult | None]] = {}

    # --- what makes a plan necessary ---

    def mark(self, group: str) -> None:
        """Something changed in the group: plan it soon."""
        self._dirty[group] = None
        self._wanted.set()

    def mark_all(self) -> None:
        for document in self._view.all("serviceenginegroup"):
            self.mark(document["uuid"])
        for group in self._ledger.vips:
            self.mark(group)

    def on_document(self, type: str, uuid: str, document: Mapping[str, object] | None) -> None:
        """A change of intent (the view's callback)."""
        services = self._compiler.changed(type, uuid)
        if type in VIP_TYPES:
            for group, vips in self._intents.changed(type, uuid).items():
                self._touch(vips)
                self.mark(group)
        if self._needs.concerns(type, uuid, document):
            self._touch(vip for vips in self._ledger.vips.values() for vip in vips)
            self.mark_all()
        if type not in USED_BY_THEMSELVES and not self._view.referrers(uuid):
            if type == "vsvip" and document is None:
                self._touch(vip for vip in self._ledger.floors if vip.partition("/")[0] == uuid)
            return  # most objects are made before what refers to them, and then that is the change
        if type == "serviceenginegroup":
            self.mark(uuid)
        elif type == "serviceengine":
            self.on_engine(uuid)
            self._fleet.push(uuid)  # it may have other interfaces
            if self.lifecycle is not None:
                self.lifecycle.kick()
        elif services is None:
            self._fleet.push_all()
        elif services and type not in VIP_TYPES:
            self._stale.update(dict.fromkeys(services))
            self._wanted.set()

    def on_engine(self, engine: str) -> None:
        record = self._ledger.engines.get(engine)
        if record is not None:
            self.mark(record.group)

    def on_vips(self, vips: Iterable[str]) -> None:
        """What engines say of these is not what it was (the fleet's callback; `on_engine` follows)."""
        self._touch(vips)

    def on_written(self, changes: Changes) -> None:
        """The ledger's callback."""
        self._touch(vip for _, vip in changes.vips)
        self._touch(changes.floors_gone)

    def on_loaded(self, gone: Iterable[EngineRecord]) -> None:
        """Everything may be otherwise (the ledger's callback)."""
        for kept in self._kept.values():
            kept.stale = True
        for engine in gone:  # a plan retired it, and it was not known that this is stored
            if self.lifecycle is not None:
                self.lifecycle.retire(engine)

    def _touch(self, vips: Iterable[str]) -> None:
        touched = tuple(vips)
        for kept in self._kept.values() if touched else ():
            kept.touch(touched)

    async def request(self, group: str, *records: RequestRecord) -> list[RequestResult | None]:
        """Store an operator's requests and wait for the first plan that has seen them; an answer for each.

        None = accepted and in progress; a result with ``ok`` False = refused, with the reason.
        """
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[RequestResult | None]] = {r.request.id: loop.create_future() for r in records}
        self._waiting |= futures
        try:
            await self._ledger.write(Changes(requests={(group, record.request.id): record for record in records}))
        except BaseException:
            for id in futures:
                self._waiting.pop(id, None)
            raise
        finally:
            self.mark(group)
        return await asyncio.gather(*futures.values())

    # --- the loop ---

    async def run(self) -> None:
        """Until cancelled."""
        self.mark_all()
        while True:
            await self._wait()
            groups, self._dirty = list(self._dirty), {}
            stale, self._stale = self._stale, {}
            self._recompile(stale)
            if self.freed:
                await self.freed.release(self._in_use)
            groups += [group for group in self._barred if group not in groups]  # it may be what they wait for
            for group in groups:
                await self._settle(group)

    async def _wait(self) -> None:
        now = self._clock.now()
        review_s = self._review_at - self._clock.monotonic()
        wake_s = min([review_s, *(at - now for at in self._wake.values())])
        review = review_s <= 0.0
        if self._dirty or self._stale:
            self._wanted.clear()
        elif not await woken(self._wanted, max(0.0, wake_s)):
            review = wake_s == review_s
        now = self._clock.now()
        for group in [group for group, at in self._wake.items() if at <= now]:
            del self._wake[group]
            self._dirty[group] = None
        if review:
            self._review()

    def _review(self) -> None:
        interval_s = max(REVIEW_INTERVAL_S, self._reviews_took_s / REVIEWS_SHARE_MAX)
        self._review_at = self._clock.monotonic() + interval_s
        self._reviews_took_s = 0.0
        self.mark_all()
        for kept in self._kept.values():
            kept.review = True

    async def _settle(self, group: str) -> None:
        for _ in range(ROUNDS_MAX):
            try:
                if self._ledger.unsure:
                    await self._ledger.load()
                began = self._clock.monotonic()
                written = await self.reconcile(group)
                if pause_s := max(self.pause_s_min, PAUSES_A_PLAN * (self._clock.monotonic() - began)):
                    await asyncio.sleep(min(pause_s, PAUSE_S_MAX))
                if not written:
                    return
            except Conflict as conflict:
                log.warning("group %s: %s", group, conflict)
                await patiently(self._ledger.load, "the next plan")
            except Unavailable:  # what was planned is old when it can be written
                await asyncio.sleep(RETRY_S)
                break
        self.mark(group)

    async def reconcile(self, group: str) -> bool:
        """Plan the group once and carry the plan out. True if anything was written (plan again)."""
        document = self._view.get("serviceenginegroup", group)
        if document is None:
            return await self._group_gone(group)
        began = self._clock.monotonic()
        typed = self._groups.one(document)
        mine = self._intents.of(group)
        now = self._clock.now()
        snapshot, fresh = self._fresh_snapshot(typed, mine, now)
        everywhere = self._compiler.update(typed, mine, None if fresh.whole else fresh.looked_at)
        if self.balance is not None and await self.balance.look(typed, snapshot, mine.values(), now):
            snapshot = msgspec.structs.replace(snapshot, requests=snapshots.requests_of(self._ledger, group))
        if self._kept[group].blocked:
            self._barred[group] = None
        else:
            self._barred.pop(group, None)
        stands = self._stands.pop(group, None)
        if stands is not None and stands.holds(snapshot, fresh, now) and self._all_known(fresh):
            self._stands[group] = stands
            self.on_planned()  # what should answer follows from documents, too
            self._schedule(typed, stands.result)
            self._push(group, fresh, {}, everywhere=everywhere)
            return False
        result = self._planning.plan(snapshot, now, fresh)
        self.plans[group], self.snapshots[group], self.planned_at[group] = result, snapshot, now
        self.shortfalls[group] = shortfalls(result)
        self._examine(group, snapshot, result, fresh)
        changes = self._changes(typed, snapshot, result, fresh, now)
        retired = [self._ledger.engines[id] for id in result.retire_engines]
        before = self._ledger.vips.get(group, {})
        moved = {vip: Change(before.get(vip), after) for (_, vip), after in changes.vips.items()}
        if changes:
            await self._ledger.write(changes)
            if result.decisions:
                self.history.keep(group, snapshot, now)
            if result.decisions or not result.empty:
                self.on_decided(snapshot, result, now)
        self._fleet.storms.planned(group, result.moves, len(result.held))
        self.on_planned()
        margins = self._margins.told(snapshot, result, moved)
        self._raise(group, (*margins, *shortfall_events(snapshot, result)))
        served.tell(self._events, snapshot, moved, self.shortfalls[group], partial(self._names_of, group))
        self._answer(snapshot, result)
        self._schedule(typed, result)
        if self.lifecycle is not None and (retired or result.new_engines):
            for engine in retired:
                self.lifecycle.retire(engine)
            self.lifecycle.kick()
        self._push(group, fresh, moved, everywhere=everywhere or fresh.whole)
        if changes and result.sentence:
            log.info("%s: %s", typed.name, result.sentence)
        if fresh.whole:
            self._reviews_took_s += self._clock.monotonic() - began
        if not changes and result.empty:
            self._stands[group] = Standing(snapshot, result, now)
        return bool(changes)

    def _all_known(self, fresh: Fresh) -> bool:
        """Of no VIP that was looked at a floor is kept, which may have to go."""
        floors = self._ledger.floors
        return not any(vip in floors for vip in fresh.looked_at)

    def _fresh_snapshot(
        self, group: views.ServiceEngineGroup, intents: Mapping[str, VipIntent], now: float
    ) -> tuple[Snapshot, Fresh]:
        kept = self._kept.get(group.uuid)
        if kept is None:
            kept = self._kept[group.uuid] = SnapshotKeeper(
                group.uuid,
                self._ledger,
                self._fleet,
                lambda engine: self._view.get("serviceengine", engine),
                self._blocked,
                self._needs.of,
                lambda: bool(self.freed),
            )
        snapshot, fresh, missed = kept.make(
            self._view.revision,
            group,
            intents,
            now,
            retry_at=self._retry_at(group.uuid),
            pace=lambda: self._fleet.pace(group.uuid, now),
            networks=lambda: siblings.networks(self._view, group.uuid),
        )
        if missed:
            sentence = (
                f"What was known of {', '.join(sorted(missed)[:MISSED_TOLD_MAX])} in {group.name} was not what is so: a "
                "change had been missed. It is mended. Please report this with the log."
            )
            log.error("%s", sentence)
            self._events.add("INVARIANT_BROKEN", sentence, level="error", serviceenginegroup=group.uuid)
        return snapshot, fresh

    def _push(self, group: str, fresh: Fresh, moved: Mapping[str, Change], *, everywhere: bool) -> None:
        """Tell the engines that may have to run something else now: those that a VIP's record named or names, or that run
        it, and their peers through it."""
        if everywhere:
            for engine in self._ledger.engines_of(group):
                self._fleet.push(engine.id)
            return
        records = self._ledger.vips.get(group, {})
        vips = dict.fromkeys((*fresh.looked_at, *moved))
        engines = fresh.engines_looked_at
        vips |= dict.fromkeys(record.id for engine in engines for record in self._ledger.naming(engine))
        wanted = dict.fromkeys(engines)
        for vip in vips:
            changed = moved.get(vip)
            for record in (changed.before if changed is not None else None, records.get(vip)):
                wanted.update(dict.fromkeys(concerned(record) if record is not None else ()))
        for id in sorted(wanted):
            self._fleet.push(id)

    def _retry_at(self, group: str) -> float:
        return self.lifecycle.retry_at(group) if self.lifecycle else 0.0

    def _recompile(self, services: Iterable[str]) -> None:
        """The plan stands; what the engines of these services run is compiled anew."""
        wanted: dict[str, None] = {}
        for service in services:
            group, vips = self._intents.of_service(service)
            records = self._ledger.vips.get(group, {})
            wanted.update((id, None) for vip in vips if vip in records for id in concerned(records[vip]))
        for id in sorted(wanted):
            self._fleet.push(id)

    def present(self, group: str) -> Snapshot | None:
        """The group as it stands now; None if there is no such group."""
        return self.imagined(group, self._view, {group: self._intents.of(group)}, self._clock.now())

    def imagined(
        self, group: str, view: View, vips: Mapping[str, Mapping[str, VipIntent]], now: float
    ) -> Snapshot | None:
        """The group as it would stand with other documents: ``view``, and the `vips` that follow from it."""
        document = view.get("serviceenginegroup", group)
        if document is None:
            return None
        return snapshots.build(
            self._view.revision,
            views.view(document, views.ServiceEngineGroup),
            vips.get(group, {}).values(),
            lambda engine: view.get("serviceengine", engine),
            self._ledger,
            self._fleet,
            now,
            self._retry_at(group),
            lambda: self._fleet.pace(group, now),
            self._blocked,
            Needs(view).of,
            siblings.networks(view, group),
        )

    def vips(self, view: View) -> dict[str, dict[str, VipIntent]]:
        """All VIPs in use by these documents, by group."""
        services, vsvips = self._services.of(view.all("virtualservice")), self._vsvips.of(view.all("vsvip"))
        return snapshots.vips_by_group(services, vsvips, lambda service: view.order("virtualservice", service))

    def _blocked(self, intent: VipIntent, record: VipRecord) -> str:
        why = self.freed.obstacle(intent.owned, intent.id)
        return why or (self.freed.obstacle_to_move(intent.owned, intent.id, record.group) if record.elsewhere else "")

    def waits_for(self, engine: str) -> bool:
        """Whether a VIP can't be placed before the engine has confirmed that it no longer has its address."""
        return bool(self._barred) and engine in self.freed.waited_for(
            (group, vip.id, vip.owned) for group in self._barred for vip in self._intents.of(group).values()
        )

    def _in_use(self, vip: str, address: str) -> bool:
        """Whether the VIP has the address by the documents."""
        vsvip = self._view.get("vsvip", vip.partition("/")[0])
        sources = self._view.users(ipaddress.ip_address(address))
        return vsvip is not None and (
            (vip, address) in vip_addresses(vsvip)
            or any(views.uuid_of(one["vsvip_ref"]) == vsvip["uuid"] for one in sources)
        )

    # --- from a plan to records ---

    def _changes(
        self, group: views.ServiceEngineGroup, snapshot: Snapshot, result: Plan, fresh: Fresh, now: float
    ) -> Changes:
        changes = Changes()
        real: dict[str, str] = {}
        for wanted in result.new_engines:
            record = self._ledger.new_engine(
                group.uuid,
                group.se_name_prefix,
                now,
                host=wanted.host,
                why=wanted.why,
                avoid_hosts=wanted.avoid_hosts,
            )
            real[wanted.id] = record.id
            changes.engines[record.id] = record
        for engine in result.retire_engines:
            changes.engines[engine] = None
        for engine, state in result.engines_disabled:
            changes.engine_fields.setdefault(engine, {})["migrate_state"] = state
        decisions: dict[str, list[Noted]] = {}
        for decision in result.decisions:
            if decision.vip:
                named = _renamed_decision(decision, real)
                decisions.setdefault(decision.vip, []).append(Noted(at=now, decision=named))
        planned = {vip.id: vip for vip in result.vips}
        answered = {answer.request: answer for answer in result.results}
        kept, records = self._kept[group.uuid], self._ledger.vips.get(group.uuid, {})
        for id in (*planned, *(id for id in kept.advanced if id not in planned)):
            before = records.get(id)
            after = _record(group.uuid, kept.placements(id), planned.get(id), before, real, now, self._fleet.armed)
            if after is not None:
                origin = before or self._ledger.fresh_vip(group.uuid, id)
                after = msgspec.structs.replace(after, elsewhere=origin.elsewhere and not after.placements)
                noted = (*(before.decisions if before else ()), *decisions.get(id, ()))
                after = msgspec.structs.replace(after, decisions=noted[-DECISIONS_MAX:])
                after = scaling.advance(before, after, snapshot.requests, answered, now)
                changes.vips[group.uuid, id] = after
        for gone in kept.orphans:
            changes.vips[group.uuid, gone] = None
            self._fleet.forget_vip(gone)
        floors = self._ledger.floors
        suspects = floors if fresh.whole else (vip for vip in fresh.looked_at if vip in floors)
        changes.floors_gone = tuple(v for v in suspects if not self._view.get("vsvip", v.partition("/")[0]))
        for request in result.results:
            changes.requests[group.uuid, request.request] = None
        engines = [e for e in self._ledger.engines_of(group.uuid) if fresh.whole or e.id in fresh.engines_looked_at]
        self._note_idle(group.uuid, changes, dict.fromkeys(engine.id for engine in engines), now)
        self._note_names(engines, changes)
        return changes

    def _note_names(self, engines: Iterable[EngineRecord], changes: Changes) -> None:
        """An engine is called what its object is called: operators may rename it."""
        for engine in engines:
            name = self._view.name_of("serviceengine", engine.id)
            if name and name != engine.name and engine.id not in changes.engines:
                changes.engine_fields.setdefault(engine.id, {})["name"] = name

    def _note_idle(self, group: str, changes: Changes, engines: dict[str, None], now: float) -> None:
        """Since when each engine could have held something, and has not: for a disabled one it begins when it is enabled.
        ``engines``: those that may not be as they were, beside those that changes take VIPs from, or give to."""
        records, written = self._ledger.vips.get(group, {}), changes.vips
        concerned, gets = dict(engines), dict[str, None]()
        for (_, vip), after in written.items():
            before = records.get(vip)
            gets.update((p.engine, None) for p in (after.placements if after is not None else ()))
            concerned.update((p.engine, None) for p in (before.placements if before is not None else ()))
        for id in (*concerned, *(id for id in gets if id not in concerned)):
            engine = self._ledger.engines.get(id)
            if engine is None or engine.group != group or id in changes.engines:
                continue
            document = self._view.get("serviceengine", id) or {}
            holds = id in gets or any(
                (group, vip.id) not in written and any(p.engine == id for p in vip.placements)
                for vip in self._ledger.naming(id)
            )
            busy = holds or document.get("enable_state", ENABLED) != ENABLED
            if busy and engine.idle_since is not None:
                changes.engine_fields.setdefault(id, {})["idle_since"] = None
            elif not busy and engine.seen and (engine.idle_since is None or engine.idle_since > now):
                changes.engine_fields.setdefault(id, {})["idle_since"] = now

    async def _group_gone(self, group: str) -> bool:
        """The group was deleted: so are its engines."""
        changes = Changes(
            engines={engine.id: None for engine in self._ledger.engines_of(group)},
            vips={(group, vip): None for vip in self._ledger.vips.get(group, {})},
            requests={(group, id): None for id in self._ledger.requests.get(group, {})},
            rebalances={group: None} if group in self._ledger.rebalances else {},
            upgrades={group: None} if group in self._ledger.upgrades else {},
        )
        if self.balance is not None:
            self.balance.forget(group)
        engines = self._ledger.engines_of(group)
        self._compiler.forget(group)
        self._planning.forget(group)
        self._kept.pop(group, None)
        self._stands.pop(group, None)
        self.plans.pop(group, None)
        self.snapshots.pop(group, None)
        self.planned_at.pop(group, None)
        self.history.forget(group)
        self._margins.forget(group)
        self._barred.pop(group, None)
        self.shortfalls.pop(group, None)
        self._wake.pop(group, None)
        if changes:
            await self._ledger.write(changes)
        self.on_planned()
        if self.lifecycle is not None:
            for engine in engines:
                self.lifecycle.retire(engine)
        return False

    # --- telling ---

    def _examine(self, group: str, snapshot: Snapshot, result: Plan, fresh: Fresh) -> None:
        """A plan that breaks a rule is carried out all the same (not to act may be worse), and never silently."""
        standing = self._planning.standing(group)
        small = len(snapshot.engines) + len(snapshot.vips) <= EXAMINED_WHOLE_MAX
        near = standing is not None and not (fresh.whole or small or snapshot.group.ha_mode == LEGACY)
        if near and standing is not None and not violations_near(standing, result, fresh.vips, fresh.engines):
            return
        for sentence in violations(snapshot, result):
            log.error("invariant broken in %s: %s", snapshot.group.name, sentence)
            self._events.add("INVARIANT_BROKEN", sentence, level="error", serviceenginegroup=group)

    def _raise(self, group: str, events: tuple[PlanEvent, ...]) -> None:
        """Those that the previous plan of this group had not raised already."""
        before = self._raised.get(group, frozenset())
        for event in events:
            if event not in before:
                intent = self._compiler.intent(group, event.vip) if event.vip else None
                self._events.add(
                    event.name,
                    event.detail,
                    vip=event.vip,
                    virtualservice=intent.services[0].uuid if intent and intent.services else "",
                    serviceengine=event.engine,
                    serviceenginegroup=group,
                )
        self._raised[group] = frozenset(events)

    def _names_of(self, group: str, vip: str) -> dict[str, str]:
        """The virtual services that a VIP is there for."""
        intent = self._compiler.intent(group, vip)
        return {service.uuid: service.name for service in intent.enabled} if intent is not None else {}

    def _answer(self, snapshot: Snapshot, result: Plan) -> None:
        results = {answer.request: answer for answer in result.results}
        for request in snapshot.requests:
            future = self._waiting.pop(request.id, None)
            if future is not None and not future.done():
                future.set_result(results.get(request.id))
        for answer in result.results:
            level = "info" if answer.ok else "error"
            self._events.add("CONFIG_ACTION", answer.message, level=level, serviceenginegroup=snapshot.group.id)

    def _schedule(self, group: views.ServiceEngineGroup, result: Plan) -> None:
        look_at = self.balance.next_at(group) if self.balance is not None else None
        times = [at for at in (result.wake_at, look_at) if at is not None]
        if times:
            self._wake[group.uuid] = min(times)
        else:
            self._wake.pop(group.uuid, None)


def _renamed(placements: tuple[Placement, ...], real: Mapping[str, str]) -> tuple[Placement, ...]:
    return tuple(msgspec.structs.replace(p, engine=real.get(p.engine, p.engine)) for p in placements)


def _renamed_decision(decision: Decision, real: Mapping[str, str]) -> Decision:
    return msgspec.structs.replace(decision, engine=real.get(decision.engine, decision.engine))


def _record(
    group: str,
    present: tuple[Placement, ...],
    planned: VipPlan | None,
    before: VipRecord | None,
    real: Mapping[str, str],
    now: float,
    armed: Callable[[VipRecord], bool],
) -> VipRecord | None:
    """The record to write for a VIP, or None if it stands as it is. ``present`` are the placements with what the
    engines reported since; ``armed``: whether a record's list is."""
    if planned is None:
        if before is None or before.placements == present:
            return None
        return msgspec.structs.replace(before, placements=present)
    record = VipRecord(
        id=planned.id,
        group=group,
        placements=_renamed(planned.placements, real),
        generation=planned.generation,
        succession=tuple(real.get(engine, engine) for engine in planned.succession),
        list_version=planned.list_version,
        user_factor=planned.user_factor,
        requested=planned.requested,
        scale_state=planned.scale_state,
        scale_reason=planned.scale_reason,
        awaiting_since=planned.awaiting_since,
        changed_at=now,
    )
    if before is None:
        return record
    in_force, version = before.in_force, before.in_force_version
    if record.list_version > before.list_version and armed(before):
        in_force, version = before.succession, before.list_version
    record = msgspec.structs.replace(record, in_force=in_force, in_force_version=version)
    kept = ("changed_at", "decisions", "scaling", "last_scaling", "elsewhere")
    same = msgspec.structs.replace(record, **{field: getattr(before, field) for field in kept})
    return None if same == before else record
