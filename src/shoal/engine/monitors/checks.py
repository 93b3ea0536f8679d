"""Runs health monitors at their pace: one task for each monitor of each server, whichever services use it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import msgspec

from shoal.wire.desired import Pool, Server, ServerId, Service, with_port
from shoal.wire.monitors import TLS_KINDS, Monitor, MonitorTls

from .probe import Ill, probe
from .runners import by_agent, some_suffice

log = logging.getLogger("shoal.monitors")

WEB = ("HTTP", "HTTPS")
FIRST_WITHIN_S = 0.5
"""Checks begin spread over so much time."""


class Check(msgspec.Struct, frozen=True):
    monitor: Monitor
    address: str
    port: int
    host: str = ""
    """The server's own name, as a Host header has it."""
    tls: MonitorTls | None = None
    of: tuple[str, str] = ("", "")
    """The service and pool that look for themselves."""
    pool: str = ""
    """The pool's name, where a script is asked for it."""


class Looked(NamedTuple):
    """A server, and how many of its checks may fail."""

    server: ServerId
    enabled: bool
    checks: tuple[Check, ...]
    may_fail: int


class Health:
    """A server is well until its first check; from then on ``fall`` failures in a row make it ill, ``rise`` successes
    well again. The first check alone decides, where the monitor is ``quick``."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._well = True
        self._streak = max(0, monitor.fall - 1) if monitor.quick else 0
        """Results in a row against what holds."""
        self.why = ""
        self.judged = False
        """It was looked at."""
        self.tasks: int | None = None
        """What the server was last said to have to do."""

    def note(self, why: str, *, at_once: bool = False) -> bool:
        """``why``: "" or what is wrong. True when the verdict changes."""
        self.judged = True
        if (why == "") == self._well:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < (self._monitor.fall if self._well else self._monitor.rise) and not at_once:
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
        self._looked_at: dict[str, tuple[Service, list[Looked]]] = {}
        """By service: what `_of` found. It is asked for twice a second, of a thousand services."""

    def want(self, services: Collection[Service]) -> None:
        """Check the servers of these that are enabled, and no others."""
        kept = {service.id for service in services}
        self._looked_at = {id: found for id, found in self._looked_at.items() if id in kept}
        self._wanted = frozenset(
            check for service in services for one in self._of(service) if one.enabled for check in one.checks
        )
        self._changed.set()

    def verdicts(self, services: Iterable[Service]) -> dict[ServerId, str]:
        """What is wrong with each server, "" if nothing is; without those that are not looked at, or were not
        yet by each of their monitors and by none found ill (by too many, where some may fail)."""
        if not self._health:
            return {}
        found = {}
        for service in services:
            for one in self._of(service):
                health = [known for check in one.checks if (known := self._health.get(check)) is not None]
                ill = [known.why for known in health if known.why]
                why = ill[0] if len(ill) > one.may_fail else ""
                if why or (health and all(known.judged for known in health)):
                    found[one.server] = why
        return found

    def tasks(self, services: Iterable[Service]) -> dict[ServerId, int]:
        """What servers have to do, of those that a monitor has told of; the most that any of them says."""
        found: dict[ServerId, int] = {}
        for service in services:
            for one in self._of(service):
                told = [h.tasks for check in one.checks if (h := self._health.get(check)) and h.tasks is not None]
                if told:
                    found[one.server] = max(told)
        return found

    def _of(self, service: Service) -> list[Looked]:
        """The servers that the agent has monitors for."""
        known = self._looked_at.get(service.id)
        if known is None or known[0] is not service:
            servers = (looked(id, pool, server) for id, pool, server in service.servers)
            found = [one for one in servers if one.checks]
            known = self._looked_at[service.id] = service, found
        return known[1]

    def ill(self, services: Iterable[Service]) -> dict[ServerId, str]:
        """The same of those that are not well."""
        return {key: why for key, why in self.verdicts(services).items() if why}

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
        due = loop.time() + FIRST_WITHIN_S * _share(check) + (0 if check.monitor.quick else _pace_s(check.monitor))
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            began = loop.time()
            first, at_once = not health.judged, False
            try:
                tasks = await probe(check.monitor, check.address, check.port, check.host, check.tls, check.pool)
                health.tasks = health.tasks if tasks is None else tasks
                why = ""
            except Ill as ill:
                why, at_once = f"{check.monitor.kind} {ill}", ill.at_once
            if health.note(why, at_once=at_once):
                log.info("%s:%d is %s", check.address, check.port, f"down: {why}" if why else "up")
                self._on_change()
            elif first:
                self._on_change()
            due = began + _pace_s(check.monitor)


def looked(id: ServerId, pool: Pool, server: Server) -> Looked:
    """What the agent looks at; HAProxy's checks are beside these."""
    checks = [
        Check(
            monitor,
            server.address,
            monitor.port or server.port,
            _host(pool, server, monitor) if monitor.kind in WEB else "",
            _tls(pool, monitor),
            (id.service, id.pool) if monitor.apart else ("", ""),
            pool.name if monitor.kind == "EXTERNAL" else "",
        )
        for monitor in by_agent(pool)
    ]
    may_fail = len(pool.monitors) - pool.monitors_min if some_suffice(pool) else 0
    return Looked(id, server.enabled, tuple(checks), may_fail)


def _host(pool: Pool, server: Server, monitor: Monitor) -> str:
    return with_port(server.hostname or server.address, monitor.port or server.port, pool.tells_port)


def _tls(pool: Pool, monitor: Monitor) -> MonitorTls | None:
    """HTTP to the port of a server that speaks TLS must be TLS, too."""
    if monitor.kind in TLS_KINDS or (monitor.kind == "HTTP" and pool.tls is not None and not monitor.port):
        return monitor.tls or MonitorTls()
    return None


def _pace_s(monitor: Monitor) -> int:
    return max(1, monitor.interval_s)


def _share(check: Check) -> float:
    text = f"{check.address} {check.port} {check.monitor.name}".encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=1).digest()[0] / 256
