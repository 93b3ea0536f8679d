"""A group as one picture: its engines, what is on each, and who comes next. Compact: a large one is asked for often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.controller.records import VipRecord
from shoal.controller.whatif.margins import Margins
from shoal.objects.views import uuid_of
from shoal.placement.model import EngineState, Role

from .present import Present
from .serviceengine import engine_state
from .sources import Document, Sources


class Maps:
    def __init__(self, sources: Sources, margins: Margins) -> None:
        self._of = sources
        self._margins = margins
        self._present = Present(sources)

    def group(self, uuid: str) -> Document:
        """``placements`` and ``succession`` name engines by their place in ``engines``; ``roles`` and ``states`` are
        parallel to ``placements``. The first of ``succession`` owns the VIP, the others follow in that order."""
        document = self._of.group(uuid)
        engines = self._of.ledger.engines_of(uuid)
        places = {engine.id: place for place, engine in enumerate(engines)}
        lost = self._of.fleet.without_gateway(places)
        plan, snapshot = self._of.reconciler.plans.get(uuid), self._of.reconciler.snapshots.get(uuid)
        buffer = plan.buffer if plan else None
        return {
            "uuid": uuid,
            "name": document["name"],
            "ha_mode": document["ha_mode"],
            "slots_per_engine": snapshot.group.max_vs_per_se if snapshot else document["max_vs_per_se"],
            "buffer": {
                "free": buffer.free,
                "needed": buffer.needed,
                "slots": buffer.slots,
                "used": buffer.used,
                "kept": buffer.kept,
            }
            if buffer
            else {},
            "ha_margin": self._margins.document(uuid, self._of.engine_name),
            "last_plan": plan.sentence if plan else "",
            "engines": [self._engine(engine.id, lost.get(engine.id, "")) for engine in engines],
            "vips": [self._vip(vip, places) for vip in self._of.ledger.vips.get(uuid, {}).values()],
        }

    def pulse(self) -> Mapping[str, Any]:
        """By topic, something that is another one when what is shown of it is."""
        ledger, fleet = self._of.ledger, self._of.fleet
        states = [
            (e.id, fleet.state(e.id), e.migrate_state, fleet.lacks_gateway(e.id)) for e in ledger.engines.values()
        ]
        plans = [(group, id(plan)) for group, plan in self._of.reconciler.plans.items()]
        return {"engines": states, "placements": (ledger.vips_written, plans)}

    def _engine(self, uuid: str, gateway: str) -> Document:
        record, live, state = self._of.engine(uuid), self._of.fleet.live(uuid), self._of.fleet.state(uuid)
        wish = (self._of.view.get("serviceengine", uuid) or {}).get("enable_state", "SE_STATE_ENABLED")
        oper, reason = engine_state(record, state, wish, gateway)
        up = live.status is not None and state is EngineState.UP
        return {
            "uuid": uuid,
            "name": record.name,
            "host": record.host,
            "state": oper,
            "reason": reason,
            "enable_state": wish,
            "why": record.why,
            "cpu_percent": round(live.status.cpu_percent, 1) if live.status and up else 0.0,
        }

    def _vip(self, vip: VipRecord, places: Mapping[str, int]) -> Document:
        intent = self._of.compiler.intent(vip.group, vip.id)
        placed = [p for p in vip.placements if p.engine in places]
        short = self._present.shortfall(vip)
        pair = self._of.is_pair(vip.group)
        return {
            "id": vip.id,
            "name": ", ".join(s.name for s in intent.services) if intent else vip.id,
            "services": [s.uuid for s in intent.services] if intent else [],
            "address": intent.address if intent else "",
            "slots": max(1, len(intent.enabled)) if intent else 1,
            "requested": vip.requested,
            "placements": [places[p.engine] for p in placed],
            "roles": "".join("P" if p.role is Role.PRIMARY else "S" for p in placed),
            "states": [p.state.value for p in placed],
            "succession": [places[e] for e in vip.succession if e in places],
            "standby": pair,
            "reason": short.why if short else "",
        }

    # --- the list of virtual services ---

    def row(self, uuid: str, state: str, reason: str) -> Document:
        """A virtual service in one line."""
        document = self._of.found("virtualservice", uuid)
        vips = self._of.vips(self._of.service(uuid))
        addresses = (self._of.view.get("vsvip", uuid_of(document.get("vsvip_ref", ""))) or {}).get("vip", ())
        kind = "pool" if document.get("pool_ref") else "poolgroup"
        pool = uuid_of(document.get(f"{'pool' if kind == 'pool' else 'pool_group'}_ref") or "")
        group = uuid_of(document.get("se_group_ref", ""))
        engines = list(dict.fromkeys(p.engine for vip in vips for p in vip.placements))
        return {
            "uuid": uuid,
            "name": document["name"],
            "enabled": document.get("enabled", True),
            "state": state,
            "reason": reason,
            "address": ", ".join(vip["ip_address"]["addr"] for vip in addresses if vip.get("ip_address")),
            "ports": [port["port"] for port in document.get("services", ())],
            "pool": self._of.view.name_of(kind, pool) if pool else "",
            "pool_uuid": pool if kind == "pool" else "",
            "group": self._of.view.name_of("serviceenginegroup", group),
            "group_uuid": group,
            "engines": [self._of.engine_name(engine) for engine in engines],
            "requested": sum(vip.requested for vip in vips),
            "assigned": sum(p.state.value == "ready" for vip in vips for p in vip.placements),
        }
