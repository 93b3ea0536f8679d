"""Engines are made and removed: where, how many at once, and what comes of failing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec

from shoal.clouds.protocol import Cloud, CloudError, EngineHandle, EngineSpec, Identity
from shoal.errors import NotReady
from shoal.objects.views import ServiceEngineGroup
from shoal.store.patience import patiently
from shoal.wire.tls import fingerprint_of_pem

from .clock import Clock
from .engine_timers import Timers
from .events import EventLog
from .ledger import Changes, Ledger
from .records import EngineRecord

CREATIONS_AT_ONCE_MAX = 4
REMOVAL_RETRY_S = 5.0


class Documents(Protocol):
    """The ServiceEngine objects that stand for engines in the API."""

    async def put(self, engine: EngineRecord, group: ServiceEngineGroup | None, prefix_length: int) -> None:
        """``prefix_length``: of its address."""
        ...

    def vlans(self, engine: str) -> tuple[int, ...]:
        """Those that an engine is to be in, in order."""
        ...

    async def enable_state(self, engine: str, state: str) -> None: ...

    async def remove(self, engine: str) -> None: ...


class NoHost(CloudError):
    """No host has room for an engine."""


class Making:
    """``abandon(engine)`` has an engine removed whose record is gone, whatever the cloud has of it."""

    def __init__(
        self,
        cloud: Cloud,
        ledger: Ledger,
        events: EventLog,
        clock: Clock,
        documents: Documents,
        *,
        identity: Callable[[str, str], Identity],
        group: Callable[[str], ServiceEngineGroup | None],
        timers: Callable[[], Timers],
        mark: Callable[[str], None],
        abandon: Callable[[EngineRecord], None],
    ) -> None:
        self._cloud = cloud
        self._ledger = ledger
        self._events = events
        self._clock = clock
        self._documents = documents
        self._identity = identity
        self._group = group
        self._timers = timers
        self._mark = mark
        self._abandon = abandon
        self._slots = asyncio.Semaphore(CREATIONS_AT_ONCE_MAX)
        self._failures: Counter[str] = Counter()
        """In a row, by group; those of engines that were being made side by side are one."""
        self._failed_at: dict[str, float] = {}
        """By group, when (monotonic) the last of them was counted."""
        self._begun: dict[str, float] = {}
        """Engine -> since when (monotonic) it is being made."""
        self._retry_at: dict[str, float] = {}
        """By group; monotonic, so that a wall clock that is set back stops nothing."""
        self._bad_hosts: dict[str, float] = {}
        """Host -> until when (monotonic) another one is better."""
        self._underway: dict[str, str] = {}
        """Engine -> the host it is being made on."""

    # --- when ---

    def retry_at(self, group: str) -> float:
        """No engine creation for the group before this time (wall clock); 0 = none pending."""
        left_s = self._retry_at.get(group, 0.0) - self._clock.monotonic()
        return self._clock.now() + left_s if left_s > 0.0 else 0.0

    def retry_now(self, group: str) -> None:
        self._retry_at.pop(group, None)

    def succeeded(self, engine: EngineRecord) -> None:
        """It has connected."""
        self._begun.pop(engine.id, None)
        self._failures.pop(engine.group, None)
        self._retry_at.pop(engine.group, None)
        self._bad_hosts.pop(engine.host, None)

    async def failed(self, engine: EngineRecord, why: str, event: str = "CREATE_SE_FAIL") -> None:
        """Give the engine up and wait before the next: longer each time, and on another host where there is one. Several that
        fail side by side are one failure: a full cloud is no worse for having been asked for four engines at once."""
        timers, now = self._timers(), self._clock.monotonic()
        if self._begun.pop(engine.id, now) >= self._failed_at.get(engine.group, 0.0):
            self._failures[engine.group] += 1
            self._failed_at[engine.group] = now
        first, most = timers.se_spawn_retry_interval, timers.max_se_spawn_interval_delay
        delay = min(first * 2 ** min(self._failures[engine.group] - 1, 30), max(first, most))
        self._retry_at[engine.group] = now + delay
        if engine.host:
            self._bad_hosts[engine.host] = now + max(first, most)
        self._events.add(
            event,
            f"{engine.name}: {why} Next try in {delay:.0f} s.",
            level="error",
            serviceengine=engine.id,
            serviceenginegroup=engine.group,
        )
        await self._ledger.forget_engine(engine.id)
        self._mark(engine.group)

    # --- where ---

    async def _host(self, engine: EngineRecord) -> str:
        """The host asked for; else one with room: none where creations fail just now, none that has an engine of the
        same VIP, then the one with the fewest engines of the group. Raises NoHost; "" leaves it to the cloud."""
        if engine.host:
            return engine.host
        hosts = await self._cloud.hosts()
        if not hosts:
            return ""
        others = [(other.group, self._underway.get(other.id, other.host)) for other in self._ledger.engines.values()]
        taken, mine = Counter(host for _, host in others), Counter(h for g, h in others if g == engine.group)
        room = [host.name for host in hosts if taken[host.name] < host.engines_max]
        if not room:
            raise NoHost(f"No host has room for another engine ({len(hosts)} hosts, all full).")
        now = self._clock.monotonic()

        def rank(host: str) -> tuple[bool, bool, int, int]:
            return self._bad_hosts.get(host, 0.0) > now, host in engine.avoid_hosts, mine[host], taken[host]

        return min(room, key=rank)

    # --- making and removing ---

    async def create(self, engine: EngineRecord) -> None:
        """Until it is made or given up."""
        group = self._group(engine.group)
        if group is None:
            await self._ledger.forget_engine(engine.id)
            return
        self._begun[engine.id] = self._clock.monotonic()
        try:
            async with self._slots:
                handle = await self._made(engine, group)
        except (CloudError, TimeoutError) as error:
            tried = self._on_host(engine, self._underway.pop(engine.id, ""))
            where = f" on {tried.host}" if tried.host else ""
            if isinstance(error, NoHost):
                await self.failed(tried, f"{error}", "NO_HOST_AVAIL")
            elif isinstance(error, CloudError):
                await self.failed(tried, f"{error}")
                if await self._may_be_there(tried.id):
                    self._abandon(tried)
            else:
                why = f"the cloud has not made it{where} within {self._timers().se_create_timeout} s."
                await self.failed(tried, why, "CREATE_SE_TIMEOUT")
                self._abandon(tried)
            return
        if engine.id not in self._ledger.engines:  # deleted meanwhile
            self._underway.pop(engine.id, None)
            self._abandon(engine)
            return
        fields: dict[str, Any] = {"created": True, "host": handle.host, "address": handle.address}
        fields["mac"] = handle.mac
        now = self._clock.now()
        fields |= {"created_at": now, "made_in_s": max(0.0, now - engine.created_at)}
        await self._ledger.insist(Changes(engine_fields={engine.id: fields}))
        self._underway.pop(engine.id, None)
        if engine.id in self._ledger.engines:
            put = partial(self._documents.put, self._ledger.engines[engine.id], group, handle.prefix_length)
            await patiently(put, f"the object of {engine.name}", NotReady)
        self._mark(engine.group)

    async def _may_be_there(self, engine: str) -> bool:
        """A cloud whose answer was lost may have made what it seems not to have made."""
        try:
            return any(handle.id == engine for handle in await self._cloud.engines())
        except CloudError:
            return True

    async def _made(self, engine: EngineRecord, group: ServiceEngineGroup) -> EngineHandle:
        host = self._underway[engine.id] = await self._host(engine)
        self._events.add(
            "CREATING_SE", f"{engine.name}: {engine.why}", serviceengine=engine.id, serviceenginegroup=engine.group
        )
        identity = self._identity(engine.id, engine.name)
        if shown := fingerprint_of_pem(identity.certificate_pem):  # written down before anybody can show it
            await self._ledger.insist(Changes(engine_fields={engine.id: {"certificate": shown}}))
        spec = EngineSpec(
            id=engine.id,
            name=engine.name,
            rank=engine.rank,
            group=engine.group,
            host=host,
            vcpus=group.vcpus_per_se,
            memory_mb=group.memory_per_se,
            identity=identity,
        )
        async with asyncio.timeout(self._timers().se_create_timeout):
            return await self._cloud.create(spec)

    def _on_host(self, engine: EngineRecord, host: str) -> EngineRecord:
        return msgspec.structs.replace(engine, host=host or engine.host)

    async def remove(self, engine: EngineRecord) -> bool:
        """The engine and its object go. False: the cloud could not; try again."""
        self._begun.pop(engine.id, None)
        try:
            await self._cloud.delete(engine.id)
        except CloudError as error:
            self._events.add("DELETE_SE_FAIL", f"{engine.name}: {error}", level="error", serviceengine=engine.id)
            await self._clock.sleep(REMOVAL_RETRY_S)
            return False
        await patiently(partial(self._documents.remove, engine.id), f"the end of {engine.name}", NotReady)
        self._events.add("DELETED_SE", engine.name, serviceengine=engine.id, serviceenginegroup=engine.group)
        return True
