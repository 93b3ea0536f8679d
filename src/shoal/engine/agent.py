"""The agent: keeps HAProxy and the guard in line with the desired state, and the controller informed.

It needs no controller to go on serving. Its tasks: `_apply_loop` owns HAProxy, `_watch_loop` notices its end,
`_measure_loop` makes the figures; the controller's session and the guard's link run beside them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import resource
import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from shoal import __version__
from shoal.observe import ring
from shoal.wire import messages
from shoal.wire.desired import ServerId, Service, Vip
from shoal.wire.engine_config import EngineConfig
from shoal.wire.guard import NOTHING, Changed, Desired, GuardStart, Heard, Report

from . import measure
from .bgp.config import Place
from .bgp.health import unready
from .bgp.speaker import Speaker
from .capture.captures import Captures
from .client_logs import ClientLogs
from .closing import Sockets, cut_off, end, ended, find
from .fastpath import conntrack
from .fastpath.carrier import Carrier
from .fastpath.family import own_address6
from .fastpath.mirror import Mirror
from .gateways import GatewayWatch
from .guard_link import GuardLink
from .haproxy import favour, render
from .haproxy.control import Control
from .haproxy.process import Broken, Crowded
from .haproxy.stats import Row
from .interfaces import Interfaces, segments
from .meter import Meter
from .monitors.checks import Checks
from .parts import Parts
from .service_health import shut
from .session import Session
from .sharing import carried, flow_idle_s, sharing
from .static_routes import StaticRoutes
from .vip_packets import PacketCounters
from .weights import Weights

log = logging.getLogger("shoal.agent")

APPLY_INTERVAL_S = 0.5
"""A burst's first change is applied at once, the reloads after it at least this far apart."""
RELOADING_SHARE_MAX = 0.5
"""Of the time, where a reload takes long: an engine has something else to do, too."""
THREADS_MAX = 64
"""HAProxy 2.6 takes no more."""
FAILURE_RETRY_S = 1.0
INTERFACE_RETRY_S = 0.1
MEASURE_INTERVAL_S = 0.5
FAVOUR_INTERVAL_S = 1.0
"""How often HAProxy is read at least where servers' shares follow their answers."""
WITHDRAWN_AFTER_S = 2.0
"""A drained VIP that is announced is not left sooner: its route goes a second after the others' are there
(`shoal.engine.guard.routes`), and routers take a moment."""
SOCKET_FOLDER_CHARACTERS_MAX = 75
"""A Unix socket's path has room for 107 octets; ours add a file's name and HAProxy's suffix while it binds."""
SYSCTLS = {
    "ipv4/ip_nonlocal_bind": "1",
    "ipv6/ip_nonlocal_bind": "1",
    "ipv4/ip_local_port_range": "10000 65000",
    "ipv4/tcp_tw_reuse": "1",
    "core/somaxconn": "8192",
    "unix/max_dgram_qlen": "512",  # log lines that wait for the agent
    "ipv4/ping_group_range": "0 0",  # PING monitors without raw sockets
}


class Agent:
    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        secrets = _folder_in_memory(config)  # keys of certificates and heartbeats never reach a disk where there is one
        self._parts = Parts(secrets / "desired.msgpack")
        self._facts = render.Facts(
            directory=config.directory,
            sockets=_socket_folder(config.directory),
            secrets=str(secrets),
            descriptors_max=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            memory_mb=config.memory_mb,
            threads=max(1, min(config.threads, len(os.sched_getaffinity(0)), THREADS_MAX)),
            hard_stop_after_s=config.hard_stop_after_s,
            old_workers_max=config.old_workers_max,
        )
        self._recorder = ring.Recorder.open(_folder_in_memory(config) / ring.AGENT_FILE, ring.AGENT_SLOTS)
        self._control = Control(self._facts)
        self._incarnation = uuid.uuid4().hex
        self._meter = Meter(self._facts, self._control.process, config.interface, self._incarnation)
        self._control.reloading = self._meter.reloading
        self._checks = Checks(self._on_verdict)
        self._judged = asyncio.Event()
        self._carrier = Carrier(config.address, config.interface, self._checks, self._facts.user)
        self._mirror = Mirror(config.id, config.address, lambda: self._owned, lambda: self._carrier.targets)
        self._packets = PacketCounters()
        self._weights = Weights(config.interface)
        self._interfaces = Interfaces()
        self._static_routes = StaticRoutes()
        self._gateways = GatewayWatch(self._meter.wake)
        self._speaker = Speaker(secrets, Path(self._facts.sockets), Path(config.directory))
        self._draining_since: dict[str, float] = {}
        """Of announced VIPs that are drained here."""
        self._client_logs = ClientLogs(render.log_socket(self._facts))
        self._guard = GuardLink(
            GuardStart(
                engine=config.id,
                rank=config.rank,
                directory=self._facts.sockets,
                interface=config.interface,
                address=config.address,
                haproxy_socket=render.alive_socket(self._facts),
                recorder=str(_folder_in_memory(config)),
                agent_command=(sys.executable, "-m", "shoal.engine", str(Path(config.directory) / "engine.json")),
            ),
            self._on_changed,
            self._on_report,
            self._on_heard,
        )
        self._session = Session(
            config,
            self._parts,
            Captures(config.interface),
            hello=self._hello,
            status=lambda: self._status,
            on_state=lambda: self._wanted.set(),
            on_shares=self._guard.share,
            on_link=self._on_link,
            recordings=lambda seconds: ring.read_engine(_folder_in_memory(config), seconds),
        )
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._due_at = 0.0
        self._applied: str | None = None
        self._vips: tuple[Vip, ...] = ()
        """Of the state that was applied last."""
        self._owned: dict[str, messages.Owned] = {}
        self._report: Report | None = None
        self._peers: tuple[messages.PeerState, ...] = ()
        self._status = messages.Status(root="", haproxy=False, link=True, partial=True)
        self._seen: tuple[messages.ServerState, ...] = ()
        self._seen_of: tuple[Mapping[str, Service], Sequence[Row]] = {}, ()
        """The servers as HAProxy sees them; `_servers` as they are, by the agent's own monitors too."""
        self._servers: tuple[messages.ServerState, ...] = ()
        self._states: tuple[tuple[str, str, str, str], ...] = ()
        self._favours = False
        """Some pool's servers get shares by how they do."""
        self._untold = False
        """Servers and services were read and the controller has not heard of it."""
        self._cost = measure.Cost()

    def stop(self) -> None:
        """Have `run` resign the VIPs, stop HAProxy and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Killed instead, it leaves guard and HAProxy serving, and the next agent adopts both."""
        _set_sysctls()
        self._client_logs.open()
        self._recorder.record("agent started")
        self._parts.restore()
        self._wanted.set()
        async with asyncio.TaskGroup() as group:
            loops = (self._apply_loop(), self._watch_loop(), self._measure_loop(), self._session.run())
            tasks = [group.create_task(loop) for loop in loops]
            beside = (self._guard.run(), self._carrier.run(), self._checks.run(), self._verdict_loop())
            tasks += [
                group.create_task(loop)
                for loop in (*beside, self._speaker.run(), self._mirror.run(), self._gateways.run())
            ]
            await self._stopping.wait()
            self._recorder.record("agent stopping")
            for task in tasks[:3]:
                task.cancel()
            await self._guard.stop()  # peers take over before HAProxy closes
            await self._speaker.stop()
            await self._session.leave("the agent was told to stop")
            for task in tasks:
                task.cancel()
            await self._carrier.stop()
            await self._weights.want((), 0)
            await self._control.process.stop()
        if self._facts.sockets != self.config.directory:
            shutil.rmtree(self._facts.sockets, ignore_errors=True)

    # --- HAProxy ---

    async def _apply_loop(self) -> None:
        while True:
            await self._wanted.wait()
            wait = self._due_at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            self._wanted.clear()
            try:
                await self._apply()
            except Crowded as error:
                log.info("the reload waits: %s", error)
                self._due_at = time.monotonic() + APPLY_INTERVAL_S
                self._wanted.set()
            except (Broken, OSError) as error:
                log.error("this engine can't be brought in line: %s", error)
                self._recorder.record("not applied", text=str(error))
                self._due_at = time.monotonic() + FAILURE_RETRY_S
                self._wanted.set()

    async def _watch_loop(self) -> None:
        while True:
            await self._control.process.ended()
            log.warning("HAProxy has ended; starting it again")
            self._recorder.record("haproxy ended", text="starting it again")
            self._wanted.set()

    async def _apply(self) -> None:
        """Raises Broken, Crowded, OSError; then nothing of the new state was acknowledged."""
        root, turn, began = self._parts.root, self._parts.turn, time.monotonic()
        current = self._parts.current()
        unreadable, vips, settings = self._parts.problems, self._parts.vips(), self._parts.settings()
        services = self._parts.services()
        interfaces = self._parts.interfaces()
        missing = await self._interfaces.bring(interfaces)
        if missing and self._interfaces.waits:
            asyncio.get_running_loop().call_later(INTERFACE_RETRY_S, self._wanted.set)
            return
        unrouted = self._static_routes.apply(self._parts.routes())  # servers may be behind them
        self._gateways.want(self._parts.gateways())
        cut = await self._open(cut_off(self._control.services, {**services, **self._parts.resting()}))
        draining = [vip.id for vip in vips if self.config.id in vip.draining]
        lists = self._parts.lists()
        result = await self._control.apply(services, self._parts.credentials(), draining, lists)
        if result.how == "reload":
            took = time.monotonic() - began
            self._due_at = began + max(APPLY_INTERVAL_S, took / RELOADING_SHARE_MAX)
        await self._close(vips)
        await self._cut(cut)
        self._checks.want(self._control.services.values())
        self._favours = favour.asks(self._control.services.values())
        self._judged.set()
        outcome = await self._carrier.apply(self._control.services, interfaces, lists)
        self._mirror.want(settings, vips, self._control.services.values())
        unshared = await self._weights.want(self._control.services.values(), settings.link_mbit if settings else 0)
        beside = [address for one in interfaces for address in one.addresses]
        place = Place(self.config.address, self.config.prefix_length, own_address6(self.config.interface), beside)
        unspoken = await self._speaker.apply(self._parts.bgp(), vips, place)
        if settings is not None:  # only now: what the guard claims must be served
            desired = Desired.of(
                settings,
                vips,
                tuple(sharing(vips, services.values())),
                idle_s=flow_idle_s(services.values()),
                datagrams_idle_s=self._carrier.idle_s,
                carried=carried(services.values()),
                segments=segments(interfaces),
            )
            await self._guard.want(desired)
        elif root and not unreadable:  # what is acknowledged is in force: the controller gives its addresses to others
            await self._guard.want(NOTHING)
        if any(vip.route for vip in vips):
            await self._speaker.settled()
        await self._packets.want(vips if settings is not None and settings.count_packets else ())
        # Before it is acknowledged: what the controller takes for run is run after a restart, too.
        self._parts.keep(current)
        self._applied = root
        self._meter.wake()
        took_ms = (time.monotonic() - began) * 1000
        refused = {**result.problems, **outcome.problems}
        unplugged: dict[str, str] = {}
        if missing:
            unplugged["interfaces"] = "; ".join(f"{name}: {why}" for name, why in missing.items()) + "."
            asyncio.get_running_loop().call_later(FAILURE_RETRY_S, self._wanted.set)
        problems = {
            **unreadable,
            **unspoken,
            **unplugged,
            **unrouted,
            **{f"service/{id}": why for id, why in refused.items()},
        }
        notes = dict(result.notes)
        for id, note in outcome.notes.items():
            notes[id] = f"{notes[id]} {note}" if id in notes else note
        if unshared:
            notes |= {id: f"{notes.get(id, '')} {unshared}".strip() for id in self._control.services}
        if root:
            self._session.say(
                messages.Applied(
                    root=root,
                    turn=turn,
                    how=result.how,
                    took_ms=took_ms,
                    problems=tuple(messages.PartProblem(part, why) for part, why in problems.items()),
                    notes=tuple(messages.PartProblem(f"service/{id}", why) for id, why in notes.items()),
                )
            )
        self._recorder.record("applied", text=f"{root or 'nothing yet'} by {result.how}", ms=took_ms)
        served = len(self._control.services)
        log.info("applied %s by %s in %.0f ms: %d services", root or "nothing yet", result.how, took_ms, served)
        for part, why in problems.items():
            log.warning("%s is not served: %s", part, why)

    async def _close(self, vips: tuple[Vip, ...]) -> None:
        """What still lives where nothing is served any more ends now: the guard is about to take the address away."""
        gone, self._vips = sorted(ended(self.config.id, self._vips, vips, self._owned)), vips
        if gone:
            try:
                count = await asyncio.to_thread(end, await asyncio.to_thread(find, gone))
                count += await asyncio.to_thread(conntrack.close, gone)
            except OSError as error:
                log.warning("connections to %s were not closed: %s", ", ".join(gone), error)
            else:
                log.info("closed %d connections to %s", count, ", ".join(gone))

    async def _open(self, services: dict[str, tuple[Sockets, ...]]) -> dict[str, list[bytes]]:
        """The connections that are to end when the new state is served: others come meanwhile, and stay."""
        return {name: await asyncio.to_thread(_found, sockets) for name, sockets in services.items()}

    async def _cut(self, connections: dict[str, list[bytes]]) -> None:
        for name, found in connections.items():
            try:
                count = await asyncio.to_thread(end, found)
            except OSError as error:
                log.warning("the connections of %s were not closed: %s", name, error)
            else:
                log.info("closed %d connections of %s", count, name)

    # --- the agent's own monitors ---

    def _on_verdict(self) -> None:
        self._judged.set()
        self._carrier.look()

    async def _verdict_loop(self) -> None:
        """HAProxy is told of servers that are ill."""
        while True:
            await self._judged.wait()
            self._judged.clear()
            if not await self._control.heed(self._checks.verdicts(self._control.services.values())):
                asyncio.get_running_loop().call_later(FAILURE_RETRY_S, self._judged.set)
            self._meter.wake()

    # --- the guard ---

    def _on_changed(self, message: Changed) -> None:
        what = message.ownership
        if what.owner:
            self._owned[what.vip] = messages.Owned(vip=what.vip, claim=what.claim)
        else:
            self._owned.pop(what.vip, None)
        self._session.say(what if what.at else msgspec.structs.replace(what, at=time.time()))

    def _on_report(self, report: Report) -> None:
        self._report = report
        self._peers = report.peers
        self._owned = {owned.vip: owned for owned in report.owned}

    def _on_heard(self, heard: Heard) -> None:
        self._peers = heard.peers

    # --- the controller ---

    def _on_link(self, up: bool, controller: str) -> None:
        self._recorder.record("controller", text=f"{'reached' if up else 'lost'} {controller}")

    def _hello(self) -> messages.Hello:
        self._untold = True  # the controller may know nothing of the servers
        return messages.Hello(
            wire_version=messages.WIRE_VERSION,
            engine=self.config.id,
            software=__version__,
            incarnation=self._incarnation,
            address=self.config.address,
            mac=self.config.mac,
            root=self._applied or "",
            kept=self._parts.kept,
            parts=self._parts.hashes,
            owned=tuple(self._owned.values()),
            recorder=True,
            captures=True,
            probes=True,
            shares=self._guard.shares.vips,
        )

    # --- figures ---

    async def _measure_loop(self) -> None:
        due = favour_due = 0.0
        told: tuple[object, ...] = ()
        while True:
            await asyncio.sleep(MEASURE_INTERVAL_S)
            self._recorder.alive(time.monotonic_ns())
            self._client_logs.read(self._control.services)
            favours = self._favours and time.monotonic() >= favour_due
            if favours:
                favour_due = time.monotonic() + FAVOUR_INTERVAL_S
                self._meter.wake()
            await self._meter.look()
            if favours:
                await self._favour()
            if not (self._control.services is self._seen_of[0] and self._meter.rows is self._seen_of[1]):
                self._seen_of = self._control.services, self._meter.rows
                self._seen = measure.server_states(*self._seen_of)
                self._untold = True
                if self._meter.rows:
                    down = {ServerId(s.service, s.pool, s.server) for s in self._seen if s.state == "down"}
                    self._carrier.heed(down)
            servers = measure.with_monitors(self._seen, self._checks.ill(self._control.services.values()))
            if servers is not self._servers:
                self._untold = self._untold or servers != self._servers
                self._servers = servers
                self._states = tuple((s.service, s.pool, s.server, s.state) for s in servers)
            self._guard.unready(unready(self._parts.vips(), self._control.services, servers))
            self._carrier.shut(shut(self._control.services, servers))
            self._status = self._measured(await self._busy())
            health, now = (*_health(self._status), self._states), time.monotonic()
            if health != told or now >= due:
                due, told = now + messages.STATUS_INTERVAL_S, health
                self._session.say(self._whole() if self._untold else self._status)
                self._untold = False
            if self._session.client_logs and (logs := self._client_logs.message()) is not None:
                self._session.say(logs)
            counters = self._meter.counters(self._control.services, (os.getpid(), self._guard.pid))
            if counters is not None:
                services = self._client_logs.counted(
                    await self._carrier.counted(counters.services, self._mirror.elsewhere)
                )
                vips = await self._packets.counted()
                self._session.say(msgspec.structs.replace(counters, services=services, vips=vips))

    async def _favour(self) -> None:
        """Servers get shares by how they do, where pools ask for that."""
        tasks = self._checks.tasks(self._control.services.values())
        await self._control.favour(favour.favours(self._control.rendered.values(), self._meter.rows, tasks))

    async def _busy(self) -> frozenset[str]:
        """Addresses that clients have something of; looked up only while a VIP is drained."""
        if not any(self.config.id in vip.draining for vip in self._parts.vips()):
            return frozenset()
        return measure.connected_addresses() | await self._carrier.busy(self._mirror.elsewhere)

    def _measured(self, busy: frozenset[str]) -> messages.Status:
        """Without servers and services. ``busy``: `_busy`."""
        report = self._report
        cpu, memory = self._cost.read([os.getpid(), self._control.process.worker])
        draining = [vip for vip in self._parts.vips() if self.config.id in vip.draining]
        since, now = self._draining_since, time.monotonic()
        self._draining_since = {vip.id: since.get(vip.id, now) for vip in draining if vip.route is not None}
        left = [v for v in draining if now - self._draining_since.get(v.id, -WITHDRAWN_AFTER_S) >= WITHDRAWN_AFTER_S]
        return messages.Status(
            root=self._applied or "",
            haproxy=bool(self._meter.rows),
            link=report.link if report else True,
            owned=tuple(self._owned.values()),
            peers=self._peers,
            cpu_percent=round(cpu, 1),
            memory_mb=round(memory, 1),
            bgp=self._speaker.peers,
            gateways=self._gateways.states,
            drained=tuple(vip.id for vip in left if busy.isdisjoint(map(measure.plain, vip.addresses))),
            partial=True,
        )

    def _whole(self) -> messages.Status:
        services = measure.service_stats(self._control.services, self._meter.rows)
        return msgspec.structs.replace(self._status, servers=self._servers, services=services, partial=False)


def _found(sockets: tuple[Sockets, ...]) -> list[bytes]:
    try:
        return [one for where in sockets for one in find([where.address], where.ports)]
    except OSError as error:
        log.warning("connections can't be listed: %s", error)
        return []


def _folder_in_memory(config: EngineConfig) -> Path:
    """The one in memory may be gone since the machine has booted anew."""
    if config.recorder:
        try:
            return ring.folder(Path(config.recorder))
        except OSError as error:
            log.warning("flight recorder and keys are in %s: %s", config.directory, error)
    return Path(config.directory)


def _health(status: messages.Status) -> tuple[object, ...]:
    """What the controller should hear of at once, beside the servers' states."""
    return status.haproxy, status.link, status.owned, status.drained, status.bgp, status.gateways


def _set_sysctls() -> None:
    """In the engine's own network namespace."""
    for name, value in SYSCTLS.items():
        try:
            Path(f"/proc/sys/net/{name}").write_text(value)
        except OSError as error:
            log.warning("sysctl net/%s: %s", name, error)


def _socket_folder(directory: str) -> str:
    """The engine's directory, or a short one in /run when paths there would be too long for a Unix socket."""
    if len(directory.encode()) <= SOCKET_FOLDER_CHARACTERS_MAX:
        return directory
    short = hashlib.blake2b(directory.encode(), digest_size=6).hexdigest()
    folder = Path(f"/run/shoal-{short}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)
