"""Turns every form of reference a client may write into the stored one, ``/api/<type>/<uuid>`` (api.md, section 4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from shoal.errors import NotFound, Problem
from shoal.objects import ObjectType, Registry
from shoal.objects.check import meant, shown
from shoal.objects.views import uuid_of

from .sight import ADMIN, EVERYTHING, OWN_ONLY, Sight
from .view import View, scope_of

NO_TENANT = ""
"""Whose objects of types are that belong to none, such as account profiles."""
REFERENCE_CHARACTERS_MAX = 2_000
UNDISCOVERED = re.compile(r"[A-Za-z0-9 ._-]{1,64}")
INFRASTRUCTURE = frozenset({"vimgrclusterruntime", "vimgrhostruntime"})
"""What a vCenter cloud discovers. Without one a group's reference to it is kept by name, and has no effect."""


def name_in(value: str) -> str:
    """The name a reference gives: behind ``name=``, else its last step."""
    return value.rsplit("name=", 1)[-1] if "name=" in value else value.rsplit("/", 1)[-1].split("#", 1)[0]


class References:
    def __init__(self, view: View, registry: Registry) -> None:
        self._view = view
        self._registry = registry

    def resolve(
        self,
        kind: ObjectType,
        document: dict[str, Any],
        tenant: str,
        cloud: str,
        *,
        own: str = "",
        before: Mapping[str, Any] | None = None,
        system: bool = False,
        sight: Sight = EVERYTHING,
    ) -> tuple[dict[str, Any], dict[tuple[str, str], int], list[Problem]]:
        """(document with canonical references, versions of what they point at, problems).

        ``own`` is the object's uuid. What ``before``, the stored object, refers to already is taken from any tenant;
        so is everything of the controller's own writes (``system``). What the caller does not see (``sight``) is to
        him as if it were not there.
        """
        problems: list[Problem] = []
        versions: dict[tuple[str, str], int] = {}
        tenant = self._scope("tenant", document.get("tenant_ref", ""), tenant)
        cloud = self._scope("cloud", document.get("cloud_ref", ""), cloud)
        known = {reference.value for reference in kind.references(before)} if before else set()

        def change(path: str, type_name: str, value: str) -> str:
            endpoint = type_name.lower()
            kept = f"/api/{endpoint}/{uuid_of(value.partition('#')[0])}" in known
            uuid, hint = self._find(endpoint, value, tenant, cloud, EVERYTHING if kept or system else sight)
            if uuid is None and endpoint in INFRASTRUCTURE and UNDISCOVERED.fullmatch(name_in(value)):
                return f"/api/{endpoint}/{name_in(value)}"
            if uuid is not None and not system and f"/api/{endpoint}/{uuid}" not in known:
                hint = self._foreign(endpoint, uuid, tenant)
                uuid = None if hint else uuid
            if uuid is None:
                why = f"no {type_name} is found by this reference"
                problems.append(Problem(path=path, value=shown(value), why=why, hint=hint))
                return value
            if uuid != own:
                versions[endpoint, uuid] = self._view.version(endpoint, uuid)
            return f"/api/{endpoint}/{uuid}"

        return kind.map_references(document, change), versions, problems

    def _scope(self, type: str, reference: str, default: str) -> str:
        """The uuid of the tenant or cloud that an object names as its own."""
        found = self._find(type, reference, ADMIN, default)[0] if reference else None
        return found or self._uuid(type, default)

    def _foreign(self, type: str, uuid: str, tenant: str) -> str:
        """Why an object of ``tenant`` may not refer to it; "" for the own tenant's and what admin shares."""
        owner, _ = scope_of(self._view.get(type, uuid) or {})
        if owner in (tenant, "") or (owner == ADMIN and type not in OWN_ONLY):
            return ""
        name = (self._view.get("tenant", owner) or {}).get("name", owner)
        return f"That one belongs to tenant {name}: an object refers to those of its own tenant and what admin shares."

    def canonical(
        self, kind: ObjectType, part: Mapping[str, Any], tenant: str, cloud: str, sight: Sight = EVERYTHING
    ) -> dict[str, Any]:
        """A part of a document, as a PATCH gives it, with its references in stored form where they lead anywhere:
        so that they can be compared. What leads nowhere stays, to be refused with the whole document."""

        def change(path: str, type_name: str, value: str) -> str:
            uuid, _ = self._find(type_name.lower(), value, tenant, cloud, sight)
            return value if uuid is None else f"/api/{type_name.lower()}/{uuid}"

        return kind.map_references(part, change)

    def _find(
        self, type: str, value: str, tenant: str, cloud: str, sight: Sight = EVERYTHING
    ) -> tuple[str | None, str]:
        """(uuid or None, hint)."""
        stored = value.removeprefix(f"/api/{type}/")
        found = self._view.get(type, stored) if stored != value else None
        if found is not None and _seen(sight, type, found, tenant):  # the common case: it is in stored form already
            return stored, ""
        if len(value) > REFERENCE_CHARACTERS_MAX:
            return None, f"At most {REFERENCE_CHARACTERS_MAX} characters are taken."
        try:
            parts = urlsplit(value)
        except ValueError:
            return None, "It is no URL."
        query = dict(parse_qsl(parts.query))
        path = parts.path.strip("/").split("/")
        if path[0] == "api":
            path = path[1:]
            if path and path[0].lower() != type:
                return None, f"It points at a {shown(path[0])}; a {type} is needed."
            path = path[1:]
        if "name" in query:
            return self._by_name(
                type, query["name"], query.get("tenant", tenant), query.get("cloud", cloud), tenant, sight
            )
        uuid = path[-1] if path and path[-1] else ""
        found = self._view.get(type, uuid)
        if found is not None and _seen(sight, type, found, tenant):
            return uuid, ""
        return self._by_name(type, uuid, tenant, cloud, tenant, sight) if uuid else (None, "It names nothing.")

    def _by_name(self, type: str, name: str, tenant: str, cloud: str, own: str, sight: Sight) -> tuple[str | None, str]:
        """Own tenant, then admin; within the cloud for cloud-scoped types. ``own``: the referring object's tenant."""
        if type == "tenant":
            candidates = [d for d in self._view.all("tenant") if name in (d["name"], d["uuid"])]
            candidates = [d for d in candidates if _seen(sight, type, d, own)]
            return (candidates[0]["uuid"], "") if candidates else (None, "")
        try:
            kind = self._registry.type(type)
        except NotFound:
            return None, ""
        scoped = kind.cloud_scoped and "cloud_ref" in kind.fields  # some types of clouds do not say of which
        tenants = [self._uuid("tenant", tenant), ADMIN, NO_TENANT]
        wanted_cloud = self._uuid("cloud", cloud) if scoped else ""
        for owner in tenants:
            for known_cloud in [wanted_cloud] if scoped else ["", wanted_cloud]:
                found = self._view.named(type, name, owner, known_cloud)
                if found is not None and _seen(sight, type, found, own):
                    return found["uuid"], ""
        names = [
            d.get("name", "") for d in self._view.all(type) if type not in sight.unread and _seen(sight, type, d, own)
        ]
        return None, meant(name, names) or (
            f"There are: {', '.join(names[:8])}." if names else f"There is no {type} yet."
        )

    def _uuid(self, type: str, name_or_uuid: str) -> str:
        """A tenant's or cloud's uuid, from it or from the name."""
        if self._view.get(type, name_or_uuid) is not None:
            return name_or_uuid
        found = self._view.oldest_named(type, name_or_uuid)
        return found["uuid"] if found is not None else name_or_uuid


def _seen(sight: Sight, type: str, document: Mapping[str, Any], own: str) -> bool:
    """What the caller sees, and for those who see the whole also what the object's own tenant has."""
    return sight.reaches(type, document) or (sight.whole and scope_of(dict(document))[0] == own)
