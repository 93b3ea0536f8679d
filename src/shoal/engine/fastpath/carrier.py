"""An engine's fast paths: keeps the kernel's rules in line with the services wanted and with the servers' health.

A server that is down loses its UDP flows at once, so that its clients move; its TCP connections stay, as with a proxy:
only their ends know whether they still live. One that is disabled keeps all for the pool's graceful_disable_timeout.
Flows of a service that is gone are gone with it: whoever goes on with one gets a reset.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import pwd
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from shoal.engine.guard.nft import NftError
from shoal.engine.monitors.checks import Checks
from shoal.wire.counters import ServiceCounts
from shoal.wire.desired import Interface, ServerId, Service
from shoal.wire.networks import Networks

from . import conntrack, copies, direct, kept, lists, surroundings
from .family import FAMILIES, IPV4, Family, own_address6
from .gate import limits
from .plan import Gated, Near, Paced, Plan, Target, Unservable, carried, gated, paced, plan, target, versions
from .rules import Ruleset, ruleset
from .table import Table
from .tally import Counted, Tally

log = logging.getLogger("shoal.fastpath")

CUT_AGAIN_AFTER_S = 0.2
"""A packet that was under way when the rules changed may have made a flow after the others were deleted."""
FAILURE_RETRY_S = 1.0
IDLE_S = 10
Key = tuple[str, int, str]
"""(service, version of IP, protocol)."""
PROTOCOLS = ("tcp", "udp")


class Drain(msgspec.Struct):
    """A target that keeps its flows until ``end`` (the loop's clock; None: until they end by themselves)."""

    target: Target
    end: float | None


class Outcome(msgspec.Struct, frozen=True):
    """By service id: why it is not served, or how otherwise than asked for."""

    problems: dict[str, str]
    notes: dict[str, str]


class Carrier:
    """``address``: the engine's own on ``interface``, IPv4; the IPv6 one is looked up. ``checks``: the agent's own; ``proxy``:
    the user that HAProxy runs as, who must be there."""

    def __init__(self, address: str, interface: str, checks: Checks, proxy: str = "haproxy") -> None:
        self._address = address
        self._proxy = pwd.getpwnam(proxy).pw_uid
        self._interface = interface
        self._tables = tuple(Table(family) for family in FAMILIES)
        self._direct = tuple(Table(family, kept.table(family), kept.NETDEV) for family in FAMILIES)
        self._tally = Tally()
        self._services: dict[str, Service] = {}
        self._sets: lists.Texts = {}
        self._beside: tuple[Interface, ...] = ()
        self._plans: dict[Key, Plan] = {}
        self._drains: dict[int, Drain] = {}
        self._down: frozenset[ServerId] = frozenset()
        self._fresh = True
        """Nothing was applied yet: what an earlier agent left is not known."""
        self._ill: dict[ServerId, str] = {}
        self._shut: frozenset[str] = frozenset()
        """Services whose proxied ports refuse clients."""
        self._changed = asyncio.Event()
        self._checks = checks
        self._turn = asyncio.Lock()

    # --- what is wanted, what is so ---

    async def apply(
        self,
        services: Mapping[str, Service],
        beside: Iterable[Interface] = (),
        networks: Mapping[str, Networks] | None = None,
    ) -> Outcome:
        """Carry the fast paths of exactly these. ``beside``: other interfaces that servers may be reached by; ``networks``: the
        lists that rules name. Nothing is raised: what can't be carried is among the problems."""
        mine = {id: service for id, service in services.items() if _mine(service)}
        self._sets = await lists.texts(mine.values(), networks or {}, self._sets)
        refused = lists.refused(mine, self._sets)
        self._beside = tuple(beside)
        self._services = {id: service for id, service in mine.items() if id not in refused}
        outcome = await self._update()
        return Outcome({**outcome.problems, **refused}, outcome.notes)

    def heed(self, down: Collection[ServerId]) -> None:
        """What HAProxy's checks find down."""
        mine = frozenset(id for id in down if id.service in self._services)
        if mine != self._down:
            self._down = mine
            self._changed.set()

    def shut(self, services: frozenset[str]) -> None:
        """The proxied ports of exactly these refuse clients."""
        if services != self._shut:
            self._shut = services
            self._changed.set()

    def look(self) -> None:
        """What the agent's own monitors find has changed."""
        self._changed.set()

    @property
    def idle_s(self) -> int:
        """The longest time that any service lets a UDP flow be idle."""
        return max((one.idle_s for s in self._services.values() for one in carried(s, "udp")), default=IDLE_S)

    async def run(self) -> None:
        """Until cancelled."""
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
            gates, paces = self._gates(problems)
            wanted = {
                table: ruleset(
                    [one for one in self._plans_of(table.family) if not one.direct],
                    self._address if table.family is IPV4 else own_address6(self._interface),
                    table.family,
                    [one for one in gates if one.version == table.family.version],
                    [one for one in paces if one.version == table.family.version],
                    self._proxy,
                    self._own_beside(table.family),
                )
                for table in self._tables
            }
            for table, rules in wanted.items():
                rules = direct.errors_added(rules, self._plans_of(table.family), table.family)
                rules = lists.added(rules, self._sets, table.family)
                wanted[table] = copies.added(rules, self._services.values(), table.family)
            targets = _targets(before)
            try:
                self._tally.take(await self._read(), targets.values())
                for table, rules in wanted.items():
                    if await asyncio.to_thread(table.put, rules):
                        self._forward(table.family, rules.forwards)
            except NftError as error:
                log.error("the kernel refuses the rules: %s", error)
                self._plans = before
                asyncio.get_running_loop().call_later(FAILURE_RETRY_S, self._changed.set)
                return Outcome(
                    dict.fromkeys(self._services, f"The kernel refuses the rules of fast paths: {error}"), {}
                )
            wanted |= await self._put_direct(problems)
            self._tally.keep(frozenset().union(*(rules.counters for rules in wanted.values())), self._services)
            now = _targets(self._plans)
            gone = targets.keys() - now.keys()
            if self._fresh and self._plans:
                gone |= (await self._flows(all_=True)).keys() - now.keys()
                self._fresh = False
            await self._cut(gone)
            return Outcome(problems, self._notes())

    async def _put_direct(self, problems: dict[str, str]) -> dict[Table, Ruleset]:
        """What the kernel refuses are these services' problems, and no others'."""
        interfaces = surroundings.numbers([self._interface, *(one.name for one in self._beside)])
        found: dict[Table, Ruleset] = {}
        for table in self._direct:
            plans = [one for one in self._plans_of(table.family) if one.direct]
            rules = lists.added(direct.ruleset(plans, table.family, interfaces), self._sets, table.family)
            try:
                await asyncio.to_thread(table.put, rules)
            except NftError as error:
                log.error("the kernel refuses the rules of direct return: %s", error)
                why = f"The kernel refuses the rules of direct return: {error}"
                problems |= dict.fromkeys((one.service for one in plans), why)
                asyncio.get_running_loop().call_later(FAILURE_RETRY_S, self._changed.set)
            found[table] = rules
        return found

    def _plans_of(self, family: Family) -> list[Plan]:
        return [one for (_, version, _), one in self._plans.items() if version == family.version]

    def _own_beside(self, family: Family) -> dict[str, str]:
        """Interface -> the engine's address there."""
        own = [(one.name, ipaddress.ip_interface(text)) for one in self._beside for text in one.addresses]
        return {name: str(address.ip) for name, address in reversed(own) if address.version == family.version}

    def _notes(self) -> dict[str, str]:
        notes: dict[str, dict[str, None]] = {}
        for (id, _, _), planned in self._plans.items():
            notes.setdefault(id, {}).update(dict.fromkeys(planned.notes))
        return {id: " ".join(texts) for id, texts in notes.items() if texts}

    def _planned(self, problems: dict[str, str]) -> dict[Key, Plan]:
        plans: dict[Key, Plan] = {}
        answering = any(one.direct for service in self._services.values() for one in carried(service))
        near = surroundings.near(self._interface, self._beside) if answering else ()
        now = asyncio.get_running_loop().time()
        self._ill = self._checks.ill(self._services.values())
        self._drains = {
            mark: drain
            for mark, drain in self._drains.items()
            if drain.target.service in self._services and (drain.end is None or drain.end > now)
        }
        for id, service in self._services.items():
            try:
                for protocol in PROTOCOLS:
                    if carried(service, protocol):
                        plans |= self._plan(service, protocol, now, near)
            except Unservable as error:
                problems[id] = str(error)
        return plans

    def _gates(self, problems: dict[str, str]) -> tuple[list[Gated], list[Paced]]:
        """Before HAProxy and behind it."""
        gates, paces = list[Gated](), list[Paced]()
        for id, service in self._services.items():
            try:
                found = (gated(service, version, shut=id in self._shut) for version in versions(service))
                gates += [one for one in found if one is not None]
                paces += [one for family in FAMILIES for one in paced(service, family.version)]
            except Unservable as error:
                problems[id] = str(error)
        return gates, paces

    def _plan(self, service: Service, protocol: str, now: float, near: Sequence[Near]) -> dict[Key, Plan]:
        pool = service.pool
        servers = {server.name: server for server in pool.servers} if pool else {}
        ids = {name: ServerId(service.id, pool.id, name) for name in servers} if pool else {}
        down = {name for name, id in ids.items() if id in self._down or id in self._ill}
        cut = down if protocol == "udp" else frozenset[str]()
        takers = [target(service, one, protocol) for one in servers.values() if one.enabled and one.ratio]
        taking = {one.mark for one in takers}
        for one in self._served_before(service, protocol):
            stays = one.name not in cut
            if one.mark not in taking and stays and pool and pool.graceful_disable_s and one.mark not in self._drains:
                end = now + pool.graceful_disable_s if pool.graceful_disable_s > 0 else None
                self._drains[one.mark] = Drain(one, end)
        drains = {mark: drain for mark, drain in self._drains.items() if _of(drain.target, service.id, protocol)}
        for mark, drain in drains.items():
            if mark in taking or drain.target.name in cut or (pool is not None and pool.graceful_disable_s == 0):
                del self._drains[mark]
        keeping = [drain.target for mark, drain in drains.items() if mark in self._drains]
        keeping += [one for one in takers if one.name in down and one.name not in cut]
        return {
            (service.id, version, protocol): plan(
                service,
                version,
                down,
                [one for one in keeping if one.version == version],
                protocol=protocol,
                near=near,
            )
            for version in versions(service)
        }

    def _served_before(self, service: Service, protocol: str) -> Iterable[Target]:
        """What may have flows. After a restart these are all its servers: drains that were under way begin anew."""
        known = [planned for (id, _, by), planned in self._plans.items() if (id, by) == (service.id, protocol)]
        if known:
            return [one for planned in known for one in planned.taking]
        if self._fresh and service.pool is not None:
            return [target(service, server, protocol) for server in service.pool.servers]
        return ()

    def _forward(self, family: Family, on: bool) -> None:
        """Only while there are rules that say what may be forwarded."""
        for name, value, otherwise in family.sysctls:
            path = name.format(interface=self._interface)
            try:
                Path("/proc/sys/net", path).write_text(value if on else otherwise)
            except OSError as error:
                if on:
                    log.error("sysctl net/%s: %s; fast paths may not work", path, error)

    async def _read(self) -> Counted:
        """The kernel's counters."""
        found: dict[str, tuple[int, int]] = {}
        for table in (*self._tables, *self._direct):
            if table.present:
                found |= await asyncio.to_thread(table.counted)
        return found

    async def _cut(self, marks: Collection[int]) -> None:
        if not marks:
            return
        await asyncio.to_thread(_delete, marks)
        loop = asyncio.get_running_loop()
        loop.call_later(CUT_AGAIN_AFTER_S, lambda: loop.run_in_executor(None, _delete, marks))

    # --- figures ---

    @property
    def targets(self) -> dict[int, Target]:
        """By mark: the servers that may have flows."""
        return _targets(self._plans)

    async def counted(
        self, services: tuple[ServiceCounts, ...], elsewhere: Collection[str] = ()
    ) -> tuple[ServiceCounts, ...]:
        """The same with what fast paths add. What is open of services that are ``elsewhere`` is not this engine's."""
        if not self._plans:
            return services
        async with self._turn:
            targets = _targets(self._plans)
            self._tally.take(await self._read(), targets.values())
            flows = await self._flows()
            open_: dict[str, Counter[str]] = {}
            for target in targets.values():
                if target.service not in elsewhere:
                    open_.setdefault(target.service, Counter())[target.name] += flows[target.mark]
            return tuple(
                self._tally.added(one, service, open_.get(one.id, Counter()))
                if (service := self._services.get(one.id)) is not None
                else one
                for one in services
            )

    async def busy(self, elsewhere: Collection[str] = ()) -> frozenset[str]:
        """The VIPs' addresses that have flows here, but for services that are ``elsewhere``."""
        if not self._plans:
            return frozenset()
        flows = await self._flows()
        plans = [one for one in self._plans.values() if one.service not in elsewhere]
        return frozenset(p.address for one in plans if any(flows[t.mark] for t in one.targets) for p in one.ports)

    async def _flows(self, *, all_: bool = False) -> Counter[int]:
        try:
            found = await asyncio.to_thread(conntrack.flows, *((None,) if all_ else ()))
            for table in self._direct:
                found += await asyncio.to_thread(table.flows)
        except OSError as error:
            log.warning("flows are not known: %s", error)
            return Counter()
        return found


def _mine(service: Service) -> bool:
    asks_kernel = limits(service.rules) or service.shut_when_down or bool(service.copies_to)
    return bool(carried(service)) or asks_kernel or any(pool.rate for pool in service.pools)


def _of(one: Target, service: str, protocol: str) -> bool:
    return one.service == service and one.protocol == protocol


def _targets(plans: Mapping[Key, Plan]) -> dict[int, Target]:
    return {one.mark: one for planned in plans.values() for one in planned.targets}


def _delete(marks: Collection[int]) -> None:
    for mark in marks:
        try:
            conntrack.delete(mark)
        except OSError as error:
            log.warning("flows of %08x can't be deleted: %s", mark, error)
