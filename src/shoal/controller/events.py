"""What happened, in order: kept in the store (bounded) and in memory for reading.

Event names are the field's (reference: elastic-ha 7.4): ``SE_DOWN``, ``VS_ADD_SE``, ``CONFIG_UPDATE`` ...
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import compress, repeat
from operator import contains
from typing import Any

import msgspec

from shoal.errors import ShoalError
from shoal.store.patience import RETRY_S
from shoal.store.protocol import Store, Transaction

from .clock import Clock, woken

log = logging.getLogger("shoal.events")

EVENTS = "/event/"
EVENTS_KEPT_MAX = 10_000
WRITE_BATCH_MAX = 50
PRUNE_BATCH_MAX = 50


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """``at`` in seconds since the epoch; ``objects`` maps roles to uuids (``virtualservice``, ``serviceengine`` ...)."""

    id: str
    at: float
    name: str
    detail: str
    objects: dict[str, str] = {}
    level: str = "info"


def matches(event: Event, filters: Mapping[str, Any]) -> bool:
    """``filters``: ``name`` (one or a list), ``object`` (a uuid, or words of the text), ``since``, ``until`` (seconds)."""
    names = filters.get("name")
    if names and event.name not in ([names] if isinstance(names, str) else names):
        return False
    wanted = filters.get("object")
    if wanted and wanted not in event.objects.values() and wanted not in event.detail:
        return False
    return float(filters.get("since", 0)) <= event.at <= float(filters.get("until", float("inf")))


def _decoded(value: bytes) -> Event:
    return msgspec.json.decode(value, type=Event)


class EventLog:
    """Raising never waits and never fails; a writer task makes events durable in batches."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT_MAX)
        self._earlier: list[bytes] = []
        """Those that were read from the store and that nobody has asked for yet."""
        self._earlier_id = ""
        """The newest of them."""
        self._pending: deque[Event] = deque(maxlen=EVENTS_KEPT_MAX)
        self._wanted = asyncio.Event()
        self._sequence = 0
        self.on_added: Callable[[Event], None] = lambda event: None

    async def load(self) -> None:
        """Read what earlier controllers wrote. It is looked into when somebody asks: a controller is to start quickly."""
        records = (await self._store.list(EVENTS)).records
        self._earlier = [record.value for record in records[-EVENTS_KEPT_MAX:]]
        self._earlier_id = records[-1].key.removeprefix(EVENTS) if records else ""

    def add(self, name: str, detail: str, *, level: str = "info", **objects: str) -> Event:
        """Raise an event. ``objects``: role -> uuid; empty ones are left out."""
        self._sequence += 1
        at = self._clock.now()
        event = Event(
            id=f"{int(at * 1e6):017d}-{self._sequence:06d}",
            at=at,
            name=name,
            detail=detail,
            objects={role: uuid for role, uuid in objects.items() if uuid},
            level=level,
        )
        self._events.append(event)
        self._pending.append(event)
        self._wanted.set()
        self.on_added(event)
        log.info("%s %s", name, detail)
        return event

    @property
    def last(self) -> str:
        """The id of the newest event; "" = none."""
        return self._events[-1].id if self._events else self._earlier_id

    def read(self, filters: Mapping[str, Any]) -> list[Event]:
        """Newest first."""
        names = filters.get("name")
        if self._earlier and names:
            found = [*self._earlier_with([names] if isinstance(names, str) else names), *self._events]
        else:
            self._look_into_earlier()
            found = list(self._events)
        return [event for event in reversed(found) if matches(event, filters)]

    def _look_into_earlier(self) -> None:
        self._events.extendleft(map(_decoded, reversed(self._earlier_kept())))
        self._earlier = []

    def _earlier_with(self, words: Iterable[str]) -> list[Event]:
        """Those in whose text one of these words stands: a handful of many, as a rule."""
        earlier = self._earlier_kept()
        found: set[int] = set()
        for word in words:
            found.update(compress(range(len(earlier)), map(contains, earlier, repeat(word.encode()))))
        return [_decoded(earlier[index]) for index in sorted(found)]

    def _earlier_kept(self) -> list[bytes]:
        room = EVENTS_KEPT_MAX - len(self._events)
        return self._earlier[-room:] if room else []

    async def run(self) -> None:
        """Write events until cancelled; a store that refuses (disk full) costs durability, not service."""
        refused = False
        while True:
            await woken(self._wanted, RETRY_S if self._pending else None)
            while self._pending:
                batch = [self._pending[i] for i in range(min(WRITE_BATCH_MAX, len(self._pending)))]
                try:
                    await self._write(batch)
                except ShoalError as error:
                    if not refused:
                        log.warning("events are not durable for now: %s", error)
                    refused = True
                    break
                refused = False
                for event in batch:
                    if self._pending[0] is event:  # the oldest goes by itself where there are too many
                        self._pending.popleft()

    async def _write(self, batch: list[Event]) -> None:
        puts = tuple((EVENTS + event.id, msgspec.json.encode(event)) for event in batch)
        await self._store.commit(Transaction(puts=puts))
        if self._sequence % WRITE_BATCH_MAX < len(batch):
            await self._prune()

    async def _prune(self) -> None:
        records = (await self._store.list(EVENTS)).records
        surplus = [record.key for record in records[: max(0, len(records) - EVENTS_KEPT_MAX)]]
        for start in range(0, len(surplus), PRUNE_BATCH_MAX):
            await self._store.commit(Transaction(deletes=tuple(surplus[start : start + PRUNE_BATCH_MAX])))
