"""The OpenAPI 3.1 document, made from the object types and the table of routes: what is served is what is described.

::

    document   paths and operations, from the routes     schemas   types and messages, as sent and as answered
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shoal.objects import Registry

from ..routes import Route
from .document import document

__all__ = ["described", "document"]


_made: dict[object, msgspec.Raw] = {}


def described(registry: Registry, routes: Sequence[Route], below: tuple[tuple[str, str], ...]) -> msgspec.Raw:
    """The document as it is sent. It takes half a second, and is made once."""
    key = (tuple((route.methods, route.path) for route in routes), below)
    if key not in _made:
        _made[key] = msgspec.Raw(msgspec.json.encode(document(registry, routes, below)))
    return _made[key]
