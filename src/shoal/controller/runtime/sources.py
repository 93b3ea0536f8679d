"""Where runtime documents come from, and how their objects are found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from shoal.controller.capacity import Capacities
from shoal.controller.clock import Clock
from shoal.controller.compiler import Compiler
from shoal.controller.deployments import Deployments
from shoal.controller.fleet import Fleet
from shoal.controller.ledger import Ledger
from shoal.controller.loads import Loads
from shoal.controller.names.names import Names
from shoal.controller.primaries import Primaries
from shoal.controller.reconciler import Reconciler
from shoal.controller.records import EngineRecord, VipRecord
from shoal.controller.snapshot import vip_id
from shoal.controller.view import View
from shoal.controller.zones.publisher import Publisher
from shoal.errors import NotFound
from shoal.objects import views
from shoal.objects.views import uuid_of, view
from shoal.placement.model import PlacementState
from shoal.placement.presets import LEGACY

Document = dict[str, Any]
OPER_CODES = {
    "OPER_UP": 0,
    "OPER_DOWN": 1,
    "OPER_CREATING": 2,
    "OPER_RESOURCES": 3,
    "OPER_INACTIVE": 4,
    "OPER_DISABLED": 5,
    "OPER_INITIALIZING": 9,
    "OPER_ERROR_DISABLED": 10,
    "OPER_PARTITIONED": 14,
    "OPER_DISABLING": 15,
}


def oper_status(state: str, at: float, *reasons: str) -> Document:
    return {
        "state": state,
        "reason_code": OPER_CODES.get(state, 0),
        "reason": [reason for reason in reasons if reason],
        "last_changed_time": {"secs": int(at), "usecs": int(at % 1 * 1e6)},
    }


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Methods that find raise NotFound."""

    view: View
    pool_names: Names
    primaries: Primaries
    zones: Publisher
    ledger: Ledger
    fleet: Fleet
    compiler: Compiler
    reconciler: Reconciler
    clock: Clock
    loads: Loads
    capacities: Capacities
    deployments: Deployments

    def service(self, uuid: str) -> views.VirtualService:
        return view(self.found("virtualservice", uuid), views.VirtualService)

    def pool(self, uuid: str) -> views.Pool:
        """With the addresses of servers that are known by name."""
        self.found("pool", uuid)
        return view(self.pool_names.get("pool", uuid) or {}, views.Pool)

    def group(self, uuid: str) -> Document:
        return self.found("serviceenginegroup", uuid)

    def found(self, type: str, uuid: str) -> Document:
        document = self.view.get(type, uuid)
        if document is None:
            raise NotFound(f"There is no {type} {uuid}.")
        return document

    def engine(self, uuid: str) -> EngineRecord:
        record = self.ledger.engines.get(uuid)
        if record is None:
            raise NotFound(f"There is no service engine {uuid}.")
        return record

    def lost_gateway(self, record: EngineRecord) -> str:
        """A next hop that the engine does not reach though others of its group do; "" = none."""
        group = self.ledger.engines_of(record.group)
        return self.fleet.without_gateway(engine.id for engine in group).get(record.id, "")

    def engine_name(self, uuid: str) -> str:
        record = self.ledger.engines.get(uuid)
        return record.name if record else uuid

    def engine_ref(self, uuid: str) -> str:
        return f"/api/serviceengine/{uuid}#{self.engine_name(uuid)}"

    def owner_name(self, vip: str) -> str:
        owner = self.fleet.owner(vip)
        return self.engine_name(owner.engine) if owner else ""

    def vips(self, service: views.VirtualService) -> list[VipRecord]:
        vsvip = uuid_of(service.vsvip_ref)
        document = self.view.get("vsvip", vsvip)
        known = self.ledger.vips.get(uuid_of(service.se_group_ref), {})
        ids: Iterable[str] = (vip_id(vsvip, vip["vip_id"]) for vip in (document or {}).get("vip", ()))
        return [known[id] for id in ids if id in known]

    def is_pair(self, group: str) -> bool:
        """A legacy active/standby group."""
        return (self.view.get("serviceenginegroup", group) or {}).get("ha_mode") == LEGACY

    def standbys(self, record: VipRecord) -> list[str]:
        """The engines that are its standby: of a legacy pair the successor, ready as soon as it runs the list."""
        active = {p.engine for p in record.placements if p.state is not PlacementState.DRAINING}
        return [e for e in record.succession if e not in active] if self.is_pair(record.group) else []

    def stands_by(self, record: VipRecord, engine: str) -> bool:
        return self.fleet.acknowledged(engine, record.id) >= record.list_version

    def names(self, record: VipRecord) -> list[str]:
        intent = self.compiler.intent(record.group, record.id)
        return [service.name for service in intent.services] if intent else []
