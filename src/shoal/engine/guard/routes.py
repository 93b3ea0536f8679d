"""What the engine draws by routing, as routes of a table that the kernel itself never looks at: its BGP speaker announces
what it finds there (`shoal.engine.bgp`). So nothing stands between the guard's word and the announcement.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Collection
from functools import partial

from shoal.engine.guard.loop import Loop, Timer
from shoal.engine.guard.netlink import RTA_DST, RouteTable, attribute
from shoal.ownership.state import State, draws

log = logging.getLogger("shoal.guard.routes")

TABLE = 0x5A0B
RTN_BLACKHOLE = 6
RTA_TABLE = 15
LINGER_S = 1.0
"""An engine that ceases to draw a VIP stays a way to it for so long: routers hear of the next one meanwhile, and the others
of the connections that stay here. What comes is served, or passed on."""
FOLLOWED_AFTER_S = 1.0
"""A guard started anew changes nothing of what the one before announced until it knows HAProxy, or for so long."""


class Table(RouteTable):
    """Raises OSError."""

    protocol = 0x5A

    def add(self, address: str) -> None:
        """One that is there already is fine."""
        self._replace(self._route(address))

    def remove(self, address: str) -> None:
        """One that is not there is fine."""
        self._delete(self._route(address))

    def routes(self) -> tuple[str, ...]:
        """What this or an earlier guard put there."""
        mine = struct.pack("=I", TABLE)
        return tuple(
            socket.inet_ntop(head[0], values[RTA_DST])
            for head, values in self._ours()
            if values.get(RTA_TABLE) == mine and RTA_DST in values
        )

    def _route(self, address: str) -> bytes:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        head = self._head(family, len(packed) * 8, 0, RTN_BLACKHOLE)
        return head + attribute(RTA_DST, packed) + attribute(RTA_TABLE, struct.pack("=I", TABLE))


class Routes:
    """`follow` keeps up with who owns and serves what. ``note(what, address)`` is called for each change."""

    def __init__(self, loop: Loop, note: Callable[[str, str], None]) -> None:
        self._loop = loop
        self._note = note
        self._table = Table()
        self._there = set(self._table.routes())
        self._leaving: dict[str, Timer] = {}
        self._unready: frozenset[str] = frozenset()
        self._began = loop.now()
        self._seen: tuple[int, bool, bool] | None = None

    def want(self) -> None:
        """Other VIPs may be wanted. Counts with the next `follow`."""
        self._seen = None

    def unready(self, vips: Collection[str]) -> None:
        """These VIPs are not to be announced, whoever holds them. Counts with the next `follow`."""
        self._unready, self._seen = frozenset(vips), None

    def follow(self, state: State) -> None:
        """After each step. Costs nothing while nobody takes or gives up a VIP."""
        seen = (state.epoch, state.haproxy, state.stopping)
        if seen == self._seen or (not state.haproxy and self._loop.now() < self._began + FOLLOWED_AFTER_S):
            return
        self._seen = seen
        views = [view for view in state.vips.values() if view.vip.route and view.vip.id not in self._unready]
        drawn = {address for view in views if draws(state, view) for address in view.vip.addresses}
        lingers = {address for view in views if state.haproxy for address in view.vip.addresses}
        for address in sorted(drawn):
            self._stay(address)
        for address in sorted(self._there - drawn):
            if address not in lingers:
                self._remove(address)
            elif address not in self._leaving:
                until = self._loop.now() + LINGER_S
                self._leaving[address] = self._loop.at(until, partial(self._remove, address))

    def _stay(self, address: str) -> None:
        if (timer := self._leaving.pop(address, None)) is not None:
            timer.cancel()
        if address not in self._there:
            self._there.add(address)
            self._try("announced", self._table.add, address)

    def _remove(self, address: str) -> None:
        if (timer := self._leaving.pop(address, None)) is not None:
            timer.cancel()
        self._there.discard(address)
        self._try("withdrawn", self._table.remove, address)

    def _try(self, what: str, change: Callable[[str], None], address: str) -> None:
        try:
            change(address)
        except OSError as error:  # no IPv6 here, perhaps; the other addresses count all the same
            log.error("the route of %s can't be %s: %s", address, what, error)
        else:
            self._note(what, address)
