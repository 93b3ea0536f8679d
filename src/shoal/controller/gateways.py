"""Next hops that engines watch: as a VRF has them, and which engines have lost one that others reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from shoal.objects import views
from shoal.objects.views import view
from shoal.wire import desired as wire
from shoal.wire.messages import GatewayState

from .protocols import Documents


def gateways_part(documents: Documents, vrf: str, *, next_hops: bool) -> wire.Gateways | None:
    """None where there are none. ``next_hops``: those of static routes as well (``host_gateway_monitor`` of the group)."""
    document = documents.get("vrfcontext", vrf) if vrf else None
    context = view(document, views.VrfContext) if document is not None else None
    if context is None:
        return None
    found = {
        mon.gateway_ip.addr: wire.GatewayMonitor(
            address=mon.gateway_ip.addr,
            interval_ms=mon.gateway_monitor_interval,
            fall=mon.gateway_monitor_fail_threshold,
            rise=mon.gateway_monitor_success_threshold,
        )
        for mon in context.gateway_mon
    }
    for hop in _next_hops(context) if next_hops else ():
        found.setdefault(hop.address, hop)
    return wire.Gateways(id=vrf, monitors=tuple(found.values())) if found else None


def _next_hops(context: views.VrfContext) -> Iterator[wire.GatewayMonitor]:
    how = context.internal_gateway_monitor
    if how.disable_gateway_monitor:
        return
    for route in context.static_routes:
        if not route.disable_gateway_monitor:
            yield wire.GatewayMonitor(
                address=route.next_hop.addr,
                interval_ms=how.gateway_monitor_interval,
                fall=how.gateway_monitor_failure_threshold,
                rise=how.gateway_monitor_success_threshold,
                interface=route.if_name,
            )


def lost(reports: Mapping[str, Iterable[GatewayState]]) -> dict[str, str]:
    """Engine -> a gateway that it does not reach though another of these engines does. One that nobody reaches is dead
    itself: no engine is better off without it than the others. None where each of them lacks one: there is nowhere to go."""
    reached = {gateway.address for states in reports.values() for gateway in states if not gateway.why}
    found: dict[str, str] = {}
    for engine, states in reports.items():
        missed = next((g.address for g in states if g.why and g.address in reached), "")
        if missed:
            found[engine] = missed
    return found if len(found) < len(reports) else {}


def turns(before: Iterable[GatewayState], now: Iterable[GatewayState]) -> list[GatewayState]:
    """Those that are not as they were; one that is new counts when it does not answer."""
    known = {gateway.address: gateway.why for gateway in before}
    return [gateway for gateway in now if bool(gateway.why) != bool(known.get(gateway.address, ""))]
