"""How a service engine group stands: engines, buffer, and what its placements were passed over for."""

from __future__ import annotations

import time

import msgspec

from shoal.controller import balance, engine_timers, timing
from shoal.controller.bootstrap import PROPERTIES
from shoal.controller.records import VipRecord
from shoal.controller.whatif.margins import Margins
from shoal.objects import views
from shoal.objects.views import view
from shoal.placement.model import EngineState, PlacementState

from .present import Present
from .serviceengine import ServiceEngines
from .sources import Document, Sources

INELIGIBLE_MAX = 20_000
"""Lines of `Groups.ineligible`: VIPs times engines."""


class Groups:
    def __init__(self, sources: Sources, engines: ServiceEngines, margins: Margins) -> None:
        self._of = sources
        self._margins = margins
        self._engines = engines
        self._present = Present(sources)

    def runtime(self, uuid: str) -> Document:
        group = view(self._of.group(uuid), views.ServiceEngineGroup)
        plan = self._of.reconciler.plans.get(uuid)
        engines = self._of.ledger.engines_of(uuid)
        states = [self._of.fleet.state(engine.id) for engine in engines]
        return {
            "num_se": len(engines),
            "num_se_up": sum(state is EngineState.UP for state in states),
            "num_vs": len({s for vip in self._of.ledger.vips.get(uuid, {}).values() for s in self._of.names(vip)}),
            "buffer": {
                "slots": plan.buffer.slots,
                "used": plan.buffer.used,
                "free": plan.buffer.free,
                "needed": plan.buffer.needed,
                "kept": plan.buffer.kept,
            }
            if plan
            else {},
            "ha_margin": self._margins.document(uuid, self._of.engine_name),
            "failure_detection": timing.shown(group),
            "auto_rebalance": self._rebalance(group),
            "engine_timers": msgspec.to_builtins(
                engine_timers.in_force(self._of.view.get("controllerproperties", PROPERTIES))
            ),
            "storm": self._storm(uuid),
            "last_plan": plan.sentence if plan else "",
            "se_refs": [self._of.engine_ref(engine.id) for engine in engines],
        }

    def _rebalance(self, group: views.ServiceEngineGroup) -> Document:
        looking = self._of.reconciler.balance
        if looking is None:
            return {}
        names = {engine.id: engine.name for engine in self._of.ledger.engines_of(group.uuid)}
        return balance.shown(group, looking, self._of.ledger.rebalances.get(group.uuid), names, self._of.clock.now())

    def _storm(self, uuid: str) -> Document:
        """Empty while there is none."""
        storm = self._of.fleet.storms.active.get(uuid)
        if storm is None:
            return {}
        return {
            "since": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(storm.at)),
            "vanished": len(storm.vanished),
            "suspect": sorted(self._of.engine_name(engine) for engine in storm.suspects),
            "lost": sorted(self._of.engine_name(engine) for engine in storm.lost),
            "virtualservices_waiting": storm.held,
        }

    def placement(self, uuid: str) -> Document:
        document = self.runtime(uuid)
        document["serviceengines"] = [self._engines.placement(e.id) for e in self._of.ledger.engines_of(uuid)]
        document["vips"] = [
            {
                "vip": record.id,
                "virtualservices": self._of.names(record),
                "requested": record.requested,
                "assigned": sum(p.state is PlacementState.READY for p in record.placements),
                "scale_state": self._present.state(record),
                "succession": [self._of.engine_ref(engine) for engine in record.succession],
            }
            for record in self._of.ledger.vips.get(uuid, {}).values()
        ]
        return document

    def ineligible(self, uuid: str) -> Document:
        """For each VIP, the engines that can't take it (more of it) as things stand, with the rule and its numbers.
        VIPs that have less than they want come first; past `INELIGIBLE_MAX` lines the rest is only counted."""
        self._of.group(uuid)
        records = sorted(self._of.ledger.vips.get(uuid, {}).values(), key=lambda record: not self._short(record))
        told = records[: max(1, INELIGIBLE_MAX // max(1, len(self._of.ledger.engines_of(uuid))))]
        found = self._present.ineligible(told)
        return {
            "vips": [
                {
                    "vip": record.id,
                    "virtualservices": self._of.names(record),
                    "short": self._short(record),
                    "ineligible": [
                        {"se_ref": self._of.engine_ref(r.engine), "rule": r.rule, "detail": r.detail}
                        for r in found.get(record.id, ())
                    ],
                }
                for record in told
            ],
            "left_out": len(records) - len(told),
        }

    def _short(self, record: VipRecord) -> bool:
        ready = sum(p.state is PlacementState.READY for p in record.placements)
        return self._present.shortfall(record) is not None or ready < record.requested
