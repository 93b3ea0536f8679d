"""What one user may do, and where: from the stored user and its roles, so that a change counts at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.objects.views import uuid_of

from .permissions import WHOLE, Rights, levels_of, united
from .view import View

Document = Mapping[str, Any]


class Access:
    """Of the stored ``user``."""

    def __init__(self, view: View, user: Document) -> None:
        self._view = view
        self.user = user
        self.superuser = self.is_superuser(user)
        self._entries = [entry for entry in user.get("access") or () if entry.get("role_ref")]

    @staticmethod
    def is_superuser(user: Document) -> bool:
        return bool(user.get("is_superuser"))

    @property
    def everywhere(self) -> bool:
        """Whether all tenants are open to the user."""
        return self.superuser or any(entry.get("all_tenants") for entry in self._entries)

    def enters(self, tenant: str) -> bool:
        return self.everywhere or any(uuid_of(entry.get("tenant_ref", "")) == tenant for entry in self._entries)

    def tenants(self) -> list[dict[str, Any]]:
        """The tenants' documents."""
        return [tenant for tenant in self._view.all("tenant") if self.enters(tenant["uuid"])]

    def home(self) -> str:
        """The tenant that is meant where a request names none: admin if that is open, else the user's own."""
        default = uuid_of(self.user.get("default_tenant_ref", ""))
        own = [tenant["uuid"] for tenant in self.tenants()]
        return next((uuid for uuid in ("admin", default, *own) if uuid in own), "admin")

    def rights(self, tenant: str, *, every: bool = False) -> Rights:
        """In a tenant, or (``every``) in all at once."""
        if self.superuser:
            return WHOLE
        entries = [
            entry
            for entry in self._entries
            if entry.get("all_tenants") or (not every and uuid_of(entry.get("tenant_ref", "")) == tenant)
        ]
        roles = (self._view.get("role", uuid_of(entry["role_ref"])) for entry in entries)
        return Rights(levels=united(levels_of(role) for role in roles if role is not None))
