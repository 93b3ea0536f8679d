"""The ServiceEngine objects that stand for engines in the API."""

from __future__ import annotations

import logging

from shoal.errors import Invalid, NotFound
from shoal.objects.views import ServiceEngineGroup

from .intent import SYSTEM, Intent
from .records import EngineRecord
from .view import View

log = logging.getLogger("shoal.engine_documents")


class EngineDocuments:
    """Keeps a ServiceEngine object in the API for each engine."""

    def __init__(self, intent: Intent, view: View) -> None:
        self._intent = intent
        self._view = view

    async def put(self, engine: EngineRecord, group: ServiceEngineGroup | None) -> None:
        if group is None or self._view.get("serviceengine", engine.id) is not None:
            return
        body = {
            "name": engine.name,
            "se_group_ref": f"/api/serviceenginegroup/{group.uuid}",
            "cloud_ref": group.cloud_ref,
            "controller_created": True,
        }
        try:
            await self._intent.create("serviceengine", body, SYSTEM, slug=engine.id)
        except Invalid as error:  # the group was deleted meanwhile; so will be the engine
            log.info("%s: %s", engine.name, error)

    async def enable_state(self, engine: str, state: str) -> None:
        """Raises what a write raises; an engine without an object is left as it is."""
        document = self._view.get("serviceengine", engine)
        if document is not None and document.get("enable_state") != state:
            await self._intent.patch("serviceengine", engine, {"replace": {"enable_state": state}}, SYSTEM)

    async def remove(self, engine: str) -> None:
        try:
            await self._intent.delete("serviceengine", engine, SYSTEM)
        except NotFound:
            log.debug("%s had no object", engine)
