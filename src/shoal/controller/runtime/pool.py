"""How pools and their servers stand, from what the engines report."""

from __future__ import annotations

import msgspec

from shoal.controller.desired import passed_over
from shoal.controller.pool_groups import group_part
from shoal.controller.pools import server_name
from shoal.errors import NotFound
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
        unchecked = passed_over(self._of.view, self._of.found("pool", uuid))
        at = max(
            (server["oper_status"]["last_changed_time"]["secs"] for server in servers), default=self._written(uuid)
        )
        return {
            "oper_status": oper_status(state, at, reason, *unchecked, *self._of.pool_names.trouble(uuid)),
            "num_servers": len(servers),
            "num_servers_enabled": enabled,
            "num_servers_up": up,
            "percent_servers_up_enabled": 100 * up // enabled if enabled else 0,
            "percent_servers_up_total": 100 * up // len(servers) if servers else 0,
        }

    def group(self, uuid: str) -> Document:
        """A pool group: its pools, in the order in which they are taken."""
        group = group_part(self._of.primaries, uuid)
        if group is None:
            raise NotFound(f"There is no poolgroup {uuid}.")
        found = [(one, self.runtime(one.pool)) for one in sorted(group.members, key=lambda one: -one.priority)]
        states = [pool["oper_status"]["state"] for one, pool in found if one.ratio > 0]
        at = max((pool["oper_status"]["last_changed_time"]["secs"] for _, pool in found), default=0)
        worst = "OPER_DOWN" if any(state != "OPER_UNUSED" for state in states) or not states else "OPER_UNUSED"
        state = "OPER_UP" if "OPER_UP" in states else worst
        idle = ", ".join(self._of.view.name_of("pool", pool) for pool in self._of.primaries.deactivated(uuid))
        note = f"{idle} went down, and gets nothing until it is made primary again" if idle else ""
        reason = "" if state == "OPER_UP" else f"none of its {len(states)} pools is up" if states else "it has no pools"
        counts = ("num_servers", "num_servers_enabled", "num_servers_up")
        deployment = self._of.deployments.shown(uuid)
        return {
            "oper_status": oper_status(state, at, reason, note),
            **{name: sum(pool[name] for _, pool in found) for name in counts},
            "members": [
                {
                    "pool_ref": f"/api/pool/{one.pool}#{self._of.view.name_of('pool', one.pool)}",
                    "ratio": one.ratio,
                    "priority": one.priority,
                    "oper_status": pool["oper_status"],
                    "num_servers_up": pool["num_servers_up"],
                }
                for one, pool in found
            ],
            **({"deployment": deployment} if deployment is not None else {}),
        }

    def servers(self, uuid: str) -> list[Document]:
        """Each server as the engines see it: up when any serving engine says so, for all its services that use it."""
        pool = self._of.pool(uuid)
        seen: dict[str, list[tuple[ServerState, float]]] = {}
        for engine in self._of.ledger.engines:
            live = self._of.fleet.live(engine)
            if live.status is not None and self._of.fleet.state(engine) is EngineState.UP:
                here: dict[str, list[ServerState]] = {}
                for server in live.status.servers:
                    if server.pool == uuid:
                        here.setdefault(server.server, []).append(server)
                for name, reports in here.items():
                    worst = next((report for report in reports if report.state != "up"), reports[0])
                    since = live.servers_since.get((worst.service, worst.pool, worst.server), 0.0)
                    whole = msgspec.structs.replace(worst, connections=sum(r.connections for r in reports))
                    seen.setdefault(name, []).append((whole, since))
        return [self._server(pool, server, seen) for server in pool.servers]

    def _server(
        self, pool: views.Pool, server: views.PoolServer, seen: dict[str, list[tuple[ServerState, float]]]
    ) -> Document:
        port = server.port or pool.default_server_port
        found = seen.get(server_name(pool, server), [])
        reports = [report for report, _ in found]
        at = max([since for _, since in found if since], default=self._written(pool.uuid))
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
        estimate = self._of.capacities.of(pool.uuid).get(server_name(pool, server))
        return {
            "ip_addr": {"addr": server.ip.addr, "type": server.ip.type},
            "port": port,
            "hostname": server.hostname,
            "oper_status": oper_status(state, at, reason),
            "connections": sum(report.connections for report in reports),
            "sessions_total": sum(report.sessions_total for report in reports),
            **({"capacity": estimate.document()} if estimate is not None else {}),
        }

    def up(self, uuid: str) -> list[str]:
        """Names of the servers that are up; none of a pool that is gone."""
        if self._of.view.get("pool", uuid) is None:
            return []
        pool = self._of.pool(uuid)
        seen = zip(pool.servers, self.servers(uuid), strict=True)
        return [server_name(pool, one) for one, found in seen if found["oper_status"]["state"] == "OPER_UP"]

    def state(self, uuid: str) -> tuple[str, str]:
        document = self._of.view.get("pool", uuid)
        if document is None:
            return "OPER_DOWN", "the pool is gone"
        if not document.get("enabled", True):
            return "OPER_DISABLED", "the pool is disabled"
        servers = self.servers(uuid)
        if not servers:
            return "OPER_DOWN", " ".join(self._of.pool_names.trouble(uuid)) or "it has no servers"
        states = [server["oper_status"]["state"] for server in servers]
        up, wanted = states.count("OPER_UP"), document.get("min_servers_up", 0)
        if up >= max(1, wanted):
            return "OPER_UP", ""
        if set(states) == {"OPER_UNUSED"}:
            return "OPER_UNUSED", "no engine serves it"
        if up:
            return (
                "OPER_DOWN",
                f"{up} of its {len(servers)} servers {'is' if up == 1 else 'are'} up, and min_servers_up is {wanted}",
            )
        return "OPER_DOWN", f"none of its {len(servers)} servers is up"

    def _written(self, uuid: str) -> float:
        """When the pool was written last: nothing about it changed since, where no engine has reported a change."""
        return int(self._of.found("pool", uuid).get("_last_modified", 0)) / 1e6
