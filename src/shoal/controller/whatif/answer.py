"""The document that a what-if is answered with: names for ids, connections and times beside each virtual service."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shoal.controller import timing
from shoal.controller.desired import VipIntent
from shoal.controller.intent import Caller, Intent
from shoal.controller.metrics import Metrics
from shoal.controller.proposal import Proposal
from shoal.controller.runtime.sources import Document, Sources
from shoal.controller.storm import GROUP_SHARE, VANISHED_MIN
from shoal.errors import NotReady, Refused
from shoal.objects import views
from shoal.objects.views import view
from shoal.ownership.state import TURN_INTERVALS
from shoal.placement.carry import MADE
from shoal.placement.margin import Worst
from shoal.placement.model import Buffer, EngineState, Snapshot
from shoal.placement.outage import Times, outage
from shoal.placement.outcome import Changes, Fate, How, Outcome
from shoal.placement.whatif import served_by

from . import verdict
from .asked import Asked, asked
from .margins import margin_document
from .work import Thought, think

AT_ONCE_MAX = 2
"""Further questions wait: each keeps a thread busy, in a large group for seconds."""
TRIES_MAX = 5
"""Edits are tried on a copy of the documents; while others write, on another one."""


class WhatIfs:
    def __init__(self, sources: Sources, metrics: Metrics) -> None:
        self._of = sources
        self._metrics = metrics
        self._thinking = asyncio.Semaphore(AT_ONCE_MAX)

    async def answer(self, body: Mapping[str, Any], intent: Intent, caller: Caller) -> Document:
        """See `asked` for the body. Raises Invalid, NotFound, and what the edits would be refused with."""
        wish = asked(body, self._of.view, self._of.ledger, intent.registry)
        now = self._of.clock.now()
        present = self._of.reconciler.present(wish.group)
        if present is None:
            raise NotReady("The group is being deleted.", hint="Try again in a second.")
        proposed, intents, warnings = await self._proposed(wish, intent, caller, now)
        changes = Changes(fail=wish.fail, proposed=proposed, add=wish.add, drain=wish.drain, remove=wish.remove)
        try:
            async with self._thinking:
                thought = await asyncio.to_thread(think, present, changes, wish.fail_any, now)
        except ValueError as error:
            raise Refused(f"{self._group(wish.group).name} can't be tried: {error}.") from None
        document = Telling(self._of, self._metrics, wish, present, thought, intents).document()
        document["warnings"] = warnings
        return document

    async def _proposed(
        self, wish: Asked, intent: Intent, caller: Caller, now: float
    ) -> tuple[Snapshot | None, Mapping[str, VipIntent], list[str]]:
        vips = self._of.reconciler.vips
        known = vips(self._of.view).get(wish.group, {})
        if not wish.edits:
            return None, known, []
        for _ in range(TRIES_MAX):
            proposal = Proposal(intent, self._of.view, self._of.reconciler)
            fields: dict[tuple[str, str], Document] = {}
            for edit in wish.edits:
                fields.setdefault((edit.type, edit.uuid), {})[edit.field] = edit.value
            warnings: list[str] = []
            for (type, uuid), values in fields.items():
                written = await proposal.patch(type, uuid, {"replace": values}, caller)
                warnings += written.warnings
            if proposal.stale:
                continue
            concerned = proposal.concerned(now)
            others = [c.group for c in concerned if c.group != wish.group]
            if others:
                names = ", ".join(self._group(group).name for group in others)
                warnings.append(f"This changes {names} too, which is not looked at here: ask for it apart.")
            after = vips(proposal.view).get(wish.group, {})
            return proposal.snapshot(wish.group, now), {**known, **after}, warnings
        raise NotReady("The objects keep changing.", hint="Try again.")

    def _group(self, uuid: str) -> views.ServiceEngineGroup:
        return view(self._of.group(uuid), views.ServiceEngineGroup)


class Telling:
    """One answer being written."""

    def __init__(
        self,
        sources: Sources,
        metrics: Metrics,
        wish: Asked,
        present: Snapshot,
        thought: Thought,
        intents: Mapping[str, VipIntent],
    ) -> None:
        self._of = sources
        self._wish = wish
        self._present = present
        self._thought = thought
        self._intents = intents
        self._group = view(sources.group(wish.group), views.ServiceEngineGroup)
        worlds = (thought.outcome.start, thought.outcome.end)
        made = {e.id: e.rank for world in worlds for e in world.engines if e.id.startswith(MADE)}
        self._made = {e: f"new engine {n}" for n, e in enumerate(sorted(made, key=lambda e: made[e]), 1)}
        self._states = {e.id: e for e in present.engines}
        self._open = {
            (engine, service.id): service.counts.open
            for engine, message in metrics.counted().items()
            for service in message.services
        }
        self._counted = frozenset(metrics.counted())
        self._times = self._timing()

    def document(self) -> Document:
        thought, outcome = self._thought, self._thought.outcome
        vips = [self._vip(fate) for fate in outcome.fates]
        vips.sort(key=lambda v: (SEVERITY.index(v["what"]), -v["not_answered_ms"]["least"]))
        services = {vip.id: self._services(vip.id) for vip in (*outcome.start.vips, *outcome.end.vips)}
        serving = served_by(self._present)
        unserved = [vip.id for vip in self._present.vips if vip.enabled and not serving[vip.id]]
        document: Document = {
            "group": self._group.name,
            "group_uuid": self._wish.group,
            "edits": self._edits(),
            "fails": [self._name(e) for e in outcome.engines],
            "worst_of": self._worst(thought.worst),
            "stays_up": outcome.stays_up,
            "keeps_capacity": outcome.keeps_capacity,
            "restored": outcome.restored,
            "virtualservices": {
                "served": self._count(vip for vip, engines in serving.items() if engines),
                "unserved": sorted({name for vip in unserved for name in services.get(vip, [vip])}),
                **{
                    word: sorted({name for vip in getattr(outcome, word) for name in services.get(vip, [vip])})
                    for word in ("interrupted", "waiting", "down", "weakened", "reduced", "exposed", "unplaced")
                },
                "moved": sorted({n for f in outcome.fates if f.planned for n in services[f.vip]}),
                "added": self._wish.add,
            },
            "vips": vips,
            "engines": {
                "made": outcome.engines_made,
                "deleted": [self._name(e) for e in outcome.engines_deleted],
                "deleted_when_idle": [self._name(e) for e in outcome.engines_idle],
                "idle_for_s": outcome.end.group.se_deprovision_delay_s,
                "not_drained": [self._name(e) for e in outcome.stuck],
            },
            "connections": self._connections(vips),
            "capacity": {
                "before": _buffer(outcome.before),
                "right_after": _buffer(outcome.left),
                "in_the_end": _buffer(outcome.buffer),
            },
            "margin": {
                "before": margin_document(thought.before, self._name),
                "after": margin_document(thought.after, self._name),
            },
            "times": {
                "failure_detection": timing.shown(self._group),
                "engine_creation_ms": self._times.create_ms,
            },
            "hints": list(thought.would_help),
            "notes": self._notes(outcome),
        }
        document["verdict"] = verdict.lines(document)
        return document

    # --- words ---

    def _name(self, engine: str) -> str:
        return self._made.get(engine) or self._of.engine_name(engine)

    def _services(self, vip: str) -> list[str]:
        intent = self._intents.get(vip)
        return [service.name for service in intent.services] if intent else [vip]

    def _count(self, vips: Iterable[str]) -> int:
        return len({name for vip in vips for name in self._services(vip)})

    def _edits(self) -> list[str]:
        wish = self._wish
        found = [edit.sentence() for edit in wish.edits]
        if wish.add:
            found.append(f"{wish.add} virtual service{'s' if wish.add > 1 else ''} more")
        if wish.drain:
            found.append(f"{', '.join(map(self._name, wish.drain))} disabled")
        if wish.remove:
            found.append(f"{', '.join(map(self._name, wish.remove))} removed")
        return found

    def _notes(self, outcome: Outcome) -> list[str]:
        notes = []
        down = [self._name(e) for e in outcome.engines if self._states[e].state is EngineState.DOWN]
        if down:
            notes.append(f"{', '.join(down)} {'is' if len(down) == 1 else 'are'} down already.")
        unarmed = [
            n for v in self._present.vips if v.enabled and v.generation and not v.armed for n in self._services(v.id)
        ]
        if unarmed:
            some = ", ".join(unarmed[:3]) + (" ..." if len(unarmed) > 3 else "")
            notes.append(
                f"Not every engine has its takeover orders at this moment ({some}); this is as of when all have."
            )
        if any(e.state is EngineState.CREATING for e in self._present.engines):
            notes.append("Engines are being made at this moment; this is as of when they are up.")
        engines, spare = len(self._states), outcome.start.group.buffer_se
        if len(outcome.engines) >= VANISHED_MIN and len(outcome.engines) > max(spare, engines / GROUP_SHARE):
            notes.append(
                "So many at once look like a controller that is cut off: what no engine takes over by itself waits until "
                "they are known to be dead (storm breaker)."
            )
        hosts = {self._states[e].host for e in outcome.engines if self._states[e].host}
        other = {
            self._of.view.name_of("serviceenginegroup", e.group) or e.group
            for e in self._of.ledger.engines.values()
            if e.host in hosts and e.group != self._wish.group
        }
        if other:
            notes.append(f"The same hosts run engines of {', '.join(sorted(other))}, which is not looked at here.")
        return notes

    # --- figures ---

    def _timing(self) -> Times:
        shown = timing.shown(self._group)
        known = [e for e in self._of.ledger.engines.values() if e.made_in_s > 0]
        made = [e.made_in_s for e in known if e.group == self._wish.group] or [e.made_in_s for e in known]
        return Times(
            detection_ms=shown["detection_ms"],
            turn_ms=TURN_INTERVALS * shown["heartbeat_interval_ms"],
            create_ms=round(statistics.median(made) * 1000) if made else None,
            witnessed=any(fate.how is How.TAKEN for fate in self._thought.outcome.fates),
        )

    def _vip(self, fate: Fate) -> Document:
        intent = self._intents.get(fate.vip)
        enabled = [service.uuid for service in intent.enabled] if intent else []
        gone = outage(fate, self._times)
        lost, drained = set(fate.ends_on), {left for left, _ in fate.planned if left}
        return {
            "vip": fate.vip,
            "address": intent.address if intent else "",
            "virtualservices": self._services(fate.vip),
            "what": _what(fate),
            "now": [self._name(e) for e in fate.origin],
            "before": [self._name(e) for e in fate.before],
            "right_after": [self._name(e) for e in fate.at_once],
            "in_the_end": [self._name(e) for e in fate.after],
            "not_answered_ms": {"least": gone.least_ms, "most": gone.most_ms},
            "connections_lost": self._connected(enabled, lost),
            "connections_drained": self._connected(enabled, drained),
        }

    def _connected(self, services: list[str], engines: set[str]) -> int:
        return sum(self._open.get((engine, service), 0) for engine in engines for service in services)

    def _connections(self, vips: list[Document]) -> Document:
        concerned = {e for f in self._thought.outcome.fates for e in (*f.ends_on, *(a for a, _ in f.planned if a))}
        unknown = sorted(self._name(e) for e in concerned if e not in self._counted)
        return {
            "lost": sum(vip["connections_lost"] for vip in vips),
            "drained": sum(vip["connections_drained"] for vip in vips),
            "not_known_of": unknown,
        }

    def _worst(self, found: Worst | None) -> Document | None:
        if found is None:
            return None
        return {
            "engines": len(found.engines),
            "sets": found.sets,
            "exact": found.exact,
            "vips_down": found.loss.down,
            "vips_down_at_most": found.down_at_most,
            "looked_at": found.looked_at,
        }


SEVERITY = ("down", "waits", "placed", "taken over", "weakened", "moves", "changes")
"""What becomes of a VIP, the worst first."""


def _what(fate: Fate) -> str:
    match fate.how:
        case How.NEVER:
            return "down"
        case How.MADE:
            return "waits"
        case How.PLACED:
            return "placed"
        case How.TAKEN:
            return "taken over"
    if fate.ends_on:
        return "weakened"
    return "moves" if fate.planned else "changes"


def _buffer(buffer: Buffer) -> Document:
    return {**msgspec.to_builtins(buffer), "kept": buffer.kept}
