"""The ServiceEngine objects that stand for engines in the API."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from shoal.errors import Duplicate, Invalid, NotFound, NotReady
from shoal.objects.views import ServiceEngineGroup
from shoal.store.protocol import Conflict

from . import interfaces, siblings
from .intent import SYSTEM, Intent
from .records import EngineRecord
from .view import View

log = logging.getLogger("shoal.engine_documents")

DATA_INTERFACE = "eth0"


class EngineDocuments:
    """Keeps a ServiceEngine object in the API for each engine."""

    def __init__(self, intent: Intent, view: View) -> None:
        self._intent = intent
        self._view = view
        self._putting = asyncio.Lock()

    async def put(self, engine: EngineRecord, group: ServiceEngineGroup | None, prefix_length: int) -> None:
        if group is None or self._view.get("serviceengine", engine.id) is not None:
            return
        async with self._putting:  # no two get one address
            await self._create(engine, group, prefix_length)

    async def _create(self, engine: EngineRecord, group: ServiceEngineGroup, prefix_length: int) -> None:
        vlans = siblings.vlans(self._view, group.uuid, engine.id)
        body = {
            "name": engine.name,
            "se_group_ref": f"/api/serviceenginegroup/{group.uuid}",
            "cloud_ref": group.cloud_ref,
            "controller_created": True,
            "data_vnics": [_vnic(engine, prefix_length, vlans)] if engine.mac and engine.address else [],
        }
        try:
            await self._intent.create("serviceengine", body, SYSTEM, slug=engine.id)
        except Invalid as error:  # the group was deleted meanwhile; so will be the engine
            log.info("%s: %s", engine.name, error)
        except Duplicate:  # of itself, where it was written before and that could not be said
            if not await self._intent.is_stored("serviceengine", engine.id):
                raise

    def vlans(self, engine: str) -> tuple[int, ...]:
        """Those that an engine is to be in, in order."""
        document = self._view.get("serviceengine", engine)
        return tuple(sorted(vlan["vlan_id"] for vlan in interfaces.vlans(document))) if document is not None else ()

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
        except Conflict:  # it is seen here as it was before
            if await self._intent.is_stored("serviceengine", engine):
                raise NotReady("The engine's object is being written by somebody else.", hint="Try again.") from None


def _vnic(engine: EngineRecord, prefix_length: int, vlans: list[dict[str, Any]]) -> dict[str, Any]:
    """The interface that every engine has: in the engines' own network, and in VLANs."""
    address = {"ip_addr": {"addr": engine.address, "type": "V4"}, "mask": prefix_length}
    return {
        "if_name": DATA_INTERFACE,
        "linux_name": DATA_INTERFACE,
        "mac_address": engine.mac,
        "connected": True,
        "vnic_networks": [{"ip": address, "mode": "STATIC"}],
        "vlan_interfaces": vlans,
    }
