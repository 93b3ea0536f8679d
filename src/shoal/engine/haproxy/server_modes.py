"""Pools that speak TLS to servers for clients who came by TLS, and plainly for the others (`Pool.tls_as_client`). Pure.

A server line of HAProxy speaks TLS or does not. So such a pool has two backends: its own speaks plainly, and its servers are
the ones that are checked; the servers of its `Twin` follow them. Whoever hears of the engine hears of one pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from shoal.engine.monitors.runners import by_agent, by_haproxy
from shoal.wire.desired import Pool, Service

from .escape import backend_name
from .virtual_hosts import over_tls

ENDING = ".tls"
"""Of a twin's id; ids of pools are uuids."""


class Twin(Pool, frozen=True, kw_only=True):
    """``of``: the id of the pool that it is a part of; ``follows``: the backend whose servers' states are those of its own,
    "" where nobody looks at them."""

    of: str
    follows: str = ""


def expanded(service: Service) -> Service:
    """With both parts of such pools; the very same service where it has none, or where the kernel carries it: nobody comes to
    that by TLS."""
    proxied = not service.listeners or any(not listener.carried for listener in service.listeners)
    if not proxied or not any(pool.tls_as_client for pool in service.pools):
        return service
    pools = [part for pool in service.pools for part in _parts(service, pool)]
    if service.pool is None:
        return msgspec.structs.replace(service, others=tuple(pools))
    return msgspec.structs.replace(service, pool=pools[0], others=tuple(pools[1:]))


def _parts(service: Service, pool: Pool) -> tuple[Pool, ...]:
    if not pool.tls_as_client:
        return (pool,)
    plain = msgspec.structs.replace(pool, tls=None, tls_as_client=False)
    looked_at = by_haproxy(plain) or by_agent(plain)
    fields = {field: getattr(pool, field) for field in pool.__struct_fields__}
    fields |= {"id": f"{pool.id}{ENDING}", "tls_as_client": False, "monitors": (), "monitors_min": 0, "passive": False}
    return plain, Twin(**fields, of=pool.id, follows=backend_name(service.id, pool.id) if looked_at else "")


def known_as(pool: Pool) -> str:
    """The id that others know it by."""
    return pool.of if isinstance(pool, Twin) else pool.id


def backends(service: str, pool: Pool) -> tuple[str, ...]:
    """Of a pool as it is wanted: its own, and its twin's if it has one."""
    own = backend_name(service, pool.id)
    return (own, backend_name(service, f"{pool.id}{ENDING}")) if pool.tls_as_client else (own,)


def ways(service: Service, targets: Mapping[str, str], chosen: str) -> Iterator[str]:
    """Lines of the frontend: whom TLS leads to a twin. ``chosen``: the variable with the backend that was chosen."""
    for pool in service.pools:
        if isinstance(pool, Twin):
            here = f"{{ var({chosen}) -m str {targets[pool.of]} }}"
            yield f"use_backend {targets[pool.id]} if {here} {over_tls(service)}"


def default_way(service: Service, targets: Mapping[str, str]) -> Iterator[str]:
    """The same where nothing was chosen."""
    for pool in service.others:
        if isinstance(pool, Twin) and service.pool is not None and pool.of == service.pool.id:
            yield f"use_backend {targets[pool.id]} if {over_tls(service)}"
