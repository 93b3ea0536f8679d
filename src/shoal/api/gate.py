"""The one place where a request is let through or refused, before anything answers it.

What a role allows is asked here by the path alone. The door that writes (`shoal.controller.intent`) asks again, for each
object that a request writes, so that no way round leads in.
"""

from __future__ import annotations

from shoal.controller.permissions import OPERATIONS, WRITE, of_type
from shoal.errors import Forbidden
from shoal.objects import Registry

from .context import Context
from .routes import Match, Shows

NOTHING, EVERYTHING = "-", "*"
CAPTURES = ("virtualservice", "capture")


class Gate:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def admit(self, context: Context, match: Match) -> None:
        """Raises Forbidden."""
        route, writes = match.route, not context.reads and match.route.writes
        if route.shows is Shows.ALL and not context.sight.whole:
            raise Forbidden(
                "This tells of all tenants together.", hint="Ask from tenant admin, as a user who may see all tenants."
            )
        if route.needs == NOTHING:
            return
        if route.needs == EVERYTHING:
            if not context.rights.whole:
                raise Forbidden("This is for superusers.", hint="Others export nothing, and take nothing over.")
            return
        wanted = (route.needs,) if route.needs else self._permissions(match, writes)
        level = WRITE if writes else 1
        if not any(context.rights.may(permission, level) for permission in wanted):
            raise Forbidden(
                f"You may not {'write' if writes else 'read'} this here.",
                hint=f"That takes a role with {'write' if writes else 'read'} access to {' or '.join(wanted)}.",
            )
        type = match.steps.get("type", "")
        if writes and type and not self._within_tenants(type) and not (context.sight.whole or context.rights.whole):
            raise Forbidden(
                "This counts for all tenants together.", hint="Change it from tenant admin, with access to all tenants."
            )

    def _permissions(self, match: Match, writes: bool) -> tuple[str, ...]:
        """One of them is enough."""
        type, what = match.steps.get("type", "").lower(), match.steps.get("what", "")
        if (type, what) == CAPTURES:
            return ("TRAFFIC_CAPTURE",)
        beside = OPERATIONS.get(type, ()) if what and writes else ()
        return (of_type(type), *beside)

    def _within_tenants(self, type: str) -> bool:
        """Whether objects of the type belong to a tenant. Users do, in their way: the rules say whose."""
        kind = self._registry.types.get(type)
        return kind is None or kind.tenant_scoped or type == "user"
