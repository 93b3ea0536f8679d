"""Which announced VIPs nothing is up behind: routers are to send their clients elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shoal.wire.desired import Service, Vip
from shoal.wire.messages import ServerState

SERVES = ("up", "drain", "unknown")


def unready(vips: Iterable[Vip], services: Mapping[str, Service], servers: Iterable[ServerState]) -> tuple[str, ...]:
    """``services`` are those that are served, ``servers`` as last seen. A VIP is ready while one of its services is."""
    asked = [vip.id for vip in vips if vip.route is not None and not vip.route.though_down]
    if not asked:
        return ()
    seen: dict[tuple[str, str], list[str]] = {}
    for server in servers:
        seen.setdefault((server.service, server.pool), []).append(server.state)
    ready = {service.vip for service in services.values() if service.enabled and _is_up(service, seen)}
    return tuple(vip for vip in asked if vip not in ready)


def _is_up(service: Service, seen: Mapping[tuple[str, str], list[str]]) -> bool:
    """One without a pool answers by itself; of servers that nobody has looked at yet the best is assumed."""
    return not service.pools or any(
        len([state for state in seen.get((service.id, pool.id), assumed) if state in SERVES]) >= pool.servers_min
        for pool in service.pools
        if (assumed := [SERVES[0]] * len(pool.servers))
    )
