"""The agent's side of the controller's link: connects outward, takes the desired state, carries the reports.

Nothing here is needed to serve: with no controller the engine goes on with what it has.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

from shoal.errors import ShoalError
from shoal.wire import messages
from shoal.wire.capture import CaptureMore, CaptureStart, CaptureStop
from shoal.wire.channel import Channel, ChannelClosed, ProtocolError, connect
from shoal.wire.desired import Manifest
from shoal.wire.engine_config import EngineConfig
from shoal.wire.preflight import Probe
from shoal.wire.recorded import Recall, Recorded, Recording
from shoal.wire.tls import engine_context

from . import preflight
from .capture.captures import Captures
from .joining import join
from .parts import Parts

log = logging.getLogger("shoal.session")

RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 1.0
OUTBOX_MAX = 1_000
"""Messages that wait for a slow controller; beyond it the oldest go."""
GOODBYE_WITHIN_S = 1.0
PROBES_AT_ONCE_MAX = 2

Link = Channel[messages.FromController]


class Session:
    """``hello`` and ``status`` are asked when they are needed; ``on_state`` is called when `Parts` has a new state,
    ``on_link`` when a controller is there and when it is gone. ``recordings(seconds)`` may take a while (a thread)."""

    def __init__(
        self,
        config: EngineConfig,
        parts: Parts,
        captures: Captures,
        *,
        hello: Callable[[], messages.Hello],
        status: Callable[[], messages.Status],
        on_state: Callable[[], None],
        on_shares: Callable[[messages.Shares], None],
        on_link: Callable[[bool, str], None] = lambda up, why: None,
        recordings: Callable[[float], tuple[Recording, ...]] = lambda seconds: (),
    ) -> None:
        self._config = config
        self._on_link = on_link
        self._recordings = recordings
        self._parts = parts
        self._captures = captures
        self._hello = hello
        self._status = status
        self._on_state = on_state
        self._on_shares = on_shares
        self._outbox: asyncio.Queue[messages.FromEngine] = asyncio.Queue(OUTBOX_MAX)
        self._link: Link | None = None
        self._probes: set[asyncio.Task[None]] = set()
        self._manifest: Manifest | None = None
        self._turn = 0
        self._asked_for = ""
        self.client_logs = False
        """Whether the controller takes them."""

    def say(self, message: messages.FromEngine) -> None:
        """Queue for the controller. With none connected it is dropped: `Hello` will carry what is true by then."""
        if self._link is None:
            return
        if self._outbox.full():
            self._outbox.get_nowait()
        self._outbox.put_nowait(message)

    async def leave(self, why: str) -> None:
        """Say goodbye, if anyone listens."""
        if self._link is not None:
            try:
                async with asyncio.timeout(GOODBYE_WITHIN_S):
                    await self._link.send(messages.Leaving(why))
            except (TimeoutError, ShoalError) as error:
                log.info("no goodbye: %s", error or "time-out")

    async def run(self) -> None:
        """Until cancelled: join where that has not been done, connect to one controller after another, with a growing, jittered pause between rounds."""
        await join(self._config)
        delay = RECONNECT_FIRST_S
        while True:
            for controller in self._config.controllers:
                began = time.monotonic()
                try:
                    await self._attend(controller)
                except* (OSError, ValueError, ShoalError) as ended:
                    log.info("controller %s: %s", controller, _first(ended))
                if time.monotonic() - began > RECONNECT_MAX_S:
                    delay = RECONNECT_FIRST_S
            await asyncio.sleep(delay * (0.5 + random.random()))
            delay = min(delay * 2, RECONNECT_MAX_S)

    async def _attend(self, controller: str) -> None:
        """One connection. Always raises at its end."""
        host, _, port = controller.rpartition(":")
        link = await connect(host.strip("[]"), int(port), engine_context(Path(self._config.directory)))
        try:
            while not self._outbox.empty():
                self._outbox.get_nowait()
            self._manifest, self._asked_for = None, ""
            self.client_logs = False
            self._on_link(True, controller)
            self._link = link  # from here on what is said is kept, and goes after the hello
            await link.send(self._hello())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(link))
                tasks.create_task(self._receive(link))
        finally:
            if self._link is not None:
                self._on_link(False, controller)
            self._link = None
            await self._captures.end()  # nobody is left to take them
            await link.close()

    async def _send(self, link: Link) -> None:
        while True:
            try:
                async with asyncio.timeout(messages.STATUS_INTERVAL_S):
                    message = await self._outbox.get()
            except TimeoutError:
                message = self._status()
            await link.send(message)

    async def _receive(self, link: Link) -> None:
        while True:
            match await link.receive():
                case messages.State(manifest=manifest, inline=inline, turn=turn):
                    self._manifest, self._turn = manifest, turn
                    self._parts.offer(inline)
                    await self._advance(link)
                case messages.Parts(parts=parts):
                    self._parts.offer(parts)
                    await self._advance(link)
                case Recall() as recall:
                    recordings = await asyncio.to_thread(self._recordings, recall.seconds)
                    self.say(Recorded(recall.id, time.monotonic_ns(), time.time_ns(), recordings))
                case CaptureStart() | CaptureMore() | CaptureStop() as asked:
                    self._captures.take(asked, link.send)
                case Probe() as probe:
                    task = asyncio.get_running_loop().create_task(self._probe(probe), name="preflight")
                    self._probes.add(task)
                    task.add_done_callback(self._probes.discard)
                case messages.Shares() as shares:
                    self._on_shares(shares)
                case messages.Rejected(why=why):
                    raise ChannelClosed(f"it rejects this engine: {why}")
                case messages.Welcome(wire_version=version, client_logs=taken):
                    if version != messages.WIRE_VERSION:
                        raise ProtocolError(f"it speaks version {version} of the wire, not {messages.WIRE_VERSION}")
                    self.client_logs = taken

    async def _probe(self, probe: Probe) -> None:
        """States go on coming meanwhile."""
        if len(self._probes) <= PROBES_AT_ONCE_MAX:
            self.say(await asyncio.to_thread(preflight.run, probe, self._config.interface, self._config.address))

    async def _advance(self, link: Link) -> None:
        """Take the newest manifest on as soon as all its parts are here; ask for what lacks, once.

        A part that does not come has gone meanwhile: a newer state is on its way.
        """
        if self._manifest is None:
            return
        lacking = self._parts.lacking(self._manifest)
        if lacking:
            if self._asked_for != self._manifest.root:
                self._asked_for = self._manifest.root
                await link.send(messages.Fetch(lacking))
            return
        manifest, self._manifest = self._manifest, None
        self._parts.accept(manifest, self._turn)
        self._on_state()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
