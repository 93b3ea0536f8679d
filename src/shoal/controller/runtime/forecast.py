"""What will happen when an engine fails: who takes over what, by the succession that is armed, and what is left then."""

from __future__ import annotations

import asyncio

from shoal.controller import timing
from shoal.controller.desired import VipIntent, engines_of, service_part
from shoal.controller.records import VipRecord
from shoal.errors import NotReady
from shoal.objects import views
from shoal.objects.views import view
from shoal.placement import whatif
from shoal.placement.model import Snapshot
from shoal.placement.presets import LEGACY
from shoal.wire.desired import Listener, Service

from .sources import Document, Sources


class Forecasts:
    def __init__(self, sources: Sources) -> None:
        self._of = sources

    async def engine(self, uuid: str) -> Document:
        """Raises NotFound. The thinking is done in a thread: it is a dozen plans of the group."""
        record = self._of.engine(uuid)
        group = view(self._of.group(record.group), views.ServiceEngineGroup)
        snapshot = self._of.reconciler.present(record.group)
        if snapshot is None or uuid not in {engine.id for engine in snapshot.engines}:
            raise NotReady(f"{record.name} is in no plan yet.", hint="Try again in a second.")
        takers = whatif.takers(snapshot, uuid)
        outcome = await asyncio.to_thread(whatif.fail, snapshot, [uuid], self._of.clock.now())
        names = {vip.id: self._label(vip.id, record.group) for vip in snapshot.vips}
        return {
            "serviceengine": record.name,
            "uuid": uuid,
            "group": group.name,
            "moves_by": "switchover" if group.ha_mode == LEGACY else "migrate",
            "failure_detection": timing.shown(group),
            "serviceengines": [self._engine(engine.id) for engine in self._of.ledger.engines_of(record.group)],
            "requests": len(self._of.ledger.requests.get(record.group, {})),
            "unsettled": self._unsettled(snapshot),
            "vips": [
                self._vip(vip, takers.get(vip.id, ""))
                for vip in self._of.ledger.vips.get(record.group, {}).values()
                if any(p.engine == uuid for p in vip.placements)
            ],
            "outcome": {
                "sentence": outcome.sentence,
                "interrupted": [names[vip] for vip in outcome.interrupted],
                "waiting": [names[vip] for vip in outcome.waiting],
                "down": [names[vip] for vip in outcome.down],
                "reduced": [names[vip] for vip in outcome.reduced],
                "exposed": [names[vip] for vip in outcome.exposed],
                "moves": outcome.moves,
                "engines_made": outcome.engines_made,
                "buffer": {"free": outcome.buffer.free, "needed": outcome.buffer.needed, "kept": outcome.buffer.kept},
            },
        }

    def _engine(self, uuid: str) -> Document:
        record, live = self._of.engine(uuid), self._of.fleet.live(uuid)
        wish = (self._of.view.get("serviceengine", uuid) or {}).get("enable_state", "SE_STATE_ENABLED")
        return {
            "name": record.name,
            "uuid": uuid,
            "host": record.host,
            "mac": record.mac,
            "state": self._of.fleet.state(uuid).value,
            "connected": live.session is not None,
            "enabled": wish == "SE_STATE_ENABLED",
        }

    def _vip(self, record: VipRecord, taker: str) -> Document:
        intent = self._of.compiler.intent(record.group, record.id)
        services = intent.enabled if intent else ()
        name = self._of.engine_name
        return {
            "vip": record.id,
            "address": intent.address if intent else "",
            "ports": self._ports(intent) if intent else [],
            "virtualservices": [{"name": service.name, "uuid": service.uuid} for service in services],
            "requested": record.requested,
            "placements": [{"serviceengine": name(p.engine), "state": p.state.value} for p in record.placements],
            "succession": [name(engine) for engine in record.succession],
            "armed": bool(record.succession) and self._of.fleet.agreed(record),
            "answers": self._of.owner_name(record.id),
            "taker": name(taker) if taker else "",
        }

    def _ports(self, intent: VipIntent) -> list[Document]:
        parts = (service_part(self._of.view, service, intent) for service in intent.serving)
        return [
            {"port": listener.port, "speaks": _speaks(part, listener)} for part in parts for listener in part.listeners
        ]

    def _unsettled(self, snapshot: Snapshot) -> list[str]:
        """VIPs of the group that are not whole: not answered by their planned owner, not armed, on the move."""
        found = []
        known = self._of.ledger.vips.get(snapshot.group.id, {})
        for vip in snapshot.vips:
            record = known.get(vip.id)
            if vip.enabled and (record is None or not self._settled(record)):
                found.append(self._label(vip.id, snapshot.group.id))
        return found

    def _settled(self, record: VipRecord) -> bool:
        owner = self._of.fleet.owner(record.id)
        ready = sum(p.state.value == "ready" for p in record.placements)
        whole = ready == len(record.placements) == max(1, record.requested)
        mine = owner is not None and record.succession[:1] == (owner.engine,) and owner.engine in engines_of(record)
        return whole and mine and self._of.fleet.agreed(record)

    def _label(self, vip: str, group: str) -> str:
        """``10.0.0.5 (web, shop)``"""
        intent = self._of.compiler.intent(group, vip)
        return f"{intent.address} ({', '.join(s.name for s in intent.services)})" if intent else vip


def _speaks(service: Service, listener: Listener) -> str:
    """``udp``, ``tls``, ``http`` or ``tcp``."""
    if listener.protocol == "udp":
        return listener.protocol
    if listener.fast:
        return "tcp"
    return "tls" if listener.tls else service.mode
