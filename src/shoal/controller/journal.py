"""The journal: every configuration change, event and decision, appended and never changed, a SQLite file a day.

The store has the last of the changes and events, written in one transaction with what they tell of; the journal is filled
from there when a controller starts, so a crash costs it none of those. Decisions it has to itself: a crash may cost the
last second's (a VIP's own last ones are in its record).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shoal.placement.model import Decision, Plan, Snapshot
from shoal.store.protocol import Records

from . import audit, events
from .clock import Clock
from .day_files import DayFiles, Row, Searches, Table, Where
from .sight import Sight

log = logging.getLogger("shoal.journal")

TEXT = "TEXT"
COLUMNS = {
    "id": TEXT,
    "event_id": TEXT,
    "event_description": TEXT,
    "level": TEXT,
    "module": TEXT,
    "user": TEXT,
    "client_ip": TEXT,
    "tenant": TEXT,
    "obj_type": TEXT,
    "obj_uuid": TEXT,
    "obj_name": TEXT,
    "objects": TEXT,
    "fields": TEXT,
    "details": TEXT,
    "owners": TEXT,
}
"""``objects``, ``fields`` and ``details`` are JSON. ``owners``: the tenants it is about, by comma, as they were then."""
INNER = ("objects", "fields", "details")
HIDDEN = ("id", "owners")
TABLE = Table(
    name="journal", columns=COLUMNS, unique="id", indexed=("event_id",), days_max=400, bytes_max=2 << 30, locked=True
)
WAITING_MAX = 20_000
WRITE_INTERVAL_S = 1.0
CONFIG, PLACEMENT, SYSTEM = "CONFIG", "PLACEMENT", "SYSTEM"
DECISION = "PLACEMENT_DECISION"
Document = dict[str, Any]
Owners = Callable[[Mapping[str, str], str], Iterable[str]]
"""(role -> uuid, the tenant it names) -> tenants it is about."""


class Journal:
    """Noting never waits; `run` writes. ``folder`` None: in memory only."""

    def __init__(self, folder: Path | None, clock: Clock, owners: Owners = lambda objects, tenant: [tenant]) -> None:
        self._files = DayFiles(folder, TABLE)
        self._searches = Searches(self._files)
        self._clock = clock
        self._owners = owners
        self._waiting: deque[tuple[float, Row]] = deque()
        self._writing = asyncio.Lock()
        self._missed = 0
        self._refused = False
        self._number = 0

    # --- what is noted ---

    def event(self, event: events.Event) -> None:
        self._add(
            event.at,
            id=event.id,
            event_id=event.name,
            event_description=event.detail,
            level=event.level,
            module=SYSTEM,
            objects=event.objects,
            owners=self._owned(event.objects, ""),
        )

    def change(self, key: str, record: audit.Record) -> None:
        """One write. The controller's own are left out: what they come from has events of its own."""
        if record.user == audit.SYSTEM_USER:
            return
        objects = {record.type.lower(): record.uuid or ""}
        self._add(
            record.at,
            id=key.removeprefix(audit.AUDITS),
            event_id=audit.EVENT_NAMES[record.operation],
            event_description=record.sentence(),
            level="info",
            module=CONFIG,
            user=record.user,
            client_ip=record.address,
            tenant=record.tenant,
            obj_type=record.type,
            obj_uuid=record.uuid,
            obj_name=record.name,
            objects=objects,
            fields=record.fields,
            details={"changes": record.changes} if record.changes else {},
            owners=self._owned(objects, record.tenant),
        )

    def decided(self, snapshot: Snapshot, plan: Plan, now: float) -> None:
        """What a plan decided, and why."""
        names = {engine.id: engine.name for engine in snapshot.engines}
        vips = {vip.id: vip.name for vip in snapshot.vips}
        for decision in plan.decisions:
            self._number += 1
            roles = {"vip": decision.vip, "serviceengine": decision.engine, "serviceenginegroup": plan.group}
            objects = {role: uuid for role, uuid in roles.items() if uuid}
            self._add(
                now,
                id=f"{int(now * 1e6):017d}-d{self._number:06d}",
                event_id=DECISION,
                event_description=_sentence(decision, names, vips),
                level="info",
                module=PLACEMENT,
                objects=objects,
                details={"decision": msgspec.to_builtins(decision)},
                owners=self._owned(objects, ""),
            )

    def _owned(self, objects: Mapping[str, str], tenant: str) -> str:
        return ",".join(sorted(set(self._owners(objects, tenant))))

    def _add(self, at: float, **columns: object) -> None:
        for name in INNER:
            columns[name] = msgspec.json.encode(columns[name]).decode() if columns.get(name) else None
        if len(self._waiting) >= WAITING_MAX:
            self._missed += 1
            return
        self._waiting.append((at, tuple(columns.get(name) for name in COLUMNS)))

    # --- the disk ---

    async def catch_up(self, store: Records) -> None:
        """Take what the store has and an earlier controller may not have written here any more."""
        for record in (await store.list(events.EVENTS)).records:
            self.event(msgspec.json.decode(record.value, type=events.Event))
            await self._room()
        for record in (await store.list(audit.AUDITS)).records:
            self.change(record.key, msgspec.json.decode(record.value, type=audit.Record))
            await self._room()
        await self.flush()

    async def _room(self) -> None:
        if len(self._waiting) >= WAITING_MAX // 2:
            await self.flush()

    async def run(self) -> None:
        """Until cancelled. A full disk costs nothing that the store has: it is taken from there at the next start."""
        try:
            while True:
                await self._clock.sleep(WRITE_INTERVAL_S)
                await self.flush()
        finally:
            await self.flush()
            self._files.close()

    async def flush(self) -> None:
        """Write what has come; kept for the next time when the disk refuses."""
        async with self._writing:
            batch = list(self._waiting)
            if not batch:
                return
            try:
                await asyncio.to_thread(self._files.append, batch)
            except (sqlite3.Error, OSError) as error:
                if not self._refused:
                    log.warning("the journal can't be written: %s", error)
                self._refused = True
                return
            self._refused = False
            for _ in batch:
                self._waiting.popleft()
            if self._missed:
                log.warning("%d entries came faster than the journal could be written", self._missed)
                self._missed = 0

    # --- reading ---

    async def search(
        self, where: Where, *, limit: int, offset: int = 0, oldest_first: bool = False, counted: bool = True
    ) -> tuple[int, list[Document]]:
        """(how many match, 0 unless ``counted``; those of the page), newest first unless asked. Raises NotReady."""
        await self.flush()
        count, rows = await self._searches.page(
            where, limit=limit, offset=offset, oldest_first=oldest_first, counted=counted
        )
        return count, [_document(row) for row in rows]


def _sentence(decision: Decision, engines: Mapping[str, str], vips: Mapping[str, str]) -> str:
    """``shop: promote Avi-se-bxmtx: Avi-se-ekaoe is down``"""
    what = f"{decision.what} {engines.get(decision.engine, decision.engine)}".strip()
    whose = vips.get(decision.vip, decision.vip)
    return ": ".join(filter(None, (whose, what, decision.why)))


def _document(row: Row) -> Document:
    found: Document = dict(zip(("report_timestamp", *COLUMNS), row, strict=True))
    for name in INNER:
        if found[name] is not None:
            found[name] = msgspec.json.decode(found[name])
    details = found.pop("details") or {}
    kept = {name: value for name, value in found.items() if value is not None and name not in HIDDEN}
    return {"objects": {}, **kept, **details}


def visible(sight: Sight) -> Iterator[tuple[str, list[object]]]:
    """The conditions for what the sight reaches: as `Sight.sees_event`, for rows."""
    if not sight.every:
        mine = sight.tenant
        wanted: list[object] = ["", mine, f",{mine}"] if sight.provider else [mine]
        yield f"owners IN ({', '.join('?' * len(wanted))})", wanted
    for type in sorted(sight.unread):
        roles = [f"$.{type}", f"$.from_{type}"]
        yield "json_extract(objects, ?) IS NULL AND json_extract(objects, ?) IS NULL", list(roles)
