"""``GET /api/analytics/logs`` (reference: api.md 7): client logs (``type`` 1: requests, 0: connections) and the journal (2)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
from starlette.responses import Response, StreamingResponse

from shoal.controller import client_logs, journal
from shoal.controller.client_logs import APPLICATION, CONNECTION, ClientLogStore
from shoal.controller.day_files import Where
from shoal.controller.journal import Journal
from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Registry
from shoal.objects.check import shown

from . import log_query
from .context import Context
from .errors import json_response
from .limits import LOG_PAGE_SIZE_MAX
from .listing import page_of
from .objects import Objects

Document = dict[str, Any]
CLIENT_LOGS = {str(APPLICATION): APPLICATION, str(CONNECTION): CONNECTION}
EVENT_LOG = ("", "2")
FORMATS = ("", "json", "jsonl")
LINES_AT_ONCE = 1_000
EVENT_FIELDS = {name: type for name, type in journal.COLUMNS.items() if name not in journal.HIDDEN}
_ROLE = re.compile(r"[a-z_]{1,40}")


class Searched(Protocol):
    async def search(
        self, where: Where, *, limit: int, offset: int = 0, oldest_first: bool = False, counted: bool = True
    ) -> tuple[int, list[Document]]: ...


class Logs:
    """Of what the caller sees. ``client`` None: no client logs are kept."""

    def __init__(self, client: ClientLogStore | None, events: Journal, objects: Objects, registry: Registry) -> None:
        self._client = client
        self._journal = events
        self._objects = objects
        self._registry = registry

    async def answer(self, context: Context) -> Response:
        """A page, or with ``format=jsonl`` all of them, the oldest first, a JSON object a line."""
        query = log_query.asked(context.request, context.query)
        type = context.query.get("type", "")
        if type in CLIENT_LOGS:
            return await self._found(
                context, query, self._client, self._client_where(context, query, CLIENT_LOGS[type])
            )
        where = log_query.where(query, EVENT_FIELDS, *journal.visible(context.sight), inside=_role)
        return await self._found(context, query, self._journal if type in EVENT_LOG else None, where)

    async def _found(self, context: Context, query: log_query.LogQuery, log: Searched | None, where: Where) -> Response:
        form = context.query.get("format", "")
        if form not in FORMATS:
            hint = "Give json or jsonl."
            raise Invalid([Problem(path="format", value=shown(form), why="is no format of a log", hint=hint)])
        if form == "jsonl":
            return StreamingResponse(self._lines(context, log, where), media_type="application/jsonl")
        page, size = page_of(context.query, LOG_PAGE_SIZE_MAX)
        count, found = 0, list[Document]()
        if log is not None:
            offset = (page - 1) * size
            count, found = await log.search(where, limit=size, offset=offset, oldest_first=query.oldest_first)
        self._named(context, found)
        return json_response({"count": count, "results": found, "percent_remaining": 0})

    async def _lines(self, context: Context, log: Searched | None, where: Where) -> AsyncIterator[bytes]:
        offset, more = 0, log is not None
        while more and log is not None:
            _, found = await log.search(where, limit=LINES_AT_ONCE, offset=offset, oldest_first=True, counted=False)
            self._named(context, found)
            yield b"".join(msgspec.json.encode(one) + b"\n" for one in found)
            offset, more = offset + len(found), len(found) == LINES_AT_ONCE

    def _client_where(self, context: Context, query: log_query.LogQuery, kind: int) -> Where:
        """``virtualservice``: a uuid or a name; without it those of all that are seen."""
        wanted = context.query.get("virtualservice", "")
        seen = self._objects.seen(context, self._registry.type("virtualservice"))
        services = [d["uuid"] for d in seen if wanted in ("", d["uuid"], d["name"])]
        if wanted and not services:
            raise NotFound(f"There is no VirtualService {wanted[:80]!r}.")
        of = f"virtualservice IN ({', '.join('?' * len(services))})"
        return log_query.where(query, client_logs.COLUMNS, ("type = ?", [kind]), (of, services))

    def _named(self, context: Context, found: list[Document]) -> None:
        """Client logs know services and engines by uuid."""
        if not any("service_engine" in one for one in found):
            return
        names = {
            document["uuid"]: document["name"]
            for type in ("virtualservice", "serviceengine")
            for document in self._objects.seen(context, self._registry.type(type))
        }
        for one in found:
            one["vs_name"] = names.get(one["virtualservice"], "")
            one["se_name"] = names.get(one["service_engine"], "")


def _role(name: str) -> str:
    """The expression for the uuid that an event names in a role (``virtualservice``, ``vip`` ...)."""
    return f"json_extract(objects, '$.{name}')" if _ROLE.fullmatch(name) else ""
