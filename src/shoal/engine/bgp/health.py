"""Which announced VIPs nothing is up behind: routers are to send their clients elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shoal.engine.service_health import by_pool, is_up
from shoal.wire.desired import Service, Vip
from shoal.wire.messages import ServerState


def unready(vips: Iterable[Vip], services: Mapping[str, Service], servers: Iterable[ServerState]) -> tuple[str, ...]:
    """``services`` are those that are served, ``servers`` as last seen. A VIP is ready while one of its services is."""
    asked = [vip.id for vip in vips if vip.route is not None and not vip.route.though_down]
    if not asked:
        return ()
    seen = by_pool(servers)
    ready = {service.vip for service in services.values() if service.enabled and is_up(service, seen)}
    return tuple(vip for vip in asked if vip not in ready)
