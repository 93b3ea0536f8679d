"""What a client reads to see how things stand: runtime and placement documents (reference: api.md 7, elastic-ha 7).

References are in path form (``/api/serviceengine/<uuid>#<name>``); the API adds scheme and host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from shoal.errors import NotFound
from shoal.objects import views
from shoal.objects.views import uuid_of, view
from shoal.placement.model import EngineState, Placement, PlacementState, Role
from shoal.wire.messages import ServerState

from .clock import Clock
from .compiler import Compiler
from .desired import engines_of
from .fleet import Fleet
from .ledger import Ledger
from .reconciler import Reconciler
from .records import EngineRecord, Noted, VipRecord
from .snapshot import vip_id
from .view import View

Document = dict[str, Any]
OPER_CODES = {
    "OPER_UP": 0,
    "OPER_DOWN": 1,
    "OPER_CREATING": 2,
    "OPER_RESOURCES": 3,
    "OPER_INACTIVE": 4,
    "OPER_DISABLED": 5,
    "OPER_INITIALIZING": 9,
    "OPER_DISABLING": 15,
}
SERVER_STATES = {"up": "OPER_UP", "down": "OPER_DOWN", "drain": "OPER_DISABLED", "maint": "OPER_DISABLED"}


def oper_status(state: str, at: float, *reasons: str) -> Document:
    return {
        "state": state,
        "reason_code": OPER_CODES.get(state, 0),
        "reason": [reason for reason in reasons if reason],
        "last_changed_time": {"secs": int(at), "usecs": int(at % 1 * 1e6)},
    }


class Runtime:
    def __init__(
        self,
        view: View,
        ledger: Ledger,
        fleet: Fleet,
        compiler: Compiler,
        reconciler: Reconciler,
        clock: Clock,
    ) -> None:
        self._view = view
        self._ledger = ledger
        self._fleet = fleet
        self._compiler = compiler
        self._reconciler = reconciler
        self._clock = clock
        self._started = clock.now()
        self._readers: dict[tuple[str, str], Callable[[str], Any]] = {
            ("virtualservice", "runtime"): self.virtualservice,
            ("virtualservice", "runtime/detail"): self.virtualservice_detail,
            ("virtualservice", "placement"): self.virtualservice_placement,
            ("virtualservice", "candidatesehostlist"): self.virtualservice_placement,
            ("virtualservice", "scaleoutstatus"): self.virtualservice_scale_status,
            ("serviceengine", "runtime"): self.serviceengine,
            ("serviceengine", "runtime/detail"): self.serviceengine,
            ("serviceengine", "placement"): self.serviceengine_placement,
            ("serviceenginegroup", "runtime"): self.group,
            ("serviceenginegroup", "placement/summary"): self.group_placement,
            ("serviceenginegroup", "placement/detail"): self.group_placement,
            ("serviceenginegroup", "placement/ineligible"): self.group_ineligible,
            ("pool", "runtime"): self.pool,
            ("pool", "runtime/detail"): self.pool,
            ("pool", "runtime/server"): self.pool_servers,
            ("pool", "runtime/server/detail"): self.pool_servers,
        }

    def read(self, type: str, uuid: str, what: str) -> Any:
        """Raises NotFound for an unknown object or an unknown kind of runtime."""
        reader = self._readers.get((type, what.strip("/")))
        if reader is None:
            kinds = ", ".join(sorted(kind for owner, kind in self._readers if owner == type)) or "none"
            raise NotFound(f"There is no {what} of a {type}.", hint=f"There are: {kinds}.")
        return reader(uuid)

    def summary(self, type: str, uuid: str) -> Document:
        """The ``runtime`` member of an inventory entry; empty for types that have none."""
        reader = self._readers.get((type, "runtime"))
        found: Document = reader(uuid) if reader else {}
        return found

    # --- cluster ---

    def cluster_runtime(self) -> Document:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._started))
        cluster: Document = next(iter(self._view.all("cluster")), {"uuid": "cluster-0"})
        nodes = cluster.get("nodes") or [{"name": "Controller-1"}]
        name = nodes[0]["name"]
        address = "127.0.0.1"
        return {
            "cluster_state": {"state": "CLUSTER_UP_NO_HA", "progress": 100, "up_since": since},
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

    def cluster_status(self) -> Document:
        state: Document = self.cluster_runtime()["cluster_state"]
        return state

    # --- virtual services ---

    def virtualservice(self, uuid: str) -> Document:
        service = self._service(uuid)
        vips = [self._vip_summary(service, record) for record in self._vips(service)]
        requested = sum(vip["num_se_requested"] for vip in vips)
        assigned = sum(vip["num_se_assigned"] for vip in vips)
        state, reason, at = self._oper(service)
        return {
            "oper_status": oper_status(state, at, reason),
            "percent_ses_up": 100 * assigned // requested if requested else 0,
            "vip_summary": vips,
            "last_change": self._last_changes(service),
        }

    def _last_changes(self, service: views.VirtualService) -> list[Document]:
        """On each engine that has it: which way it, or its certificate, was last taken on there."""
        parts = [f"service/{service.uuid}"]
        parts += [f"certificate/{uuid_of(ref)}" for ref in service.ssl_key_and_certificate_refs]
        engines = sorted({engine for record in self._vips(service) for engine in engines_of(record)})
        found = []
        for engine in engines:
            changes = self._fleet.live(engine).changes
            if parts[0] in changes:
                last = max((changes[part] for part in parts if part in changes), key=lambda change: change.at)
                found.append({"se_ref": self._engine_ref(engine), **msgspec.to_builtins(last)})
        return found

    def virtualservice_detail(self, uuid: str) -> list[Document]:
        service = self._service(uuid)
        return [
            {
                "uuid": uuid,
                "type": "VS_TYPE_NORMAL",
                "num_additional_se": max([0, *(record.user_factor for record in self._vips(service))]),
                "vip_runtime": [self._vip_runtime(service, record) for record in self._vips(service)],
            }
        ]

    def virtualservice_placement(self, uuid: str) -> Document:
        """Where its VIPs are, who takes over next, and why: the decisions as they were made."""
        service = self._service(uuid)
        return {
            "virtualservice": service.name,
            "vips": [
                {
                    "vip_id": record.id.rsplit("/", 1)[-1],
                    "requested": record.requested,
                    "scale_state": record.scale_state,
                    "reason": record.scale_reason,
                    "generation": record.generation,
                    "armed": self._compiler.armed(record) if record.succession else False,
                    "answers": self._owner_name(record.id),
                    "placements": [
                        {
                            "se_ref": self._engine_ref(p.engine),
                            "role": p.role.value,
                            "state": p.state.value,
                            "since": p.since,
                        }
                        for p in record.placements
                    ],
                    "succession": [self._engine_ref(engine) for engine in record.succession],
                    "decisions": [self._noted(noted) for noted in record.decisions],
                }
                for record in self._vips(service)
            ],
        }

    def virtualservice_scale_status(self, uuid: str) -> list[Document]:
        service = self._service(uuid)
        return [self._scale_status(record) for record in self._vips(service)]

    def _vip_summary(self, service: views.VirtualService, record: VipRecord) -> Document:
        state, reason = self._vip_state(service, record)
        ready = [p for p in record.placements if p.state is PlacementState.READY]
        return {
            "vip_id": record.id.rsplit("/", 1)[-1],
            "num_se_requested": record.requested,
            "num_se_assigned": len(ready),
            "percent_ses_up": min(100, 100 * len(ready) // record.requested) if record.requested else 0,
            "oper_status": oper_status(state, record.changed_at, reason),
            "service_engine": [self._assigned(p) for p in record.placements],
        }

    def _assigned(self, placement: Placement) -> Document:
        record = self._ledger.engines.get(placement.engine)
        return {
            "uuid": placement.engine,
            "name": record.name if record else placement.engine,
            "url": self._engine_ref(placement.engine),
            "ref": self._engine_ref(placement.engine),
            "primary": placement.role is Role.PRIMARY,
            "standby": False,
            "connected": self._fleet.live(placement.engine).session is not None,
            "active_on_se": placement.state is PlacementState.READY,
            "scaleout_in_progress": placement.state in (PlacementState.WAITING, PlacementState.ASSIGNED),
            "scalein_in_progress": placement.state is PlacementState.DRAINING,
            "mgmt_ip": {"addr": record.address if record else "", "type": "V4"},
            "snat_ip": {"addr": record.address if record else "", "type": "V4"},
        }

    def _vip_runtime(self, service: views.VirtualService, record: VipRecord) -> Document:
        requests = [
            r.request for r in self._ledger.requests.get(record.group, {}).values() if r.request.vip == record.id
        ]
        kinds = {request.kind.value for request in requests}
        return {
            "vip_id": record.id.rsplit("/", 1)[-1],
            "num_additional_se": record.user_factor,
            "requested_resource": {"num_se": record.requested, "num_standby_se": 0},
            "scale_status": self._scale_status(record),
            "migrate_in_progress": "migrate" in kinds,
            "scaleout_in_progress": "scaleout" in kinds,
            "scalein_in_progress": "scalein" in kinds,
            "progress_percent": 100 if record.scale_state.endswith("SUCCESS") else 50,
            "fsm_state_name": "Active" if self._vip_state(service, record)[0] == "OPER_UP" else "AwaitingSeAssignment",
            "se_list": [
                {
                    "se_ref": self._engine_ref(p.engine),
                    "is_primary": p.role is Role.PRIMARY,
                    "is_standby": False,
                    "sec_idx": index,
                    "delete_in_progress": p.state is PlacementState.DRAINING,
                    "scaleout_in_progress": p.state in (PlacementState.WAITING, PlacementState.ASSIGNED),
                    "active_on_se": p.state is PlacementState.READY,
                    "vip_intf_mac": self._engine(p.engine).mac if p.engine in self._ledger.engines else "",
                }
                for index, p in enumerate(record.placements)
            ],
        }

    def _scale_status(self, record: VipRecord) -> Document:
        return {
            "state": record.scale_state,
            "num_se_requested": record.requested,
            "num_se_assigned": sum(p.state is PlacementState.READY for p in record.placements),
            "reason": [record.scale_reason] if record.scale_reason else [],
            "start_time_str": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.changed_at)),
        }

    def _oper(self, service: views.VirtualService) -> tuple[str, str, float]:
        records = self._vips(service)
        at = max([0.0, *(record.changed_at for record in records)])
        states = [self._vip_state(service, record) for record in records]
        if not states:
            return (
                ("OPER_DISABLED", "disabled", at)
                if not service.enabled
                else ("OPER_INITIALIZING", "not placed yet", at)
            )
        worst = next((state for state in states if state[0] != "OPER_UP"), states[0])
        return worst[0], worst[1], at

    def _vip_state(self, service: views.VirtualService, record: VipRecord) -> tuple[str, str]:
        if not service.enabled:
            return "OPER_DISABLED", "the virtual service is disabled"
        if not any(p.state is PlacementState.READY for p in record.placements):
            if record.scale_state.endswith("RESOURCES"):
                return "OPER_RESOURCES", record.scale_reason
            if record.scale_state.endswith("CREATING_SE"):
                return "OPER_CREATING", record.scale_reason
            return "OPER_INITIALIZING", record.scale_reason or "being placed"
        quarantined = self._quarantine(service.uuid, record)
        if quarantined:
            return "OPER_DOWN", quarantined
        if service.pool_ref:
            pool = self._pool_state(uuid_of(service.pool_ref))
            if pool[0] != "OPER_UP":
                return "OPER_DOWN", f"pool: {pool[1]}"
        return "OPER_UP", ""

    def _quarantine(self, service: str, record: VipRecord) -> str:
        for placement in record.placements:
            why = self._fleet.live(placement.engine).problems.get(f"service/{service}")
            if why:
                return f"{self._engine_name(placement.engine)} can't serve it: {why}"
        return ""

    # --- engines ---

    def serviceengine(self, uuid: str) -> Document:
        record = self._engine(uuid)
        live, state = self._fleet.live(uuid), self._fleet.state(uuid)
        wish = (self._view.get("serviceengine", uuid) or {}).get("enable_state", "SE_STATE_ENABLED")
        oper, reason = self._engine_state(record, state, wish)
        owned = [o.vip for o in live.status.owned] if live.status else []
        return {
            "oper_status": oper_status(oper, live.down_since or live.up_since, reason),
            "se_connected": live.session is not None,
            "power_state": "SE_POWER_OFF" if live.gone else "SE_POWER_ON",
            "version": live.hello.software if live.hello else "0.0.0",
            "at_curr_ver": True,
            "incarnation": live.hello.incarnation if live.hello else "",
            "online_since": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(live.up_since)) if live.up_since else "",
            "migrate_state": f"SE_MIGRATE_STATE_{record.migrate_state or 'IDLE'}",
            "hb_status": self._heartbeats(uuid),
            "sufficient_memory": True,
            "vips_owned": owned,
            "cpu_percent": live.status.cpu_percent if live.status else 0.0,
            "memory_mb": live.status.memory_mb if live.status else 0.0,
            "last_change": {"root": live.applied, "how": live.how, "took_ms": live.took_ms, "counts": live.ways},
            "problems": live.problems,
        }

    def _engine_state(self, record: EngineRecord, state: EngineState, wish: str) -> tuple[str, str]:
        if state is EngineState.CREATING:
            return "OPER_CREATING", "being created" if not record.created else "waiting for its first contact"
        if state is EngineState.DOWN:
            return "OPER_DOWN", "no sign of life"
        if wish in ("SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE"):
            if record.migrate_state == "FINISHED_WITH_FAILURE":
                return "OPER_ERROR_DISABLED", "at least one virtual service could not be moved"
            done = record.migrate_state == "FINISHED"
            return ("OPER_DISABLED", "disabled") if done else ("OPER_DISABLING", "virtual services are moving away")
        return "OPER_UP", ""

    def _heartbeats(self, uuid: str) -> Document:
        status = self._fleet.live(uuid).status
        peers = status.peers if status else ()
        return {
            "num_hb_misses": 0,
            "peers": [
                {"se_ref": self._engine_ref(p.engine), "alive": p.alive, "heard_ms_ago": round(p.heard_ms_ago, 1)}
                for p in peers
            ],
        }

    def serviceengine_placement(self, uuid: str) -> Document:
        record = self._engine(uuid)
        held = [
            (vip, p)
            for vip in self._ledger.vips.get(record.group, {}).values()
            for p in vip.placements
            if p.engine == uuid
        ]
        return {
            "serviceengine": record.name,
            "host": record.host,
            "why": record.why,
            "placements": [
                {"vip": vip.id, "virtualservices": self._names(vip), "role": p.role.value, "state": p.state.value}
                for vip, p in held
            ],
            "successor_of": [
                {"vip": vip.id, "virtualservices": self._names(vip), "position": vip.succession.index(uuid)}
                for vip in self._ledger.vips.get(record.group, {}).values()
                if uuid in vip.succession and all(p.engine != uuid for p in vip.placements)
            ],
        }

    # --- groups ---

    def group(self, uuid: str) -> Document:
        self._group(uuid)
        plan = self._reconciler.plans.get(uuid)
        engines = self._ledger.engines_of(uuid)
        states = [self._fleet.state(engine.id) for engine in engines]
        return {
            "num_se": len(engines),
            "num_se_up": sum(state is EngineState.UP for state in states),
            "num_vs": len({s for vip in self._ledger.vips.get(uuid, {}).values() for s in self._names(vip)}),
            "buffer": {
                "slots": plan.buffer.slots,
                "used": plan.buffer.used,
                "free": plan.buffer.free,
                "needed": plan.buffer.needed,
                "kept": plan.buffer.kept,
            }
            if plan
            else {},
            "last_plan": plan.sentence if plan else "",
            "se_refs": [self._engine_ref(engine.id) for engine in engines],
        }

    def group_placement(self, uuid: str) -> Document:
        document = self.group(uuid)
        document["serviceengines"] = [self.serviceengine_placement(e.id) for e in self._ledger.engines_of(uuid)]
        document["vips"] = [
            {
                "vip": record.id,
                "virtualservices": self._names(record),
                "requested": record.requested,
                "assigned": sum(p.state is PlacementState.READY for p in record.placements),
                "scale_state": record.scale_state,
                "succession": [self._engine_ref(engine) for engine in record.succession],
            }
            for record in self._ledger.vips.get(uuid, {}).values()
        ]
        return document

    def group_ineligible(self, uuid: str) -> Document:
        """For each VIP, the engines that its last decision passed over, with the rule and its numbers."""
        self._group(uuid)
        return {
            "vips": [
                {
                    "vip": record.id,
                    "virtualservices": self._names(record),
                    "ineligible": [
                        {"se_ref": self._engine_ref(r.engine), "rule": r.rule, "detail": r.detail}
                        for r in (record.decisions[-1].decision.rejections if record.decisions else ())
                    ],
                }
                for record in self._ledger.vips.get(uuid, {}).values()
            ]
        }

    # --- pools ---

    def pool(self, uuid: str) -> Document:
        pool = self._pool(uuid)
        servers = self.pool_servers(uuid)
        up = sum(server["oper_status"]["state"] == "OPER_UP" for server in servers)
        enabled = sum(server.enabled and pool.enabled for server in pool.servers)
        state, reason = self._pool_state(uuid)
        return {
            "oper_status": oper_status(state, 0.0, reason),
            "num_servers": len(servers),
            "num_servers_enabled": enabled,
            "num_servers_up": up,
            "percent_servers_up_enabled": 100 * up // enabled if enabled else 0,
            "percent_servers_up_total": 100 * up // len(servers) if servers else 0,
        }

    def pool_servers(self, uuid: str) -> list[Document]:
        """Each server as the engines see it: up when any serving engine says so."""
        pool = self._pool(uuid)
        seen: dict[str, list[ServerState]] = {}
        for engine in self._ledger.engines:
            live = self._fleet.live(engine)
            if live.status is not None and self._fleet.state(engine) is EngineState.UP:
                for server in live.status.servers:
                    if server.pool == uuid:
                        seen.setdefault(server.server, []).append(server)
        return [self._server(pool, server, seen) for server in pool.servers]

    def _server(self, pool: views.Pool, server: views.PoolServer, seen: dict[str, list[ServerState]]) -> Document:
        port = server.port or pool.default_server_port
        reports = seen.get(f"{server.ip.addr}:{port}", [])
        states = [report.state for report in reports]
        if not (server.enabled and pool.enabled):
            state, reason = "OPER_DISABLED", "disabled"
        elif not states:
            state, reason = "OPER_UNUSED", "no engine serves this pool"
        elif "up" in states:
            state, reason = "OPER_UP", ""
        else:
            state = SERVER_STATES.get(states[0], "OPER_UNKNOWN")
            reason = next((report.check for report in reports if report.check), "")
        return {
            "ip_addr": {"addr": server.ip.addr, "type": server.ip.type},
            "port": port,
            "hostname": server.hostname,
            "oper_status": oper_status(state, 0.0, reason),
            "connections": sum(report.connections for report in reports),
            "sessions_total": sum(report.sessions_total for report in reports),
        }

    def _pool_state(self, uuid: str) -> tuple[str, str]:
        document = self._view.get("pool", uuid)
        if document is None:
            return "OPER_DOWN", "the pool is gone"
        if not document.get("enabled", True):
            return "OPER_DISABLED", "the pool is disabled"
        servers = self.pool_servers(uuid)
        if not servers:
            return "OPER_DOWN", "it has no servers"
        states = {server["oper_status"]["state"] for server in servers}
        if "OPER_UP" in states:
            return "OPER_UP", ""
        if states == {"OPER_UNUSED"}:
            return "OPER_UNUSED", "no virtual service uses it"
        return "OPER_DOWN", f"none of its {len(servers)} servers is up"

    # --- finding ---

    def _service(self, uuid: str) -> views.VirtualService:
        return view(self._found("virtualservice", uuid), views.VirtualService)

    def _pool(self, uuid: str) -> views.Pool:
        return view(self._found("pool", uuid), views.Pool)

    def _group(self, uuid: str) -> Document:
        return self._found("serviceenginegroup", uuid)

    def _found(self, type: str, uuid: str) -> Document:
        document = self._view.get(type, uuid)
        if document is None:
            raise NotFound(f"There is no {type} {uuid}.")
        return document

    def _engine(self, uuid: str) -> EngineRecord:
        record = self._ledger.engines.get(uuid)
        if record is None:
            raise NotFound(f"There is no service engine {uuid}.")
        return record

    def _engine_name(self, uuid: str) -> str:
        record = self._ledger.engines.get(uuid)
        return record.name if record else uuid

    def _engine_ref(self, uuid: str) -> str:
        return f"/api/serviceengine/{uuid}#{self._engine_name(uuid)}"

    def _owner_name(self, vip: str) -> str:
        owner = self._fleet.owner(vip)
        return self._engine_name(owner.engine) if owner else ""

    def _vips(self, service: views.VirtualService) -> list[VipRecord]:
        vsvip = uuid_of(service.vsvip_ref)
        document = self._view.get("vsvip", vsvip)
        known = self._ledger.vips.get(uuid_of(service.se_group_ref), {})
        ids: Iterable[str] = (vip_id(vsvip, vip["vip_id"]) for vip in (document or {}).get("vip", ()))
        return [known[id] for id in ids if id in known]

    def _names(self, record: VipRecord) -> list[str]:
        intent = self._compiler.intent(record.group, record.id)
        return [service.name for service in intent.services] if intent else []

    def _noted(self, noted: Noted) -> Document:
        decision = noted.decision
        return {
            "at": noted.at,
            "what": decision.what,
            "serviceengine": self._engine_name(decision.engine) if decision.engine else "",
            "why": decision.why,
            "hint": decision.hint,
            "candidates": [
                {"serviceengine": self._engine_name(c.engine), "load": c.load, "capacity": c.capacity, "idle": c.idle}
                for c in decision.candidates
            ],
            "rejections": [
                {"serviceengine": self._engine_name(r.engine), "rule": r.rule, "detail": r.detail}
                for r in decision.rejections
            ],
        }
