"""Who changed what, from what to what: one record a write, in the write's own transaction. The journal has them for good.

Key: ``/audit/<microseconds since the epoch>``. Secrets are masked in them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shoal.errors import NotReady
from shoal.objects import ObjectType
from shoal.store.protocol import Records, Transaction

log = logging.getLogger("shoal.audit")

AUDITS = "/audit/"
AUDITS_KEPT_MAX = 20_000
"""In the store: until the journal has them, and much longer."""
PRUNE_EVERY = 500
PRUNE_BATCH_MAX = 100
VALUE_BYTES_MAX = 2_000
"""Of a longer one its beginning is kept."""
CHANGES_BYTES_MAX = 16_000
"""Of one record: the fields after it are named, without their values."""
EVENT_NAMES = {
    "CREATE": "CONFIG_CREATE",
    "UPDATE": "CONFIG_UPDATE",
    "DELETE": "CONFIG_DELETE",
    "CAPTURE": "CONFIG_ACTION",
}
VERBS = {"CREATE": "created", "UPDATE": "changed", "DELETE": "deleted", "CAPTURE": "captured packets of"}
UNTOLD = ("uuid", "url", "_last_modified")
SYSTEM_USER = "system"
"""The controller's own writes are not read: what they come from has events of its own."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One write, or one capture. ``tenant`` is the object's, ``fields`` those whose value changed (updates only), or
    what was captured; ``changes``: field -> (value before, value after), of new and deleted objects what is no default."""

    at: float
    user: str
    address: str = ""
    tenant: str = ""
    operation: str
    type: str
    uuid: str | None = None
    name: str | None = None
    fields: tuple[str, ...] = ()
    changes: dict[str, tuple[Any, Any]] = {}

    def sentence(self) -> str:
        """``admin from 10.0.0.7 changed Pool web: servers.``"""
        who = f"{self.user} from {self.address}" if self.address else self.user
        what = f": {', '.join(self.fields)}" if self.fields else ""
        return f"{who} {VERBS[self.operation]} {self.type} {self.name or self.uuid}{what}."


def changes(
    kind: ObjectType, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, fields: tuple[str, ...]
) -> dict[str, tuple[Any, Any]]:
    """What `Record.changes` says of a write; ``before`` None: a new object, ``after`` None: one that is deleted."""
    both = before is not None and after is not None
    old = kind.emit(before, skip_default=not both) if before is not None else {}
    new = kind.emit(after, skip_default=not both) if after is not None else {}
    wanted = fields if both else tuple(name for name in old | new if name not in UNTOLD)
    if not both and len(msgspec.json.encode(old | new)) <= VALUE_BYTES_MAX:  # as nearly all are
        return {name: (old.get(name), new.get(name)) for name in wanted}
    found: dict[str, tuple[Any, Any]] = {}
    room = CHANGES_BYTES_MAX
    for name in wanted:
        pair = (_bounded(old.get(name)), _bounded(new.get(name)))
        room -= len(name) + len(msgspec.json.encode(pair))
        if room < 0:
            break
        found[name] = pair
    return found


def _bounded(value: Any) -> Any:
    text = msgspec.json.encode(value)
    if len(text) <= VALUE_BYTES_MAX:
        return value
    return f"{text[:VALUE_BYTES_MAX].decode(errors='ignore')}... ({len(text)} bytes)"


class Trail:
    """``on_written`` hears of each record that was committed. ``keeps``: they are kept here, for `taken` (a draft's)."""

    def __init__(self, store: Records, *, keeps: bool = False) -> None:
        self._store = store
        self._keeps = keeps
        self._records: dict[str, Record] = {}
        self._writes = 0
        self._keys: deque[str] = deque()
        """Of the records in the store, oldest first: those written here, and the others once they are `_listed`."""
        self._listed = False
        self._pruning: asyncio.Task[None] | None = None
        self.on_written: Callable[[str, Record], None] = lambda key, record: None

    def written(self, key: str, record: Record) -> None:
        """A record was committed."""
        if self._keeps:
            self._records[key] = record
            return
        self._writes += 1
        self._keys.append(key)
        self.on_written(key, record)
        if self._writes % PRUNE_EVERY == 0 and (self._pruning is None or self._pruning.done()):
            # Beside the writes, which would wait for it: it shares their flushes of the disk.
            self._pruning = asyncio.create_task(self._prune(), name="audit trail")

    def taken(self) -> list[tuple[str, Record]]:
        """Those kept here, by key."""
        return list(self._records.items())

    async def _prune(self) -> None:
        try:
            if not self._listed:
                stored = [record.key for record in (await self._store.list(AUDITS)).records]
                self._keys, self._listed = deque(dict.fromkeys([*stored, *self._keys])), True
            while (surplus := len(self._keys) - AUDITS_KEPT_MAX) > 0:
                oldest = [self._keys.popleft() for _ in range(min(PRUNE_BATCH_MAX, surplus))]
                await self._store.commit(Transaction(deletes=tuple(oldest)))
        except NotReady as error:  # the disk is full, or the store was closed
            log.warning("old audit records stay: %s", error)
