"""Writes as they would be: validated like real ones, one after another, on a copy of the documents; and the groups that
they would change, as snapshots to plan with. Nothing is stored. Plan-and-apply and what-if both ask this way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.errors import NotFound
from shoal.objects.views import uuid_of
from shoal.placement.model import Request, Snapshot

from .desired import VipIntent
from .intent import Caller, Draft, Intent, Written
from .reconciler import Reconciler
from .view import View

Document = dict[str, Any]
Body = Mapping[str, Any] | bytes
Vips = Mapping[str, Mapping[str, VipIntent]]


class Concerned(msgspec.Struct, frozen=True, kw_only=True):
    """One group that a proposal changes: as it stands, and as it would. None = no such group."""

    group: str
    before: Snapshot | None
    after: Snapshot | None
    vips_before: tuple[VipIntent, ...] = ()
    vips_after: tuple[VipIntent, ...] = ()


class Proposal:
    """Any number of writes and operations that are not made. Each write raises what the real one would (Invalid,
    Duplicate, InUse, Refused, Stale ...), and sees the ones before it."""

    def __init__(self, intent: Intent, view: View, reconciler: Reconciler, draft: Draft | None = None) -> None:
        """``draft``: where the writes are made, if they are to be adopted."""
        self._view = view
        self._revision = view.revision
        self._reconciler = reconciler
        self._intent, self.view = (draft.intent, draft.view) if draft is not None else intent.trial()
        self._groups: dict[str, None] = {}
        self._removed: set[str] = set()
        self._requests: dict[str, list[Request]] = {}

    # --- what is proposed ---

    async def create(self, type: str, body: Body, caller: Caller, *, slug: str | None = None) -> Written:
        written = await self._intent.create(type, body, caller, slug=slug)
        self._concern(type.lower(), written.doc["uuid"], None, written.doc)
        return written

    async def replace(self, type: str, uuid: str, body: Body, caller: Caller) -> Written:
        before = self.view.get(type.lower(), uuid)
        written = await self._intent.replace(type, uuid, body, caller)
        self._concern(type.lower(), uuid, before, written.doc)
        return written

    async def patch(self, type: str, uuid: str, body: Body, caller: Caller) -> Written:
        before = self.view.get(type.lower(), uuid)
        written = await self._intent.patch(type, uuid, body, caller)
        self._concern(type.lower(), uuid, before, written.doc)
        return written

    async def delete(self, type: str, uuid: str, caller: Caller) -> Document:
        before = self.view.get(type.lower(), uuid)
        self._concern(type.lower(), uuid, before, None)  # while what refers to it can still be seen
        return await self._intent.delete(type, uuid, caller)

    def remove_engine(self, engine: str, group: str) -> None:
        """The engine is deleted at once, with what it serves."""
        self._removed.add(engine)
        self._groups[group] = None

    def ask(self, group: str, request: Request) -> None:
        """An operator's operation on a VIP."""
        self._requests.setdefault(group, []).append(request)
        self._groups[group] = None

    # --- what it would come to ---

    @property
    def stale(self) -> bool:
        """Documents have been written since it was begun: begin another one."""
        return self._view.revision != self._revision

    def concerned(self, now: float) -> list[Concerned]:
        """The groups that would be another for placement, all as of this moment; none where nothing would be."""
        before, after = self._reconciler.vips(self._view), self._reconciler.vips(self.view)
        found = []
        for group in self._groups:
            one = Concerned(
                group=group,
                before=self._reconciler.imagined(group, self._view, before, now),
                after=self._after(group, after, now),
                vips_before=tuple(before.get(group, {}).values()),
                vips_after=tuple(after.get(group, {}).values()),
            )
            if one.before != one.after:
                found.append(one)
        return found

    def snapshot(self, group: str, now: float) -> Snapshot:
        """One group as it would stand, changed or not. Raises NotFound."""
        found = self._after(group, self._reconciler.vips(self.view), now)
        if found is None:
            raise NotFound(f"There would be no service engine group {group}.")
        return found

    def _after(self, group: str, vips: Vips, now: float) -> Snapshot | None:
        found = self._reconciler.imagined(group, self.view, vips, now)
        if found is None:
            return None
        return msgspec.structs.replace(
            found,
            engines=tuple(engine for engine in found.engines if engine.id not in self._removed),
            requests=(*found.requests, *self._requests.get(group, ())),
        )

    def _concern(self, type: str, uuid: str, before: Document | None, after: Document | None) -> None:
        """Note the groups that placement sees through this document."""
        if type == "serviceenginegroup":
            self._groups[uuid] = None
            return
        documents: list[Document | None] = []
        if type in ("serviceengine", "virtualservice"):
            documents = [before, after]
        elif type == "vsvip":
            documents = [self.view.get(kind, user) for kind, user, _ in self.view.referrers(uuid)]
        for document in documents:
            group = uuid_of((document or {}).get("se_group_ref", ""))
            if group:
                self._groups[group] = None
