"""Static routes as a VRF has them, for engines."""

from __future__ import annotations

from shoal.objects import views
from shoal.objects.views import view
from shoal.wire import desired as wire

from .protocols import Documents


def routes_part(documents: Documents, vrf: str) -> wire.Routes | None:
    """None where there are none."""
    document = documents.get("vrfcontext", vrf) if vrf else None
    context = view(document, views.VrfContext) if document is not None else None
    if context is None or not context.static_routes:
        return None
    routes = tuple(
        wire.StaticRoute(
            id=route.route_id, prefix=route.prefix.network, next_hop=route.next_hop.addr, interface=route.if_name
        )
        for route in context.static_routes
    )
    return wire.Routes(id=vrf, name=context.name, routes=routes)
