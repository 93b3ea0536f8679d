"""Runs health monitors at their pace: one task for each monitor of each server, whichever services use it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable

import msgspec

from shoal.wire.desired import AGENT_KINDS, Monitor, Server, Service

from .plan import carried
from .probe import probe

log = logging.getLogger("shoal.fastpath.checks")

FIRST_WITHIN_S = 0.5
"""Checks begin spread over so much time."""


class Check(msgspec.Struct, frozen=True):
    monitor: Monitor
    address: str
    port: int


class Health:
    """A server is well until its first check; from then on ``fall`` failures in a row make it ill, ``rise`` successes
    well again. The first check alone decides."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._well = True
        self._streak = max(0, monitor.fall - 1)
        """Results in a row against what holds."""
        self.why = ""

    def note(self, why: str) -> bool:
        """``why``: "" or what is wrong. True when the verdict changes."""
        if (why == "") == self._well:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < (self._monitor.fall if self._well else self._monitor.rise):
            return False
        self._well, self._streak = not self._well, 0
        self.why = why
        return True


class Checks:
    """``on_change`` is called on the loop after each verdict that is new."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._health: dict[Check, Health] = {}
        self._tasks: dict[Check, asyncio.Task[None]] = {}
        self._wanted: Collection[Check] = ()
        self._changed = asyncio.Event()

    def want(self, services: Collection[Service]) -> None:
        """Check the servers of these that are enabled, and no others."""
        self._wanted = frozenset(
            check
            for service in services
            for server in (service.pool.servers if service.pool else ())
            if server.enabled
            for check in of_server(service, server)
        )
        self._changed.set()

    def ill(self, services: Iterable[Service]) -> dict[tuple[str, str], str]:
        """(service, server) -> what is wrong with it, of those that are not well."""
        found = {}
        for service in services:
            for server in service.pool.servers if service.pool else ():
                health = (self._health.get(check) for check in of_server(service, server))
                why = next((one.why for one in health if one is not None and one.why), "")
                if why:
                    found[service.id, server.name] = why
        return found

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for check in [check for check in self._tasks if check not in self._wanted]:
                    self._tasks.pop(check).cancel()
                    self._health.pop(check, None)
                for check in self._wanted:
                    if check not in self._tasks:
                        self._health[check] = Health(check.monitor)
                        self._tasks[check] = group.create_task(self._repeat(check, self._health[check]))

    async def _repeat(self, check: Check, health: Health) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + FIRST_WITHIN_S * _share(check)
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            began = loop.time()
            try:
                why = await probe(check.monitor, check.address, check.port)
            except (ValueError, KeyError, OverflowError) as error:
                why = f"{check.monitor.kind} can't be run: {error}"
            if health.note(why):
                log.info("%s:%d is %s", check.address, check.port, f"down: {why}" if why else "up")
                self._on_change()
            due = began + max(1, check.monitor.interval_s)


def of_server(service: Service, server: Server) -> list[Check]:
    """None for a service without fast paths: there HAProxy's checks decide alone."""
    if service.pool is None or not carried(service):
        return []
    monitors = (monitor for monitor in service.pool.monitors if monitor.kind in AGENT_KINDS)
    return [Check(monitor, server.address, monitor.port or server.port) for monitor in monitors]


def _share(check: Check) -> float:
    text = f"{check.address} {check.port} {check.monitor.name}".encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=1).digest()[0] / 256
