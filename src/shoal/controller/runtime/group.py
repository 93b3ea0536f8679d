"""How a service engine group stands: engines, buffer, failure detection."""

from __future__ import annotations

import time

import msgspec

from shoal.controller import balance, engine_timers, timing
from shoal.controller.bootstrap import PROPERTIES
from shoal.controller.upgrade import Upgrades
from shoal.controller.whatif.margins import Margins
from shoal.objects import views
from shoal.objects.views import view
from shoal.placement.model import EngineState

from .sources import Document, Sources


class Groups:
    def __init__(self, sources: Sources, margins: Margins, upgrades: Upgrades) -> None:
        self._of = sources
        self._margins = margins
        self._upgrades = upgrades

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
            "upgrade": self._upgrades.shown(uuid),
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
