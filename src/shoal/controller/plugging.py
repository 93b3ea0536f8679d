"""Engines are put into the VLANs that their objects name, by the cloud. Level-triggered."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shoal.clouds.protocol import Cloud, CloudError, EngineHandle

from .clock import Clock
from .events import EventLog
from .records import EngineRecord

RETRY_S = 5.0


class Plugging:
    """``vlans(engine)`` says which it should be in."""

    def __init__(self, cloud: Cloud, events: EventLog, clock: Clock, vlans: Callable[[str], tuple[int, ...]]) -> None:
        self._cloud = cloud
        self._events = events
        self._clock = clock
        self._vlans = vlans
        self._plugged: dict[str, tuple[int, ...]] = {}
        """Of engines that are in any."""
        self._retry_at: dict[str, float] = {}

    def adopt(self, engines: Iterable[EngineHandle]) -> None:
        """What an earlier controller has done."""
        self._plugged = {engine.id: engine.vlans for engine in engines if engine.vlans}

    def due(self, engine: EngineRecord) -> bool:
        wanted = self._vlans(engine.id)
        if wanted == self._plugged.get(engine.id, ()):
            return False
        return self._clock.monotonic() >= self._retry_at.get(engine.id, 0.0)

    async def plug(self, engine: EngineRecord) -> None:
        wanted = self._vlans(engine.id)
        try:
            await self._cloud.plug(engine.id, wanted)
        except CloudError as error:
            if engine.id not in self._retry_at:
                detail = (
                    f"{engine.name} is not in VLAN {', '.join(map(str, wanted)) or 'none'} as it should be: {error}"
                )
                self._events.add("ADD_NW_FAIL", detail, level="error", serviceengine=engine.id)
            self._retry_at[engine.id] = self._clock.monotonic() + RETRY_S
            return
        self._plugged[engine.id] = wanted
        self._retry_at.pop(engine.id, None)

    def forget(self, engine: str) -> None:
        self._plugged.pop(engine, None)
        self._retry_at.pop(engine, None)
