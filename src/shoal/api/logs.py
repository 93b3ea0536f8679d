"""``GET /api/analytics/logs`` (reference: api.md 7): client logs (``type`` 1: requests, 0: connections)."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from shoal.controller.client_logs import APPLICATION, COLUMNS, CONNECTION, ClientLogStore
from shoal.errors import NotFound
from shoal.objects import Registry

from . import log_query
from .context import Context
from .errors import json_response
from .limits import LOG_PAGE_SIZE_MAX
from .listing import page_of
from .objects import Objects

Document = dict[str, Any]
CLIENT_LOGS = {str(APPLICATION): APPLICATION, str(CONNECTION): CONNECTION}


class ClientLogs:
    """Of the virtual services that the caller sees."""

    def __init__(self, store: ClientLogStore | None, objects: Objects, registry: Registry) -> None:
        self._store = store
        self._objects = objects
        self._registry = registry

    async def answer(self, context: Context) -> Response:
        """``virtualservice``: a uuid or a name; without it those of all."""
        query = log_query.asked(context.request, context.query)
        seen = {d["uuid"]: d["name"] for d in self._objects.seen(context, self._registry.type("virtualservice"))}
        wanted = context.query.get("virtualservice", "")
        services = [uuid for uuid, name in seen.items() if wanted in ("", uuid, name)]
        if wanted and not services:
            raise NotFound(f"There is no VirtualService {wanted[:80]!r}.")
        kind = CLIENT_LOGS[context.query["type"]]
        of = f"virtualservice IN ({', '.join('?' * len(services))})"
        where = log_query.where(query, COLUMNS, ("type = ?", [kind]), (of, services))
        page, size = page_of(context.query, LOG_PAGE_SIZE_MAX)
        count, found = 0, list[Document]()
        if self._store is not None:
            count, found = await self._store.search(
                where, limit=size, offset=(page - 1) * size, oldest_first=query.oldest_first
            )
        engines = {d["uuid"]: d["name"] for d in self._objects.seen(context, self._registry.type("serviceengine"))}
        for one in found:
            one["report_timestamp"] = one.pop("at")
            one["vs_name"] = seen[one["virtualservice"]]
            one["se_name"] = engines.get(one["service_engine"], "")
        return json_response({"count": count, "results": found, "percent_remaining": 0})
