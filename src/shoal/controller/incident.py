"""What happened: the flight recorders of all engines, the prober's findings, events and decisions as one timeline."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shoal.clouds.protocol import Cloud
from shoal.objects.views import uuid_of
from shoal.observe import ring, timeline
from shoal.observe.timeline import CONTROLLER, PROBER, Entry
from shoal.wire.recorded import Recording

from .clock import Clock
from .compiler import Compiler
from .desired import engines_of
from .events import EventLog
from .fleet import Fleet
from .ledger import Ledger
from .records import EngineRecord, VipRecord

ENGINES_AT_ONCE_MAX = 16
SECONDS_MAX = 3600.0
_ID = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z:-]{6,62})[0-9A-Za-z]")


class Heard(msgspec.Struct, frozen=True):
    """One engine's recordings. ``shift_s``: added to its monotonic seconds it gives this controller's wall clock, right
    to ``error_s``."""

    engine: EngineRecord
    recordings: tuple[Recording, ...]
    shift_s: float
    error_s: float


class Names:
    """For people: engines by id or MAC, VIPs by id."""

    def __init__(self, engines: Iterable[EngineRecord], vips: Mapping[str, str]) -> None:
        self._engines = {key: engine.name for engine in engines for key in (engine.id, engine.mac)}
        self.vips = vips

    def text(self, text: str) -> str:
        return _ID.sub(lambda found: self._engines.get(found[0], found[0]), text)


class Incidents:
    """``prober_file``: where the prober records, if there is one."""

    def __init__(
        self,
        ledger: Ledger,
        fleet: Fleet,
        cloud: Cloud,
        compiler: Compiler,
        events: EventLog,
        clock: Clock,
        prober_file: Path | None = None,
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._cloud = cloud
        self._compiler = compiler
        self._events = events
        self._clock = clock
        self._prober_file = prober_file

    def names(self) -> Names:
        return Names(self._ledger.engines.values(), {vip.id: self._vip_name(vip) for vip in self._vips()})

    async def report(self, seconds: float, vsvip: str = "") -> dict[str, Any]:
        """The last ``seconds``; ``vsvip``: only what concerns the VIPs of this VsVip's uuid, and their engines."""
        seconds = min(seconds, SECONDS_MAX)
        vips = [vip for vip in self._vips() if not vsvip or vip.id.startswith(f"{vsvip}/")]
        engines = self._concerned(vips) if vsvip else list(self._ledger.engines.values())
        gate = asyncio.Semaphore(ENGINES_AT_ONCE_MAX)
        here_s = self._clock.now() - self._clock.monotonic()

        async def ask(engine: EngineRecord) -> Heard:
            async with gate:
                return await self._ask(engine, seconds, here_s)

        heard = await asyncio.gather(*(ask(engine) for engine in engines))
        names, only = self.names(), {vip.id for vip in vips} if vsvip else None
        told = self._told(vips, names, {engine.id for engine in engines} if vsvip else None, only)
        until = self._clock.now()
        return await asyncio.to_thread(self._merged, heard, told, names, only, until, until - seconds, here_s)

    # --- asking ---

    async def _ask(self, engine: EngineRecord, seconds: float, here_s: float) -> Heard:
        """The engine itself, if it answers; else what it left. ``here_s``: from this machine's monotonic clock to its
        wall clock."""
        asked_at = self._clock.monotonic()
        recorded = await self._fleet.recall(engine.id, seconds)
        half = (self._clock.monotonic() - asked_at) / 2
        if recorded is None:
            return Heard(engine, await self._cloud.recordings(engine.id, seconds), here_s, 0.0)
        recordings = recorded.recordings
        if all(recording.boot == ring.boot_id() for recording in recordings):  # this machine: one monotonic clock
            return Heard(engine, recordings, here_s, 0.0)
        shift = here_s + asked_at + half - recorded.monotonic_ns / 1e9
        return Heard(engine, recordings, shift, half)

    # --- what this controller knows itself ---

    def _vips(self) -> list[VipRecord]:
        return [vip for vips in self._ledger.vips.values() for vip in vips.values()]

    def _vip_name(self, vip: VipRecord) -> str:
        intent = self._compiler.intent(vip.group, vip.id)
        return intent.name if intent else vip.id

    def _concerned(self, vips: list[VipRecord]) -> list[EngineRecord]:
        """Engines that serve them, could, or did until a moment ago."""
        ids = {id for vip in vips for id in engines_of(vip)}
        ids |= {noted.decision.engine for vip in vips for noted in vip.decisions}
        wanted = {vip.id for vip in vips}
        for event in self._events.read({}):
            if event.objects.get("vip") in wanted:
                ids |= {event.objects.get("serviceengine", ""), event.objects.get("from_serviceengine", "")}
        return [engine for engine in self._ledger.engines.values() if engine.id in ids]

    def _told(
        self, vips: list[VipRecord], names: Names, engines: set[str] | None, only: set[str] | None
    ) -> list[Entry]:
        found = []
        for event in self._events.read({}):
            vip, engine = event.objects.get("vip", ""), event.objects.get("serviceengine", "")
            if only is not None and (vip not in only if vip else engine not in (engines or ())):
                continue
            text = names.text(event.detail)
            if vip:
                text = text.replace(vip, names.vips.get(vip, vip))
            found.append(
                Entry(
                    at=event.at,
                    who=CONTROLLER,
                    what=event.name,
                    vip=names.vips.get(vip, vip),
                    about=names.text(engine),
                    text=text,
                )
            )
        for vip_record in vips:
            for noted in vip_record.decisions:
                decision = noted.decision
                found.append(
                    Entry(
                        at=noted.at,
                        who=CONTROLLER,
                        what=f"decision: {decision.what}",
                        vip=names.vips.get(decision.vip, decision.vip),
                        about=names.text(decision.engine),
                        text=names.text(decision.why),
                    )
                )
        return found

    def _merged(
        self,
        heard: list[Heard],
        told: list[Entry],
        names: Names,
        only: set[str] | None,
        until: float,
        since: float,
        here_s: float,
    ) -> dict[str, Any]:
        entries = list(told)
        for one in heard:
            for recording in one.recordings:
                entries += _entries(_about(recording, only), one.engine.name, one.shift_s, names, until)
        prober = ring.read(self._prober_file, PROBER) if self._prober_file else None
        if prober is not None:
            entries += _entries(_about(prober, only), PROBER, here_s, names, until)
        incident = timeline.merge(entries, since)
        return {
            "since": since,
            "until": until,
            "first_sign": incident.zero,
            "clock_error_ms": round(max([0.0, *(one.error_s for one in heard)]) * 1000, 3),
            "prober": prober is not None,
            "silent": sorted(one.engine.name for one in heard if not one.recordings),
            "takeovers": msgspec.to_builtins(incident.takeovers),
            "entries": msgspec.to_builtins(incident.entries),
        }


def _entries(recording: Recording, who: str, shift_s: float, names: Names, until: float) -> list[Entry]:
    return timeline.entries_of(recording, who, lambda ns: ns / 1e9 + shift_s, names.text, names.vips, until)


def _about(recording: Recording, only: set[str] | None) -> Recording:
    """Records of these VIPs, and those of no VIP."""
    if only is None:
        return recording
    kept = tuple(record for record in recording.records if not record.vip or record.vip in only)
    return msgspec.structs.replace(recording, records=kept)


def vsvip_of(service: Mapping[str, Any]) -> str:
    """The uuid of a virtual service's VsVip."""
    return uuid_of(service.get("vsvip_ref", ""))
