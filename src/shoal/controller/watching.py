"""What becomes of engines is noticed, told, and has their group planned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container

from shoal.clouds.protocol import Cloud, CloudError
from shoal.objects.views import ServiceEngineGroup
from shoal.placement.model import EngineState
from shoal.store.protocol import Unavailable

from .clock import Clock
from .events import EventLog
from .fleet import Fleet, Live
from .ledger import Changes, Ledger
from .records import EngineRecord
from .storm import told

log = logging.getLogger("shoal.watching")


class Watching:
    """``contacted(engine)`` hears of each that connects for the first time; ``starting``: engines that are about to be started: that nothing of them runs yet says nothing."""

    def __init__(
        self,
        cloud: Cloud,
        ledger: Ledger,
        fleet: Fleet,
        events: EventLog,
        clock: Clock,
        *,
        group: Callable[[str], ServiceEngineGroup | None],
        mark: Callable[[str], None],
        contacted: Callable[[EngineRecord], None],
        starting: Container[str],
    ) -> None:
        self._cloud = cloud
        self._ledger = ledger
        self._fleet = fleet
        self._events = events
        self._clock = clock
        self._group = group
        self._mark = mark
        self._contacted = contacted
        self._starting = starting
        self._states: dict[str, EngineState] = {}
        self._awaited_since: dict[str, float] = {}
        """Made engines that have not connected yet; monotonic, so neither a restart nor a jump of the clock ends it."""
        self._absent: dict[str, tuple[float, float]] = {}
        """Engines that are not heard and that the cloud does not know: since which of its lists, and the last that lacks them;
        monotonic."""

    async def look(self) -> dict[str, EngineState]:
        """Notice, tell, and answer how every engine stands."""
        await self._ask_about_lost()
        states = self._fleet.look(self._ledger.engines)
        self._tell_of_storms()
        for engine in [engine for engine in self._ledger.engines.values() if not engine.seen]:
            await self._first_contact(engine)
        for id, state in states.items():
            if state is not EngineState.UP or self._states.get(id) is not state:
                record = self._ledger.engines.get(id)
                if record is not None:
                    self._note(record, state)
        return states

    def is_as_noted(self, engine: str) -> bool:
        """Beyond doubt: a look would find nothing new about it."""
        record = self._ledger.engines.get(engine)
        known = self._states.get(engine) is EngineState.UP
        return record is None or (known and self._fleet.plainly_up(record))

    def awaited_s(self, engine: EngineRecord) -> float:
        """How long it has been waited for its first contact; 0 for one that has connected."""
        since = self._awaited_since.get(engine.id)
        return 0.0 if since is None else self._clock.monotonic() - since

    def absent_s(self, engine: str) -> float:
        """Over how long all lists of the cloud have lacked it; 0 for one that it knows, or that is heard."""
        first, last = self._absent.get(engine, (0.0, 0.0))
        return last - first if self._fleet.out_of_hearing(engine) else 0.0

    def forget(self, engine: str) -> None:
        self._absent.pop(engine, None)
        self._states.pop(engine, None)
        self._awaited_since.pop(engine, None)

    async def _ask_about_lost(self) -> None:
        """Which of the engines that are not heard have no process left?"""
        engines = self._ledger.engines.values()
        lost = [e.id for e in engines if e.created and self._fleet.out_of_hearing(e.id)]
        before, self._absent = self._absent, {}
        if not lost:
            return
        asked_at = self._clock.monotonic()
        try:
            running = {handle.id: handle.running for handle in await self._cloud.engines()}
        except CloudError as error:
            log.warning("the cloud does not say which engines run: %s", error)
            return  # that one is absent has to be seen again, and for as long
        for engine in lost:
            if engine not in self._starting and self._fleet.out_of_hearing(engine):
                self._fleet.live(engine).gone = not running.get(engine, False)
                if engine not in running:
                    first, _ = before.get(engine, (asked_at, asked_at))
                    self._absent[engine] = (first, asked_at)

    async def _first_contact(self, engine: EngineRecord) -> None:
        if engine.seen or not engine.created:
            return
        if self._fleet.live(engine.id).session is None:
            self._awaited_since.setdefault(engine.id, self._clock.monotonic())
            return
        self._awaited_since.pop(engine.id, None)
        self._contacted(engine)
        took_s = self._clock.now() - engine.created_at
        made_in_s = round(max(0.0, engine.made_in_s + took_s), 3)
        try:
            await self._ledger.repeat(Changes(engine_fields={engine.id: {"seen": True, "made_in_s": made_in_s}}))
        except Unavailable:
            return  # written with a later look; others are not to wait for it
        self._events.add(
            "CREATED_SE", f"{engine.name} on {engine.host}, connected after {took_s:.2f} s", serviceengine=engine.id
        )
        self._mark(engine.group)

    def _tell_of_storms(self) -> None:
        storms = self._fleet.storms
        while storms.news:
            news = storms.news.pop(0)
            group = self._group(news.storm.group)
            name = group.name if group else news.storm.group
            names = {id: engine.name for id, engine in self._ledger.engines.items()}
            self._events.add(
                "SE_STORM_STARTED" if news.began else "SE_STORM_ENDED",
                told(news, name, names),
                level="error" if news.began else "info",
                serviceenginegroup=news.storm.group,
            )
            self._mark(news.storm.group)

    def _note(self, engine: EngineRecord, state: EngineState) -> None:
        """Raise SE_UP and SE_DOWN, and have the group planned, when an engine's state changes."""
        before = self._states.get(engine.id)
        live = self._fleet.live(engine.id)
        if live.down_since is not None:
            live.down_since = min(live.down_since, self._clock.now())  # the clock may have been set back
        if state is before:
            return
        self._states[engine.id] = state
        about = {"serviceengine": engine.id, "serviceenginegroup": engine.group}
        if state is EngineState.UP and before is not EngineState.SUSPECT:
            live.down_since, live.up_since = None, self._clock.now()
            self._events.add("SE_UP", engine.name, **about)
        elif state is EngineState.DOWN:
            live.down_since = self._clock.now()
            self._events.add("SE_DOWN", down_reason(live, engine.name), level="error", **about)
        self._mark(engine.group)


def down_reason(live: Live, name: str) -> str:
    if live.gone:
        return f"{name}: none of its processes runs"
    if live.suspected_at > live.heard_at:
        return f"{name}: silent, and a peer has taken over from it"
    return f"{name}: nothing heard"
