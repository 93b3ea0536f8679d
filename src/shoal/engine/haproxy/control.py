"""Brings HAProxy in line with the services wanted, in the cheapest way that is enough: nothing, runtime API, reload."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import operator
import re
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from shoal.engine.monitors.runners import by_haproxy
from shoal.wire.desired import Credential, Pool, ServerId, Service
from shoal.wire.networks import Networks

from . import carry, certificates, favour, lists, monitors, render, runtime, server_modes, steer, tls
from . import servers as names
from .escape import Unrenderable, backend_name, word
from .favour import Favour
from .marks import Marks
from .process import Broken, Process
from .render import Facts, Fragment

log = logging.getLogger("shoal.haproxy")

FAVOURS_MAX = 200
"""Weights changed at a time: the others have their turn the next."""
DELETE_AGAIN_AFTER_S = 1.0
"""A removed server that still has connections is asked about this often."""
FAILED_LOADS_MAX = 9
"""In a row, each without the services that the one before failed for; then the agent gives up for a moment."""
EMPTY: Mapping[str, Networks] = {}
Reloading = Callable[[], contextlib.AbstractAsyncContextManager[None]]
Drawn = tuple[Service, ...]
"""A virtual service, and its virtual hosts."""
_FRONTEND = re.compile(r"\b(vs|sni|evh)_(?P<service>[A-Za-z0-9_.:-]+)")


class Result(msgspec.Struct, frozen=True):
    """``how``: none, map, runtime, certificate, reload or start. ``problems``: service id -> why it is not served; ``notes``: service
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
        self._marks = Marks(facts)
        self._services: dict[str, Service] = {}
        """As HAProxy has them (`server_modes.expanded`)."""
        self._served: dict[str, Service] = {}
        """The same, as they are wanted."""
        self._expanded: dict[str, tuple[Service, Service]] = {}
        self._config = ""
        self._drawn: dict[str, tuple[Drawn, Fragment]] = {}
        self._refused: dict[str, str] = {}
        self._drains: dict[ServerId, asyncio.TimerHandle | None] = {}
        self._lingering: dict[ServerId, tuple[str, int]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._told: dict[ServerId, bool] | None = {}
        """Whether the worker was told that a server, as it knows it, is ill; those it was told nothing of are not there. None
        = what an earlier agent has told it is not known."""
        self._favoured: dict[ServerId, int] = {}
        """Weights that were given since the worker has those of its file, or of a change."""
        self._favoured_at: dict[tuple[str, str], float] = {}
        """By service and pool."""
        self._turn = asyncio.Lock()
        """Between the apply task and the timers that end drains and delete removed servers."""

    @property
    def services(self) -> Mapping[str, Service]:
        """What is served now."""
        return self._served

    @property
    def rendered(self) -> Mapping[str, Service]:
        """The same as HAProxy has it: some pools have two parts."""
        return self._services

    async def apply(
        self,
        services: Mapping[str, Service],
        credentials: Collection[Credential],
        draining: Collection[str] = (),
        networks: Mapping[str, Networks] = EMPTY,
    ) -> Result:
        """Serve exactly these. One that can't be is set aside with its reason; the others are served. ``draining`` are
        ids of VIPs whose clients are to go elsewhere; ``networks`` the lists that rules name.

        Raises Broken when HAProxy can't be brought to serve at all, Crowded when a reload has to wait.
        """
        async with self._turn:
            if fresh := lists.lacking(self.facts, networks):
                await asyncio.to_thread(lists.write, self.facts, fresh)
            result = await self._apply(services, certificates.files(credentials, services.values()), draining)
            lists.forget_others(self.facts, networks)
            return result

    async def heed(self, verdicts: Mapping[ServerId, str]) -> bool:
        """What the agent's own monitors say: "" or what is wrong. False = HAProxy was not reached."""
        async with self._turn:
            mine = {id: known for id, known in self._judged_servers() if id in verdicts}
            found = {known: (verdicts[id], pool) for id, (known, pool) in mine.items()}
            if self._told is None:
                self._told = {id: not why for id, (why, _) in found.items()}
            told = self._told
            news = {id: one for id, one in found.items() if told.get(id) != bool(one[0])}
            state = await self._state() if news else ""
            failing, down = carry.failing(state), carry.down(state)
            for id, (why, pool) in news.items():
                place = backend_name(id.service, id.pool), word(id.server)
                checked = bool(by_haproxy(pool)) and place in failing
                # A fresh worker takes all for well but those that were down before it.
                if (why or id in told or place in down) and not await self._run(steer.told(id, why, failing=checked)):
                    return False
                told[id] = bool(why)
            return True

    async def favour(self, favours: Iterable[Favour]) -> None:
        """Servers' shares by how they do; not while anything else is under way."""
        if self._turn.locked():
            return
        async with self._turn:
            now, left = asyncio.get_running_loop().time(), FAVOURS_MAX
            for one in favours:
                if now - self._favoured_at.get((one.service, one.pool), -math.inf) < one.every_s:
                    continue
                self._favoured_at[one.service, one.pool] = now
                for id, weight in one.weights.items():
                    if favour.changed(self._favoured.get(id), weight):
                        if not left or not await self._run([steer.weighed(id, weight)]):
                            return
                        self._favoured[id] = weight
                        left -= 1

    def _judged_servers(self) -> Iterator[tuple[ServerId, tuple[ServerId, Pool]]]:
        """Those that the worker has verdicts of the agent on, and what it knows them by."""
        for service in self._services.values():
            if not all(port.carried for port in service.listeners):
                for pool in filter(monitors.is_told, service.pools):
                    for server in pool.servers:
                        id = ServerId(service.id, pool.id, server.name)
                        yield id, (names.known(id, server), pool)

    async def _apply(
        self, asked: Mapping[str, Service], wanted: certificates.Files, draining: Collection[str]
    ) -> Result:
        self._marks.write(draining)
        written = certificates.write(self.facts, wanted)
        if written.fresh or written.replaced:
            self._refused.clear()
        services = self._as_rendered(asked)
        fragments, problems = self._fragments(services)
        config = render.config(self.facts, fragments)
        render.write_pages(self.facts, fragments.values())
        alive = self.process.running() or await self._adopt(config)
        replaced = await self._replace(written, wanted) if alive and self._config else False
        if alive and config == self._config:
            how = "certificate" if replaced else "none"
            if not self._services:
                await self._resume(services, problems)
        elif alive and self._config and await self._steer(_without(services, problems), config):
            how = "certificate" if replaced else "runtime"
        else:
            how, config, refused = await self._load(services, fragments, problems, alive)
            self._marks.loaded(draining)
            self._told = {}
            problems = {**problems, **refused}
        if how not in ("none", "certificate"):
            self._favoured.clear()
            self._favoured_at.clear()
        if await self._marks.put(draining) and how == "none":
            how = "map"
        self._config = config
        self._services, self._served = _without(services, problems), _without(asked, problems)
        self._account((), [id for id in self._drains if id.service not in self._services])
        if self._told:
            known = {names.known(id, server) for one in self._services.values() for id, _, server in one.servers}
            self._told = {id: ill for id, ill in self._told.items() if id in known or id in self._lingering}
        certificates.forget_others(self.facts, wanted)
        notes = {id: " ".join(fragments[id].notes) for id in self._services if fragments[id].notes}
        return Result(how, {**_orphans(self._services), **problems}, notes)

    def _as_rendered(self, services: Mapping[str, Service]) -> dict[str, Service]:
        """The very same objects for the same ones: what has not changed is known by that."""
        known = self._expanded
        self._expanded = {
            id: known[id] if id in known and known[id][0] is service else (service, server_modes.expanded(service))
            for id, service in services.items()
        }
        return {id: expanded for id, (_, expanded) in self._expanded.items()}

    def _fragments(self, services: Mapping[str, Service]) -> tuple[dict[str, Fragment], dict[str, str]]:
        drawn: dict[str, tuple[Drawn, Fragment]] = {}
        children: dict[str, list[Service]] = {}
        for _, service in sorted(services.items()):
            if service.parent:
                children.setdefault(service.parent, []).append(service)
        serving_first = sorted(services.values(), key=lambda s: (s.id not in self._services, s.id))
        problems = render.overlaps(serving_first)
        for id, service in services.items():
            if id in problems:
                continue
            whole = (service, *children.get(id, ()))
            known = self._drawn.get(id)
            try:
                same = known is not None and len(known[0]) == len(whole) and all(map(operator.is_, known[0], whole))
                fragment = known[1] if known and same else render.service_fragment(service, self.facts, whole[1:])
            except Unrenderable as error:
                problems[id] = str(error)
                continue
            if fragment.text in self._refused:
                problems[id] = self._refused[fragment.text]
            else:
                drawn[id] = whole, fragment
        self._drawn = drawn
        return {id: fragment for id, (_, fragment) in drawn.items()}, problems

    # --- adopting ---

    async def _adopt(self, config: str) -> bool:
        """Take over an HAProxy that an earlier agent left; if it runs this very file, nothing needs doing."""
        if not await self.process.adopt():
            return False
        self._config = config if self.process.runs(config) else ""
        self._told = None
        return True

    async def _resume(self, services: Mapping[str, Service], problems: Mapping[str, str]) -> None:
        """What was under way when the earlier agent ended: drains begin anew, with their whole time; servers that were
        removed and still had connections are deleted once they have none."""
        state = await self._state()
        for service in _without(services, problems).values():
            for pool in service.pools:
                known = {names.name(server) for server in pool.servers}
                found = carry.present(state, backend_name(service.id, pool.id))
                self._lingering |= {ServerId(service.id, pool.id, name): at for name, at in found if name not in known}
            for id, pool, server in service.servers:
                if not server.enabled and pool.graceful_disable_s > 0:
                    self._begin(steer.Drain(names.known(id, server), pool.graceful_disable_s))
        self._delete_later()

    # --- the runtime way ---

    async def _replace(self, written: certificates.Written, wanted: certificates.Files) -> bool:
        """True when files in use were exchanged; when that fails, `_config` says that a reload is due."""
        in_use = written.replaced.intersection(name for one in self._services.values() for name in tls.uses(one))
        if not in_use:
            # Adopted a moment ago: what the worker has loaded is not known.
            if written.replaced and not self._services:
                self._config = ""
            return False
        if not in_use & written.odd and await certificates.replace(self.facts, {name: wanted[name] for name in in_use}):
            return True
        self._config = ""
        return False

    async def _steer(self, wanted: dict[str, Service], config: str) -> bool:
        await self._delete_lingering()
        steering = steer.steer(self._services, wanted, self._lingering)
        if steering is None or not await self._run(steering.commands):
            return False
        self.process.write(config)
        self._account(steering.begin, steering.end)
        for service in wanted.values():
            for id, _, server in service.servers:
                self._lingering.pop(names.known(id, server), None)
        self._lingering |= {id: (server.address, server.port) for id, server in steering.remove}
        await self._delete_lingering()
        self._delete_later()
        return True

    async def _delete_lingering(self) -> None:
        """Those that have no connection any more."""
        for id in list(self._lingering):
            try:
                answer = await runtime.command(render.admin_socket(self.facts), steer.delete(id).text)
            except runtime.RuntimeFailure:
                return
            if answer.startswith(("Server deleted", "No such")):
                del self._lingering[id]

    def _delete_later(self) -> None:
        if self._lingering and self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(DELETE_AGAIN_AFTER_S, self._soon, self._sweep)

    async def _sweep(self) -> None:
        self._sweeping = None
        async with self._turn:
            await self._delete_lingering()
        self._delete_later()

    def _soon(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.get_running_loop().create_task(work())
        self._ending.add(task)  # the loop holds tasks only weakly
        task.add_done_callback(self._ending.discard)

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

    def _account(self, begin: Iterable[steer.Drain], end: Iterable[ServerId]) -> None:
        for id in end:
            handle = self._drains.pop(id, None)
            if handle is not None:
                handle.cancel()
        for drain in begin:
            self._begin(drain)

    def _begin(self, drain: steer.Drain) -> None:
        loop = asyncio.get_running_loop()

        async def cut() -> None:
            async with self._turn:
                await self._run(steer.cut(drain.server))

        def end() -> None:
            self._drains.pop(drain.server, None)
            self._soon(cut)

        before = self._drains.pop(drain.server, None)
        if before is not None:
            before.cancel()
        self._drains[drain.server] = loop.call_later(drain.seconds, end) if drain.seconds > 0 else None

    # --- the way of a reload ---

    async def _load(
        self, services: Mapping[str, Service], fragments: dict[str, Fragment], problems: Mapping[str, str], alive: bool
    ) -> tuple[str, str, dict[str, str]]:
        """(how, what now runs, service id -> HAProxy's words for those it refused).

        Loading is the check: a master that can't load its file keeps the worker it has. To have it checked beforehand
        by another process would take as long again as the whole reload of a hundred services.
        """
        if alive:
            self.process.make_room()
        refused: dict[str, str] = {}
        for _ in range(FAILED_LOADS_MAX):
            good = {id: text for id, text in fragments.items() if id not in refused}
            config = render.config(self.facts, good)
            begin, end = steer.drains(self._services, _without(services, {**problems, **refused}))
            try:
                if alive:
                    self._account(begin, end)
                    await self._carry_states(_without(services, {**problems, **refused}))
                    async with self.reloading():
                        await self.process.reload(config)
                    self._lingering.clear()
                    return "reload", config, refused
                await self.process.start(config)
                self._lingering.clear()
            except Broken as error:
                self._config = ""  # which of the two runs is not known: nothing less than a reload will do next
                culprits = await self._refusals(good) or self._culprits(good, str(error))
                if not culprits:
                    raise
                refused.update(culprits)
                alive = self.process.running()
                continue
            return "start", config, refused
        raise Broken(f"HAProxy was given {FAILED_LOADS_MAX} configurations in a row and could load none.")

    async def _state(self) -> str:
        try:
            return await runtime.command(render.admin_socket(self.facts), "show servers state")
        except runtime.RuntimeFailure as error:
            log.warning("servers' states are not known: %s", error)
            return ""

    async def _carry_states(self, wanted: Mapping[str, Service]) -> None:
        kept = carry.kept(self._services, wanted, self._drains.keys())
        text = carry.carried(await self._state(), kept) if kept else carry.EMPTY
        Path(render.state_file(self.facts)).write_text(text)

    def _culprits(self, fragments: Mapping[str, Fragment], why: str) -> dict[str, str]:
        """The services HAProxy names when it can't bind their address (``haproxy -c`` does not try)."""
        by_name = {word(id): id for id in fragments}
        named = [by_name[m["service"]] for m in _FRONTEND.finditer(why) if m["service"] in by_name]
        return dict.fromkeys(named[:1], why)

    async def _refusals(self, fragments: Mapping[str, Fragment]) -> dict[str, str]:
        """Of services that can't be loaded together: service id -> HAProxy's words, for those it refuses by themselves.
        Remembered, so that an unchanged bad one costs nothing the next time."""
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


def _orphans(services: Mapping[str, Service]) -> dict[str, str]:
    """Virtual hosts that no client can reach, and why."""
    why = "Its parent virtual service is not served here."
    return {id: why for id, service in services.items() if service.parent and service.parent not in services}


def _without(services: Mapping[str, Service], problems: Mapping[str, str]) -> dict[str, Service]:
    return {id: service for id, service in services.items() if id not in problems}
