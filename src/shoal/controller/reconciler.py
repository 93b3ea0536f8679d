"""Level-triggered: on any change, snapshot -> plan -> commit -> carry out, one group at a time.

Losing a notification costs latency, never correctness: every group is planned again at least each
`REVIEW_INTERVAL_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from shoal.objects import views
from shoal.objects.views import view
from shoal.placement.board import ENABLED
from shoal.placement.invariants import violations
from shoal.placement.model import (
    Decision,
    Placement,
    Plan,
    RequestResult,
    Snapshot,
    VipPlan,
)
from shoal.placement.model import Event as PlanEvent
from shoal.store.protocol import Conflict

from . import scaling
from . import snapshot as snapshots
from .balance import Balance
from .clock import Clock
from .compiler import Compiler
from .desired import VipIntent
from .events import EventLog
from .fleet import Fleet
from .freed import Freed
from .history import History
from .ledger import Changes, Ledger
from .lifecycle import Lifecycle
from .margin import Change, Margins
from .planning import Planning
from .records import DECISIONS_MAX, Noted, RequestRecord, VipRecord
from .shortfalls import Shortfalls, shortfalls
from .shortfalls import events as shortfall_events
from .uniqueness import vip_addresses
from .view import View

log = logging.getLogger("shoal.reconciler")

REVIEW_INTERVAL_S = 10.0
PAUSE_S_MAX = 0.25
"""After a plan others get as long as it took, up to this: each turn of the loop would otherwise wait for a plan, and a
request takes some twenty turns."""
ROUNDS_MAX = 8
"""Plans in a row for one group before others get their turn (a plan can make the next one necessary)."""
VIP_TYPES = ("virtualservice", "vsvip")
"""What VIPs are made from."""
PLANNED_TYPES = ("serviceenginegroup", "serviceengine", *VIP_TYPES)
"""What plans are made from."""
CONFIGURED_TYPES = (
    "pool",
    "healthmonitor",
    "applicationprofile",
    "networkprofile",
    "sslkeyandcertificate",
    "sslprofile",
    "analyticsprofile",
)
"""What only an engine's configuration is made from: no plan depends on it."""
USED_TYPES = ("vsvip", *CONFIGURED_TYPES)
"""What matters only through what refers to it."""


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
        self._margins = Margins(events)
        self._barred: dict[str, None] = {}
        """Groups with VIPs that must not be placed yet."""
        self._dirty: dict[str, None] = {}
        self._stale: dict[str, None] = {}
        """Groups whose engines may have to run something else, while the plan stands."""
        self._vips: dict[str, list[VipIntent]] | None = None
        """By group; None = to be made anew."""
        self._services = views.Views(views.VirtualService)
        self._vsvips = views.Views(views.VsVip)
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
        if type in PLANNED_TYPES or type in CONFIGURED_TYPES:
            self._compiler.changed(type, uuid)
        if type in USED_TYPES and not self._view.referrers(uuid):
            return  # most objects are made before what refers to them, and then that is the change
        if type in VIP_TYPES:
            self._vips = None
        if type in PLANNED_TYPES:
            self.mark_all()
        elif type in CONFIGURED_TYPES:
            self._stale.update(dict.fromkeys(self.plans))
            self._wanted.set()

    def on_engine(self, engine: str) -> None:
        record = self._ledger.engines.get(engine)
        if record is not None:
            self.mark(record.group)

    async def request(self, group: str, *records: RequestRecord) -> list[RequestResult | None]:
        """Store an operator's requests and wait for the first plan that has seen them; an answer for each.

        None = accepted and in progress; a result with ``ok`` False = refused, with the reason.
        """
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[RequestResult | None]] = {r.request.id: loop.create_future() for r in records}
        self._waiting |= futures
        await self._ledger.write(Changes(requests={(group, record.request.id): record for record in records}))
        self.mark(group)
        return await asyncio.gather(*futures.values())

    # --- the loop ---

    async def run(self) -> None:
        """Until cancelled."""
        self.mark_all()
        while True:
            await self._wait()
            groups, self._dirty = list(self._dirty), {}
            stale, self._stale = [group for group in self._stale if group not in groups], {}
            for group in stale:
                self._recompile(group)
            if self.freed:
                await self.freed.release(self._in_use)
            groups += [group for group in self._barred if group not in groups]  # it may be what they wait for
            for group in groups:
                await self._settle(group)

    async def _wait(self) -> None:
        now = self._clock.now()
        wake_at = min([now + REVIEW_INTERVAL_S, *self._wake.values()])
        if not self._dirty and not self._stale:
            try:
                async with asyncio.timeout(max(0.0, wake_at - now)):
                    await self._wanted.wait()
            except TimeoutError:
                pass
        self._wanted.clear()
        now = self._clock.now()
        due = [group for group, at in self._wake.items() if at <= now]
        for group in due:
            del self._wake[group]
            self._dirty[group] = None
        if wake_at <= now and not due:
            self.mark_all()

    async def _settle(self, group: str) -> None:
        for _ in range(ROUNDS_MAX):
            try:
                began = self._clock.monotonic()
                written = await self.reconcile(group)
                if took := self._clock.monotonic() - began:
                    await asyncio.sleep(min(took, PAUSE_S_MAX))
                if not written:
                    return
            except Conflict as conflict:
                log.warning("group %s: %s", group, conflict)
                await self._ledger.load()
        self.mark(group)

    async def reconcile(self, group: str) -> bool:
        """Plan the group once and carry the plan out. True if anything was written (plan again)."""
        intents = self._intents()
        document = self._view.get("serviceenginegroup", group)
        if document is None:
            return await self._group_gone(group)
        typed = view(document, views.ServiceEngineGroup)
        mine = intents.get(group, [])
        now = self._clock.now()
        snapshot = self._snapshot(typed, mine, now)
        self._compiler.update(typed, mine)
        if self.balance is not None and await self.balance.look(typed, snapshot, mine, now):
            snapshot = self._snapshot(typed, mine, now)
        if any(vip.blocked for vip in snapshot.vips):
            self._barred[group] = None
        else:
            self._barred.pop(group, None)
        result = self._planning.plan(snapshot, now)
        self.plans[group], self.snapshots[group], self.planned_at[group] = result, snapshot, now
        self.shortfalls[group] = shortfalls(result)
        self._examine(group, snapshot, result)
        changes = self._changes(typed, snapshot, result, mine, now)
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
        self._answer(snapshot, result)
        self._schedule(typed, result)
        if self.lifecycle is not None and (retired or result.new_engines):
            for engine in retired:
                self.lifecycle.retire(engine)
            self.lifecycle.kick()
        for engine in self._ledger.engines_of(group):
            self._fleet.push(engine.id)
        if changes and result.sentence:
            log.info("%s: %s", typed.name, result.sentence)
        return bool(changes)

    def _recompile(self, group: str) -> None:
        """The plan stands; what its engines run is compiled anew."""
        document = self._view.get("serviceenginegroup", group)
        if document is not None:
            self._compiler.update(view(document, views.ServiceEngineGroup), self._intents().get(group, []))
            for engine in self._ledger.engines_of(group):
                self._fleet.push(engine.id)

    def _intents(self) -> dict[str, list[VipIntent]]:
        if self._vips is None:
            self._vips = self._made_of(self._view)
        return self._vips

    def present(self, group: str) -> Snapshot | None:
        """The group as it stands now; None if there is no such group."""
        return self.imagined(group, self._view, self._intents(), self._clock.now())

    def imagined(self, group: str, view: View, vips: Mapping[str, list[VipIntent]], now: float) -> Snapshot | None:
        """The group as it would stand with other documents: ``view``, and the `vips` that follow from it."""
        document = view.get("serviceenginegroup", group)
        if document is None:
            return None
        typed = views.view(document, views.ServiceEngineGroup)
        return self._snapshot(typed, vips.get(group, []), now, view)

    def vips(self, view: View) -> dict[str, list[VipIntent]]:
        """All VIPs in use by these documents, by group."""
        return self._intents() if view is self._view else self._made_of(view)

    def _made_of(self, view: View) -> dict[str, list[VipIntent]]:
        services, vsvips = self._services.of(view.all("virtualservice")), self._vsvips.of(view.all("vsvip"))
        return snapshots.vips_by_group(services, vsvips)

    def _snapshot(
        self, group: views.ServiceEngineGroup, intents: list[VipIntent], now: float, documents: View | None = None
    ) -> Snapshot:
        stored = documents or self._view
        engines = (stored.get("serviceengine", engine.id) for engine in self._ledger.engines_of(group.uuid))
        return snapshots.build(
            self._view.revision,
            group,
            intents,
            {e["uuid"]: e.get("enable_state", "SE_STATE_ENABLED") for e in engines if e is not None},
            self._ledger,
            self._fleet,
            now,
            self.lifecycle.retry_at(group.uuid) if self.lifecycle else 0.0,
            lambda: self._fleet.storms.pace(group.uuid, self._clock.monotonic(), now),
            self._blocked,
        )

    def _blocked(self, intent: VipIntent, record: VipRecord) -> str:
        why = self.freed.obstacle(intent.addresses, intent.id)
        return why or (
            self.freed.obstacle_to_move(intent.addresses, intent.id, record.group) if record.elsewhere else ""
        )

    def waits_for(self, engine: str) -> bool:
        """Whether a VIP can't be placed before the engine has confirmed that it no longer has its address."""
        return bool(self._barred) and engine in self.freed.waited_for(
            (group, vip.id, vip.addresses) for group in self._barred for vip in self._intents().get(group, ())
        )

    def _in_use(self, vip: str, address: str) -> bool:
        """Whether the VIP has the address by the documents."""
        vsvip = self._view.get("vsvip", vip.partition("/")[0])
        return vsvip is not None and (vip, address) in vip_addresses(vsvip)

    # --- from a plan to records ---

    def _changes(
        self, group: views.ServiceEngineGroup, snapshot: Snapshot, result: Plan, intents: list[VipIntent], now: float
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
        for vip in snapshot.vips:
            before = self._ledger.vips.get(group.uuid, {}).get(vip.id)
            after = _record(group.uuid, vip.placements, planned.get(vip.id), before, real, now)
            if after is not None:
                origin = before or self._ledger.fresh_vip(group.uuid, vip.id)
                after = msgspec.structs.replace(after, elsewhere=origin.elsewhere and not after.placements)
                noted = (*(before.decisions if before else ()), *decisions.get(vip.id, ()))
                after = msgspec.structs.replace(after, decisions=noted[-DECISIONS_MAX:])
                after = scaling.advance(before, after, snapshot.requests, answered, now)
                changes.vips[group.uuid, vip.id] = after
        wanted_ids = {intent.id for intent in intents}
        for gone in set(self._ledger.vips.get(group.uuid, {})) - wanted_ids:
            changes.vips[group.uuid, gone] = None
            self._fleet.forget_vip(gone)
        changes.floors_gone = tuple(v for v in self._ledger.floors if not self._view.get("vsvip", v.partition("/")[0]))
        for request in result.results:
            changes.requests[group.uuid, request.request] = None
        self._note_idle(group.uuid, changes, now)
        self._note_names(group.uuid, changes)
        return changes

    def _note_names(self, group: str, changes: Changes) -> None:
        """An engine is called what its object is called: operators may rename it."""
        for engine in self._ledger.engines_of(group):
            name = self._view.name_of("serviceengine", engine.id)
            if name and name != engine.name and engine.id not in changes.engines:
                changes.engine_fields.setdefault(engine.id, {})["name"] = name

    def _note_idle(self, group: str, changes: Changes, now: float) -> None:
        """Since when each engine could have held something, and has not: for a disabled one it begins when it is enabled."""
        records = dict(self._ledger.vips.get(group, {}))
        for (_, vip), record in changes.vips.items():
            if record is None:
                records.pop(vip, None)
            else:
                records[vip] = record
        holding = {p.engine for record in records.values() for p in record.placements}
        for engine in self._ledger.engines_of(group):
            if engine.id in changes.engines:
                continue
            document = self._view.get("serviceengine", engine.id) or {}
            busy = engine.id in holding or document.get("enable_state", ENABLED) != ENABLED
            if busy and engine.idle_since is not None:
                changes.engine_fields.setdefault(engine.id, {})["idle_since"] = None
            elif not busy and engine.seen and (engine.idle_since is None or engine.idle_since > now):
                changes.engine_fields.setdefault(engine.id, {})["idle_since"] = now

    async def _group_gone(self, group: str) -> bool:
        """The group was deleted: so are its engines."""
        changes = Changes(
            engines={engine.id: None for engine in self._ledger.engines_of(group)},
            vips={(group, vip): None for vip in self._ledger.vips.get(group, {})},
            requests={(group, id): None for id in self._ledger.requests.get(group, {})},
            rebalances={group: None} if group in self._ledger.rebalances else {},
        )
        if self.balance is not None:
            self.balance.forget(group)
        engines = self._ledger.engines_of(group)
        self._compiler.forget(group)
        self._planning.forget(group)
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

    def _examine(self, group: str, snapshot: Snapshot, result: Plan) -> None:
        """A plan that breaks a rule is carried out all the same (not to act may be worse), and never silently."""
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
) -> VipRecord | None:
    """The record to write for a VIP, or None if it stands as it is. ``present`` are the placements with what the
    engines reported since."""
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
    kept = ("changed_at", "decisions", "scaling", "last_scaling", "elsewhere")
    same = msgspec.structs.replace(record, **{field: getattr(before, field) for field in kept})
    return None if same == before else record
