"""Whether anything is up behind a virtual service, by the states of its servers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shoal.wire.desired import Service
from shoal.wire.messages import ServerState

SERVES = ("up", "drain", "unknown")
Seen = Mapping[tuple[str, str], list[str]]
"""States, by service and pool."""


def by_pool(servers: Iterable[ServerState]) -> dict[tuple[str, str], list[str]]:
    seen: dict[tuple[str, str], list[str]] = {}
    for server in servers:
        seen.setdefault((server.service, server.pool), []).append(server.state)
    return seen


def is_up(service: Service, seen: Seen) -> bool:
    """One without a pool answers by itself; of servers that nobody has looked at yet the best is assumed."""
    if not service.pools:
        return True
    up = {
        pool.id
        for pool in service.pools
        if (assumed := [SERVES[0]] * len(pool.servers))
        and len([s for s in seen.get((service.id, pool.id), assumed) if s in SERVES]) >= pool.servers_min
    }
    return len(up.intersection(service.default_pools)) >= service.pools_up_min if service.pools_up_min > 0 else bool(up)


def shut(services: Mapping[str, Service], servers: Iterable[ServerState]) -> frozenset[str]:
    """The virtual services that are to refuse clients: they ask for it while they are down. One with virtual hosts is open
    while any of these is up."""
    asking = [one for one in services.values() if one.shut_when_down and not one.parent]
    if not asking:
        return frozenset()
    seen = by_pool(servers)
    open_ = {one.parent for one in services.values() if one.parent and is_up(one, seen)}
    return frozenset(one.id for one in asking if one.id not in open_ and not is_up(one, seen))
