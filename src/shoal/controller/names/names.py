"""Keeps the answers for the names in pools. A name that can't be looked up any more keeps its last answer, also over a
restart of the controller."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from shoal.controller.clock import Clock
from shoal.controller.events import EventLog
from shoal.controller.view import View
from shoal.errors import ShoalError
from shoal.objects.views import uuid_of
from shoal.store.protocol import Records, Transaction

from . import members
from .lookup import Found, Unresolved, look_up
from .members import Answer, Document
from .resolver import resolver_of

log = logging.getLogger("shoal.names")

RESOLVED = "/resolved/"
"""``/resolved/<cloud uuid>/<name>``: the last answer."""
RETRY_S_MIN, RETRY_S_MAX = 2.0, 60.0
"""After a failure; each one doubles it."""
FAILURES_COUNTED_MAX = 16
LOOKUPS_AT_ONCE_MAX = 32
FORMER_MAX = 64
Key = tuple[str, str]
"""(cloud uuid, name)."""
LookUp = Callable[[str, tuple[str, ...], str], Awaitable[Found]]


class Names:
    """Documents in which pools have addresses for names (``get``). ``on_change`` is called with the uuid of each pool whose
    servers have become others."""

    def __init__(
        self,
        view: View,
        store: Records,
        events: EventLog,
        clock: Clock,
        on_change: Callable[[str], None],
        look_up: LookUp = look_up,
    ) -> None:
        self._view = view
        self._store = store
        self._events = events
        self._clock = clock
        self._on_change = on_change
        self.look_up = look_up
        """Asks DNS servers."""
        self._failures: dict[Key, int] = {}
        """In a row."""
        self._answers: dict[Key, Answer] = {}
        self._pools: dict[Key, dict[str, None]] = {}
        """Of each name that is looked up: the uuids of the pools that have it."""
        self._named: dict[str, tuple[Key, ...]] = {}
        """The same by pool. Kept up by what changes: most pools have no name, and there may be thousands."""
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(LOOKUPS_AT_ONCE_MAX)

    async def load(self) -> None:
        """The answers that an earlier controller has got."""
        for record in (await self._store.list(RESOLVED)).records:
            cloud, _, name = record.key.removeprefix(RESOLVED).partition("/")
            self._answers[cloud, name] = msgspec.json.decode(record.value, type=Answer)

    # --- reading ---

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        document = self._view.get(type, uuid)
        if type != "pool" or document is None:
            return document
        if group := self._group(document):
            document = members.with_group(document, group)
        if not members.names(document):
            return document
        cloud = uuid_of(document.get("cloud_ref", ""))
        return members.expanded(document, lambda name: self._answers.get((cloud, name)))

    def _group(self, pool: Document) -> Document:
        """The IpAddrGroup whose addresses are its servers; empty where there is none."""
        reference = pool.get("ipaddrgroup_ref")
        return (self._view.get("ipaddrgroup", uuid_of(reference)) if reference else None) or {}

    def trouble(self, uuid: str) -> list[str]:
        """One sentence for each name of a pool that is not known, or not known any more."""
        document = self._view.get("pool", uuid) or {}
        cloud = uuid_of(document.get("cloud_ref", ""))
        found = []
        most = members.GROUP_SERVERS_MAX
        if next(itertools.islice(members.addresses_of(self._group(document)), most, None), None) is not None:
            found.append(f"The first {most} addresses of its ipaddrgroup_ref are its servers: it has more.")
        for name in members.names(document):
            answer = self._answers.get((cloud, name))
            if answer is None:
                found.append(f"{name} is being looked up.")
            elif answer.failing and not answer.addresses:
                found.append(f"{name} can't be resolved: {answer.failing}.")
            elif answer.failing:
                since = f"{self._clock.now() - answer.failing_since:.0f} s"
                found.append(f"{name} can't be resolved for {since}: {answer.failing}. Its last answer is served.")
        return found

    # --- looking up ---

    def on_document(self, type: str, uuid: str, document: object) -> None:
        """The view's callback."""
        if type == "pool":
            self._heed(uuid, self._view.get("pool", uuid))
        elif type == "ipaddrgroup":
            for referrer, pool, _ in self._view.referrers(uuid):
                if referrer == "pool":
                    self._on_change(pool)

    async def run(self) -> None:
        """Until cancelled."""
        self._tasks.clear()
        for uuid in [uuid for uuid in self._named if self._view.get("pool", uuid) is None]:
            self._heed(uuid, None)
        for pool in self._view.all("pool"):
            self._heed(pool["uuid"], pool)
        self._changed.set()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for key in [key for key in self._tasks if key not in self._pools]:
                    self._tasks.pop(key).cancel()
                    self._failures.pop(key, None)
                await self._forget([key for key in self._answers if key not in self._pools])
                for key in list(self._pools):
                    if key not in self._tasks:
                        self._tasks[key] = group.create_task(self._repeat(key), name=f"name {key[1]}")

    def _heed(self, uuid: str, pool: Document | None) -> None:
        """The names of a pool may be others; None: it is gone."""
        cloud = uuid_of((pool or {}).get("cloud_ref", ""))
        now = tuple((cloud, name) for name in members.names(pool)) if pool is not None else ()
        before = self._named.get(uuid, ())
        if now == before:
            return
        for key in [key for key in before if key not in now]:
            del self._pools[key][uuid]
            if not self._pools[key]:
                del self._pools[key]
        for key in now:
            self._pools.setdefault(key, {})[uuid] = None
        if now:
            self._named[uuid] = now
        else:
            del self._named[uuid]
        self._changed.set()

    async def _repeat(self, key: Key) -> None:
        while True:
            await asyncio.sleep(await self.look(key))

    async def look(self, key: Key) -> float:
        """Look a name up now. In how many seconds it is to be looked up again."""
        resolver = resolver_of(self._view, key[0])
        try:
            async with self._places:
                found = await self.look_up(key[1], resolver.servers, resolver.search)
        except Unresolved as error:
            self._failed(key, str(error))
            failures = self._failures[key] = min(self._failures.get(key, 0) + 1, FAILURES_COUNTED_MAX)
            return min(RETRY_S_MIN * float(2 ** (failures - 1)), RETRY_S_MAX)
        self._failures.pop(key, None)
        await self._answered(key, found)
        return resolver.wait_s(found.ttl_s)

    async def _answered(self, key: Key, found: Found) -> None:
        before = self._answers.get(key, Answer())
        former = (*(a for a in before.addresses if a not in found.addresses), *before.former)
        now = Answer(
            addresses=found.addresses,
            at=self._clock.now(),
            former=tuple(a for a in dict.fromkeys(former) if a not in found.addresses)[:FORMER_MAX],
        )
        self._answers[key] = now
        if set(now.addresses) != set(before.addresses):
            text = f"{key[1]} is {', '.join(now.addresses)}"
            self._note("POOL_DNS_CHANGED", key, f"{text}; it was {', '.join(before.addresses) or 'not known'}.")
            await self._keep(key, now)
            self._tell(key)
        elif before.failing:
            self._note("POOL_DNS_ANSWERED", key, f"{key[1]} is resolved again, to the same addresses.")

    def _failed(self, key: Key, why: str) -> None:
        before = self._answers.get(key, Answer())
        since = before.failing_since if before.failing else self._clock.now()
        self._answers[key] = msgspec.structs.replace(before, failing=why, failing_since=since)
        if not before.failing:
            served = (
                f"its last answer is served: {', '.join(before.addresses)}" if before.addresses else "it has none yet"
            )
            self._note("POOL_DNS_FAILED", key, f"{key[1]} can't be resolved: {why}; {served}.", level="warning")

    def _note(self, event: str, key: Key, text: str, level: str = "info") -> None:
        for pool in self._pools.get(key, ()):
            self._events.add(event, f"Pool {self._view.name_of('pool', pool)}: {text}", level=level, pool=pool)

    def _tell(self, key: Key) -> None:
        for pool in self._pools.get(key, ()):
            self._on_change(pool)

    # --- keeping ---

    async def _keep(self, key: Key, answer: Answer) -> None:
        kept = msgspec.json.encode(msgspec.structs.replace(answer, failing="", failing_since=0.0))
        await self._commit(Transaction(puts=((_key(key), kept),)))

    async def _forget(self, keys: list[Key]) -> None:
        for key in keys:
            del self._answers[key]
            await self._commit(Transaction(deletes=(_key(key),)))

    async def _commit(self, transaction: Transaction) -> None:
        try:
            await self._store.commit(transaction)
        except ShoalError as error:
            log.warning("the answers for names are not kept over a restart for now: %s", error)


def _key(key: Key) -> str:
    return f"{RESOLVED}{key[0]}/{key[1]}"
