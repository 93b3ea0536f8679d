"""What a client reads to see how things stand: runtime and placement documents (reference: api.md 7, elastic-ha 7).

References are in path form (``/api/serviceengine/<uuid>#<name>``); the API adds scheme and host.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

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
from shoal.controller.upgrade import Upgrades
from shoal.controller.view import View
from shoal.controller.whatif.margins import Margins
from shoal.controller.zones.publisher import Publisher
from shoal.errors import NotFound
from shoal.store.noted import Trouble

from .forecast import Forecasts
from .group import Groups
from .map import Maps
from .placement import Placements
from .pool import Pools
from .serviceengine import ServiceEngines
from .sources import Document, Sources
from .virtualservice import BESIDE as BESIDE
from .virtualservice import VirtualServices


class Runtime:
    def __init__(
        self,
        view: View,
        names: Names,
        primaries: Primaries,
        zones: Publisher,
        ledger: Ledger,
        fleet: Fleet,
        compiler: Compiler,
        reconciler: Reconciler,
        margins: Margins,
        upgrades: Upgrades,
        clock: Clock,
        loads: Loads,
        capacities: Capacities,
        deployments: Deployments,
    ) -> None:
        self._view = view
        self._started = clock.now()
        sources = Sources(
            view=view,
            pool_names=names,
            primaries=primaries,
            zones=zones,
            ledger=ledger,
            fleet=fleet,
            compiler=compiler,
            reconciler=reconciler,
            clock=clock,
            loads=loads,
            capacities=capacities,
            deployments=deployments,
        )
        self.sources = sources
        self.store_trouble: Callable[[], Trouble | None] = lambda: None
        self.pool_state: Callable[[str], str] = lambda uuid: pools.state(uuid)[0] if pools.servers(uuid) else ""
        """How a pool stands, "" for one without servers: their names may still be looked up."""
        pools, engines = Pools(sources), ServiceEngines(sources)
        self.servers_up = pools.up
        services, groups = VirtualServices(sources, pools), Groups(sources, margins, upgrades)
        placements = Placements(sources, services.notes)
        self._services = services
        self._maps = Maps(sources, margins)
        forecasts = Forecasts(sources)
        self._readers: dict[tuple[str, str], Callable[[str], Any]] = {
            ("virtualservice", "runtime"): services.runtime,
            ("virtualservice", "runtime/detail"): services.detail,
            ("virtualservice", "placement"): placements.service,
            ("virtualservice", "candidatesehostlist"): placements.service,
            ("virtualservice", "scaleoutstatus"): services.scale_status,
            ("serviceengine", "runtime"): engines.runtime,
            ("serviceengine", "runtime/detail"): engines.runtime,
            ("serviceengine", "placement"): placements.engine,
            ("serviceenginegroup", "runtime"): groups.runtime,
            ("serviceenginegroup", "placement"): partial(placements.group, detail=True),
            ("serviceenginegroup", "placement/summary"): partial(placements.group, detail=False),
            ("serviceenginegroup", "placement/detail"): partial(placements.group, detail=True),
            ("serviceenginegroup", "placement/ineligible"): placements.ineligible,
            ("serviceenginegroup", "placement/map"): self._maps.group,
            ("virtualservice", "row"): self._row,
            ("pool", "runtime"): pools.runtime,
            ("pool", "runtime/detail"): pools.runtime,
            ("pool", "runtime/server"): pools.servers,
            ("poolgroup", "runtime"): pools.group,
            ("poolgroup", "runtime/detail"): pools.group,
            ("pool", "runtime/server/detail"): pools.servers,
        }
        self._thinkers: dict[tuple[str, str], Callable[[str], Awaitable[Any]]] = {
            ("virtualservice", "placement"): placements.explained_service,
            ("virtualservice", "candidatesehostlist"): placements.explained_service,
            ("serviceenginegroup", "placement"): partial(placements.explained_group, detail=True),
            ("serviceenginegroup", "placement/summary"): partial(placements.explained_group, detail=False),
            ("serviceenginegroup", "placement/detail"): partial(placements.explained_group, detail=True),
            ("serviceenginegroup", "placement/ineligible"): placements.explained_ineligible,
            ("serviceengine", "forecast"): forecasts.engine,
        }
        """What takes too long for the event loop."""

    @property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        """Every (object type, what can be read of one beside its configuration)."""
        return tuple(dict.fromkeys([*self._readers, *self._thinkers]))

    def read(self, type: str, uuid: str, what: str) -> Any:
        """Raises NotFound for an unknown object or an unknown kind of runtime."""
        reader = self._readers.get((type, what.strip("/")))
        if reader is None:
            known = {kind for owner, kind in (*self._readers, *self._thinkers) if owner == type}
            raise NotFound(f"There is no {what} of a {type}.", hint=f"There are: {', '.join(sorted(known)) or 'none'}.")
        return reader(uuid)

    async def look(self, type: str, uuid: str, what: str) -> Any:
        """The same, and what takes thought: ``forecast`` of a service engine (what will happen when it fails). Raises
        NotFound, NotReady."""
        thinker = self._thinkers.get((type, what.strip("/")))
        return await thinker(uuid) if thinker is not None else self.read(type, uuid, what)

    def summary(self, type: str, uuid: str) -> Document:
        """The ``runtime`` member of an inventory entry; empty for types that have none."""
        reader = self._readers.get((type, "runtime"))
        found: Document = reader(uuid) if reader else {}
        return found

    def beside(self, type: str, uuid: str) -> Document:
        """The runtime members that the GET of an object carries beside its configuration."""
        return self._services.beside(uuid) if type == "virtualservice" else {}

    def pulse(self) -> Mapping[str, Any]:
        """By topic (``engines``, ``placements``), something that is another one when what is shown of it is."""
        return self._maps.pulse()

    def _row(self, uuid: str) -> Document:
        return self._maps.row(uuid, *self._services.state(uuid))

    # --- cluster ---

    def cluster_runtime(self) -> Document:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._started))
        cluster: Document = next(iter(self._view.all("cluster")), {"uuid": "cluster-0"})
        nodes = cluster.get("nodes") or [{"name": "Controller-1"}]
        name = nodes[0]["name"]
        address = "127.0.0.1"
        return {
            "cluster_state": {"state": "CLUSTER_UP_NO_HA", "progress": 100, "up_since": since, **self._reason()},
            "node_info": {
                "uuid": cluster["uuid"],
                "version": "22.1.3",
                "mgmt_ip": address,
                "cluster_uuid": cluster["uuid"],
            },
            "node_states": [
                {
                    "name": name,
                    "mgmt_ip": address,
                    "role": "CLUSTER_LEADER",
                    "state": "CLUSTER_ACTIVE",
                    "up_since": since,
                }
            ],
        }

    def _reason(self) -> Document:
        """Anybody may read it, so it names no files; the event does."""
        trouble = self.store_trouble()
        if trouble is None:
            return {}
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(trouble.since))
        return {
            "reason": f"The controller's store has taken no changes since {since} (UTC): see STORE_UNAVAILABLE in the events."
        }

    def cluster_status(self) -> Document:
        state: Document = self.cluster_runtime()["cluster_state"]
        return state
