"""A file taken over: what becomes of each object, what traffic would come of it, and the one write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.controller.clock import Clock
from shoal.controller.intent import Caller, Intent
from shoal.controller.plan_document import document as plan_document
from shoal.controller.plans import Foreseen, Plans
from shoal.controller.proposal import Proposal
from shoal.controller.reconciler import Reconciler
from shoal.controller.view import View
from shoal.controller.whatif.margins import margin_document
from shoal.errors import Invalid, NotReady, Stale
from shoal.placement.margin import margin
from shoal.placement.model import Snapshot

from .judging import CREATE, DIFFERENT, REFUSED, REPLACE, TAKEN, Judge, Judged
from .reading import File
from .sealing import Sealing

Document = dict[str, Any]
TRIES_MAX = 5


class Importing:
    def __init__(self, intent: Intent, view: View, reconciler: Reconciler, plans: Plans, clock: Clock) -> None:
        self._intent = intent
        self._view = view
        self._reconciler = reconciler
        self._plans = plans
        self._clock = clock

    async def answer(
        self, configuration: Mapping[str, Any], caller: Caller, passphrase: str, *, apply: bool, disabled: bool = False
    ) -> Document:
        """The report. With ``apply`` all that can be taken over is written, in one transaction;
        with ``disabled`` new virtual services are not switched on. Raises Invalid."""
        sealing = await self._sealing(configuration, passphrase)
        caller = msgspec.structs.replace(caller, gives_hashes=True)
        for _ in range(TRIES_MAX):
            file = await asyncio.to_thread(File, configuration, self._intent.registry)
            draft = self._intent.draft()
            proposal = Proposal(self._intent, self._view, self._reconciler, draft)
            judge = Judge(proposal, draft, caller, sealing, foreign=file.foreign, disabled=disabled)
            judged = await self._judged(file, judge)
            now = self._clock.now()
            if proposal.stale:
                continue
            foreseen = await self._plans.foreseen(proposal.concerned(now), now)
            survives = [await asyncio.to_thread(_survives, one, now) for one in foreseen]
            if apply:
                try:
                    await self._intent.adopt(draft)
                except Stale:
                    continue
            return report(judged, plan_document("", foreseen), [one for one in survives if one], applied=apply)
        raise NotReady("Others keep writing meanwhile.", hint="Try again.")

    async def _sealing(self, configuration: Mapping[str, Any], passphrase: str) -> Sealing | None:
        meta = configuration.get("META")
        said = meta.get("secrets") if isinstance(meta, dict) else None
        if not passphrase:
            return None
        if not isinstance(said, dict):
            raise Invalid("The file has no secrets that a passphrase of Shoal opens; leave the passphrase out")
        return await Sealing.of(said, passphrase)

    async def _judged(self, file: File, judge: Judge) -> list[Judged]:
        found: dict[int, Judged] = {}
        for item, again in file.ordered():
            known = found.get(id(item))
            if not again:
                found[id(item)] = await judge.take(item)
            elif known is not None:
                found[id(item)] = await judge.close_circle(item, known)
            await asyncio.sleep(0)  # others have their turn
        return [found[id(item)] for item in file.items]


def report(judged: list[Judged], placement: Document, survives: list[Document], *, applied: bool) -> Document:
    results = Counter(one.result for one in judged)
    actions = Counter(one.action for one in judged)
    counts = {"taken_over": results[TAKEN], "different": results[DIFFERENT], "not_supported": results[REFUSED]}
    return {
        "applied": applied,
        "sentence": _sentence(counts, actions, applied=applied) + _secrets_to_give(judged),
        "counts": counts,
        "created": actions[CREATE],
        "replaced": actions[REPLACE],
        "secrets_to_give": sum(bool(one.secrets) for one in judged),
        "objects": [msgspec.to_builtins(one) for one in judged],
        "placement": placement,
        "survives": survives,
    }


def _secrets_to_give(judged: list[Judged]) -> str:
    count = sum(bool(one.secrets) for one in judged)
    return f" {count} {'object needs' if count == 1 else 'objects need'} a secret given anew." if count else ""


def _sentence(counts: Mapping[str, int], actions: Mapping[str, int], *, applied: bool) -> str:
    total = sum(counts.values())
    tense = ("are created", "replaced") if applied else ("would be created", "replaced")
    return (
        f"{total} objects: {counts['taken_over']} taken over, {counts['different']} with a difference, "
        f"{counts['not_supported']} not supported; {actions[CREATE]} {tense[0]}, {actions[REPLACE]} {tense[1]}, the others "
        f"are the same here already. {'Written, in one transaction.' if applied else 'Nothing was written.'}"
    )


def _survives(foreseen: Foreseen, now: float) -> Document:
    """How many engines a group may lose, once all is up."""
    end = foreseen.end
    if end is None or not end.vips:
        return {}
    names = {engine.id: engine.name for engine in end.engines}
    return {"serviceenginegroup": end.group.name, "vips": len(end.vips), **_margin(end, names, now)}


def _margin(end: Snapshot, names: Mapping[str, str], now: float) -> Document:
    return dict(margin_document(margin(end, now), lambda engine: names.get(engine, engine)))
