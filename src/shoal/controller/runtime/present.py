"""Why a VIP has not what it wants, as of now: never from the day its record was written."""

from __future__ import annotations

import msgspec

from shoal.controller import scaling
from shoal.controller.records import Noted, VipRecord
from shoal.placement.model import Decision

from .sources import Sources


class Present(msgspec.Struct, frozen=True):
    sources: Sources

    def shortfall(self, record: VipRecord) -> Decision | None:
        """The last plan's word on a VIP it could do nothing (more) for."""
        return self.sources.reconciler.shortfalls.get(record.group, {}).get(record.id)

    def reason(self, record: VipRecord) -> str:
        short = self.shortfall(record)
        if short is not None:
            return short.why
        leaving = ", ".join(self.sources.engine_name(p.engine) for p in scaling.draining(record))
        return record.scale_reason or (f"{leaving} keeps its connections until they end" if leaving else "")

    def state(self, record: VipRecord) -> str:
        requests = self.sources.ledger.requests.get(record.group, {}).values()
        mine = {r.request.id: r.request for r in requests if r.request.vip == record.id}
        engines = {p.engine for p in record.placements}
        return scaling.state(record, mine, {e: self.sources.fleet.acknowledged(e, record.id) for e in engines})

    def decisions(self, record: VipRecord) -> tuple[Noted, ...]:
        """As they were made; where nothing can be done, the last one is of now."""
        short = self.shortfall(record)
        if short is None:
            return record.decisions
        made = list(record.decisions)
        while made and made[-1].decision.what == "none":
            made.pop()
        return (*made, Noted(at=self.sources.reconciler.planned_at[record.group], decision=short))
