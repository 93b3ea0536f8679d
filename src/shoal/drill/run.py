"""One drill: watched from before the fault until everything is whole again, and undone however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from shoal.clouds.fabric import processes_in
from shoal.clouds.faults import Faults
from shoal.errors import NotFound, NotReady, ShoalError

from . import keeper
from .forecast import Forecast, Vip
from .score import Score, Seen, score
from .watch import Watched

VIPS_WATCHED_MAX = 32
"""Of the others only who answers is compared."""
BASELINE_S = 0.5
SETTLE_S = 1.0
"""Watched for so long after the last takeover: a former owner may answer late, a VIP may move on."""
OBSERVE_OVER_DETECTION_S = 4.0
"""How long a takeover may take before it counts as none."""
POLL_S = 0.2
WHOLE_POLL_S = 0.5
FAULT_S_MAX = 60.0
CHILD_WITHIN_S = 10.0
UNDO_WITHIN_S = 15.0
REACH_TRIES = 3
REACH_WITHIN_S = 1.0
EVENTS = "analytics/logs?type=2&filter=eq(event_id,[vs_add_se,se_down])&page_size=100"
Document = dict[str, Any]


class Controller(Protocol):
    """The REST face. Raises ShoalError."""

    async def get(self, path: str) -> Any: ...

    async def post(self, path: str, body: Document) -> Any: ...


class Report(msgspec.Struct, kw_only=True):
    """``whole_after_s``: from the fault until all was whole and armed again; None = it was not."""

    serviceengine: str
    kind: str
    scores: list[Score] = []
    undone: bool = False
    whole_after_s: float | None = None
    trouble: str = ""

    @property
    def as_planned(self) -> bool:
        return bool(self.scores) and all(one.as_planned for one in self.scores)


async def forecast_of(controller: Controller, engine: str) -> Forecast:
    return msgspec.convert(await controller.get(f"serviceengine/{engine}/forecast"), Forecast)


async def unreachable(vips: list[Vip]) -> list[Vip]:
    """Those that can't be watched from here: no connection to them can be made."""
    found = []
    for vip in vips[:VIPS_WATCHED_MAX]:
        for _ in range(REACH_TRIES if vip.probed else 0):
            assert vip.probed is not None
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(REACH_WITHIN_S):
                    _, writer = await asyncio.open_connection(vip.address, vip.probed.port)
                writer.close()
                break
        else:
            found.append(vip)
    return found


class Drill:
    """``faults`` None: only a switchover can be done. ``blind``: VIPs that are not watched. ``say`` tells a person."""

    def __init__(
        self,
        controller: Controller,
        forecast: Forecast,
        kind: str,
        service: str,
        faults: Faults | None,
        *,
        data_dir: Path,
        blind: Collection[Vip] = (),
        max_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._api = controller
        self._forecast = forecast
        self._kind = kind
        self._vips = forecast.concerned(kind, service)
        self._watched = [vip for vip in self._vips if vip.probed and vip not in blind][:VIPS_WATCHED_MAX]
        self._faults = faults
        self._data_dir = data_dir
        self._max_seconds = max_seconds
        self._say = say
        self._children: list[subprocess.Popen[bytes]] = []
        self._keeper: subprocess.Popen[bytes] | None = None
        self._began = False
        self._macs = {engine.mac: engine.name for engine in forecast.serviceengines}
        self.report = Report(serviceengine=forecast.serviceengine, kind=kind)

    async def run(self) -> Report:
        """The engine is given back when this returns, raises, or is cancelled. Raises ShoalError."""
        await self._note(f"a drill begins, {self._kind}")
        try:
            async with asyncio.timeout(self._max_seconds):
                await self._observe()
                await self._undo()
                await self._until_whole()
        except TimeoutError:
            self.report.trouble = f"not whole {self._max_seconds:.0f} s after the drill began: it was broken off"
        finally:
            await asyncio.shield(asyncio.ensure_future(self._end()))
        judged = "as foretold" if self.report.as_planned else "otherwise than foretold"
        whole = self.report.whole_after_s
        await self._note(f"the drill has ended, {judged}, " + (f"whole after {whole} s" if whole else "not whole"))
        return self.report

    async def _note(self, text: str) -> None:
        await self._api.post(f"serviceengine/{self._forecast.uuid}/drill", {"text": text})

    # --- the fault, and what comes of it ---

    async def _observe(self) -> None:
        told_until = max((float(e["report_timestamp"]) for e in await self._events()), default=0.0)
        watcher = await self._start("shoal.drill.watch", *(_target(vip) for vip in self._watched), first="ready")
        await asyncio.sleep(BASELINE_S)
        self._say(f"{time.strftime('%H:%M:%S')} {self._kind} of {self._forecast.serviceengine}")
        self._fault_at = time.monotonic()
        await self._do()
        await self._takeovers()
        await asyncio.sleep(SETTLE_S)
        answers = await self._answers()
        watched = await self._watched_by(watcher)
        self._macs |= await self._made_meanwhile()
        events = [e for e in await self._events() if float(e["report_timestamp"]) > told_until]
        seen = {vip.vip: self._seen(vip, answers[vip.vip], watched, events) for vip in self._vips}
        self.report.scores = score(self._forecast, self._kind, self._vips, seen)

    async def _do(self) -> None:
        self._began = True
        if self._kind == "switchover":
            for vip in self._vips:
                await self._switch(vip)
            return
        seconds = str(min(self._max_seconds, FAULT_S_MAX))
        arguments = (str(self._data_dir), self._forecast.serviceengine, self._kind, seconds)
        self._keeper = await self._start("shoal.drill.keeper", *arguments, first="done")

    async def _switch(self, vip: Vip) -> None:
        target = next(engine for engine in self._forecast.serviceengines if engine.name == vip.target)
        body = {"vip_id": vip.vip.rpartition("/")[2]}
        if self._forecast.moves_by == "migrate":
            body["from_se_ref"] = f"/api/serviceengine/{self._forecast.uuid}"
            body["to_se_ref"] = f"/api/serviceengine/{target.uuid}"
        await self._api.post(f"virtualservice/{vip.virtualservices[0].uuid}/{self._forecast.moves_by}", body)

    async def _takeovers(self) -> None:
        """Wait until each VIP has changed hands that should, or too long."""
        expected_s = self._forecast.outage_ms(self._kind) / 1000 + OBSERVE_OVER_DETECTION_S
        deadline = time.monotonic() + expected_s
        moving = [vip for vip in self._vips if self._forecast.taker(vip, self._kind) != vip.answers]
        while True:
            answers = await self._answers()
            waits = [vip for vip in moving if answers[vip.vip] in ("", vip.answers)]
            if not waits or time.monotonic() > deadline:
                return
            await asyncio.sleep(POLL_S)

    async def _answers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for vip in self._vips:
            document = await self._api.get(f"virtualservice/{vip.virtualservices[0].uuid}/placement")
            id = vip.vip.rpartition("/")[2]
            found[vip.vip] = next((str(v["answers"]) for v in document["vips"] if v["vip_id"] == id), "")
        return found

    async def _made_meanwhile(self) -> dict[str, str]:
        """MAC -> name of the engines as they are now."""
        try:
            found = await forecast_of(self._api, self._forecast.uuid)
        except ShoalError:
            return {}
        return {engine.mac: engine.name for engine in found.serviceengines}

    async def _events(self) -> list[Document]:
        found: list[Document] = (await self._api.get(EVENTS))["results"]
        return found[::-1]

    def _seen(self, vip: Vip, answers: str, watched: Watched, events: list[Document]) -> Seen:
        words = words_about(vip, self._forecast.taker(vip, self._kind), [e["event_description"] for e in events])
        probed = watched.targets.get(vip.address)
        if probed is None:
            return Seen(answers=answers, events=words)
        last = probed.arp[-1].mac if probed.arp else ""
        return Seen(
            answers=answers,
            arp=self._macs.get(last, last),
            starts=len(probed.starts),
            failed=len(probed.failed()),
            outage_ms=watched.outage_ms(vip.address),
            late_answer_ms=probed.late_answers_ms(),
            events=words,
        )

    # --- giving back ---

    async def _undo(self) -> None:
        """Once, and again without harm."""
        if self.report.undone or not self._began:
            return
        if self._keeper is not None and self._faults is not None:
            await self._take_back(self._keeper, self._faults)
        self.report.undone = True

    async def _take_back(self, child: subprocess.Popen[bytes], faults: Faults) -> None:
        """The keeper undoes the fault when its input ends; what it may have left, as somebody killed it, is undone here."""
        engine = self._forecast.serviceengine
        assert child.stdin is not None
        child.stdin.close()
        try:
            await asyncio.to_thread(child.wait, CHILD_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
        await keeper.undo(faults, engine, self._kind)
        if self._kind == "kill" and not processes_in(faults.fabric.addressing.namespace(engine)):
            await self._api.post(f"serviceengine/{self._forecast.uuid}/reboot", {})

    async def _until_whole(self) -> None:
        self._say("Waiting until all is whole and armed again ...")
        while not await self._is_whole():
            await asyncio.sleep(WHOLE_POLL_S)
        self.report.whole_after_s = round(time.monotonic() - self._fault_at, 1)

    async def _is_whole(self) -> bool:
        try:
            found = await forecast_of(self._api, self._forecast.uuid)
        except NotFound:
            raise NotReady(f"{self._forecast.serviceengine} was deleted during the drill.") from None
        except NotReady:
            return False
        return found.whole() and (found.outcome.buffer.kept or not self._forecast.outcome.buffer.kept)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(UNDO_WITHIN_S):
                await self._undo()
        except (TimeoutError, OSError, subprocess.TimeoutExpired, ShoalError) as error:
            self.report.trouble = f"{self._forecast.serviceengine} could not be given back: {error or 'time-out'}"
        for child in self._children:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.close()
            if child is not self._keeper:
                child.kill()
            await asyncio.to_thread(child.wait)
            child.stdout.close()
        if self._began:
            name = self._forecast.serviceengine
            self._say(f"{name} is given back." if self.report.undone else f"{name} could NOT be given back.")

    # --- children ---

    async def _start(self, module: str, *arguments: str, first: str) -> subprocess.Popen[bytes]:
        """A program in a session of its own: Ctrl-C at the terminal is not for it. Raises NotReady."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", module, *arguments]
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
        self._children.append(child)
        if module.endswith("keeper"):
            self._keeper = child  # from here on it has to be told to undo
        assert child.stdout is not None
        line = await asyncio.to_thread(child.stdout.readline)
        if line.decode().strip() != first:
            raise NotReady(f"{module} did not start; it ended with status {child.wait()}.")
        return child

    async def _watched_by(self, child: subprocess.Popen[bytes]) -> Watched:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.close()
        return msgspec.json.decode(await asyncio.to_thread(child.stdout.read), type=Watched)


def words_about(vip: Vip, taker: str, told: Iterable[str]) -> tuple[str, ...]:
    """Of what the events tell, what is about the VIP, or says that the engine that was to take it over went down."""
    mine = (text for text in told if vip.vip in text or (taker and text.startswith(f"{taker}:")))
    return tuple(text.replace(vip.vip, vip.address) for text in mine)


def _target(vip: Vip) -> str:
    assert vip.probed is not None
    return f"{vip.probed.speaks}://{vip.address}:{vip.probed.port}"


def document(report: Report) -> Mapping[str, Any]:
    """For machines."""
    scores = [{**msgspec.to_builtins(one), "as_planned": one.as_planned} for one in report.scores]
    return {**msgspec.to_builtins(report), "scores": scores, "as_planned": report.as_planned}
