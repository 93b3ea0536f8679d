"""Totals that survive counters that come and go with their servers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from shoal.wire.counters import Counts, PoolCounts, ServiceCounts
from shoal.wire.desired import Service

from .parts import counter
from .plan import Target

ADDED = ("open", "connections", "bytes_in", "bytes_out", "packets_in", "packets_out")
Counted = Mapping[str, tuple[int, int]]


class Sums(msgspec.Struct):
    flows: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Tally:
    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._services: dict[str, Sums] = {}
        self._servers: dict[tuple[str, str], Sums] = {}

    def take(self, counted: Counted, targets: Collection[Target]) -> None:
        """A reading of the kernel's counters."""
        for target in targets:
            sums = self._servers.setdefault((target.service, target.name), Sums())
            whole = self._services.setdefault(target.service, Sums())
            flows, _ = self._more(counted, counter("new", target.mark))
            packets_in, bytes_in = self._more(counted, counter("in", target.mark))
            packets_out, bytes_out = self._more(counted, counter("out", target.mark))
            for each in (sums, whole):
                each.flows += flows
                each.packets_in += packets_in
                each.packets_out += packets_out
                each.bytes_in += bytes_in
                each.bytes_out += bytes_out

    def _more(self, counted: Counted, name: str) -> tuple[int, int]:
        packets, octets = counted.get(name, (0, 0))
        last = self._last.get(name, (0, 0))
        if name in counted:
            self._last[name] = packets, octets
        return max(0, packets - last[0]), max(0, octets - last[1])

    def keep(self, counters: Collection[str], services: Collection[str]) -> None:
        """The others are no more; one of the same name that comes later begins at zero."""
        self._last = {name: value for name, value in self._last.items() if name in counters}
        self._services = {id: sums for id, sums in self._services.items() if id in services}
        self._servers = {key: sums for key, sums in self._servers.items() if key[0] in services}

    def added(self, one: ServiceCounts, service: Service, open_: Mapping[str, int]) -> ServiceCounts:
        """``one`` and what was counted of its fast paths. ``open_``: server -> its flows at the moment."""
        counts = _plus(one.counts, self._services.get(one.id, Sums()), sum(open_.values()))
        pool = service.pool
        if pool is None:
            return msgspec.structs.replace(one, counts=counts)
        whole = next((found for found in one.pools if found.id == pool.id), PoolCounts(pool.id))
        known = dict(whole.servers)
        servers = tuple(
            (name, _plus(known.get(name, Counts()), self._servers.get((one.id, name), Sums()), open_.get(name, 0)))
            for name in (server.name for server in pool.servers)
        )
        others = tuple(found for found in one.pools if found.id != pool.id)
        pools = (msgspec.structs.replace(whole, servers=servers), *others)
        return msgspec.structs.replace(one, counts=counts, pools=pools)


def _plus(counts: Counts, sums: Sums, open_: int) -> Counts:
    values = (open_, sums.flows, sums.bytes_in, sums.bytes_out, sums.packets_in, sums.packets_out)
    more = {name: getattr(counts, name) + value for name, value in zip(ADDED, values, strict=True)}
    return msgspec.structs.replace(counts, **more)
