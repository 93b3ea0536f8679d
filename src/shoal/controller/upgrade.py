"""The engines of a group are started anew one after another, so that they run the software that is installed now.

In its turn an engine is emptied as an operator would do it (disabled; one of a legacy pair is switched over), started
again and enabled, and the group must be whole before the next one's turn comes: nothing is dropped, and at no time is
more than one engine away. Each step is stored before it is taken, so that a controller that starts goes on where the
last one was. What does not come about in time suspends all the rest, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from shoal import __version__
from shoal.clouds.protocol import Cloud
from shoal.errors import Invalid, NotFound, NotReady, Problem, Refused, ShoalError
from shoal.placement.model import EngineState, PlacementState, Request
from shoal.placement.presets import LEGACY
from shoal.store.protocol import Conflict, Unavailable

from .clock import Clock, woken
from .events import EventLog
from .fleet import Fleet
from .ledger import Changes, Ledger
from .reconciler import Reconciler
from .records import EngineRecord, RequestRecord, UpgradeRecord, UpgradeStep, VipRecord
from .view import View

log = logging.getLogger("shoal.upgrade")

LOOK_S = 0.5
STEP_S_MAX = 360.0
"""What takes longer than this does not come about (reference: elastic-ha 5.6)."""
MOVED_WITHIN_S = 60.0
"""An engine is empty so long after all that drains from it may have ended; where that is later, it has so long."""
HEARD_WITHIN_S = 10.0
"""After a start of the controller engines connect within this time."""
DISABLED = "SE_STATE_DISABLED"
ENABLED = "SE_STATE_ENABLED"
NAMES_MAX = 5
USER = "upgrade"
MEMBERS = ("all", "stop")


class EngineStates(Protocol):
    async def enable_state(self, engine: str, state: str) -> None:
        """Write it to the engine's object. Raises what a write raises."""
        ...


class Upgrades:
    """``switchovers(engine)``: the requests that make its peer active for all it is active for."""

    def __init__(
        self,
        view: View,
        ledger: Ledger,
        reconciler: Reconciler,
        fleet: Fleet,
        cloud: Cloud,
        events: EventLog,
        clock: Clock,
        states: EngineStates,
        switchovers: Callable[[EngineRecord], list[Request]],
        takes_over_still: Callable[[str, VipRecord], bool],
    ) -> None:
        self._view = view
        self._ledger = ledger
        self._reconciler = reconciler
        self._fleet = fleet
        self._cloud = cloud
        self._events = events
        self._clock = clock
        self._states = states
        self._switchovers = switchovers
        self._takes_over_still = takes_over_still
        self._begun: dict[tuple[str, str, str], float] = {}
        """(group, engine, step) -> since when this controller has waited for it, monotonic."""
        self._asked: dict[tuple[str, str, str], None] = {}
        """The same, where this controller has done what the step asks for."""
        self._said = ""
        self._wanted = asyncio.Event()
        self._changing = asyncio.Lock()
        """Held while a record is read, acted upon and written: what an operator says comes before or after a step."""

    # --- asked for ---

    async def begin(self, group: str, body: Any, user: str) -> dict[str, Any]:
        """Begin, or go on with what was suspended; ``all``: with engines that run this software already, too;
        ``stop``: no further engine. Raises NotFound, Invalid, Refused."""
        async with self._changing:
            return await self._begin(group, body, user)

    async def _begin(self, group: str, body: Any, user: str) -> dict[str, Any]:
        document = self._view.get("serviceenginegroup", group)
        if document is None:
            raise NotFound(f"There is no service engine group {group}.")
        _refuse_unknown(body)
        running = self._ledger.upgrades.get(group)
        if body.get("stop"):
            if running is None:
                raise Refused(f"{document['name']} is not being upgraded.")
            await self._suspend(running, f"stopped by {user}")
            return {"status": f"The upgrade of {document['name']} is stopped. Ask for it again to go on."}
        if running is not None and not running.suspended:
            return {"status": self._sentence(running)}
        engines = [e for e in self._ledger.engines_of(group) if e.created and e.seen]
        done, left = (running.done, running.waiting) if running is not None else ((), ())
        wanted = [e for e in engines if body.get("all") or e.id in left or self._runs_other(e)]
        todo = [e.id for e in wanted if e.id not in done]
        if not todo:
            raise Refused(
                f"All service engines of {document['name']} run {__version__}, as the controller does.",
                hint="To start them anew one after another all the same, say all.",
            )
        record = UpgradeRecord(group=group, user=user, at=self._clock.now(), waiting=tuple(todo), done=done)
        await self._ledger.repeat(Changes(upgrades={group: record}))
        self._forget(group)
        self._wanted.set()
        return {"status": self._sentence(record)}

    def _runs_other(self, engine: EngineRecord) -> bool:
        hello = self._fleet.live(engine.id).hello
        return hello is None or hello.software != __version__

    def shown(self, group: str) -> dict[str, Any]:
        """For the group's runtime; empty while there is none."""
        record = self._ledger.upgrades.get(group)
        if record is None:
            return {}
        return {
            "state": "SUSPENDED" if record.suspended else "IN_PROGRESS",
            "se_now": self._name(record.engine),
            "step": record.step.value if record.engine else "",
            "se_done": [self._name(engine) for engine in record.done],
            "se_waiting": [self._name(engine) for engine in record.waiting],
            "why": record.suspended or self._missing(record),
            "status": self._sentence(record),
        }

    def _sentence(self, record: UpgradeRecord) -> str:
        total = len(record.done) + len(record.waiting) + bool(record.engine)
        said = f"{len(record.done)} of {total} service engines run the installed software"
        if record.suspended:
            return f"Suspended: {record.suspended}. {said}."
        if record.engine:
            return f"{said}; {self._name(record.engine)} {record.step.value}."
        return f"{said}; they are started anew one after another."

    def _name(self, engine: str) -> str:
        record = self._ledger.engines.get(engine)
        return record.name if record is not None else engine

    # --- done ---

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            active = [record.group for record in self._ledger.upgrades.values() if not record.suspended]
            for group in active:
                async with self._changing:
                    await self._look(group)
            await woken(self._wanted, LOOK_S if active else None)

    async def _look(self, group: str) -> None:
        record = self._ledger.upgrades.get(group)
        if record is None or record.suspended:
            return
        try:
            await self._advance_or_suspend(record)
        except (Conflict, Unavailable) as error:
            self._say(f"{error}; looked at again")
            with suppress(Unavailable):
                await self._ledger.load()
        except NotReady as error:
            self._say(f"the upgrade waits: {error}")

    def _say(self, text: str) -> None:
        """Into the log, once."""
        if text != self._said:
            log.warning("%s", text)
        self._said = text

    async def _advance_or_suspend(self, record: UpgradeRecord) -> None:
        """Raises what a second look may be without."""
        try:
            await self._advance(record)
        except (Conflict, NotReady):
            raise
        except ShoalError as error:
            await self._suspend(record, str(error).rstrip("."))

    async def _advance(self, record: UpgradeRecord) -> None:
        if self._view.get("serviceenginegroup", record.group) is None:
            await self._ledger.write(Changes(upgrades={record.group: None}))
            return
        engine = self._ledger.engines.get(record.engine)
        if engine is None:
            await self._next(record)
        elif not await self._acted(record, engine):
            return
        elif missing := self._missing(record):
            if self._waited_s(record) > self._within_s(record):
                await self._suspend(record, missing)
        elif record.step is UpgradeStep.EMPTY:
            hello = self._fleet.live(engine.id).hello
            incarnation = hello.incarnation if hello is not None else ""
            await self._write(record, step=UpgradeStep.START, incarnation=incarnation)
        elif record.step is UpgradeStep.START:
            await self._write(record, step=UpgradeStep.FILL)
        else:
            await self._write(record, engine="", done=(*record.done, engine.id))
            self._events.add("UPGRADE_SE_DONE", f"{engine.name}: runs {self._software(engine)}, and its group is whole",
                             serviceengine=engine.id, serviceenginegroup=record.group)  # fmt: skip

    async def _acted(self, record: UpgradeRecord, engine: EngineRecord) -> bool:
        """Do what the step asks for, once by each controller; whether it is done."""
        key = (record.group, engine.id, record.step.value)
        if key in self._asked:
            state = (self._view.get("serviceengine", engine.id) or {}).get("enable_state", ENABLED)
            if record.step is UpgradeStep.EMPTY and not self._legacy(record.group) and state != DISABLED:
                raise Refused(f"{engine.name} was enabled by somebody while it was being emptied")
            return True
        if record.step is UpgradeStep.EMPTY:
            await self._empty(record, engine)
        elif record.step is UpgradeStep.FILL:
            await self._enable(record, engine)
        elif self._missing(record):
            hello = self._fleet.live(engine.id).hello
            as_before = hello is not None and hello.incarnation == record.incarnation
            if not as_before and self._waited_s(record) <= HEARD_WITHIN_S:
                return False  # this controller has just started, and so, perhaps, has the engine
            await self._cloud.restart(engine.id)
        self._asked[key] = None
        return True

    def _missing(self, record: UpgradeRecord) -> str:
        """What the step still waits for, in words without a full stop; "" if nothing."""
        engine = self._ledger.engines.get(record.engine)
        if engine is None:
            return self._unsettled(record.group)
        if record.step is UpgradeStep.EMPTY:
            if serving := self._serving(engine):
                return f"{engine.name} still serves {_some(serving)}"
            taking_over = self._taking_over(engine)
            return f"{engine.name} takes over {_some(taking_over)} until others have agreed to" if taking_over else ""
        if record.step is UpgradeStep.START:
            live = self._fleet.live(engine.id)
            anew = live.session is not None and live.hello is not None and live.hello.incarnation != record.incarnation
            up = anew and self._fleet.state(engine.id) is EngineState.UP
            return "" if up else f"{engine.name} has not come back since it was started again"
        return self._unsettled(record.group, engine.id, record.enable_state)

    async def _next(self, record: UpgradeRecord) -> None:
        """The next engine's turn, if all is well; or the end."""
        waiting = [engine for engine in record.waiting if engine in self._ledger.engines]
        if not waiting:
            name = (self._view.get("serviceenginegroup", record.group) or {}).get("name", record.group)
            await self._ledger.write(Changes(upgrades={record.group: None}))
            self._events.add("UPGRADE_SE_DONE", f"{name}: all {len(record.done)} service engines were started anew",
                             serviceenginegroup=record.group)  # fmt: skip
            return
        if unsettled := self._unsettled(record.group):
            if self._waited_s(record) > STEP_S_MAX:
                await self._suspend(record, f"the group is not whole: {unsettled}")
            return
        id = min(waiting, key=lambda e: (bool(self._serving(self._ledger.engines[e])), self._ledger.engines[e].rank))
        engine = self._ledger.engines[id]
        state = (self._view.get("serviceengine", id) or {}).get("enable_state", ENABLED)
        rest = tuple(other for other in waiting if other != id)
        await self._write(record, engine=id, step=UpgradeStep.EMPTY, enable_state=state, waiting=rest)
        self._events.add("UPGRADE_SE_START", f"{engine.name}: from {self._software(engine)} to {__version__}",
                         serviceengine=id, serviceenginegroup=record.group)  # fmt: skip
        for service, scaled in self._served(engine).items():
            what = ("UPGRADE_SE_VS_SCALEIN", "goes on with its other engines") if scaled else (
                "UPGRADE_SE_VS_MIGRATE", "moves to another engine")  # fmt: skip
            self._events.add(what[0], f"{service}: {what[1]} while {engine.name} is upgraded", serviceengine=id)

    async def _empty(self, record: UpgradeRecord, engine: EngineRecord) -> None:
        if not self._legacy(record.group):
            await self._states.enable_state(engine.id, DISABLED)
            return
        others = [e for e in self._ledger.engines_of(record.group) if e.id != engine.id]
        if not any(self._fleet.state(other.id) is EngineState.UP for other in others):
            raise Refused(f"{engine.name} has no peer that runs, so what it serves would go down")
        requests: dict[tuple[str, str], RequestRecord | None] = {
            (record.group, request.id): RequestRecord(request=request, user=USER)
            for request in self._switchovers(engine)
        }
        if requests:
            await self._ledger.repeat(Changes(requests=requests))
            self._reconciler.mark(record.group)

    async def _enable(self, record: UpgradeRecord, engine: EngineRecord) -> None:
        if not self._legacy(record.group):
            await self._states.enable_state(engine.id, record.enable_state)

    async def _suspend(self, record: UpgradeRecord, why: str) -> None:
        """The engine whose turn it was is put back first: if the controller dies in between, the next one goes on."""
        engine = self._ledger.engines.get(record.engine)
        if engine is not None:
            try:
                await self._enable(record, engine)
            except NotReady:
                raise  # it is suspended with a later look
            except ShoalError as error:
                why = f"{why}; and it could not be enabled again: {error}"
        waiting = (*record.waiting, *([engine.id] if engine is not None else []))
        suspended = msgspec.structs.replace(record, suspended=why, engine="", waiting=waiting)
        await self._ledger.repeat(Changes(upgrades={record.group: suspended}))
        self._forget(record.group)
        about = {"serviceenginegroup": record.group, **({"serviceengine": engine.id} if engine else {})}
        self._events.add("UPGRADE_SE_SUSPENDED", f"{why}. To go on: upgrade again", level="warning", **about)

    async def _write(self, record: UpgradeRecord, **changes: Any) -> None:
        after = msgspec.structs.replace(record, **changes)
        await self._ledger.write(Changes(upgrades={record.group: after}))
        self._forget(record.group)
        self._wanted.set()

    def _forget(self, group: str) -> None:
        self._begun = {key: at for key, at in self._begun.items() if key[0] != group}
        self._asked = {key: None for key in self._asked if key[0] != group}

    def _waited_s(self, record: UpgradeRecord) -> float:
        now, key = self._clock.monotonic(), (record.group, record.engine, record.step.value)
        return now - self._begun.setdefault(key, now)

    def _within_s(self, record: UpgradeRecord) -> float:
        """How long the step may take."""
        group = self._view.get("serviceenginegroup", record.group) or {}
        drain_s = group.get("vs_scalein_timeout_for_upgrade", 0) if record.step is UpgradeStep.EMPTY else 0
        return max(STEP_S_MAX, drain_s + MOVED_WITHIN_S)

    # --- how things stand ---

    def _legacy(self, group: str) -> bool:
        return (self._view.get("serviceenginegroup", group) or {}).get("ha_mode") == LEGACY

    def _software(self, engine: EngineRecord) -> str:
        hello = self._fleet.live(engine.id).hello
        return hello.software if hello is not None and hello.software else "unknown software"

    def _served(self, engine: EngineRecord) -> dict[str, bool]:
        """Names of what it serves -> whether another engine serves it, too."""
        names = self._vip_names(engine.group)
        return {
            names.get(vip.id, vip.id): len(vip.placements) > 1
            for vip in self._ledger.naming(engine.id)
            if any(placement.engine == engine.id for placement in vip.placements)
        }

    def _taking_over(self, engine: EngineRecord) -> list[str]:
        """Names of what it would serve if another engine died. A pair has nobody else for that, so nothing is waited for there."""
        if self._legacy(engine.group):
            return []
        names, named = self._vip_names(engine.group), self._ledger.naming(engine.id)
        still = [vip for vip in named if engine.id in vip.succession or self._takes_over_still(engine.id, vip)]
        return [names.get(vip.id, vip.id) for vip in still]

    def _vip_names(self, group: str) -> dict[str, str]:
        snapshot = self._reconciler.snapshots.get(group)
        return {vip.id: vip.name for vip in snapshot.vips} if snapshot is not None else {}

    def _serving(self, engine: EngineRecord) -> list[str]:
        return sorted(self._served(engine))

    def _unsettled(self, group: str, engine: str = "", enable_state: str = "") -> str:
        """Why the group, by its last plan, is not at rest yet; ``engine`` must be up and in that state."""
        snapshot, plan = self._reconciler.snapshots.get(group), self._reconciler.plans.get(group)
        if snapshot is None or plan is None:
            return "it has not been planned yet"
        for known in snapshot.engines:
            if known.state is EngineState.CREATING:
                return f"{known.name} is being made"
            if known.id == engine and (known.state is not EngineState.UP or known.enable_state != enable_state):
                return f"{known.name} is not in service again yet"
        for vip in snapshot.vips:
            if not all(placement.state is PlacementState.READY for placement in vip.placements):
                return f"{vip.name} is on its way still"
            if not vip.armed:
                return f"who takes {vip.name} over is not agreed on yet"
        return "" if plan.empty else "a plan is being carried out"


def _refuse_unknown(body: Any) -> None:
    problems = [
        Problem(path=name, why="unknown member of an upgrade", hint=f"Known: {', '.join(MEMBERS)}.")
        for name in body
        if name not in MEMBERS
    ]
    problems += [
        Problem(path=name, value=str(body[name])[:40], why="must be true or false")
        for name in MEMBERS
        if not isinstance(body.get(name, False), bool)
    ]
    if problems:
        raise Invalid(problems)


def _some(names: Iterable[str]) -> str:
    all_names = sorted(names)
    more = f" and {len(all_names) - NAMES_MAX} more" if len(all_names) > NAMES_MAX else ""
    return ", ".join(all_names[:NAMES_MAX]) + more
