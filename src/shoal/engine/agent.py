"""The agent: keeps HAProxy and the guard in line with the desired state, and the controller informed.

It needs no controller to go on serving. Three tasks: `_apply_loop` owns HAProxy, `_session_loop` the controller's
link, `_measure_loop` the figures; the guard's link runs beside them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import resource
import time
import uuid
from pathlib import Path

import msgspec

from shoal import __version__
from shoal.wire import messages
from shoal.wire.channel import Channel, ChannelClosed, ProtocolError, connect
from shoal.wire.desired import Manifest
from shoal.wire.engine_config import EngineConfig
from shoal.wire.guard import Changed, Desired, GuardStart, Report
from shoal.wire.tls import engine_context

from .guard_link import GuardLink
from .haproxy import render, runtime
from .haproxy.control import Control
from .haproxy.process import Broken
from .measure import Cost, server_states, service_stats
from .parts import Parts

log = logging.getLogger("shoal.agent")

APPLY_INTERVAL_S = 0.5
"""A burst's first change is applied at once, the others at least this far apart."""
MEASURE_INTERVAL_S = 0.5
RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 1.0
OUTBOX_MAX = 1000
WATCH_INTERVAL_S = 0.05
SOCKET_PATH_MAX = 90
SYSCTLS = {"ipv4/ip_nonlocal_bind": "1", "ipv4/ip_local_port_range": "10000 65000", "core/somaxconn": "8192"}


class Agent:
    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        directory = Path(config.directory)
        self._parts = Parts(directory / "desired.msgpack")
        self._facts = render.Facts(
            directory=config.directory,
            sockets=_socket_folder(config),
            descriptors_max=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )
        self._control = Control(self._facts)
        self._incarnation = uuid.uuid4().hex
        self._guard = GuardLink(
            GuardStart(
                engine=config.id,
                rank=config.rank,
                directory=self._facts.sockets,
                interface=config.interface,
                address=config.address,
                haproxy_socket=render.alive_socket(self._facts),
            ),
            self._on_changed,
            self._on_report,
        )
        self._wanted = asyncio.Event()
        self._due_at = 0.0
        self._applied = ""
        self._report: Report | None = None
        self._outbox: asyncio.Queue[messages.FromEngine] = asyncio.Queue(OUTBOX_MAX)
        self._manifest: Manifest | None = None
        self._status: messages.Status | None = None
        self._cost = Cost()
        self._link: Channel[messages.FromController] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        _set_sysctls()
        self._parts.restore()
        self._wanted.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._guard.run())
            tasks.create_task(self._apply_loop())
            tasks.create_task(self._session_loop())
            tasks.create_task(self._measure_loop())

    async def leave(self) -> None:
        """A clean stop: peers take over before HAProxy closes."""
        guard = asyncio.create_task(self._guard.run())
        await self._guard.stop()
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)
        self._control.process.stop()

    # --- HAProxy ---

    async def _apply_loop(self) -> None:
        while True:
            try:
                async with asyncio.timeout(WATCH_INTERVAL_S):
                    await self._wanted.wait()
            except TimeoutError:
                if self._control.process.running() or not self._applied:
                    continue
                log.warning("HAProxy has ended; starting it again")
            wait = self._due_at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            self._wanted.clear()
            await self._apply()

    async def _apply(self) -> None:
        root, began = self._parts.root, time.monotonic()
        vips = self._parts.vips()
        try:
            result = await self._control.apply(self._parts.services(), self._parts.certificates())
        except Broken as error:
            log.error("HAProxy can't be brought in line: %s", error)
            self._due_at = time.monotonic() + APPLY_INTERVAL_S
            self._wanted.set()
            return
        if result.how in ("reload", "start"):
            self._due_at = began + APPLY_INTERVAL_S
        settings = self._parts.settings()
        if settings is not None:
            self._guard.want(
                Desired(
                    timing=settings.timing,
                    peers=settings.peers,
                    vips=vips,
                    slots_max=settings.slots_max,
                    gateway=settings.gateway,
                )
            )
        self._applied = root or "none"
        took_ms = (time.monotonic() - began) * 1000
        problems = tuple(messages.PartProblem(f"service/{id}", why) for id, why in result.problems.items())
        self._say(messages.Applied(root=root, how=result.how, took_ms=took_ms, problems=problems))
        log.info("applied %s by %s in %.0f ms, %d services", root, result.how, took_ms, len(self._control.services))

    # --- the guard ---

    def _on_changed(self, message: Changed) -> None:
        self._say(msgspec.structs.replace(message.ownership, at=time.time()))

    def _on_report(self, report: Report) -> None:
        self._report = report

    # --- the controller ---

    def _say(self, message: messages.FromEngine) -> None:
        """Queue for the controller; with none connected only the newest matter, and `Hello` carries those."""
        if self._link is None:
            return
        if self._outbox.full():
            self._outbox.get_nowait()
        self._outbox.put_nowait(message)

    async def _session_loop(self) -> None:
        delay = RECONNECT_FIRST_S
        context = engine_context(Path(self.config.directory))
        while True:
            for controller in self.config.controllers:
                host, _, port = controller.rpartition(":")
                try:
                    link = await connect(host, int(port), context)
                except (OSError, ChannelClosed, ProtocolError) as error:
                    log.info("controller %s: %s", controller, error)
                    continue
                began = time.monotonic()
                try:
                    await self._session(link)
                except* (OSError, ChannelClosed, ProtocolError) as ended:
                    log.info("controller %s: %s", controller, ended.exceptions[0])
                finally:
                    self._link = None
                    await link.close()
                if time.monotonic() - began > RECONNECT_MAX_S:
                    delay = RECONNECT_FIRST_S
            await asyncio.sleep(delay * (0.5 + random.random()))
            delay = min(delay * 2, RECONNECT_MAX_S)

    async def _session(self, link: Channel[messages.FromController]) -> None:
        while not self._outbox.empty():
            self._outbox.get_nowait()
        await link.send(self._hello())
        self._link = link
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(link))
            tasks.create_task(self._receive(link))

    def _hello(self) -> messages.Hello:
        return messages.Hello(
            wire_version=messages.WIRE_VERSION,
            engine=self.config.id,
            software=__version__,
            incarnation=self._incarnation,
            address=self.config.address,
            mac=self.config.mac,
            root=self._parts.root if self._applied == self._parts.root else "",
            parts=self._parts.hashes if self._applied == self._parts.root else (),
            owned=self._report.owned if self._report else (),
        )

    async def _send(self, link: Channel[messages.FromController]) -> None:
        while True:
            try:
                async with asyncio.timeout(messages.STATUS_INTERVAL_S):
                    message = await self._outbox.get()
            except TimeoutError:
                message = self._status or messages.Status(root=self._applied, haproxy=False, link=True)
            await link.send(message)

    async def _receive(self, link: Channel[messages.FromController]) -> None:
        while True:
            message = await link.receive()
            match message:
                case messages.State():
                    self._manifest = message.manifest
                    self._parts.offer(message.inline)
                    await self._advance(link)
                case messages.Parts():
                    self._parts.offer(message.parts)
                    await self._advance(link)
                case messages.Rejected():
                    raise ChannelClosed(f"the controller rejects this engine: {message.why}")
                case _:
                    pass

    async def _advance(self, link: Channel[messages.FromController]) -> None:
        """Take the newest manifest on as soon as all its parts are here."""
        if self._manifest is None:
            return
        lacking = self._parts.lacking(self._manifest)
        if lacking:
            await link.send(messages.Fetch(lacking))
            return
        self._parts.accept(self._manifest)
        self._manifest = None
        self._wanted.set()

    # --- figures ---

    async def _measure_loop(self) -> None:
        due = 0.0
        while True:
            await asyncio.sleep(MEASURE_INTERVAL_S)
            try:
                rows = await runtime.rows(render.admin_socket(self._facts))
            except runtime.RuntimeFailure:
                rows = []
            before, self._status = self._status, self._measured(rows)
            changed = (
                before is None or _health(before) != _health(self._status) or before.drained != self._status.drained
            )
            if changed or time.monotonic() >= due:
                due = time.monotonic() + messages.STATUS_INTERVAL_S
                self._say(self._status)

    def _measured(self, rows: list[runtime.Row]) -> messages.Status:
        services = self._control.services
        stats = service_stats(services, rows)
        busy = {services[s.service].vip for s in stats if s.connections}
        draining = [vip.id for vip in self._parts.vips() if self.config.id in vip.draining]
        cpu, memory = self._cost.read([os.getpid(), self._control.process.worker])
        report = self._report
        return messages.Status(
            root=self._applied,
            haproxy=bool(rows),
            link=report.link if report else True,
            owned=report.owned if report else (),
            servers=server_states(services, rows),
            services=stats,
            peers=report.peers if report else (),
            cpu_percent=round(cpu, 1),
            memory_mb=round(memory, 1),
            drained=tuple(vip for vip in draining if vip not in busy),
        )


def _health(status: messages.Status) -> tuple[object, ...]:
    return status.haproxy, status.link, status.owned, tuple((s.service, s.server, s.state) for s in status.servers)


def _set_sysctls() -> None:
    """In the engine's own network namespace."""
    for name, value in SYSCTLS.items():
        try:
            Path(f"/proc/sys/net/{name}").write_text(value)
        except OSError as error:
            log.warning("sysctl net/%s: %s", name, error)


def _socket_folder(config: EngineConfig) -> str:
    """The engine's directory, or a short one in /run when paths there would be too long for a Unix socket."""
    if len(config.directory) <= SOCKET_PATH_MAX:
        return config.directory
    short = hashlib.blake2b(config.directory.encode(), digest_size=6).hexdigest()
    folder = Path(f"/run/shoal-{short}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)
