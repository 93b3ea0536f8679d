"""The UDP side of an engine: keeps the kernel's rules in line with the services wanted and with the servers' health.

A server that is down loses its flows at once, so that its clients move; one that is disabled keeps them for the pool's
graceful_disable_timeout. Flows of a service that is gone are gone with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from shoal.engine.guard.nft import NftError
from shoal.wire.counters import ServiceCounts
from shoal.wire.desired import Server, Service

from . import conntrack
from .checks import Checks
from .plan import Plan, Target, Unservable, plan, served_by_udp, target
from .rules import ruleset
from .table import Table
from .tally import Tally

log = logging.getLogger("shoal.udp")

CUT_AGAIN_AFTER_S = 0.2
"""A packet that was under way when the rules changed may have made a flow after the others were deleted."""
FAILURE_RETRY_S = 1.0
IDLE_S = 10
FORWARDING = {"ip_forward": "1", "conf/all/send_redirects": "0"}


class Drain(msgspec.Struct):
    """A target that keeps its flows until ``end`` (the loop's clock; None: until they end by themselves)."""

    target: Target
    end: float | None


class Outcome(msgspec.Struct, frozen=True):
    """By service id: why it is not served, or how otherwise than asked for."""

    problems: dict[str, str]
    notes: dict[str, str]


class Datagrams:
    """``address``: the engine's own on ``interface``."""

    def __init__(self, address: str, interface: str) -> None:
        self._address = address
        self._interface = interface
        self._table = Table()
        self._tally = Tally()
        self._services: dict[str, Service] = {}
        self._plans: dict[str, Plan] = {}
        self._drains: dict[int, Drain] = {}
        self._down: frozenset[tuple[str, str]] = frozenset()
        self._fresh = True
        """Nothing was applied yet: what an earlier agent left is not known."""
        self._open: Counter[int] = Counter()
        self._changed = asyncio.Event()
        self._checks = Checks(self._changed.set)
        self._turn = asyncio.Lock()

    # --- what is wanted, what is so ---

    async def apply(self, services: Mapping[str, Service]) -> Outcome:
        """Carry the UDP ports of exactly these. Nothing is raised: what can't be carried is among the problems."""
        self._services = {id: service for id, service in services.items() if served_by_udp(service)}
        self._checks.want(tuple(self._services.values()))
        return await self._update()

    def heed(self, down: Collection[tuple[str, str]]) -> None:
        """(service, server) that HAProxy's checks find down."""
        mine = frozenset(key for key in down if key[0] in self._services)
        if mine != self._down:
            self._down = mine
            self._changed.set()

    def ill(self, service: Service, server: Server) -> str:
        """Why a server gets no UDP flows although it is enabled, by the agent's own monitors; "" if it does."""
        return self._checks.ill(service, server)

    @property
    def idle_s(self) -> int:
        """The longest time that any service lets a flow be idle."""
        services = self._services.values()
        return max((one.idle_s for s in services for one in s.listeners if one.protocol == "udp"), default=IDLE_S)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checks.run())
            while True:
                ends = [drain.end for drain in self._drains.values() if drain.end is not None]
                wait = min(ends) - asyncio.get_running_loop().time() if ends else None
                try:
                    async with asyncio.timeout(None if wait is None else max(0.0, wait)):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                self._changed.clear()
                await self._update()

    async def stop(self) -> None:
        """Nothing is carried any more."""
        await self.apply({})

    # --- bringing it in line ---

    async def _update(self) -> Outcome:
        async with self._turn:
            problems: dict[str, str] = {}
            before, self._plans = self._plans, self._planned(problems)
            wanted = ruleset(self._plans.values(), self._address)
            targets = _targets(before)
            try:
                counted = await asyncio.to_thread(self._table.counted) if targets else {}
                self._tally.take(counted, targets.values())
                changed = await asyncio.to_thread(self._table.put, wanted)
                if changed:
                    self._forward(bool(wanted.chains))
            except NftError as error:
                log.error("the kernel refuses the rules: %s", error)
                self._plans = before
                asyncio.get_running_loop().call_later(FAILURE_RETRY_S, self._changed.set)
                return Outcome(dict.fromkeys(self._services, f"The kernel refuses the rules for UDP: {error}"), {})
            self._tally.keep(wanted.counters, self._services)
            now = _targets(self._plans)
            gone = targets.keys() - now.keys()
            if self._fresh and wanted.chains:
                gone |= (await self._flows(all_=True)).keys() - now.keys()
                self._fresh = False
            await self._cut(gone)
            notes = {id: " ".join(p.notes) for id, p in self._plans.items() if p.notes}
            return Outcome(problems, notes)

    def _planned(self, problems: dict[str, str]) -> dict[str, Plan]:
        plans: dict[str, Plan] = {}
        now = asyncio.get_running_loop().time()
        self._drains = {
            mark: drain
            for mark, drain in self._drains.items()
            if drain.target.service in self._services and (drain.end is None or drain.end > now)
        }
        for id, service in self._services.items():
            try:
                plans[id] = self._plan(service, now)
            except Unservable as error:
                problems[id] = str(error)
        return plans

    def _plan(self, service: Service, now: float) -> Plan:
        pool = service.pool
        servers = {server.name: server for server in pool.servers} if pool else {}
        down = {name for name, one in servers.items() if (service.id, name) in self._down or self.ill(service, one)}
        taking = {target(service.id, server).mark for server in servers.values() if server.enabled and server.ratio}
        for one in self._served_before(service):
            healthy = one.name not in down
            if one.mark not in taking and healthy and pool and pool.graceful_disable_s and one.mark not in self._drains:
                end = now + pool.graceful_disable_s if pool.graceful_disable_s > 0 else None
                self._drains[one.mark] = Drain(one, end)
        for mark in [m for m, d in self._drains.items() if d.target.service == service.id]:
            drain = self._drains[mark]
            if mark in taking or drain.target.name in down or (pool is not None and pool.graceful_disable_s == 0):
                del self._drains[mark]
        draining = [drain.target for drain in self._drains.values() if drain.target.service == service.id]
        return plan(service, down, draining)

    def _served_before(self, service: Service) -> Iterable[Target]:
        """What may have flows. After a restart these are all its servers: drains that were under way begin anew."""
        if service.id in self._plans:
            return self._plans[service.id].taking
        if self._fresh and service.pool is not None:
            return [target(service.id, server) for server in service.pool.servers]
        return ()

    def _forward(self, on: bool) -> None:
        """Only while there are rules that say what may be forwarded."""
        values = FORWARDING | {f"conf/{self._interface}/send_redirects": "0"} if on else {"ip_forward": "0"}
        for name, value in values.items():
            try:
                Path("/proc/sys/net/ipv4", name).write_text(value)
            except OSError as error:
                log.error("sysctl net.ipv4.%s: %s; UDP is not carried", name.replace("/", "."), error)

    async def _cut(self, marks: Collection[int]) -> None:
        if not marks:
            return
        await asyncio.to_thread(_delete, marks)
        loop = asyncio.get_running_loop()
        loop.call_later(CUT_AGAIN_AFTER_S, lambda: loop.run_in_executor(None, _delete, marks))

    # --- figures ---

    async def counted(self, services: tuple[ServiceCounts, ...]) -> tuple[ServiceCounts, ...]:
        """The same with what UDP adds."""
        if not self._plans:
            return services
        async with self._turn:
            targets = _targets(self._plans)
            self._tally.take(await asyncio.to_thread(self._table.counted), targets.values())
            self._open = await self._flows()
            found = []
            for one in services:
                service, planned = self._services.get(one.id), self._plans.get(one.id)
                if service is not None and planned is not None:
                    one = self._tally.added(one, service, {t.name: self._open[t.mark] for t in planned.targets})
                found.append(one)
            return tuple(found)

    async def busy(self) -> frozenset[str]:
        """The VIPs' addresses that have UDP flows here."""
        if not self._plans:
            return frozenset()
        flows = await self._flows()
        plans = self._plans.values()
        return frozenset(p.address for one in plans if any(flows[t.mark] for t in one.targets) for p in one.ports)

    async def _flows(self, *, all_: bool = False) -> Counter[int]:
        try:
            return await asyncio.to_thread(conntrack.flows, *((None,) if all_ else ()))
        except OSError as error:
            log.warning("flows are not known: %s", error)
            return Counter()


def _targets(plans: Mapping[str, Plan]) -> dict[int, Target]:
    return {one.mark: one for planned in plans.values() for one in planned.targets}


def _delete(marks: Collection[int]) -> None:
    for mark in marks:
        try:
            conntrack.delete(mark)
        except OSError as error:
            log.warning("flows of %08x can't be deleted: %s", mark, error)
