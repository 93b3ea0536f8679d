"""Brings HAProxy in line with the services wanted, in the cheapest way that is enough: nothing, runtime API, reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shoal.wire.desired import Certificate, Server, Service

from . import render, runtime
from .escape import Unrenderable, word
from .process import Broken, Process
from .render import Facts

log = logging.getLogger("shoal.haproxy")


class Result(msgspec.Struct, frozen=True):
    """``how``: none, runtime, reload or start. ``problems``: service id -> why it is not served."""

    how: str
    problems: dict[str, str]


class Control:
    """One owner: the agent's apply task."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.process = Process(facts)
        self._services: dict[str, Service] = {}
        self._problems: dict[str, str] = {}
        self._config = ""
        self._drains: dict[tuple[str, str], asyncio.TimerHandle] = {}

    @property
    def services(self) -> Mapping[str, Service]:
        """What is served now."""
        return self._services

    async def apply(self, services: Mapping[str, Service], certificates: Mapping[str, Certificate]) -> Result:
        """Serve exactly these. One that can't be is set aside with its reason; the others are served."""
        self._write_certificates(certificates)
        fragments, problems = self._fragments(services)
        config = render.config(self.facts, fragments)
        alive = self.process.running() or self.process.adopt()
        if alive and config == self._config:
            return Result("none", problems)
        commands = self._runtime_commands(services, problems) if alive and self._config else None
        if commands is not None and await self._run(commands):
            self.process.write(config)
            how = "runtime"
        else:
            how, config, problems = await self._load(fragments, problems, alive)
        self._config, self._problems = config, problems
        self._services = {id: service for id, service in services.items() if id not in problems}
        return Result(how, problems)

    def _fragments(self, services: Mapping[str, Service]) -> tuple[dict[str, str], dict[str, str]]:
        fragments, problems = {}, {}
        for id, service in services.items():
            try:
                fragments[id] = render.service_fragment(service, self.facts)
            except Unrenderable as error:
                problems[id] = str(error)
        return fragments, problems

    async def _load(
        self, fragments: dict[str, str], problems: dict[str, str], alive: bool
    ) -> tuple[str, str, dict[str, str]]:
        config = render.config(self.facts, fragments)
        try:
            await self.process.check(config)
        except Broken as error:
            refused = await self._bisect(list(fragments), fragments, str(error))
            problems = {**problems, **refused}
            fragments = {id: text for id, text in fragments.items() if id not in refused}
            config = render.config(self.facts, fragments)
        if alive:
            await self.process.reload(config)
            return "reload", config, problems
        await self.process.start(config)
        return "start", config, problems

    async def _bisect(self, ids: list[str], fragments: Mapping[str, str], why: str) -> dict[str, str]:
        """Which of these services HAProxy refuses, and its words for each."""
        if len(ids) <= 1:
            return dict.fromkeys(ids, why)
        refused: dict[str, str] = {}
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            try:
                await self.process.check(render.config(self.facts, {id: fragments[id] for id in half}))
            except Broken as error:
                refused.update(await self._bisect(half, fragments, str(error)))
        return refused

    def _write_certificates(self, certificates: Mapping[str, Certificate]) -> None:
        folder = Path(self.facts.directory) / "certificates"
        folder.mkdir(mode=0o700, exist_ok=True)
        for certificate in certificates.values():
            path = Path(render.certificate_path(self.facts, certificate.id))
            if not path.exists() or path.read_text() != certificate.pem:
                path.touch(mode=0o600)
                path.write_text(certificate.pem)
                self._config = ""

    # --- the runtime way ---

    def _runtime_commands(self, services: Mapping[str, Service], problems: Mapping[str, str]) -> list[str] | None:
        """The commands that lead from what is served to ``services``; None when only a reload can."""
        wanted = {id: service for id, service in services.items() if id not in problems}
        if wanted.keys() != self._services.keys():
            return None
        commands: list[str] = []
        for id, service in wanted.items():
            before = self._services[id]
            if service == before:
                continue
            if _without_servers(service) != _without_servers(before) or not service.pool or not before.pool:
                return None
            old = {server.name: server for server in before.pool.servers}
            if [s.name for s in service.pool.servers] != list(old):
                return None
            for server in service.pool.servers:
                commands += self._server_commands(service, old[server.name], server)
        return commands

    def _server_commands(self, service: Service, old: Server, new: Server) -> list[str]:
        assert service.pool is not None
        name = f"{render.backend_name(service.id)}/{word(new.name)}"
        commands = []
        if new.ratio != old.ratio:
            commands.append(f"set server {name} weight {int(new.ratio)}")
        if new.enabled and not old.enabled:
            commands.append(f"set server {name} state ready")
            self._cancel_drain(service.id, new.name)
        if old.enabled and not new.enabled:
            graceful = service.pool.graceful_disable_s
            if graceful == 0:
                commands += [f"set server {name} state maint", f"shutdown sessions server {name}"]
            else:
                commands.append(f"set server {name} state drain")
                if graceful > 0:
                    self._end_drain_later(service.id, new.name, name, graceful)
        return commands

    def _end_drain_later(self, service: str, server: str, name: str, seconds: int) -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            self._drains.pop((service, server), None)
            commands = [f"set server {name} state maint", f"shutdown sessions server {name}"]
            task = loop.create_task(self._run(commands))
            task.add_done_callback(lambda done: done.exception())

        self._cancel_drain(service, server)
        self._drains[service, server] = loop.call_later(seconds, end)

    def _cancel_drain(self, service: str, server: str) -> None:
        handle = self._drains.pop((service, server), None)
        if handle is not None:
            handle.cancel()

    async def _run(self, commands: list[str]) -> bool:
        """False when HAProxy refused one (the caller then reloads)."""
        for text in commands:
            try:
                answer = await runtime.command(render.admin_socket(self.facts), text)
            except runtime.RuntimeFailure as error:
                log.warning("%s: %s", text, error)
                return False
            if answer:
                log.warning("%s: %s", text, answer)
                return False
        return True


def _without_servers(service: Service) -> Service:
    if service.pool is None:
        return service
    bare = tuple(msgspec.structs.replace(server, ratio=1, enabled=True) for server in service.pool.servers)
    return msgspec.structs.replace(service, pool=msgspec.structs.replace(service.pool, servers=bare))
