"""What the console reads besides objects: all virtual services in one answer, and a type's schema for its forms."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from shoal.errors import NotFound
from shoal.objects import Field, Registry, acts
from shoal.objects.types import MessageType

from .context import Context
from .errors import json_response
from .objects import Objects
from .ports import Runtime

Document = dict[str, Any]
ROWS_AT_ONCE = 25
"""Then others get their turn."""
DEPTH_MAX = 3
"""Levels of nested messages that a schema shows."""


class Console:
    def __init__(self, objects: Objects, registry: Registry, runtime: Runtime) -> None:
        self._objects = objects
        self._registry = registry
        self._runtime = runtime

    async def schema(self, context: Context, type: str) -> Response:
        """The fields of an object type."""
        kind = self._registry.type(type)
        return json_response({"type": kind.endpoint, "name": kind.name, "fields": fields(kind.message, kind.name)})

    async def services(self, context: Context) -> Response:
        """All virtual services that the caller sees, a line each."""
        rows: list[Document] = []
        for document in self._objects.seen(context, self._registry.type("virtualservice")):
            try:
                rows.append(await self._runtime.look("virtualservice", document["uuid"], "row"))
            except NotFound:  # deleted meanwhile
                continue
            if len(rows) % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return json_response({"count": len(rows), "results": rows})


def fields(message: MessageType, type: str, above: str = "", depth: int = 1) -> dict[str, Document]:
    """Each field by name, as forms need it. ``type``: of the object; ``above``: where in it the message is, with a dot."""
    return {name: _field(field, type, f"{above}{name}", depth) for name, field in message.fields.items()}


def _field(field: Field, type: str, path: str, depth: int) -> Document:
    shown: Document = {"kind": field.kind, "required": field.required}
    if not acts.heeds(type, path):
        shown["idle"] = True
    if field.has_default:
        shown["default"] = field.default
    if field.range:
        shown["min"], shown["max"] = field.range
    for name in ("enum", "allowed", "special", "unit", "ref"):
        if value := getattr(field, name):
            shown[name] = value
    if field.kind == "array" and field.item is not None:
        shown["item"] = _field(field.item, type, path, depth)
    elif field.message is not None and depth < DEPTH_MAX:
        shown["fields"] = fields(field.message, type, f"{path}.", depth + 1)
    return shown
