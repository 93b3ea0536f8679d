"""How an engine stands."""

from __future__ import annotations

import time

from shoal import __version__
from shoal.controller.bgp import ESTABLISHED
from shoal.controller.records import EngineRecord
from shoal.placement.model import EngineState, Role

from .sources import Document, Sources, oper_status


class ServiceEngines:
    def __init__(self, sources: Sources) -> None:
        self._of = sources

    def runtime(self, uuid: str) -> Document:
        record = self._of.engine(uuid)
        live, state = self._of.fleet.live(uuid), self._of.fleet.state(uuid)
        wish = (self._of.view.get("serviceengine", uuid) or {}).get("enable_state", "SE_STATE_ENABLED")
        oper, reason = engine_state(record, state, wish, self._of.lost_gateway(record))
        owned = [o.vip for o in live.status.owned] if live.status else []
        return {
            "oper_status": oper_status(oper, live.down_since or live.up_since, reason),
            "se_connected": live.session is not None,
            "power_state": "SE_POWER_OFF" if live.gone else "SE_POWER_ON",
            "version": live.hello.software if live.hello else "0.0.0",
            "at_curr_ver": live.hello is None or live.hello.software == __version__,
            "incarnation": live.hello.incarnation if live.hello else "",
            "online_since": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(live.up_since)) if live.up_since else "",
            "migrate_state": f"SE_MIGRATE_STATE_{record.migrate_state or 'IDLE'}",
            "hb_status": self._heartbeats(uuid),
            "sufficient_memory": True,
            "active_tags": self._active_tags(record),
            "vips_owned": owned,
            **self._gateways(uuid),
            **self._bgp(uuid),
            "cpu_percent": live.status.cpu_percent if live.status else 0.0,
            "memory_mb": live.status.memory_mb if live.status else 0.0,
            "last_change": {"root": live.applied, "how": live.how, "took_ms": live.took_ms, "counts": live.runs.ways},
            "problems": live.problems,
            "notes": live.notes,
        }

    def _active_tags(self, record: EngineRecord) -> list[str]:
        """In a legacy pair: the sides of which it is active for something."""
        if not self._of.is_pair(record.group):
            return []
        vips = self._of.ledger.vips.get(record.group, {}).values()
        active = [v for v in vips if any(p.engine == record.id and p.role is Role.PRIMARY for p in v.placements)]
        intents = (self._of.compiler.intent(record.group, vip.id) for vip in active)
        return sorted({intent.tag for intent in intents if intent is not None})

    def _gateways(self, uuid: str) -> Document:
        """``gateway_up``: none that it watches is lost."""
        status = self._of.fleet.live(uuid).status
        gateways = status.gateways if status else ()
        return {
            "gateway_up": not any(gateway.why for gateway in gateways),
            "gateways": [{"gateway_ip": g.address, "up": not g.why, "why": g.why} for g in gateways],
        }

    def _bgp(self, uuid: str) -> Document:
        """``bgp_peers_up``: every router that it is to speak with is reached."""
        status = self._of.fleet.live(uuid).status
        peers = status.bgp if status else ()
        return {
            "bgp_peers_up": all(peer.state == ESTABLISHED for peer in peers),
            "bgp_peers": [
                {
                    "vrf_ref": f"/api/vrfcontext/{peer.vrf}",
                    "peer_ip": peer.address,
                    "state": peer.state,
                    "bfd": peer.bfd,
                    "routes": peer.routes,
                    "why": peer.why,
                }
                for peer in peers
            ],
        }

    def _heartbeats(self, uuid: str) -> Document:
        status = self._of.fleet.live(uuid).status
        peers = status.peers if status else ()
        return {
            "num_hb_misses": 0,
            "peers": [
                {"se_ref": self._of.engine_ref(p.engine), "alive": p.alive, "heard_ms_ago": round(p.heard_ms_ago, 1)}
                for p in peers
            ],
        }


def engine_state(record: EngineRecord, state: EngineState, wish: str, gateway: str) -> tuple[str, str]:
    """(oper state, why) of an engine; ``wish``: its ``enable_state``; ``gateway``: one that it has lost and others reach."""
    if state is EngineState.CREATING:
        return "OPER_CREATING", "being created" if not record.created else "waiting for its first contact"
    if state is EngineState.DOWN:
        return "OPER_DOWN", "no sign of life"
    if state is EngineState.SUSPECT:
        return (
            "OPER_PARTITIONED",
            "out of the controller's sight with many others; it may serve (see SE_STORM_STARTED)",
        )
    if wish in ("SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE"):
        if record.migrate_state == "FINISHED_WITH_FAILURE":
            return "OPER_ERROR_DISABLED", "at least one virtual service could not be moved"
        done = record.migrate_state == "FINISHED"
        return ("OPER_DISABLED", "disabled") if done else ("OPER_DISABLING", "virtual services are moving away")
    if gateway:
        return "OPER_UP", f"it does not reach gateway {gateway}, others do: virtual services move away"
    return "OPER_UP", ""
