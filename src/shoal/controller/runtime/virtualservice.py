"""How a virtual service stands: its VIPs, on which engines, and why."""

from __future__ import annotations

import time

import msgspec

from shoal.controller import protocols
from shoal.controller.desired import engines_of
from shoal.controller.pool_groups import default_pools
from shoal.controller.records import Scaling, VipRecord
from shoal.controller.snapshot import emptied
from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.placement.model import Placement, PlacementState, Role

from .pool import Pools
from .present import Present
from .sources import Document, Sources, oper_status

BESIDE = frozenset(["version", "vip_runtime", "self_se_election"])
"""What the GET of a virtual service carries beside its configuration."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine is to a VIP. ``ready``: it serves, or stands by."""

    engine: str
    primary: bool = False
    standby: bool = False
    ready: bool = False
    joining: bool = False
    draining: bool = False


class VirtualServices:
    def __init__(self, sources: Sources, pools: Pools) -> None:
        self._of = sources
        self._pools = pools
        self._present = Present(sources)

    def runtime(self, uuid: str) -> Document:
        service = self._of.service(uuid)
        vips = [self._vip_summary(service, record) for record in self._of.vips(service)]
        requested = sum(vip["num_se_requested"] for vip in vips)
        assigned = sum(vip["num_se_assigned"] for vip in vips)
        state, reason, at = self._oper(service)
        return {
            "oper_status": oper_status(state, at, reason),
            "percent_ses_up": 100 * assigned // requested if requested else 0,
            "vip_summary": vips,
            "ports": self._ports(uuid),
            "last_change": self._last_changes(service),
            "notes": self.notes(service),
            "dns_records": self._records(service),
        }

    def _records(self, service: views.VirtualService) -> list[Document]:
        """What is published of its VIP, or not, and why."""
        return [
            {
                "fqdn": one.record.name,
                "type": one.record.type,
                "values": list(one.record.values),
                "state": one.state,
                **({"reason": one.why} if one.why else {}),
            }
            for one in self._of.zones.states(uuid_of(service.vsvip_ref))
        ]

    def _ports(self, uuid: str) -> list[str]:
        """``80/tcp``, ``5000-5100/udp``."""
        ranges = protocols.ports_of(self._of.view, self._of.found("virtualservice", uuid))
        return [f"{low}-{high}/{kind}" if high > low else f"{low}/{kind}" for low, high, kind in ranges]

    def _last_changes(self, service: views.VirtualService) -> list[Document]:
        """On each engine that has it: which way it, or its certificate, was last taken on there."""
        parts = [f"service/{service.uuid}"]
        parts += [f"certificate/{uuid_of(ref)}" for ref in service.ssl_key_and_certificate_refs]
        engines = sorted({engine for record in self._of.vips(service) for engine in engines_of(record)})
        found = []
        for engine in engines:
            changes = self._of.fleet.live(engine).runs.changes
            if parts[0] in changes:
                last = max((changes[part] for part in parts if part in changes), key=lambda change: change.at)
                found.append({"se_ref": self._of.engine_ref(engine), **msgspec.to_builtins(last)})
        return found

    def detail(self, uuid: str) -> list[Document]:
        service = self._of.service(uuid)
        return [
            {
                "uuid": uuid,
                "type": service.type,
                "num_additional_se": max([0, *(record.user_factor for record in self._of.vips(service))]),
                "vip_runtime": [self._with_traffic(service, record) for record in self._of.vips(service)],
            }
        ]

    def _with_traffic(self, service: views.VirtualService, record: VipRecord) -> Document:
        """With what each engine carries of it, where that is known."""
        found = self._vip_runtime(service, record)
        for entry, part in zip(found["se_list"], self._parts(record), strict=True):
            traffic = self._of.loads.traffic(part.engine, service.uuid)
            if traffic is not None:
                entry["traffic"] = msgspec.to_builtins(traffic)
        return found

    def beside(self, uuid: str) -> Document:
        """The members in `BESIDE`."""
        service = self._of.service(uuid)
        group = self._of.view.get("serviceenginegroup", uuid_of(service.se_group_ref)) or {}
        return {
            "version": self._of.view.version("virtualservice", uuid),
            "vip_runtime": [self._vip_runtime(service, record) for record in self._of.vips(service)],
            "self_se_election": group.get("self_se_election", False),
        }

    def scale_status(self, uuid: str) -> list[Document]:
        service = self._of.service(uuid)
        return [self._scale_status(record) for record in self._of.vips(service)]

    def _vip_summary(self, service: views.VirtualService, record: VipRecord) -> Document:
        state, reason = self._vip_state(service, record)
        requested, assigned = self._requested(record), self._count(record)
        return {
            "vip_id": record.id.rsplit("/", 1)[-1],
            "num_se_requested": requested,
            "num_se_assigned": assigned,
            "percent_ses_up": min(100, 100 * assigned // requested) if requested else 0,
            "oper_status": oper_status(state, record.changed_at, reason),
            "service_engine": [self._assigned(part) for part in self._parts(record)],
        }

    def _requested(self, record: VipRecord) -> int:
        """In a legacy pair the active and the standby."""
        return record.requested + self._of.is_pair(record.group)

    def _count(self, record: VipRecord) -> int:
        return sum(part.ready for part in self._parts(record))

    def _parts(self, record: VipRecord) -> list[Part]:
        """Every engine that has a part in it; an engine that still drains may be the standby already."""
        standbys = {engine: self._of.stands_by(record, engine) for engine in self._of.standbys(record)}
        placed = [
            Part(
                engine=p.engine,
                primary=p.role is Role.PRIMARY,
                standby=p.engine in standbys,
                ready=p.state is PlacementState.READY or standbys.get(p.engine, False),
                joining=p.state in (PlacementState.WAITING, PlacementState.ASSIGNED),
                draining=p.state is PlacementState.DRAINING,
            )
            for p in record.placements
        ]
        known = {part.engine for part in placed}
        others = (pair for pair in standbys.items() if pair[0] not in known)
        return placed + [Part(engine=e, standby=True, ready=ready, joining=not ready) for e, ready in others]

    def _assigned(self, part: Part) -> Document:
        record = self._of.ledger.engines.get(part.engine)
        return {
            "uuid": part.engine,
            "name": record.name if record else part.engine,
            "url": self._of.engine_ref(part.engine),
            "ref": self._of.engine_ref(part.engine),
            "primary": part.primary,
            "standby": part.standby,
            "connected": self._of.fleet.live(part.engine).session is not None,
            "active_on_se": part.ready,
            "scaleout_in_progress": part.joining,
            "scalein_in_progress": part.draining,
            "mgmt_ip": {"addr": record.address if record else "", "type": "V4"},
            "snat_ip": {"addr": record.address if record else "", "type": "V4"},
        }

    def _vip_runtime(self, service: views.VirtualService, record: VipRecord) -> Document:
        requests = [
            r.request for r in self._of.ledger.requests.get(record.group, {}).values() if r.request.vip == record.id
        ]
        kinds = {request.kind.value for request in requests}
        return {
            "vip_id": record.id.rsplit("/", 1)[-1],
            "num_additional_se": record.user_factor,
            "requested_resource": {
                "num_se": record.requested,
                "num_standby_se": int(self._of.is_pair(record.group)),
            },
            "scale_status": self._scale_status(record),
            "last_scale_status": self._last_scale_status(record),
            "migrate_in_progress": "migrate" in kinds,
            "scaleout_in_progress": "scaleout" in kinds,
            "scalein_in_progress": "scalein" in kinds,
            "switchover_in_progress": "switchover" in kinds,
            "progress_percent": self._progress(record),
            "fsm_state_name": self._fsm_state(service, record),
            "se_list": [
                {
                    "se_ref": self._of.engine_ref(part.engine),
                    "is_primary": part.primary,
                    "is_standby": part.standby,
                    "sec_idx": index,
                    "delete_in_progress": part.draining,
                    "scaleout_in_progress": part.joining,
                    "active_on_se": part.ready,
                    "vip_intf_mac": self._of.engine(part.engine).mac if part.engine in self._of.ledger.engines else "",
                }
                for index, part in enumerate(self._parts(record))
            ],
        }

    def _progress(self, record: VipRecord) -> int:
        """Percent of the way, on average over the engines that come and go."""
        moving = [p for p in record.placements if p.state is not PlacementState.READY]
        shares = [self._share(record, placement) for placement in moving]
        shares += [0] * max(0, record.requested - len(record.placements))
        return sum(shares) // len(shares) if shares else 100

    def _share(self, record: VipRecord, placement: Placement) -> int:
        """Of one that comes by the steps it has taken, of one that drains by the time that is over."""
        if placement.state is PlacementState.DRAINING:
            group = self._of.view.get("serviceenginegroup", record.group) or {}
            upgraded = placement.engine == emptied(self._of.ledger, record.group)
            field = "vs_scalein_timeout_for_upgrade" if upgraded else "vs_scalein_timeout"
            whole = max(1, group.get(field) or 1)
            over = 100 * (self._of.clock.now() - placement.since) / whole
            return 100 if placement.drained else min(99, max(0, int(over)))
        engine = self._of.ledger.engines.get(placement.engine)
        steps = (engine is not None and engine.created, engine is not None and engine.seen)
        return 20 + 30 * sum(steps)

    def _fsm_state(self, service: views.VirtualService, record: VipRecord) -> str:
        """Of its placement alone (reference: elastic-ha 7.3)."""
        states = [p.state for p in record.placements]
        if not service.enabled:
            return "Disabled"
        if PlacementState.READY not in states:
            return "AwaitingSeAssignment"
        if PlacementState.DRAINING in states:
            return "ActiveAwaitingSeTransition"
        coming = PlacementState.WAITING in states or PlacementState.ASSIGNED in states
        return "ActiveAwaitingScaleoutReady" if coming else "Active"

    def _scale_status(self, record: VipRecord) -> Document:
        """The operation under way, else the last one (reference: elastic-ha 3.6)."""
        state, found = self._present.state(record), record.scaling
        over = found is not None and found.state == state
        reason = found.reason if found is not None and over else self._present.reason(record)
        status: Document = {
            "state": state,
            "action": _action(state, found.action if found else "OTHER"),
            "num_se_requested": self._requested(record),
            "num_se_assigned": self._count(record),
            "reason": [reason] if reason else [],
            "start_time_str": _time(found.started_at if found else record.changed_at),
        }
        return status | (self._end_of(found) if found is not None and over else {})

    def _last_scale_status(self, record: VipRecord) -> Document:
        """The operation before that one."""
        found = record.last_scaling
        if found is None:
            return {}
        return {
            "state": found.state or "SCALEOUT_ERROR",
            "action": _action(found.state, found.action),
            "num_se_requested": found.requested,
            "num_se_assigned": found.assigned,
            "reason": [found.reason] if found.reason else [],
            "start_time_str": _time(found.started_at),
            **self._end_of(found),
        }

    def _end_of(self, found: Scaling) -> Document:
        engine = {"scale_se": found.engine} if found.engine else {}
        if not found.ended_at:
            return engine
        return {"end_time_str": _time(found.ended_at), "action_success": found.state.endswith("SUCCESS"), **engine}

    def state(self, uuid: str) -> tuple[str, str]:
        """(oper state, why)"""
        state, reason, _ = self._oper(self._of.service(uuid))
        return state, reason

    def _oper(self, service: views.VirtualService) -> tuple[str, str, float]:
        records = self._of.vips(service)
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
        if not service.traffic_enabled:
            return "OPER_DISABLED", "traffic_enabled is false: clients are refused"
        parent = self._of.view.get("virtualservice", uuid_of(service.vh_parent_vs_ref)) or {}
        if service.vh_parent_vs_ref and not (parent.get("enabled", True) and parent.get("traffic_enabled", True)):
            return "OPER_DOWN", f"its parent {parent.get('name')} is disabled"
        if not any(p.state is PlacementState.READY for p in record.placements):
            if record.scale_state.endswith("RESOURCES"):
                return "OPER_RESOURCES", self._present.reason(record)
            if record.scale_state.endswith("CREATING_SE"):
                return "OPER_CREATING", self._present.reason(record)
            return "OPER_INITIALIZING", self._present.reason(record) or "being placed"
        quarantined = self._quarantine(service.uuid, record)
        if quarantined:
            return "OPER_DOWN", quarantined
        return self._pools_state(self._of.found("virtualservice", service.uuid))

    def _pools_state(self, service: Document) -> tuple[str, str]:
        """Of what no rule sends elsewhere: one pool that is up is enough."""
        states = [self._pools.state(pool) for pool in default_pools(self._of.view, service)]
        least, up = service.get("min_pools_up", 0), sum(state == "OPER_UP" for state, _ in states)
        if states and up < least:
            return "OPER_DOWN", f"{up} of its {len(states)} pools are up, and min_pools_up is {least}"
        if any(state == "OPER_UP" for state, _ in states) or not (states or service.get("pool_group_ref")):
            return "OPER_UP", ""
        if service.get("pool_ref"):
            return "OPER_DOWN", f"pool: {states[0][1]}"
        return (
            "OPER_DOWN",
            f"pool group: none of its {len(states)} pools is up" if states else "pool group: it has no pools",
        )

    def _quarantine(self, service: str, record: VipRecord) -> str:
        for placement in record.placements:
            why = self._of.fleet.live(placement.engine).problems.get(f"service/{service}")
            if why:
                return f"{self._of.engine_name(placement.engine)} can't serve it: {why}"
        return ""

    def notes(self, service: views.VirtualService) -> list[str]:
        """What its engines serve otherwise than asked for, each note once."""
        engines = dict.fromkeys(p.engine for record in self._of.vips(service) for p in record.placements)
        notes = (self._of.fleet.live(engine).notes.get(f"service/{service.uuid}") for engine in engines)
        return list(dict.fromkeys(note for note in notes if note))


def _action(state: str, action: str) -> str:
    """A migrate is told by its half."""
    return "MIGRATE_SCALEIN" if state.startswith("MIGRATE_SCALEIN") else action


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
