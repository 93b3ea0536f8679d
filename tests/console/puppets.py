"""Engines that speak as real ones do and carry no packet: they take their desired state, say that they run it, own VIPs by
claims, take over from each other by the armed lists, and count traffic that nobody sent."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator

from shoal.clouds.noop import NoopCloud
from shoal.clouds.protocol import EngineHandle, EngineSpec
from shoal.controller.controller import Controller
from shoal.wire import desired as wire
from shoal.wire import messages
from shoal.wire.channel import ChannelClosed
from shoal.wire.client_logs import FAILED, SAMPLED, SLOW, ClientLogs, Logged
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from shoal.wire.messages import Claim, Owned, Ownership, ServerState

BOOT_S = 0.3
APPLY_S = 0.05
DETECTION_S = 0.3
STATUS_S = 1.0
COUNTERS_S = 5.0
GIB = 1 << 30
SAMPLES = (
    (SAMPLED, 200, 14, "/"),
    (SAMPLED, 304, 6, "/assets/app.css"),
    (SLOW, 200, 912, "/search?q=herring"),
    (FAILED, 503, 31, "/cart"),
)


class Line:
    """One connection, from the controller's end."""

    def __init__(self, puppet: Puppet) -> None:
        self._puppet = puppet
        self._said: asyncio.Queue[messages.FromEngine | None] = asyncio.Queue()

    def say(self, message: messages.FromEngine | None) -> None:
        self._said.put_nowait(message)

    async def send(self, message: messages.FromController) -> None:
        self._puppet.hear(message)

    async def receive(self) -> messages.FromEngine:
        message = await self._said.get()
        if message is None:
            raise ChannelClosed("the puppet is dead")
        return message

    async def close(self) -> None:
        self.say(None)


class Puppet:
    def __init__(self, troupe: Troupe, handle: EngineHandle, rank: int, starts: int = 1) -> None:
        self.troupe, self.handle, self.rank, self.starts = troupe, handle, rank, starts
        self.id = handle.id
        self.line = Line(self)
        self.alive = True
        self.parts: dict[str, bytes] = {}
        self.owned: dict[str, Claim] = {}
        self.services: dict[str, wire.Service] = {}
        self._applied = ""
        self._number = 0
        self._totals: dict[str, Counts] = {}
        self._since = time.monotonic()

    async def run(self, controller: Controller) -> None:
        await asyncio.sleep(self.troupe.boot_s)
        self.line.say(
            messages.Hello(
                wire_version=messages.WIRE_VERSION,
                engine=self.id,
                software="puppet",
                incarnation=f"{self.id}.{self.starts}",
                address=self.handle.address,
                mac=self.handle.mac,
                root="",
            )
        )
        speaking = [asyncio.create_task(work) for work in (self._report_on(), self._count_on())]
        try:
            with contextlib.suppress(ChannelClosed):
                await controller.attend(self.line, f"shoal://engine/{self.id}")
        finally:
            for task in speaking:
                task.cancel()
            await asyncio.gather(*speaking, return_exceptions=True)

    def hear(self, message: messages.FromController) -> None:
        if isinstance(message, messages.State) and self.alive:
            sent = dict(message.inline)
            self.parts = {p.id: sent.get(p.id) or self.parts[p.id] for p in message.manifest.parts}
            asyncio.get_running_loop().call_later(APPLY_S, self._apply, message.manifest.root)

    def _apply(self, root: str) -> None:
        if not self.alive:
            return
        decoded = [wire.decode_part(data) for data in self.parts.values()]
        self.services = {part.id: part for part in decoded if isinstance(part, wire.Service)}
        self._applied = root
        self.line.say(messages.Applied(root=root, how="runtime", took_ms=1.0))
        self.troupe.told(self, [part for part in decoded if isinstance(part, wire.Vip)])

    async def _report_on(self) -> None:
        while True:
            await asyncio.sleep(STATUS_S)
            draining = (
                set()
                if not self.troupe.drains
                else {
                    part.id
                    for part in map(wire.decode_part, self.parts.values())
                    if isinstance(part, wire.Vip) and self.id in part.draining
                }
            )
            down = self.troupe.down_servers
            self.line.say(
                messages.Status(
                    root=self._applied,
                    haproxy=True,
                    link=True,
                    owned=tuple(Owned(vip=vip, claim=claim) for vip, claim in self.owned.items()),
                    servers=tuple(
                        ServerState(
                            service=service.id,
                            pool=id.pool,
                            server=f"{server.address}:{server.port}",
                            state="down" if server.address in down else "up",
                            check="L4CON Connection refused" if server.address in down else "",
                        )
                        for service in self.services.values()
                        for id, _, server in service.servers
                    ),
                    peers=tuple(
                        messages.PeerState(
                            engine=other.id, alive=other.alive, heard_ms_ago=40.0 + 3 * rank, session=True
                        )
                        for rank, other in enumerate(self.troupe.puppets.values())
                        if other is not self and other.alive
                    )[:8],
                    cpu_percent=5.0 + 40.0 * len(self.owned) / max(1, self.troupe.full),
                    memory_mb=96.0,
                    drained=tuple(draining),
                )
            )

    async def _count_on(self) -> None:
        while True:
            await asyncio.sleep(COUNTERS_S)
            self.line.say(self._counters())
            self.line.say(ClientLogs(tuple(self._logged())))

    def _logged(self) -> Iterator[Logged]:
        """A failed request, a slow one and a sample of each service that it answers for."""
        at = time.time()
        for service in self.services.values():
            if service.vip not in self.owned or service.pool is None:
                continue
            server = service.pool.servers[self._number % len(service.pool.servers)]
            behind = f"{server.address}:{server.port}"
            vip = service.addresses[0]
            for client, (why, status, took, uri) in enumerate(SAMPLES, self._number % 200):
                times = f"0 0 1 {took} {took + 2} 310 {len(uri) * 700} 0 {took * 1000}"
                line = f"h web {behind} 198.51.100.{client} 51{client:03d} {vip} 80 {at:.3f} {status} -- {times} GET {uri} HTTP/1.1"
                yield Logged(service.id, why, line.encode())

    def _counters(self) -> Counters:
        self._number += 1
        at = time.monotonic() - self._since
        for service in self.services.values():
            if service.vip not in self.owned:
                continue
            last = self._totals.get(service.id, Counts())
            rate = 40 + 25 * math.sin(at / 40 + hash(service.id) % 7) + hash(service.id) % 60
            n = max(1, int(rate * COUNTERS_S))
            bad = n // 90
            self._totals[service.id] = Counts(
                open=int(rate / 2),
                connections=last.connections + n,
                requests=last.requests + 3 * n,
                responses_2xx=last.responses_2xx + 3 * n - bad,
                responses_5xx=last.responses_5xx + bad,
                bytes_in=last.bytes_in + 900 * n,
                bytes_out=last.bytes_out + 24_000 * n,
                errors=last.errors + bad // 4,
                connect_ms=last.connect_ms + n,
                response_ms=last.response_ms + 14 * n,
                total_ms=last.total_ms + 18 * n,
                timed=last.timed + n,
            )
        mine = [c for s, c in self._totals.items() if s in self.services]
        return Counters(
            epoch="1",
            number=self._number,
            at_ms=int(at * 1000),
            engine=EngineCounts(
                open=sum(c.open for c in mine),
                memory=96 << 20,
                machine_memory=8 * GIB,
                machine_memory_free=5 * GIB,
                cores=2,
                cpu_ms=int(at * (50 + 300 * len(self.owned) / max(1, self.troupe.full))),
                haproxy_cpu_ms=int(at * 40),
                machine_busy_ms=int(at * 400),
                machine_ms=int(at * 2000),
                rx_bytes=sum(c.bytes_in for c in mine),
                tx_bytes=sum(c.bytes_out for c in mine),
                rx_packets=sum(c.bytes_in for c in mine) // 1000,
                tx_packets=sum(c.bytes_out for c in mine) // 1000,
            ),
            services=tuple(
                ServiceCounts(
                    id=id,
                    counts=self._totals[id],
                    pools=tuple(
                        PoolCounts(
                            pool.id,
                            tuple((one.name, _share(self._totals[id], len(pool.servers))) for one in pool.servers),
                        )
                        for pool in service.pools
                    ),
                )
                for id, service in self.services.items()
                if id in self._totals
            ),
        )


def _share(whole: Counts, parts: int) -> Counts:
    return Counts(*(getattr(whole, name) // max(1, parts) for name in Counts.__struct_fields__))


class Troupe(NoopCloud):
    """The cloud, and who owns which VIP. Set ``controller`` before it runs."""

    controller: Controller

    def __init__(self, hosts: tuple[str, ...]) -> None:
        super().__init__(hosts)
        self.boot_s = BOOT_S
        self.full = 10
        self.drains = True
        """Engines that drain say at once that no connection is left; else they never do."""
        self.down_servers: set[str] = set()
        self.puppets: dict[str, Puppet] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, tuple[str, Claim]] = {}
        self._armed: dict[str, wire.Vip] = {}

    async def create(self, spec: EngineSpec) -> EngineHandle:
        handle = await super().create(spec)
        puppet = self.puppets[spec.id] = Puppet(self, handle, spec.rank)
        self._tasks[spec.id] = asyncio.create_task(puppet.run(self.controller))
        return handle

    async def restart(self, engine_id: str) -> EngineHandle:
        handle = await super().restart(engine_id)
        old = self.puppets[engine_id]
        self._end(engine_id)
        puppet = self.puppets[engine_id] = Puppet(self, handle, old.rank, old.starts + 1)
        self._tasks[engine_id] = asyncio.create_task(puppet.run(self.controller))
        return handle

    async def delete(self, engine_id: str) -> None:
        self._end(engine_id)
        self.puppets.pop(engine_id, None)
        await super().delete(engine_id)

    async def stop(self) -> None:
        for id in list(self._tasks):
            self._end(id)
        await asyncio.sleep(0)

    def kill(self, engine_id: str) -> None:
        """Its processes end: silence, then the others take over."""
        puppet = self.puppets[engine_id]
        puppet.alive = False
        owned, puppet.owned = puppet.owned, {}
        puppet.line.say(None)
        self.mark(engine_id, running=False)
        for vip in owned:
            asyncio.get_running_loop().call_later(DETECTION_S, self._take_over, engine_id, vip)

    def told(self, puppet: Puppet, vips: list[wire.Vip]) -> None:
        known = {vip.id for vip in vips}
        for gone in [vip for vip in puppet.owned if vip not in known]:
            self._give_up(puppet, gone)
        for vip in vips:
            if vip.armed:
                self._armed[vip.id] = vip
            holder, claim = self._owners.get(vip.id, ("", Claim(0, 0, 0)))
            if vip.owner == puppet.id and claim.generation < vip.generation:
                former = self.puppets.get(holder)
                if former is not None and former.alive and former is not puppet:
                    self._give_up(former, vip.id)
                self._take(puppet, vip.id, Claim(vip.generation, 0, puppet.rank), holder, 0.0)

    def _take(self, puppet: Puppet, vip: str, claim: Claim, former: str, detected_ms: float) -> None:
        self._owners[vip] = (puppet.id, claim)
        puppet.owned[vip] = claim
        why = "three heartbeats are missing" if detected_ms else ""
        puppet.line.say(
            Ownership(
                vip=vip, owner=True, claim=claim, why=why, from_engine=former, detected_ms=detected_ms, at=time.time()
            )
        )

    def _give_up(self, puppet: Puppet, vip: str) -> None:
        claim = puppet.owned.pop(vip, None)
        if claim is not None:
            puppet.line.say(Ownership(vip=vip, owner=False, claim=claim, why="planned change of owner", at=time.time()))

    def _take_over(self, former: str, id: str) -> None:
        holder, claim = self._owners.get(id, ("", Claim(0, 0, 0)))
        armed = self._armed.get(id)
        if holder != former or armed is None:
            return
        for engine in armed.succession:
            puppet = self.puppets.get(engine)
            if puppet is not None and puppet.alive and engine != former:
                wanted = Claim(max(claim.generation, armed.generation), claim.count + 1, puppet.rank)
                self._take(puppet, id, wanted, former, DETECTION_S * 1000)
                return

    def _end(self, engine_id: str) -> None:
        task = self._tasks.pop(engine_id, None)
        if task is not None:
            task.cancel()
