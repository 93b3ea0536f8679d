"""Totals that survive HAProxy's reloads: each worker begins at zero, the sums go on (what they are: wire/counters.py).

Not known, and so not counted: what a worker did between its last reading and its end when it was killed; and what
HAProxy did while no agent ran.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shoal.wire import counters as wire
from shoal.wire.desired import Service

from .haproxy import render, server_modes, servers
from .haproxy.stats import FRONTEND, Row

Key = tuple[str, str]
"""(proxy, name)"""
KeysOfPools = tuple[tuple[str, tuple[tuple[str, tuple[Key, ...]], ...]], ...]
"""(pool, (server, its keys))"""
Totals = list[int]
NONE = wire.Counts()
"""Of what nobody has used yet: most servers of an engine with many services."""
OF_SERVERS = ("retries", "queue_ms", "connect_ms", "response_ms", "total_ms", "timed")


class Tally:
    """Pure: rows of workers in, totals out."""

    def __init__(self) -> None:
        self._totals: dict[Key, Totals] = {}
        self._workers: dict[str, dict[Key, Row]] = {}
        self._read: dict[str, Sequence[Row]] = {}
        self._built: dict[Key, wire.Counts] = {}
        self._keys: dict[str, tuple[Service, Key, KeysOfPools]] = {}
        self._reported: tuple[wire.ServiceCounts, ...] | None = None
        """None when something has come since."""

    @property
    def fresh(self) -> bool:
        """Whether no worker has been read yet."""
        return not self._workers

    def take(self, worker: str, rows: Sequence[Row], *, as_begin: bool = False) -> None:
        """A reading of one worker. ``as_begin``: it ran before anyone counted, so what it says counts from here on."""
        if rows is self._read.get(worker):
            return
        self._read[worker], self._reported = rows, None
        before = self._workers.get(worker, {})
        now = {(row.proxy, row.name): row for row in rows}
        self._workers[worker] = now
        for key, row in now.items():
            was = before.get(key)
            if was is row:
                continue
            self._built.pop(key, None)
            if not as_begin and (was is not None or any(_figures(row))):
                _add(self._totals.setdefault(key, [0] * FIGURES), was, row)
        for key in before.keys() - now.keys():
            self._built.pop(key, None)

    def ended(self, worker: str) -> None:
        """Nothing more will come of this worker."""
        self._read.pop(worker, None)
        self._reported = None
        for key in self._workers.pop(worker, {}):
            self._built.pop(key, None)

    def only(self, workers: Iterable[str]) -> None:
        """Other workers have ended."""
        for worker in self._workers.keys() - set(workers):
            self.ended(worker)

    def report(self, services: Mapping[str, Service]) -> tuple[wire.ServiceCounts, ...]:
        """The totals of these, and of at most `wire.SERVERS_MAX` servers. Those of others are forgotten."""
        keys_now = {id: self._keys_of(service) for id, service in services.items()}
        if self._reported is not None and keys_now == self._keys:
            return self._reported
        found, left = [], wire.SERVERS_MAX
        self._keys = keys_now
        for id in services:
            _, front, keys = self._keys[id]
            pools = []
            every: list[wire.Counts] = []
            for pool, named in keys:
                servers = tuple((name, _together([self._counts(key) for key in own])) for name, own in named)
                every += (counts for _, counts in servers)
                pools.append(wire.PoolCounts(pool, servers[:left]))
                left -= min(left, len(servers))
            found.append(wire.ServiceCounts(id, _with_times(self._counts(front), every), tuple(pools)))
        self._forget()
        self._reported = tuple(found)
        return self._reported

    def _keys_of(self, service: Service) -> tuple[Service, Key, KeysOfPools]:
        known = self._keys.get(service.id)
        if known is not None and known[0] is service:
            return known
        pools = []
        for pool in service.pools:
            backs = server_modes.backends(service.id, pool)
            named = ((one.name, tuple((back, servers.name(one)) for back in backs)) for one in pool.servers)
            pools.append((pool.id, tuple(named)))
        return service, (render.frontend_name(service.id), FRONTEND), tuple(pools)

    def _counts(self, key: Key) -> wire.Counts:
        built = self._built.get(key)
        if built is None:
            present = [row for rows in self._workers.values() if (row := rows.get(key)) is not None]
            open_now, totals = sum(row.current for row in present), self._totals.get(key)
            built = wire.Counts(open_now, *totals) if totals else wire.Counts(open_now) if open_now else NONE
            self._built[key] = built
        return built

    def _forget(self) -> None:
        wanted = {front for _, front, _ in self._keys.values()}
        wanted |= {key for _, _, pools in self._keys.values() for _, named in pools for _, own in named for key in own}
        seen = wanted.union(*self._workers.values())
        for key in self._totals.keys() - seen:
            del self._totals[key]
        for key in self._built.keys() - seen:
            del self._built[key]


def _together(counts: list[wire.Counts]) -> wire.Counts:
    """Of one server that HAProxy has several rows of."""
    first, *others = counts
    if not others:
        return first
    return wire.Counts(*(sum(figures) for figures in zip(*map(msgspec.structs.astuple, counts), strict=True)))


def _figures(row: Row) -> Totals:
    """In the order of `wire.Counts`, after ``open``; those a row does not have are 0."""
    return [
        row.total,
        row.requests,
        *row.responses,
        row.bytes_in,
        row.bytes_out,
        row.errors,
        row.retries,
        *([0] * 5),
    ]


FIGURES = len(_figures(Row("", "", "", "")))
TIMED = FIGURES - 1


def _add(totals: Totals, was: Row | None, row: Row) -> None:
    """What came since ``was``. A total that has fallen means that the row began anew (its server was added again)."""
    now = _figures(row)
    before = _figures(was) if was is not None else [0] * len(now)
    if any(n < b for n, b in zip(now, before, strict=True)):
        before = [0] * len(now)
    grown = [n - b for n, b in zip(now, before, strict=True)]
    timed = sum(grown[2:7]) if row.requests else grown[0]
    if row.name != FRONTEND and timed:
        means = (row.queue_ms, row.connect_ms, row.response_ms, row.total_ms)
        grown[TIMED - 4 :] = [*(mean * timed for mean in means), timed]
    for index, value in enumerate(grown):
        totals[index] += value


def _with_times(front: wire.Counts, servers: list[wire.Counts]) -> wire.Counts:
    """A frontend knows no times and no retries; its servers do."""
    if not any(counts.timed or counts.retries for counts in servers):
        return front
    return msgspec.structs.replace(front, **{name: sum(getattr(c, name) for c in servers) for name in OF_SERVERS})
