"""The one place where a request is let through or refused, before anything answers it."""

from __future__ import annotations

from shoal.errors import Forbidden

from .context import Context
from .routes import Match, Shows


class Gate:
    def admit(self, context: Context, match: Match) -> None:
        """Raises Forbidden."""
        if match.route.shows is Shows.ALL and not context.sight.whole:
            raise Forbidden(
                "This tells of all tenants together.", hint="Ask from tenant admin, as a user who may see all tenants."
            )
