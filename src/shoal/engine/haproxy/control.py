"""Brings HAProxy in line with the services wanted, in the cheapest way that is enough: nothing, runtime API, reload."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from shoal.wire.desired import Certificate, Service

from . import carry, render, runtime, steer
from .escape import Unrenderable, word
from .process import Broken, Process
from .render import Facts, Fragment

log = logging.getLogger("shoal.haproxy")

REFUSED_BINDS_MAX = 8
"""Services set aside one after another because their address can't be bound, before giving up."""
Reloading = Callable[[], contextlib.AbstractAsyncContextManager[None]]
_FRONTEND = re.compile(r"\bvs_(?P<service>[A-Za-z0-9_.:-]+)")


class Result(msgspec.Struct, frozen=True):
    """``how``: none, runtime, reload or start. ``problems``: service id -> why it is not served; ``notes``: service
    id -> how it is served otherwise than asked for."""

    how: str
    problems: dict[str, str]
    notes: dict[str, str] = {}


class Control:
    """One owner: the agent's apply task. A reload happens inside ``reloading()``."""

    def __init__(self, facts: Facts, reloading: Reloading = contextlib.nullcontext) -> None:
        self.facts = facts
        self.reloading = reloading
        self.process = Process(facts)
        self._services: dict[str, Service] = {}
        self._config = ""
        self._drawn: dict[str, tuple[Service, Fragment]] = {}
        self._refused: dict[str, str] = {}
        self._drains: dict[tuple[str, str], asyncio.TimerHandle | None] = {}
        self._ending: set[asyncio.Task[bool]] = set()

    @property
    def services(self) -> Mapping[str, Service]:
        """What is served now."""
        return self._services

    async def apply(self, services: Mapping[str, Service], certificates: Mapping[str, Certificate]) -> Result:
        """Serve exactly these. One that can't be is set aside with its reason; the others are served.

        Raises Broken when HAProxy can't be brought to serve at all.
        """
        if self._write_certificates(certificates):
            self._config = ""
            self._refused.clear()
        fragments, problems = self._fragments(services)
        config = render.config(self.facts, fragments)
        alive = self.process.running() or await self._adopt(config)
        if alive and config == self._config:
            how = "none"
            if not self._services:
                self._resume(services, problems)
        elif alive and self._config and await self._steer(_without(services, problems), config):
            how = "runtime"
        else:
            how, config, refused = await self._load(services, fragments, problems, alive)
            problems = {**problems, **refused}
        self._config = config
        self._services = _without(services, problems)
        self._account((), [key for key in self._drains if key[0] not in self._services])
        self._forget_certificates(certificates)
        notes = {id: " ".join(fragments[id].notes) for id in self._services if fragments[id].notes}
        return Result(how, problems, notes)

    def _fragments(self, services: Mapping[str, Service]) -> tuple[dict[str, Fragment], dict[str, str]]:
        drawn: dict[str, tuple[Service, Fragment]] = {}
        serving_first = sorted(services.values(), key=lambda s: (s.id not in self._services, s.id))
        problems = render.overlaps(serving_first)
        for id, service in services.items():
            if id in problems:
                continue
            known = self._drawn.get(id)
            try:
                fragment = known[1] if known and known[0] is service else render.service_fragment(service, self.facts)
            except Unrenderable as error:
                problems[id] = str(error)
                continue
            if fragment.text in self._refused:
                problems[id] = self._refused[fragment.text]
            else:
                drawn[id] = service, fragment
        self._drawn = drawn
        return {id: fragment for id, (_, fragment) in drawn.items()}, problems

    # --- adopting ---

    async def _adopt(self, config: str) -> bool:
        """Take over an HAProxy that an earlier agent left; if it runs this very file, nothing needs doing."""
        if not await self.process.adopt():
            return False
        self._config = config if self.process.runs(config) else ""
        return True

    def _resume(self, services: Mapping[str, Service], problems: Mapping[str, str]) -> None:
        """Drains that were under way when the earlier agent ended begin anew, with their whole time."""
        for id, service in _without(services, problems).items():
            for server in service.pool.servers if service.pool else ():
                if not server.enabled and service.pool and service.pool.graceful_disable_s > 0:
                    self._begin(steer.Drain(id, server.name, service.pool.graceful_disable_s))

    # --- the runtime way ---

    async def _steer(self, wanted: dict[str, Service], config: str) -> bool:
        steering = steer.steer(self._services, wanted)
        if steering is None or not await self._run(steering.commands):
            return False
        self.process.write(config)
        self._account(steering.begin, steering.end)
        return True

    async def _run(self, commands: Iterable[steer.Command]) -> bool:
        """False when HAProxy refused one (the caller then reloads)."""
        for command in commands:
            try:
                answer = await runtime.command(render.admin_socket(self.facts), command.text)
            except runtime.RuntimeFailure as error:
                log.warning("%s: %s", command.text, error)
                return False
            if not answer.startswith(command.answer) if command.answer else answer:
                log.info("%s: %s", command.text, answer)
                return False
        return True

    def _account(self, begin: Iterable[steer.Drain], end: Iterable[tuple[str, str]]) -> None:
        for key in end:
            handle = self._drains.pop(key, None)
            if handle is not None:
                handle.cancel()
        for drain in begin:
            self._begin(drain)

    def _begin(self, drain: steer.Drain) -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            self._drains.pop((drain.service, drain.server), None)
            task = loop.create_task(self._run(steer.cut(drain.service, drain.server)))
            self._ending.add(task)  # the loop holds tasks only weakly
            task.add_done_callback(self._ending.discard)

        key = drain.service, drain.server
        before = self._drains.pop(key, None)
        if before is not None:
            before.cancel()
        self._drains[key] = loop.call_later(drain.seconds, end) if drain.seconds > 0 else None

    # --- the way of a reload ---

    async def _load(
        self, services: Mapping[str, Service], fragments: dict[str, Fragment], problems: Mapping[str, str], alive: bool
    ) -> tuple[str, str, dict[str, str]]:
        """(how, what now runs, service id -> HAProxy's words for those it refused)"""
        refused = await self._refusals(fragments)
        for _ in range(REFUSED_BINDS_MAX):
            good = {id: text for id, text in fragments.items() if id not in refused}
            config = render.config(self.facts, good)
            begin, end = steer.drains(self._services, _without(services, {**problems, **refused}))
            try:
                if alive:
                    self._account(begin, end)
                    await self._carry_states(_without(services, {**problems, **refused}))
                    async with self.reloading():
                        await self.process.reload(config)
                    return "reload", config, refused
                await self.process.start(config)
            except Broken as error:
                culprits = self._culprits(good, str(error))
                if not culprits:
                    raise
                refused.update(culprits)
                alive = self.process.running()
                continue
            return "start", config, refused
        raise Broken(f"More than {REFUSED_BINDS_MAX} virtual services can't be bound.")

    async def _carry_states(self, wanted: Mapping[str, Service]) -> None:
        try:
            state = await runtime.command(render.admin_socket(self.facts), "show servers state")
        except runtime.RuntimeFailure as error:
            log.warning("servers' states are not carried over: %s", error)
            state = ""
        text = carry.carried(state, self._services, wanted, self._drains.keys())
        Path(render.state_file(self.facts)).write_text(text)

    def _culprits(self, fragments: Mapping[str, Fragment], why: str) -> dict[str, str]:
        """The services HAProxy names when it can't bind their address (``haproxy -c`` does not try)."""
        by_name = {word(id): id for id in fragments}
        named = [by_name[m["service"]] for m in _FRONTEND.finditer(why) if m["service"] in by_name]
        return dict.fromkeys(named[:1], why)

    async def _refusals(self, fragments: Mapping[str, Fragment]) -> dict[str, str]:
        """Service id -> HAProxy's words; remembered, so that an unchanged bad one costs nothing the next time."""
        if not fragments:
            return {}
        try:
            await self.process.check(render.config(self.facts, fragments))
            return {}
        except Broken as error:
            refused = await self._bisect(list(fragments), fragments, str(error))
        if not refused:
            raise Broken("HAProxy refuses the virtual services together, but each half of them passes.")
        self._refused.update({fragments[id].text: why for id, why in refused.items()})
        return refused

    async def _bisect(self, ids: list[str], fragments: Mapping[str, Fragment], why: str) -> dict[str, str]:
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

    # --- certificates ---

    def _write_certificates(self, certificates: Mapping[str, Certificate]) -> bool:
        """True when one is new or changed."""
        changed = False
        for certificate in certificates.values():
            path = Path(render.certificate_path(self.facts, certificate.id))
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if not path.exists() or path.read_text() != certificate.pem:
                fresh = path.with_suffix(".new")
                fresh.touch(mode=0o600)
                fresh.write_text(certificate.pem)
                fresh.replace(path)
                changed = True
        return changed

    def _forget_certificates(self, certificates: Mapping[str, Certificate]) -> None:
        """No key stays that no one asks for."""
        wanted = {Path(render.certificate_path(self.facts, id)).name for id in certificates}
        for path in (Path(self.facts.directory) / "certificates").glob("*.pem"):
            if path.name not in wanted:
                path.unlink()


def _without(services: Mapping[str, Service], problems: Mapping[str, str]) -> dict[str, Service]:
    return {id: service for id, service in services.items() if id not in problems}
