"""The whole configuration as one document: object types by name, each a list of complete objects."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote, urlencode

from shoal import API_VERSION, __version__
from shoal.controller.intent import Intent
from shoal.controller.view import View, scope_of
from shoal.objects import ObjectType
from shoal.objects.types import SENSITIVE_MASK
from shoal.objects.views import uuid_of

from . import LEFT_OUT, META, PRODUCT
from .sealing import Sealing, context

Document = dict[str, Any]
OWN = ("_last_modified", "url")


def exported(intent: Intent, view: View, sealing: Sealing | None = None) -> Document:
    """References by name, secrets sealed, or masked without ``sealing``."""
    meta: Document = {
        "version": {"Version": API_VERSION, "Product": "controller", "ProductName": PRODUCT, "Tag": __version__},
        "exported_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if sealing is not None:
        meta["secrets"] = sealing.said()
    found: Document = {META: meta}
    for endpoint, kind in intent.registry.types.items():
        documents = [] if kind.read_only or endpoint in LEFT_OUT else view.all(endpoint)
        if documents:
            found[kind.name] = [_exported(intent, view, kind, document, sealing) for document in documents]
    return found


def _exported(intent: Intent, view: View, kind: ObjectType, document: Document, sealing: Sealing | None) -> Document:
    uuid = document["uuid"]
    document = {name: value for name, value in document.items() if name not in OWN}

    def secret(path: str, value: str) -> str:
        if not value:
            return value
        return sealing.seal(value, context(kind.endpoint, uuid, path)) if sealing is not None else SENSITIVE_MASK

    if sealing is not None:
        document = intent.opened(kind, document)
    document = kind.map_sensitive(document, secret)
    return kind.map_references(document, lambda path, type, value: _named(view, type, value))


def _named(view: View, type_name: str, value: str) -> str:
    """``/api/pool/?tenant=admin&name=web&cloud=Default-Cloud``"""
    type, uuid = type_name.lower(), uuid_of(value)
    target = view.get(type, uuid)
    if target is None or not target.get("name"):
        return value
    tenant, cloud = scope_of(target)
    query = {"tenant": view.name_of("tenant", tenant), "name": target["name"], "cloud": view.name_of("cloud", cloud)}
    return f"/api/{type}/?{urlencode({k: v for k, v in query.items() if v}, quote_via=quote)}"
