"""Who changed what: one record a write, in the write's own transaction, read as events (reference: api.md 7).

Key: ``/audit/<microseconds since the epoch>``. Records name fields, never their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.store.protocol import Records, Transaction

from .events import Event, matches

AUDITS = "/audit/"
AUDITS_KEPT_MAX = 20_000
PRUNE_EVERY = 500
PRUNE_BATCH_MAX = 100
EVENT_NAMES = {
    "CREATE": "CONFIG_CREATE",
    "UPDATE": "CONFIG_UPDATE",
    "DELETE": "CONFIG_DELETE",
    "CAPTURE": "CONFIG_ACTION",
}
VERBS = {"CREATE": "created", "UPDATE": "changed", "DELETE": "deleted", "CAPTURE": "captured packets of"}
SYSTEM_USER = "system"
"""The controller's own writes are not read: what they come from has events of its own."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One write, or one capture. ``tenant`` is the caller's, ``fields`` those whose value changed (updates only), or
    what was captured."""

    at: float
    user: str
    address: str = ""
    tenant: str = ""
    operation: str
    type: str
    uuid: str | None = None
    name: str | None = None
    fields: tuple[str, ...] = ()

    def sentence(self) -> str:
        """``admin from 10.0.0.7 changed Pool web: servers.``"""
        who = f"{self.user} from {self.address}" if self.address else self.user
        what = f": {', '.join(self.fields)}" if self.fields else ""
        return f"{who} {VERBS[self.operation]} {self.type} {self.name or self.uuid}{what}."


class Trail:
    """All records, in memory for reading once somebody has asked."""

    def __init__(self, store: Records) -> None:
        self._store = store
        self._records: dict[str, Record] = {}
        self._loaded = False
        self._writes = 0

    async def written(self, key: str, record: Record) -> None:
        """A record was committed."""
        self._writes += 1
        self._records[key] = record
        while len(self._records) > AUDITS_KEPT_MAX:
            del self._records[next(iter(self._records))]
        if self._writes % PRUNE_EVERY == 0:
            await self._prune()

    def taken(self) -> list[tuple[str, Record]]:
        """Those known here, by key."""
        return list(self._records.items())

    async def read(self, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """As event documents, newest first; filters as for `shoal.controller.events.matches`."""
        await self._load()
        found = ((_event(key, record), record) for key, record in reversed(self._records.items()))
        return [_document(event, r) for event, r in found if r.user != SYSTEM_USER and matches(event, filters)]

    async def _load(self) -> None:
        if self._loaded:
            return
        stored = (await self._store.list(AUDITS)).records
        earlier = {record.key: msgspec.json.decode(record.value, type=Record) for record in stored}
        self._records = dict(sorted((earlier | self._records).items()))
        self._loaded = True

    async def _prune(self) -> None:
        records = (await self._store.list(AUDITS)).records
        surplus = [record.key for record in records[: max(0, len(records) - AUDITS_KEPT_MAX)]][:PRUNE_BATCH_MAX]
        if surplus:
            await self._store.commit(Transaction(deletes=tuple(surplus)))


def _event(key: str, record: Record) -> Event:
    objects = {record.type.lower(): record.uuid or "", "tenant": record.tenant, "user": record.user}
    return Event(
        id=key.removeprefix(AUDITS),
        at=record.at,
        name=EVENT_NAMES[record.operation],
        detail=record.sentence(),
        objects=objects,
    )


def _document(event: Event, record: Record) -> dict[str, Any]:
    return {
        "report_timestamp": event.at,
        "event_id": event.name,
        "event_description": event.detail,
        "level": event.level,
        "objects": {record.type.lower(): record.uuid},
        "module": "CONFIG",
        "user": record.user,
        "client_ip": record.address,
        "tenant": record.tenant,
        "obj_type": record.type,
        "obj_uuid": record.uuid,
        "obj_name": record.name,
        "fields": record.fields,
    }
