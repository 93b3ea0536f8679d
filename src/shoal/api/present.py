"""Documents as a client sees them: absolute URLs, ``#name`` on references, its version's fields, no secrets."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from shoal.controller import certificates
from shoal.controller.references import INFRASTRUCTURE
from shoal.controller.sight import EVERYTHING, Sight
from shoal.controller.view import View
from shoal.objects import ObjectType, Registry
from shoal.objects.types import SENSITIVE_MASK
from shoal.objects.views import uuid_of

Document = dict[str, Any]
HIDDEN = "\0hidden"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """``host`` is the name the client used. ``names``: put ``#name`` behind references (by presence, api.md 4)."""

    host: str
    version: str
    names: bool = False
    skip_default: bool = False
    secrets: bool = True
    """Show secrets as ``<sensitive>``; False leaves them out (POST replies)."""
    sight: Sight = EVERYTHING
    """References to what the caller does not see are left out."""
    shown: dict[tuple[str, str], str] = {}
    """(type, stored reference) -> as this request shows it: the objects of a page refer to the same few."""

    def plain(self) -> Look:
        """Without ``#name``."""
        return msgspec.structs.replace(self, names=False, shown={})


class Present:
    def __init__(self, view: View, registry: Registry) -> None:
        self._view = view
        self._registry = registry

    def url(self, type: str, uuid: str, look: Look, name: str = "") -> str:
        singleton = self._registry.type(type).singleton
        path = f"https://{look.host}/api/{type}" + ("" if singleton else f"/{uuid}")
        return f"{path}#{name}" if look.names and name else path

    def document(self, kind: ObjectType, stored: Document, look: Look) -> Document:
        """One object."""
        shown = kind.emit(stored, version=look.version, skip_default=look.skip_default)
        if not look.secrets:
            shown = _without(shown, SENSITIVE_MASK)
        hidden: list[str] = []

        def reference(path: str, type_name: str, value: str) -> str:
            text = look.shown.get((type_name, value))
            if text is None:
                text = look.shown[type_name, value] = self._shown(type_name, value, look)
            if text == HIDDEN:
                hidden.append(path)
            return text

        shown = kind.map_references(shown, reference)
        if hidden:
            shown = _without(shown, HIDDEN)
        body = shown.get("certificate") if kind.endpoint == "sslkeyandcertificate" else None
        if body and body.get("not_after"):
            shown["certificate"] = {**body, **certificates.remaining(body["not_after"], time.time())}
        shown["url"] = self.url(kind.endpoint, stored["uuid"], look, str(stored.get("name", "")))
        if kind.endpoint == "vsvip":
            users = self._view.referrers(stored["uuid"])
            if users:
                shown["vs_refs"] = [
                    self._reference(t, f"/api/{t}/{u}", look)
                    for t, u, _ in users
                    if t == "virtualservice" and look.sight.sees(t, self._view.get(t, u) or {})
                ]
        return shown

    def _shown(self, type_name: str, value: str, look: Look) -> str:
        found = self._view.get(type_name.lower(), uuid_of(value))
        if found is not None and not look.sight.reaches(type_name.lower(), found) and type_name != "Tenant":
            return HIDDEN
        return self._reference(type_name.lower(), value, look)

    def _reference(self, type: str, value: str, look: Look) -> str:
        if not value.startswith("/api/"):
            return value
        name = ""
        if look.names:
            found = self._view.get(type, uuid_of(value))
            name = f"#{found['name']}" if found and found.get("name") else ""
            if found is None and type in INFRASTRUCTURE:
                name = f"#{uuid_of(value)}"
        return f"https://{look.host}{value}{name}"

    def runtime(self, value: Any, look: Look) -> Any:
        """Runtime documents hold path references, with names; make them absolute."""
        if isinstance(value, str):
            return f"https://{look.host}{value}" if value.startswith("/api/") else value
        if isinstance(value, list):
            return [self.runtime(item, look) for item in value]
        if isinstance(value, dict):
            return {key: self.runtime(item, look) for key, item in value.items()}
        return value


def _without(value: Any, text: str) -> Any:
    """All but the members and entries that are this text."""
    if isinstance(value, dict):
        return {key: _without(item, text) for key, item in value.items() if item != text}
    if isinstance(value, list):
        return [_without(item, text) for item in value if item != text]
    return value
