"""The controller's side of the prober: keeps the process running, tells it what to look at, makes events of findings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from shoal.observe.watch import OUTAGE, SERVES, STRANGER, TWO, Finding, Targets

from .events import EventLog
from .incident import Names

log = logging.getLogger("shoal.observer")

RESTART_AFTER_S = 5.0
LINE_BYTES_MAX = 64 * 1024
UNREAD_BYTES_MAX = 1024 * 1024
"""A prober that leaves more unread hangs, and is started anew."""
EVENTS = {
    TWO: ("VIP_TWO_ANSWERERS", "error"),
    STRANGER: ("VIP_STRANGER", "error"),
    OUTAGE: ("VIP_NO_ANSWER", "warning"),
    SERVES: ("VIP_ANSWERS_AGAIN", "info"),
}
"""Kind of finding -> name and level of the event."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """From where a segment is looked at: an interface on it, an address and a MAC that nobody else there has, and the
    recorder's file."""

    interface: str
    address: str
    mac: str
    file: Path


class Observer:
    """``targets()`` says what should answer now; ``names()`` what engines and VIPs are called."""

    def __init__(
        self, place: Place, targets: Callable[[], Targets], events: EventLog, names: Callable[[], Names]
    ) -> None:
        self.place = place
        self._targets = targets
        self._events = events
        self._names = names
        self._told: Targets | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._decoder = msgspec.json.Decoder(Finding)

    def tell(self) -> None:
        """The plan may have changed: say what to look at now, if that is something else."""
        process = self._process
        if process is None or process.stdin is None or process.stdin.is_closing():
            return
        targets = self._targets()
        if targets == self._told:
            return
        if process.stdin.transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            return
        self._told = targets
        process.stdin.write(msgspec.json.encode(targets) + b"\n")

    async def run(self) -> None:
        """Until cancelled. A prober that ends is started again."""
        while True:
            try:
                await self._attend()
            except OSError as error:
                log.warning("the prober can't be started: %s", error)
            await asyncio.sleep(RESTART_AFTER_S)

    async def _attend(self) -> None:
        place = self.place
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shoal.observe.prober", place.interface, place.address, place.mac, str(place.file)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        self._process, self._told = process, None
        try:
            self.tell()
            assert process.stdout is not None
            while line := await process.stdout.readline():
                self._hear(line)
            log.warning("the prober has ended with status %s", await process.wait())
        finally:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _hear(self, line: bytes) -> None:
        try:
            finding = self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("the prober said %r: %s", line[:100], error)
            return
        if finding.kind not in EVENTS:
            return
        name, level = EVENTS[finding.kind]
        since = f" for {finding.ms:.0f} ms" if finding.kind in (OUTAGE, SERVES) else ""
        was = {OUTAGE: "is not served", SERVES: "is served again; it was not"}.get(finding.kind, finding.kind)
        names = self._names()
        vip, about = names.vips.get(finding.vip, finding.vip), names.text(finding.about)
        detail = f"{vip} {was}{since}: {names.text(finding.text)}" + (f" ({about})" if about else "")
        self._events.add(name, detail, level=level, vip=finding.vip)
