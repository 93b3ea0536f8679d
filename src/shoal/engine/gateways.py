"""Watches the next hops that the engine's VRFs name: pings each at its pace."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from shoal.wire.desired import GatewayMonitor, Gateways
from shoal.wire.messages import GatewayState
from shoal.wire.monitors import Monitor

from .monitors.checks import Health
from .monitors.ping import echo

log = logging.getLogger("shoal.gateways")


IPV4_ROUTES, IPV6_ADDRESSES = Path("/proc/net/route"), Path("/proc/net/if_inet6")


class Elsewhere(Exception):
    """It does not answer, and is in none of the engine's own networks: of an engine that is not in its VLAN that says nothing."""


class Watched:
    """``state`` is there from the first answer on, or the time that it counts as lost."""

    def __init__(self, monitor: GatewayMonitor) -> None:
        self.monitor = monitor
        self.forget()

    def forget(self) -> None:
        monitor = self.monitor
        self.health = Health(Monitor(name=monitor.address, kind="PING", rise=monitor.rise, fall=monitor.fall))
        self.answered = False

    @property
    def state(self) -> GatewayState | None:
        if self.health.why:
            return GatewayState(address=self.monitor.address, why=self.health.why)
        return GatewayState(address=self.monitor.address) if self.answered else None


class GatewayWatch:
    """``on_change`` is called on the loop after each verdict that is new."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._wanted: dict[str, GatewayMonitor] = {}
        self._changed = asyncio.Event()
        self._watched: dict[str, Watched] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def want(self, parts: Iterable[Gateways]) -> None:
        """Watch these and no others. One that several VRFs name is watched once."""
        self._wanted = {monitor.address: monitor for part in parts for monitor in part.monitors}
        self._changed.set()

    @property
    def states(self) -> tuple[GatewayState, ...]:
        return tuple(state for watched in self._watched.values() if (state := watched.state) is not None)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for address, watched in list(self._watched.items()):
                    if self._wanted.get(address) != watched.monitor:
                        del self._watched[address]
                        self._tasks.pop(address).cancel()
                for address, monitor in self._wanted.items():
                    if address not in self._watched:
                        watched = self._watched[address] = Watched(monitor)
                        self._tasks[address] = group.create_task(self._watch(watched))

    async def _watch(self, watched: Watched) -> None:
        loop, monitor = asyncio.get_running_loop(), watched.monitor
        interval_s = monitor.interval_ms / 1000
        due = loop.time()
        while True:
            await asyncio.sleep(due - loop.time())
            try:
                why = await _asked(monitor, interval_s)
            except Elsewhere:
                if watched.state is not None:
                    watched.forget()
                    self._on_change()
                due = max(due + interval_s, loop.time())
                continue
            first = not watched.answered and not why
            watched.answered |= first
            if watched.health.note(why):
                log.info("gateway %s %s", monitor.address, f"is lost: {why}" if why else "answers again")
                self._on_change()
            elif first:
                self._on_change()
            due = max(due + interval_s, loop.time())


async def _asked(monitor: GatewayMonitor, within_s: float) -> str:
    """What is wrong, "" if it answers. Raises Elsewhere."""
    try:
        async with asyncio.timeout(within_s):
            await echo(monitor.address, monitor.interface)
        return ""
    except TimeoutError:
        why = f"no answer within {within_s:g} s"
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
    if not on_link(monitor.address, _lines(IPV4_ROUTES), _lines(IPV6_ADDRESSES)):
        raise Elsewhere
    return why


def _lines(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # a kernel without IPv6 has no list of its addresses
        return ""


def on_link(text: str, routes: str, addresses: str) -> bool:
    """Whether the address is in a network that an interface is in, by ``/proc/net/route`` or ``/proc/net/if_inet6``."""
    address = ipaddress.ip_address(text)
    if address.is_link_local:
        return True
    if address.version == 4:
        number = int.from_bytes(address.packed, sys.byteorder)
        fields = (line.split() for line in routes.splitlines()[1:])
        return any(int(f[2], 16) == 0 and number & int(f[7], 16) == int(f[1], 16) for f in fields)
    found = (line.split() for line in addresses.splitlines())
    return any(address in ipaddress.ip_network((int(f[0], 16), int(f[2], 16)), strict=False) for f in found)
