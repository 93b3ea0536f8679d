"""Where things are and why, in words first: virtual services, service engines, service engine groups.

A shortfall is told as of now, a decision as it was made. What takes thought (`reasons`) can be had with the thinking
done in a thread (`explained...`) or at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import msgspec

from shoal.controller.records import Noted, VipRecord
from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.placement.model import EngineState, Placement, PlacementState, Role, Snapshot

from . import reasons
from .present import Present
from .sources import Document, Sources

INELIGIBLE_MAX = 20_000
"""Lines of `Placements.ineligible`: VIPs times engines."""
SHORT_MAX = 50
"""VIPs a group names that have less than they want."""


class Parts:
    """What each engine has to do with a group's VIPs."""

    def __init__(self, records: Iterable[VipRecord]) -> None:
        self.held: dict[str, list[tuple[VipRecord, Placement]]] = {}
        self.heir: dict[str, list[VipRecord]] = {}
        for record in records:
            on = {placement.engine: placement for placement in record.placements}
            for engine, placement in on.items():
                self.held.setdefault(engine, []).append((record, placement))
            for engine in record.succession:
                if engine not in on:
                    self.heir.setdefault(engine, []).append(record)


class Ineligible(msgspec.Struct, frozen=True, kw_only=True):
    """What `Placements.ineligible` is made from; the lines take thought."""

    snapshot: Snapshot | None
    at: float
    engines: dict[str, str]
    """By id, what refers to them."""
    vips: dict[str, Document]
    left_out: int

    def document(self, lines: Mapping[str, list[Document]]) -> Document:
        vips = [{**vip, "ineligible": lines.get(id, [])} for id, vip in self.vips.items()]
        return {"vips": vips, "left_out": self.left_out}


class Placements:
    def __init__(self, sources: Sources, notes: Callable[[views.VirtualService], list[str]]) -> None:
        self._of = sources
        self._present = Present(sources)
        self._reasons = reasons.Reasons(sources, self._present)
        self._notes = notes
        """What engines serve otherwise than asked for."""
        self._one_at_a_time = asyncio.Lock()
        """Of those that go through all VIPs and engines."""

    # --- a virtual service ---

    def service(self, uuid: str) -> Document:
        """Where its VIPs are, who takes over next, what the last choice was made from, and what would help."""
        asked = self._asked(uuid)
        return self._service(uuid, {q.vip: self._remembered(q) or self._kept(reasons.answer(q)) for q in asked})

    async def explained_service(self, uuid: str) -> Document:
        found = {}
        for question in self._asked(uuid):
            known = self._remembered(question)
            found[question.vip] = known or self._kept(await asyncio.to_thread(reasons.answer, question))
        return self._service(uuid, found)

    def _asked(self, uuid: str) -> list[reasons.Question]:
        asked = (self._reasons.question(record) for record in self._of.vips(self._of.service(uuid)))
        return [question for question in asked if question is not None]

    def _remembered(self, question: reasons.Question) -> reasons.Answer | None:
        return self._reasons.remembered(question)

    def _kept(self, answer: reasons.Answer) -> reasons.Answer:
        self._reasons.remember(answer)
        return answer

    def _service(self, uuid: str, answers: Mapping[str, reasons.Answer]) -> Document:
        service = self._of.service(uuid)
        vips = [self._vip(service, record, answers.get(record.id)) for record in self._of.vips(service)]
        group = self._of.found("serviceenginegroup", uuid_of(service.se_group_ref))
        answer = " ".join(vip["answer"] for vip in vips)
        return {
            "virtualservice": service.name,
            "serviceenginegroup": group["name"],
            "answer": answer or f"{service.name} is in no plan yet.",
            "notes": self._notes(service),
            "vips": vips,
        }

    def _vip(self, service: views.VirtualService, record: VipRecord, answer: reasons.Answer | None) -> Document:
        intent = self._of.compiler.intent(record.group, record.id)
        return {
            "vip_id": record.id.rsplit("/", 1)[-1],
            "address": intent.address if intent else "",
            "answer": self._in_words(service, record, several=len(self._of.vips(service)) > 1),
            "served": bool(self._ready(record)),
            "whole": bool(self._ready(record)) and len(self._ready(record)) >= record.requested,
            "requested": record.requested,
            "assigned": len(self._ready(record)),
            "scale_state": self._present.state(record),
            "reason": self._present.reason(record),
            **reasons.shown(answer.remedies if answer else ()),
            "generation": record.generation,
            "armed": self._of.fleet.agreed(record) if record.succession else False,
            "answers": self._of.owner_name(record.id),
            "placements": [
                {
                    "se_ref": self._of.engine_ref(p.engine),
                    "role": p.role.value,
                    "state": p.state.value,
                    "since": p.since,
                }
                for p in record.placements
            ],
            "standbys": [
                {"se_ref": self._of.engine_ref(engine), "ready": self._of.stands_by(record, engine)}
                for engine in self._of.standbys(record)
            ],
            "succession": [self._of.engine_ref(engine) for engine in record.succession],
            "in_force": [self._of.engine_ref(engine) for engine in self._in_force(record)],
            "decisions": [self._noted(noted) for noted in self._present.decisions(record)],
            "considered": self._reasons.document(answer) if answer else {},
        }

    def _in_words(self, service: views.VirtualService, record: VipRecord, *, several: bool) -> str:
        """One or two sentences: is it served, by whom, who is next; or why not."""
        name = f"{service.name} (VIP {record.id.rsplit('/', 1)[-1]})" if several else service.name
        if not service.enabled:
            return f"{name} is disabled" + (": its connections are let end." if record.placements else ".")
        if not service.traffic_enabled:
            name = f"{name} refuses its clients (traffic_enabled is false). It"
        ready, short = self._ready(record), self._present.shortfall(record)
        coming = ", ".join(self._coming(p) for p in record.placements if p.state in COMING)
        missing = short.why if short is not None else coming
        if not ready:
            return f"{name} is not served{f': {missing}' if missing else ': it is being placed'}."
        serving = _and([f"{self._name(p)} ({p.role.value})" if len(ready) > 1 else self._name(p) for p in ready])
        if len(ready) < record.requested:
            fewer = f"{len(ready)} of {record.requested} engines"
            return f"{name} is served by {serving}, {fewer}{f': {missing}' if missing else ''}. {self._next(record)}"
        leaving = [self._name(p) for p in record.placements if p.state is PlacementState.DRAINING]
        more = f", and is leaving {_and(leaving)}" if leaving else f"; {coming}" if coming else ""
        return f"{name} is served by {serving}{more}. {self._next(record)}"

    def _next(self, record: VipRecord) -> str:
        owner, *heirs = record.succession or ("",)
        if not owner:
            return "Its succession is not planned yet."
        if not heirs and self._of.is_pair(record.group):
            return f"It has no standby: nobody takes over when {self._of.engine_name(owner)} fails."
        if not heirs:
            return f"Nobody takes over when {self._of.engine_name(owner)} fails: no other engine has room for it."
        unarmed = ""
        if not self._of.fleet.armed(record):
            until_then = next((engine for engine in self._in_force(record) if engine != owner), "")
            unarmed = f"; until then {self._of.engine_name(until_then)} does" if until_then else ""
            unarmed = f" (not armed yet{unarmed})"
        return f"{self._of.engine_name(heirs[0])} takes over when {self._of.engine_name(owner)} fails{unarmed}."

    def _in_force(self, record: VipRecord) -> tuple[str, ...]:
        """The list that engines act upon now, as far as they are still there."""
        if self._of.fleet.armed(record):
            return record.succession
        return tuple(engine for engine in record.in_force if self._of.compiler.is_told(engine, record))

    def _coming(self, placement: Placement) -> str:
        name = self._name(placement)
        if placement.state is PlacementState.ASSIGNED:
            return f"{name} is being told to serve it"
        record = self._of.ledger.engines.get(placement.engine)
        why = f" ({record.why})" if record is not None and record.why else ""
        return f"{name} is being made{why}"

    def _ready(self, record: VipRecord) -> list[Placement]:
        ready = [p for p in record.placements if p.state is PlacementState.READY]
        return sorted(ready, key=lambda p: p.role is not Role.PRIMARY)

    def _name(self, placement: Placement) -> str:
        return self._of.engine_name(placement.engine)

    def _noted(self, noted: Noted) -> Document:
        decision = noted.decision
        return {
            "at": noted.at,
            "what": decision.what,
            "serviceengine": self._of.engine_name(decision.engine) if decision.engine else "",
            "why": decision.why,
            "runner_up": self._of.engine_name(decision.runner_up) if decision.runner_up else "",
            "eligible": decision.eligible,
            "excluded": dict(decision.excluded),
            "revision": decision.revision,
        }

    # --- a service engine ---

    def engine(self, uuid: str) -> Document:
        """What it serves and why there, what it would take over, and whether it may get more."""
        return self._engine(uuid, Parts(self._of.ledger.vips.get(self._of.engine(uuid).group, {}).values()))

    def _engine(self, uuid: str, parts: Parts) -> Document:
        record = self._of.engine(uuid)
        held, heir = parts.held.get(uuid, []), parts.heir.get(uuid, [])
        used = sum(self._slots(vip) for vip, _ in held)
        most = self._slots_of_group(record.group)
        state, wish, gateway = self._of.fleet.state(uuid), self._wish(uuid), self._of.lost_gateway(record)
        return {
            "serviceengine": record.name,
            "serviceenginegroup": self._of.view.name_of("serviceenginegroup", record.group) or record.group,
            "answer": self._engine_in_words(record.name, record.why, state, wish, gateway, used, most, held, heir),
            "host": record.host,
            "state": state.value,
            "enable_state": wish,
            "why": record.why,
            "slots_used": used,
            "slots": most,
            "placements": [
                {
                    "vip": vip.id,
                    "virtualservices": self._of.names(vip),
                    "role": p.role.value,
                    "state": p.state.value,
                    "since": p.since,
                    "slots": self._slots(vip),
                    "why": self._why_here(vip, uuid),
                }
                for vip, p in held
            ],
            "successor_of": [
                {
                    "vip": vip.id,
                    "virtualservices": self._of.names(vip),
                    "position": vip.succession.index(uuid),
                    "owner": self._of.engine_name(vip.succession[0]),
                }
                for vip in heir
            ],
        }

    def _engine_in_words(
        self,
        name: str,
        why: str,
        state: EngineState,
        wish: str,
        gateway: str,
        used: int,
        most: int,
        held: list[tuple[VipRecord, Placement]],
        heir: list[VipRecord],
    ) -> str:
        waiting = f" {_count(len(held), 'VIP')} wait{'s' if len(held) == 1 else ''} for it." if held else ""
        if state is EngineState.CREATING:
            return f"{name} is being made{f': {why}' if why else ''}.{waiting}"
        if state is EngineState.DOWN:
            left = f"; {_count(len(held), 'placement')} on it not moved yet" if held else ", nothing is placed on it"
            return f"{name} is down{left}."
        if state is EngineState.SUSPECT:
            return f"{name} is out of the controller's sight with many others: its {_count(len(held), 'VIP')} stay as they are."
        serves = f"{name} serves {_count(len(held), 'VIP')} ({used} of {most} slots)" if held else f"{name} is idle"
        if heir:
            serves += f" and is a successor of {len(heir)} more" if held else f", and a successor of {len(heir)} VIPs"
        if wish != "SE_STATE_ENABLED":
            return f"{serves}. It gets nothing new: it is {wish}."
        if gateway:
            return f"{serves}. It does not reach gateway {gateway}, others do: what it has moves to them."
        return f"{serves}. It is full." if used >= most else f"{serves}."

    def _why_here(self, vip: VipRecord, engine: str) -> str:
        """The last decision that brought the VIP here."""
        brought = (n.decision.why for n in reversed(vip.decisions) if n.decision.engine == engine and _brings(n))
        return next(brought, "")

    def _slots(self, vip: VipRecord) -> int:
        intent = self._of.compiler.intent(vip.group, vip.id)
        return max(1, len(intent.enabled)) if intent else 1

    def _slots_of_group(self, group: str) -> int:
        now = self._reasons.now(group)
        return now.snapshot.group.max_vs_per_se if now else 0

    def _wish(self, engine: str) -> str:
        document = self._of.view.get("serviceengine", engine) or {}
        return str(document.get("enable_state", "SE_STATE_ENABLED"))

    # --- a group ---

    def group(self, uuid: str, *, detail: bool) -> Document:
        now = self._reasons.now(uuid)
        found = reasons.group_help(now, **self._lacks(uuid)) if now else None
        return self._group(uuid, found, detail=detail)

    async def explained_group(self, uuid: str, *, detail: bool) -> Document:
        now = self._reasons.now(uuid)
        found = await asyncio.to_thread(reasons.group_help, now, **self._lacks(uuid)) if now else None
        return self._group(uuid, found, detail=detail)

    def _lacks(self, uuid: str) -> dict[str, bool]:
        plan = self._of.reconciler.plans[uuid]
        return {"short": bool(self._of.reconciler.shortfalls.get(uuid)), "buffer_kept": plan.buffer.kept}

    def _group(self, uuid: str, found: reasons.Help | None, *, detail: bool) -> Document:
        name = str(self._of.group(uuid)["name"])
        records = list(self._of.ledger.vips.get(uuid, {}).values())
        short = [record for record in records if self._is_short(record)]
        unserved = [record for record in short if not self._ready(record)]
        states = [self._of.fleet.state(engine.id) for engine in self._of.ledger.engines_of(uuid)]
        plan = self._of.reconciler.plans.get(uuid)
        document: Document = {
            "serviceenginegroup": name,
            "answer": self._group_in_words(uuid, name, records, short, unserved),
            "engines": {state.value: states.count(state) for state in EngineState if state in states},
            "vips": {
                "wanted": sum(bool(r.requested) for r in records),
                "served": len(records) - len(unserved),
                "short": len(short),
            },
            "buffer": _buffer(plan.buffer.free, plan.buffer.needed, kept=plan.buffer.kept) if plan else {},
            "buffer_would_help": reasons.shown(found.buffer if found else ()),
            "short_would_help": reasons.shown(found.all_vips if found else ()),
            "short": [
                {
                    "vip": record.id,
                    "virtualservices": self._of.names(record),
                    "requested": record.requested,
                    "assigned": len(self._ready(record)),
                    "reason": self._present.reason(record),
                }
                for record in short[:SHORT_MAX]
            ],
            "short_left_out": max(0, len(short) - SHORT_MAX),
        }
        return document | (self._detail(uuid, records) if detail else {})

    def _group_in_words(
        self, uuid: str, name: str, records: list[VipRecord], short: list[VipRecord], unserved: list[VipRecord]
    ) -> str:
        if not records:
            return f"{name} serves nothing."
        count = len(records)
        if unserved:
            text = f"{name}: {len(unserved)} of {_count(count, 'VIP')} {_are(unserved)} not served"
            fewer = len(short) - len(unserved)
            text += f", {fewer} more {'has' if fewer == 1 else 'have'} fewer engines than wanted" if fewer else ""
        elif short:
            text = f"{name}: all {_count(count, 'VIP')} are served, {len(short)} with fewer engines than wanted"
        else:
            text = f"{name}: {'the VIP is' if count == 1 else f'all {count} VIPs are'} served as wanted"
        plan = self._of.reconciler.plans.get(uuid)
        if plan is None or not plan.buffer.needed:
            return f"{text}."
        free, needed = plan.buffer.free, plan.buffer.needed
        if plan.buffer.kept:
            return f"{text}; the buffer holds ({free} slots free, {needed} needed)."
        why = next((d.why for d in plan.decisions if not d.vip and d.what == "none"), f"{free} of {needed} slots free")
        return f"{text}; the buffer is lost: {why}."

    def _detail(self, uuid: str, records: list[VipRecord]) -> Document:
        parts = Parts(records)
        return {
            "serviceengines": [self._engine(engine.id, parts) for engine in self._of.ledger.engines_of(uuid)],
            "placements": [
                {
                    "vip": record.id,
                    "virtualservices": self._of.names(record),
                    "requested": record.requested,
                    "assigned": len(self._ready(record)),
                    "scale_state": self._present.state(record),
                    "reason": self._present.reason(record),
                    "se_refs": [self._of.engine_ref(p.engine) for p in record.placements],
                    "succession": [self._of.engine_ref(engine) for engine in record.succession],
                }
                for record in records
            ],
        }

    def ineligible(self, uuid: str) -> Document:
        """For each VIP, the engines that can't take it (more of it) as things stand, with the rule and its numbers.
        VIPs that have less than they want come first; past `INELIGIBLE_MAX` lines the rest is only counted."""
        asked = self._ineligible(uuid)
        return asked.document(reasons.lines(asked.snapshot, asked.at, asked.vips, asked.engines))

    async def explained_ineligible(self, uuid: str) -> Document:
        asked = self._ineligible(uuid)
        async with self._one_at_a_time:
            lines = await asyncio.to_thread(reasons.lines, asked.snapshot, asked.at, asked.vips, asked.engines)
        return asked.document(lines)

    def _ineligible(self, uuid: str) -> Ineligible:
        self._of.group(uuid)
        engines = self._of.ledger.engines_of(uuid)
        most = max(1, INELIGIBLE_MAX // max(1, len(engines)))
        records = self._of.ledger.vips.get(uuid, {})
        short = {id: record for id, record in records.items() if self._is_short(record)}
        told = dict(islice({**short, **records}.items(), most))
        return Ineligible(
            snapshot=self._of.reconciler.snapshots.get(uuid),
            at=self._of.clock.now(),
            engines={engine.id: self._of.engine_ref(engine.id) for engine in engines},
            vips={
                id: {
                    "vip": id,
                    "virtualservices": self._of.names(record),
                    "short": id in short,
                    "reason": self._present.reason(record),
                }
                for id, record in told.items()
            },
            left_out=len(records) - len(told),
        )

    def _is_short(self, record: VipRecord) -> bool:
        if self._present.shortfall(record) is not None:
            return True
        intent = self._of.compiler.intent(record.group, record.id)
        return intent is not None and bool(intent.enabled) and len(self._ready(record)) < record.requested


COMING = (PlacementState.WAITING, PlacementState.ASSIGNED)
BRINGING = ("place", "wait", "migrate", "promote")


def _brings(noted: Noted) -> bool:
    return noted.decision.what in BRINGING


def _buffer(free: int, needed: int, *, kept: bool) -> Document:
    return {"free": free, "needed": needed, "kept": kept}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _are(things: list[VipRecord]) -> str:
    return "is" if len(things) == 1 else "are"


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "nobody"
