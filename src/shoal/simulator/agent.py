"""An engine's agent as the controller and the guard know it: takes the desired state, applies it, reports."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import Context

from shoal.errors import NotReady
from shoal.ownership.events import Tell
from shoal.wire import desired as wire
from shoal.wire import messages
from shoal.wire.guard import NOTHING, Desired

from .link import Connection, End
from .ownership_world import World

BOOT_S = 0.25
"""From the start of its processes to the first look for a controller."""
RECONNECT_S = 0.5
APPLY_S = (0.02, 0.12)
"""Least and most of what putting a new state into effect takes (a reload of HAProxy)."""
KEEP_S = (0.0, 0.005)
"""... and of having it on the disk."""
DRAIN_S = (0.1, 6.0)
"""How long the connections of a draining VIP live."""

Connect = Callable[[str], Connection]


REACHED = (messages.GatewayState(address="10.0.0.1"),)
LOST = (messages.GatewayState(address="10.0.0.1", why="no answer within 1 s"),)


class SimulatedAgent:
    """``connect(engine)`` reaches a controller or raises NotReady. ``on_desired(engine, vips)`` is told what the guard
    is about to be told. The desired state survives `kill`, once it is in force, as on a disk."""

    def __init__(
        self,
        segment: World,
        engine: str,
        rank: int,
        address: str,
        mac: str,
        connect: Connect,
        seed: str,
        on_desired: Callable[[str, tuple[wire.Vip, ...]], None] = lambda engine, vips: None,
    ) -> None:
        self._segment = segment
        self._on_desired = on_desired
        self._engine = engine
        self._rank = rank
        self._address, self._mac = address, mac
        self._connect = connect
        self._random = random.Random(seed)
        self._root, self._turn = "", 0
        self._parts: dict[str, bytes] = {}
        self._kept: tuple[str, dict[str, bytes]] = ("", {})
        """Root and parts of what was put into effect, on its disk."""
        self._decoded: tuple[wire.Vip, ...] | None = None
        self._applied = ""
        self._starts = 0
        self._wanted = asyncio.Event()
        self._link: End[messages.FromController, messages.FromEngine] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._drains: dict[str, float] = {}
        self.shares: dict[str, dict[str, int]] = {}
        self.drain_s, self.apply_s = DRAIN_S, APPLY_S
        self.gateway = True
        """It reaches the one that all have."""
        self._thawed = asyncio.Event()
        self._thawed.set()

    def start(self) -> None:
        self._starts += 1
        self._applied, self._turn, self._decoded = "", 0, None
        self._root, self._parts = self._kept
        self._wanted.set()
        self._tasks = [asyncio.create_task(work, context=Context()) for work in (self._run(), self._apply_on())]
        for task in self._tasks:
            task.add_done_callback(_surface)

    def kill(self) -> None:
        """Its processes end; the kernel closes its sockets."""
        for task in self._tasks:
            task.cancel()
        self._tasks, self.shares = [], {}
        if self._link is not None:
            self._link.hang_up()
            self._link = None
        self._thawed.set()

    def wipe(self) -> None:
        """Its disk is lost. Call while it is dead."""
        self._kept, self._drains = ("", {}), {}

    @property
    def runs(self) -> bool:
        return bool(self._tasks)

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def told(self, effect: Tell) -> None:
        """The guard took or gave up a VIP."""
        self._say(effect.ownership)

    # --- the controller ---

    async def _run(self) -> None:
        await asyncio.sleep(BOOT_S)
        while True:
            await self._thawed.wait()
            try:
                await self._attend(self._connect(self._engine).engine)
            except NotReady:
                self._link = None
            await asyncio.sleep(RECONNECT_S * (0.5 + self._random.random()))

    async def _attend(self, link: End[messages.FromController, messages.FromEngine]) -> None:
        self._link = link
        await link.send(self._hello())
        reporting = asyncio.create_task(self._report_on())
        try:
            while True:
                message = await link.receive()
                await self._thawed.wait()
                if isinstance(message, messages.State):
                    self._accept(message)
                elif isinstance(message, messages.Shares):
                    self.shares = message.vips
        finally:
            reporting.cancel()
            link.hang_up()

    def _hello(self) -> messages.Hello:
        return messages.Hello(
            wire_version=messages.WIRE_VERSION,
            engine=self._engine,
            software="simulated",
            incarnation=f"{self._engine}.{self._starts}",
            address=self._address,
            mac=self._mac,
            root=self._applied,
            kept=self._kept[0],
            parts=tuple(sorted((id, wire.digest(data)) for id, data in self._parts.items())),
            owned=self._owned(),
            shares=self.shares,
        )

    def _accept(self, state: messages.State) -> None:
        sent = dict(state.inline)
        self._parts = {part.id: sent.get(part.id) or self._parts[part.id] for part in state.manifest.parts}
        self._root, self._turn, self._decoded = state.manifest.root, state.turn, None
        self._wanted.set()

    async def _report_on(self) -> None:
        while True:
            await asyncio.sleep(messages.STATUS_INTERVAL_S)
            await self._thawed.wait()
            self._say(self._status())

    def _say(self, message: messages.FromEngine) -> None:
        link = self._link
        if link is not None and self._thawed.is_set():
            try:
                link.say(message)
            except NotReady:  # its end is noticed by the reader
                pass

    def _status(self) -> messages.Status:
        machine = self._segment.engines[self._engine]
        return messages.Status(
            root=self._applied,
            haproxy=machine.haproxy,
            link=machine.link,
            owned=self._owned(),
            drained=self._drained(),
            gateways=REACHED if self.gateway else LOST,
        )

    def _owned(self) -> tuple[messages.Owned, ...]:
        return self._segment.owned(self._engine)

    def _drained(self) -> tuple[str, ...]:
        now = self._segment.now
        draining = [vip.id for vip in self._vips() if self._engine in vip.draining]
        self._drains = {vip: self._drains.get(vip) or now + self._random.uniform(*self.drain_s) for vip in draining}
        return tuple(vip for vip, end in self._drains.items() if now >= end)

    # --- the desired state ---

    def _vips(self) -> tuple[wire.Vip, ...]:
        if self._decoded is None:
            self._decoded = _vips_of(self._parts)
        return self._decoded

    async def _apply_on(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            root, turn, parts = self._root, self._turn, dict(self._parts)
            await asyncio.sleep(self._random.uniform(*self.apply_s))
            await self._thawed.wait()
            if root:
                vips = _vips_of(parts)
                self._on_desired(self._engine, vips)
                self._segment.tell(self._engine, _for_guard(parts, vips))
                await asyncio.sleep(self._random.uniform(*KEEP_S))
                self._kept = root, parts
            self._applied = root
            await self._thawed.wait()  # what it says while it is frozen is said to nobody
            if root:
                self._say(messages.Applied(root=root, turn=turn, how="reload", took_ms=1.0))


def _surface(task: asyncio.Task[None]) -> None:
    """What ended it, if not `kill`, fails the run."""
    if not task.cancelled():
        task.result()


def _for_guard(parts: dict[str, bytes], vips: tuple[wire.Vip, ...]) -> Desired:
    if "settings" not in parts:
        return NOTHING
    settings = wire.decode_part(parts["settings"])
    assert isinstance(settings, wire.Settings)
    return Desired.of(settings, vips)


def _vips_of(parts: dict[str, bytes]) -> tuple[wire.Vip, ...]:
    decoded = (wire.decode_part(data) for id, data in sorted(parts.items()) if id.startswith("vip/"))
    return tuple(part for part in decoded if isinstance(part, wire.Vip))
