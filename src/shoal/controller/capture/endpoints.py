"""Where the packets of a virtual service go to and come from, on its two sides. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from shoal.objects.views import is_address
from shoal.wire.capture import Endpoint
from shoal.wire.desired import Service


def client_side(services: Iterable[Service]) -> tuple[Endpoint, ...]:
    """Its VIPs with the ports it listens on."""
    return _each_once(
        Endpoint(address, listener.port, listener.port_end)
        for service in services
        for address in service.addresses
        for listener in service.listeners
    )


def server_side(services: Iterable[Service]) -> tuple[Endpoint, ...]:
    """The servers of its pools (health checks go there, too)."""
    return _each_once(
        Endpoint(one.address, one.port, one.port) for service in services for _, _, one in service.servers
    )


def _each_once(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(dict.fromkeys(endpoint for endpoint in endpoints if is_address(endpoint.address)))
