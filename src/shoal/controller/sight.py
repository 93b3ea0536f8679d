"""What a caller sees of what there is: tenants share the system's objects and nothing else (reference: api.md 3).

One answer for every face: objects, references, error texts, runtime, events, metrics and plans all ask here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.objects.views import uuid_of

if TYPE_CHECKING:
    from .view import View

Document = Mapping[str, Any]
ADMIN = "admin"
OWN_ONLY = frozenset(
    ["virtualservice", "pool", "poolgroup", "vsvip", "user", "debugvirtualservice", "debugserviceengine"]
)
"""Types whose admin objects other tenants don't see; of the rest they see and use admin's (the system's profiles)."""
SHARED = frozenset(["cloud", "network", "serviceengine", "serviceenginegroup", "vrfcontext"])
"""Infrastructure: a tenant sees that admin's is there, not what runs on it, which is all tenants'."""
ELSEWHERE = "and objects of other tenants"


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """``tenant`` is a uuid. ``every``: the objects of all tenants; ``provider``: who may see all tenants, looking from
    admin: the objects of admin only, and all that runs on the shared infrastructure."""

    tenant: str = ADMIN
    every: bool = False
    provider: bool = False
    unread: frozenset[str] = frozenset()
    """Types of which the caller's role lets him read nothing."""

    @property
    def whole(self) -> bool:
        """Whether what belongs to no single tenant is shown."""
        return self.every or self.provider

    def sees(self, type: str, document: Document) -> bool:
        return type not in self.unread and self.reaches(type, document)

    def reaches(self, type: str, document: Document) -> bool:
        """Whether it is in the caller's tenant or shared with it, read by him or not: what he reads may refer to it."""
        if self.every:
            return True
        if type == "tenant":
            return self.provider or document.get("uuid") == self.tenant
        if type == "user":
            return self._sees_user(document)
        owner = uuid_of(str(document.get("tenant_ref", "")))
        return owner in (self.tenant, "") or (owner == ADMIN and type not in OWN_ONLY)

    def seen(self, type: str, documents: Iterable[Document]) -> list[Any]:
        """Those of a type that he sees: asked once for each owner, for there may be ten thousand."""
        if type in ("tenant", "user"):
            return [document for document in documents if self.sees(type, document)]
        known: dict[Any, bool] = {}
        found = []
        for document in documents:
            owner = document.get("tenant_ref")
            verdict = known.get(owner)
            if verdict is None:
                verdict = known[owner] = self.sees(type, document)
            if verdict:
                found.append(document)
        return found

    def sees_inside(self, type: str, document: Document) -> bool:
        """Whether what runs on it may be shown: its runtime, its figures, who uses it."""
        if self.whole or type not in SHARED:
            return self.sees(type, document)
        owner = uuid_of(str(document.get("tenant_ref", "")))
        return owner == self.tenant != ADMIN

    def _sees_user(self, document: Document) -> bool:
        """Tenants see the users who are theirs alone: what others may elsewhere is not their business."""
        if self.provider:
            return True
        access = document.get("access") or ()
        tenants = {uuid_of(str(entry.get("tenant_ref", ""))) for entry in access}
        everywhere = document.get("is_superuser") or any(entry.get("all_tenants") for entry in access)
        return tenants == {self.tenant} and not everywhere

    def sees_event(self, view: View, objects: Mapping[str, str], tenant: str = "") -> bool:
        """Of an event about ``objects`` (role -> uuid); ``tenant``: whose it is, where the event says so.

        What names an object that is gone, and says no tenant, is for those who see the whole.
        """
        if self.unread.intersection(role.removeprefix("from_") for role in objects):
            return False
        if self.every:
            return True
        owners = owners_of(view, objects, tenant)
        return owners <= {self.tenant, ""} if self.provider else owners == {self.tenant}


def owners_of(view: View, objects: Mapping[str, str], tenant: str = "") -> set[str]:
    """The tenants that an event is about; ``""`` is among them when it names an object that is gone and no tenant."""
    owners = {tenant} if tenant else set()
    for role, uuid in objects.items():
        type = "vsvip" if role == "vip" else role.removeprefix("from_")
        if type == "tenant" or not uuid:
            continue
        document = view.get(type, uuid.partition("/")[0])
        owner = uuid_of(str(document.get("tenant_ref", ""))) if document is not None else tenant
        if type not in SHARED or owner not in ("", ADMIN):
            owners.add(owner)
    return owners


EVERYTHING = Sight(every=True, provider=True)
