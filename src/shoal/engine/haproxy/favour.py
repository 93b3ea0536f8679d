"""Shares of servers by how they do: weights that follow what is measured. Pure.

HAProxy has no balancing by response time or by what servers say of their tasks; it has weights that may change at any time
(management guide 9.3, ``set server weight``), so round robin by these is both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shoal.wire.desired import Pool, ServerId, Service

from . import server_modes, servers
from .escape import backend_name
from .stats import Row

FASTEST, FEWEST_TASKS = "LB_ALGORITHM_FASTEST_RESPONSE", "LB_ALGORITHM_FEWEST_TASKS"
ALGORITHMS = (FASTEST, FEWEST_TASKS)
CHANGE_MIN = 0.1
"""Of a weight: a smaller one is none, for figures are never quite still."""
SHARE_MIN = 1 / 32
"""Of the best one's: a server that gets nothing would never be measured again."""


def asks(services: Iterable[Service]) -> bool:
    """Whether any of them has a pool of this kind."""
    return any(pool.algorithm in ALGORITHMS for service in services for pool in service.pools)


class Favour(msgspec.Struct, frozen=True):
    """Of one pool: the weight of each server that is enabled, by what HAProxy knows it by, and how many seconds weights stay
    at least."""

    service: str
    pool: str
    weights: dict[ServerId, int]
    every_s: int


def favours(services: Iterable[Service], rows: Iterable[Row], tasks: Mapping[ServerId, int]) -> Iterator[Favour]:
    """Of all such pools. ``tasks`` as monitors found them."""
    by_name: dict[tuple[str, str], Row] = {(row.proxy, row.name): row for row in rows}
    for service in services:
        for pool in service.pools:
            if pool.algorithm in ALGORITHMS and not servers.hashes(pool):
                found = dict(_weights(service.id, pool, dict(_costs(service, pool, by_name, tasks))))
                yield Favour(service.id, pool.id, found, pool.feedback_s if pool.algorithm == FEWEST_TASKS else 0)


def _costs(
    service: Service, pool: Pool, rows: Mapping[tuple[str, str], Row], tasks: Mapping[ServerId, int]
) -> Iterator[tuple[str, float]]:
    """By name of the server: the less the better; those of which nothing is known yet are not there."""
    backend = backend_name(service.id, pool.id)
    for server in pool.servers:
        if pool.algorithm == FEWEST_TASKS:
            count = tasks.get(ServerId(service.id, server_modes.known_as(pool), server.name))
            if count is not None:
                yield server.name, 1.0 + max(0, count)
        elif (row := rows.get((backend, servers.name(server)))) is not None and row.total:
            yield server.name, float(max(1, row.response_ms if service.mode == "http" else row.connect_ms))


def _weights(service: str, pool: Pool, costs: Mapping[str, float]) -> Iterator[tuple[ServerId, int]]:
    """A server that is not known yet is taken for as good as the best: so it becomes known."""
    best = min(costs.values(), default=1.0)
    worth = {
        one: one.ratio * max(SHARE_MIN, best / costs.get(one.name, best))
        for one in pool.servers
        if one.enabled and one.ratio > 0
    }
    most = max(worth.values(), default=1.0)
    for server, value in worth.items():
        id = servers.known(ServerId(service, pool.id, server.name), server)
        yield id, max(1, round(servers.WEIGHT_MAX * value / most))


def changed(before: int | None, now: int) -> bool:
    """Whether it is worth a command."""
    return before is None or abs(now - before) > CHANGE_MIN * before
