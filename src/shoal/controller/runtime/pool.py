"""How a pool stands: its servers as the engines see them."""

from __future__ import annotations

from shoal.objects import views
from shoal.placement.model import EngineState
from shoal.wire.messages import ServerState

from .sources import Document, Sources, oper_status

SERVER_STATES = {"up": "OPER_UP", "down": "OPER_DOWN", "drain": "OPER_DISABLED", "maint": "OPER_DISABLED"}


class Pools:
    def __init__(self, sources: Sources) -> None:
        self._of = sources

    def runtime(self, uuid: str) -> Document:
        pool = self._of.pool(uuid)
        servers = self.servers(uuid)
        up = sum(server["oper_status"]["state"] == "OPER_UP" for server in servers)
        enabled = sum(server.enabled and pool.enabled for server in pool.servers)
        state, reason = self.state(uuid)
        return {
            "oper_status": oper_status(state, 0.0, reason),
            "num_servers": len(servers),
            "num_servers_enabled": enabled,
            "num_servers_up": up,
            "percent_servers_up_enabled": 100 * up // enabled if enabled else 0,
            "percent_servers_up_total": 100 * up // len(servers) if servers else 0,
        }

    def servers(self, uuid: str) -> list[Document]:
        """Each server as the engines see it: up when any serving engine says so."""
        pool = self._of.pool(uuid)
        seen: dict[str, list[ServerState]] = {}
        for engine in self._of.ledger.engines:
            live = self._of.fleet.live(engine)
            if live.status is not None and self._of.fleet.state(engine) is EngineState.UP:
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

    def state(self, uuid: str) -> tuple[str, str]:
        document = self._of.view.get("pool", uuid)
        if document is None:
            return "OPER_DOWN", "the pool is gone"
        if not document.get("enabled", True):
            return "OPER_DISABLED", "the pool is disabled"
        servers = self.servers(uuid)
        if not servers:
            return "OPER_DOWN", "it has no servers"
        states = {server["oper_status"]["state"] for server in servers}
        if "OPER_UP" in states:
            return "OPER_UP", ""
        if states == {"OPER_UNUSED"}:
            return "OPER_UNUSED", "no virtual service uses it"
        return "OPER_DOWN", f"none of its {len(servers)} servers is up"
