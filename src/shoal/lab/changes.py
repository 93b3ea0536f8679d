"""Random changes of a running configuration, by the API, from a seed. Used by `shoal certify`."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from shoal.controller.pki import self_signed_default

from .api import Api, Document

SEEN_WITHIN_S = 3.0
"""A change that no engine acknowledges within this time is one that no engine had to hear of."""
LOOK_EVERY_S = 0.03
BURST_SHARE = 0.1
BURST = (3, 5)
SERVERS_MIN = 2
OTHERS_MAX = 4
EXTRA_PORTS = (8081, 8082, 8083)
ALGORITHMS: tuple[dict[str, str], ...] = (
    {"lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN"},
    {"lb_algorithm": "LB_ALGORITHM_LEAST_CONNECTIONS"},
    {
        "lb_algorithm": "LB_ALGORITHM_CONSISTENT_HASH",
        "lb_algorithm_hash": "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS",
    },
)
WEIGHTS = {
    "server_add": 4,
    "server_remove": 4,
    "server_ratio": 4,
    "server_disable": 3,
    "server_enable": 3,
    "certificate": 2,
    "pool_algorithm": 2,
    "monitor": 1,
    "vs_ports": 2,
    "vs_create": 1,
    "vs_delete": 1,
    "name": 1,
    "group": 1,
}
"""Kind -> how often, relatively."""


class Service(msgspec.Struct, kw_only=True):
    """A virtual service under load, and its pool as last written."""

    name: str
    uuid: str
    address: str
    pool: str
    port: int
    tls: bool
    servers: list[Document]
    extra: list[int] = []


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change as it was made. ``ways``: how often each way was taken, by the engines that run what it touched;
    empty when no engine had to hear of it, or when it was one of a burst."""

    at: float
    kind: str
    what: str
    took_ms: float
    ways: dict[str, int] = {}
    burst: bool = False


class Changes:
    """``backends`` are the addresses servers may have."""

    def __init__(
        self,
        api: Api,
        rng: random.Random,
        services: list[Service],
        backends: list[str],
        *,
        group: str,
        certificate: str,
        monitor: str,
    ) -> None:
        self._api = api
        self._rng = rng
        self._services = services
        self._backends = backends
        self._group_id = group
        self._certificate_id = certificate
        self._monitor_id = monitor
        self._others: list[str] = []
        self._made = 0
        self.log: list[Change] = []
        self._kinds: dict[str, Callable[[], Awaitable[tuple[str, list[str]] | None]]] = {
            kind: getattr(self, f"_{kind}") for kind in WEIGHTS
        }

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(change.kind for change in self.log).items()))

    def ways(self) -> dict[str, dict[str, int]]:
        """Kind -> way -> how often, of the changes that were made alone."""
        found: dict[str, Counter[str]] = {}
        for change in self.log:
            if not change.burst:
                found.setdefault(change.kind, Counter()).update(change.ways or {"no engine": 1})
        return {kind: dict(sorted(ways.items())) for kind, ways in sorted(found.items())}

    async def some(self, at_most: int) -> None:
        """One change, or a burst of them."""
        size = self._rng.randint(*BURST) if self._rng.random() < BURST_SHARE else 1
        for number in range(min(size, at_most)):
            await self.one(burst=size > 1, wait=number == size - 1)

    async def one(self, kind: str = "", *, burst: bool = False, wait: bool = True) -> None:
        began, at = time.monotonic(), time.time()
        while True:
            chosen = kind or self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            made = await self._kinds[chosen]()
            if made is not None:
                break
        what, touched = made
        ways = await self._seen(touched, at) if wait else {}
        took_ms = round((time.monotonic() - began) * 1000, 1)
        self.log.append(Change(at=at, kind=chosen, what=what, took_ms=took_ms, ways={} if burst else ways, burst=burst))

    async def _seen(self, services: list[str], since: float) -> dict[str, int]:
        """How the engines took it, once all of them have."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        found: list[Document] = []
        for service in services:
            while True:
                last = (await self._api.runtime(service)).get("last_change", [])
                fresh = [change for change in last if change["at"] >= since]
                if (last and len(fresh) == len(last)) or time.monotonic() > deadline:
                    found += fresh
                    break
                await asyncio.sleep(LOOK_EVERY_S)
        return dict(Counter(change["how"] for change in found))

    # --- servers ---

    async def _write_servers(self, service: Service, what: str) -> tuple[str, list[str]]:
        servers = [{"ip": {"addr": s["addr"], "type": "V4"}, **{k: s[k] for k in ("port", "ratio", "enabled")}}
                   for s in service.servers]  # fmt: skip
        await self._api.call("PATCH", f"pool/{service.pool}", {"replace": {"servers": servers}})
        return f"{service.name}: {what}", [service.uuid]

    async def _server_add(self) -> tuple[str, list[str]] | None:
        service = self._rng.choice(self._services)
        free = [address for address in self._backends if all(s["addr"] != address for s in service.servers)]
        if not free:
            return None
        address = self._rng.choice(free)
        port = service.servers[0]["port"]
        service.servers.append({"addr": address, "port": port, "ratio": self._rng.randint(1, 5), "enabled": True})
        return await self._write_servers(service, f"server {address} added")

    def _spare(self, service: Service) -> Document | None:
        """A server that can be missed."""
        enabled = [s for s in service.servers if s["enabled"]]
        return self._rng.choice(enabled) if len(enabled) > SERVERS_MIN else None

    async def _server_remove(self) -> tuple[str, list[str]] | None:
        service = self._rng.choice(self._services)
        leaving = self._spare(service)
        if leaving is None:
            return None
        service.servers.remove(leaving)
        return await self._write_servers(service, f"server {leaving['addr']} removed")

    async def _server_ratio(self) -> tuple[str, list[str]] | None:
        service = self._rng.choice(self._services)
        server = self._rng.choice(service.servers)
        server["ratio"] = self._rng.choice([r for r in range(1, 11) if r != server["ratio"]])
        return await self._write_servers(service, f"ratio of {server['addr']} is {server['ratio']}")

    async def _server_disable(self) -> tuple[str, list[str]] | None:
        service = self._rng.choice(self._services)
        server = self._spare(service)
        if server is None:
            return None
        server["enabled"] = False
        return await self._write_servers(service, f"server {server['addr']} disabled")

    async def _server_enable(self) -> tuple[str, list[str]] | None:
        service = self._rng.choice(self._services)
        server = next((s for s in service.servers if not s["enabled"]), None)
        if server is None:
            return None
        server["enabled"] = True
        return await self._write_servers(service, f"server {server['addr']} enabled")

    # --- the rest ---

    async def _touch(self, type: str, uuid: str, fields: Document) -> None:
        await self._api.call("PATCH", f"{type}/{uuid}", {"replace": fields})

    async def _certificate(self) -> tuple[str, list[str]]:
        await self._touch(
            "sslkeyandcertificate", self._certificate_id, certificate_body(f"site{self._rng.randint(1, 10**6)}.test")
        )
        return "another certificate", [service.uuid for service in self._services if service.tls]

    async def _pool_algorithm(self) -> tuple[str, list[str]]:
        service, algorithm = self._rng.choice(self._services), self._rng.choice(ALGORITHMS)
        await self._touch("pool", service.pool, algorithm)
        return f"{service.name}: {algorithm['lb_algorithm']}", [service.uuid]

    async def _monitor(self) -> tuple[str, list[str]]:
        pace = {"send_interval": self._rng.randint(2, 6), "failed_checks": self._rng.randint(3, 6)}
        await self._touch("healthmonitor", self._monitor_id, pace)
        return f"monitor every {pace['send_interval']} s", [service.uuid for service in self._services]

    async def _vs_ports(self) -> tuple[str, list[str]]:
        service, port = self._rng.choice(self._services), self._rng.choice(EXTRA_PORTS)
        if port in service.extra:
            service.extra.remove(port)
        else:
            service.extra.append(port)
        ports: list[Document] = [{"port": port} for port in sorted(service.extra)]
        await self._touch(
            "virtualservice", service.uuid, {"services": [{"port": service.port, "enable_ssl": service.tls}, *ports]}
        )
        return f"{service.name}: extra ports {service.extra}", [service.uuid]

    async def _vs_create(self) -> tuple[str, list[str]] | None:
        if len(self._others) >= OTHERS_MAX:
            return None
        self._made += 1
        name, servers = f"other{self._made}", [(address, 80) for address in self._backends]
        group = f"/api/serviceenginegroup/{self._group_id}"
        made = await self._api.service(name, servers, se_group_ref=group)
        self._others.append(made["uuid"])
        return f"virtual service {name} made", [made["uuid"]]

    async def _vs_delete(self) -> tuple[str, list[str]] | None:
        if not self._others:
            return None
        uuid = self._others.pop(self._rng.randrange(len(self._others)))
        document = await self._api.get(f"virtualservice/{uuid}")
        await self._api.call("DELETE", f"virtualservice/{uuid}")
        for reference in (document["vsvip_ref"], document["pool_ref"]):
            type, of = reference.split("/api/", 1)[1].split("#")[0].split("/")
            await self._api.call("DELETE", f"{type}/{of}")
        return f"virtual service {document['name']} deleted", []

    async def _name(self) -> tuple[str, list[str]]:
        service = self._rng.choice(self._services)
        name = f"{service.name}-{self._rng.randint(1, 10**6)}"
        type, uuid = self._rng.choice((("pool", service.pool), ("virtualservice", service.uuid)))
        await self._touch(type, uuid, {"name": name})
        return f"{type} renamed {name}", [service.uuid]

    async def _group(self) -> tuple[str, list[str]]:
        most = self._rng.randint(20, 40)
        await self._touch("serviceenginegroup", self._group_id, {"max_vs_per_se": most})
        return f"group: max_vs_per_se {most}", []


def certificate_body(name: str) -> Document:
    """A self-signed certificate with its key."""
    key, certificate = (pem.decode() for pem in self_signed_default(name))
    return {"key": key, "certificate": {"certificate": certificate}}
