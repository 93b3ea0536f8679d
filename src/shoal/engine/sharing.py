"""What the guard has to know of the services behind its VIPs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shoal.wire.desired import Service, Vip
from shoal.wire.guard import PortRange, Sharing

BY_SOURCE = "CONSISTENT_HASH_SOURCE_IP_ADDRESS"
BY_SOURCE_AND_PORT = "CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT"

FLOW_IDLE_S_MIN = 60
FLOW_IDLE_S_MAX = 90_000
FLOW_IDLE_MARGIN_S = 30
"""So long HAProxy and a client may take to say goodbye, when a connection was idle for too long."""


def flow_idle_s(services: Iterable[Service]) -> int:
    """How long the primary must remember a silent flow: as long as HAProxy keeps the longest-lived one of them."""
    longest = max(map(_idle_s, services), default=0)
    return min(max(longest + FLOW_IDLE_MARGIN_S, FLOW_IDLE_S_MIN), FLOW_IDLE_S_MAX)


def _idle_s(service: Service) -> int:
    return max([service.client_idle_s, *(one.idle_s for one in service.listeners if one.fast)])


def carried(services: Iterable[Service]) -> tuple[str, ...]:
    """VIPs with TCP that the kernel carries: its connections are no sockets of the engine."""
    return tuple(sorted({service.vip for service in services if any(one.fast for one in service.listeners)}))


def sharing(vips: Iterable[Vip], services: Iterable[Service]) -> Iterator[Sharing]:
    """For each VIP with services whose flows are not shared by load: their ports. Services that share a VIP may differ."""
    mine = tuple(services)
    for vip in vips:
        by_source = _ports(s for s in mine if s.vip == vip.id and s.flow_dist == BY_SOURCE)
        by_both = _ports(s for s in mine if s.vip == vip.id and s.flow_dist == BY_SOURCE_AND_PORT)
        if by_source or by_both:
            yield Sharing(vip=vip.id, by_source=by_source, by_source_and_port=by_both)


def _ports(services: Iterable[Service]) -> tuple[PortRange, ...]:
    """Joined where they overlap or touch: a kernel set takes no overlapping ranges."""
    joined: list[PortRange] = []
    for first, last in sorted((port.port, port.port_end) for service in services for port in service.listeners):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)
