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
    seen: dict[str, list[str]] = {}
    for server in servers:
        seen.setdefault(server.service, []).append(server.state)
    ready = {service.vip for service in services.values() if service.enabled and _is_up(service, seen)}
    return tuple(vip for vip in asked if vip not in ready)


def _is_up(service: Service, seen: Mapping[str, list[str]]) -> bool:
    """One without a pool answers by itself; of servers that nobody has looked at yet the best is assumed."""
    if not service.pools:
        return True
    if not any(service.servers):
        return False
    states = seen.get(service.id)
    return states is None or any(state in SERVES for state in states)
