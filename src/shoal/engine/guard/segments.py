"""On which interface of the engine a VIP is, and what is said of it there: VLANs beside the data interface.

A VIP belongs to the VLAN one of whose networks holds it, else to the data interface. One guard speaks on all of them: they
share a MAC, a lease and the guards' own network, which is the data interface's (decision 61).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from shoal.engine.guard.descriptors import Low
from shoal.engine.guard.loop import Loop
from shoal.engine.guard.neighbours import Neighbours, NeighbourSocket
from shoal.engine.guard.netlink import Addresses
from shoal.engine.guard.nft import Nft, beside, not_beside
from shoal.wire.guard import Segment

log = logging.getLogger("shoal.guard.segments")

NOWHERE = ""
CLOSE_GAP_S = 0.05
"""Between two sockets that are closed, which takes some 15 ms each: heartbeats go on."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Beside(NamedTuple):
    """A VLAN that is there: its interface's number, and what is said on it."""

    number: int
    neighbours: Neighbours


class Segments:
    """``main``: the data interface, with its ``neighbours``. ``on_answer`` is called when one of the sockets has something to
    say."""

    def __init__(
        self,
        loop: Loop,
        nft: Nft,
        addresses: Addresses,
        main: str,
        neighbours: Neighbours,
        low: Low,
        on_answer: Callable[[NeighbourSocket], None],
    ) -> None:
        self._loop, self._nft, self._addresses, self._main = loop, nft, addresses, main
        self._neighbours, self._low, self._on_answer = neighbours, low, on_answer
        self._listen(neighbours)
        self._close_at = loop.now()
        self._beside: dict[str, _Beside] = {}
        self._networks: tuple[tuple[Network, str], ...] = ()
        """The longest prefix first."""
        self._there: dict[str, str] = {}
        """Address -> the interface it was put on; `NOWHERE` of one that waits for its VLAN."""

    @property
    def mac(self) -> bytes:
        """The data interface's, and so that of its VLANs."""
        return self._neighbours.mac

    # --- which there are ---

    def want(self, segments: Iterable[Segment]) -> list[str]:
        """Exactly these VLANs, which are there. The addresses that had to move to another interface."""
        wanted = {segment.name: segment for segment in segments}
        if not wanted and not self._networks:
            return []
        self._know({segment.name: segment.networks for segment in wanted.values()})
        self._open(self._fresh(wanted))
        moved = self._move()
        for name in self._beside.keys() - wanted.keys():
            self._close(name)
        return moved

    def _know(self, networks: Mapping[str, Iterable[str]]) -> None:
        parsed = [(ipaddress.ip_network(network), name) for name, some in networks.items() for network in some]
        self._networks = tuple(sorted(parsed, key=lambda each: -each[0].prefixlen))

    def _fresh(self, wanted: Iterable[str]) -> dict[str, int]:
        """Those that nothing is said on yet, with their index. What is known of others by that name is over."""
        found = {}
        for name in wanted:
            try:
                index = socket.if_nametoindex(name)
            except OSError as error:  # its VIPs are on no interface then, and nobody answers for them from here
                log.error("nothing is said on %s: %s", name, error)
                index = 0
            known = self._beside.get(name)
            if known is not None and known.number != index:
                self._close(name)
            if index and name not in self._beside:
                found[name] = index
        return found

    def _open(self, fresh: Mapping[str, int]) -> None:
        """The fence first, of all in one transaction where the kernel takes it: the guard has no time for many."""
        rules = {name: beside(name, index).encode() for name, index in fresh.items()}
        fenced = list(fresh)
        if fresh and not self._nft.tries(b"".join(rules.values())):
            fenced = [name for name in fresh if self._nft.tries(rules[name])]
        for name in fenced:
            try:
                self._beside[name] = _Beside(fresh[name], Neighbours(name, self._low))
            except OSError as error:
                log.error("nothing is said on %s: %s", name, error)
                continue
            self._listen(self._beside[name].neighbours)
            log.info("speaks on %s, too", name)
        for name in fresh.keys() - set(fenced):
            log.error("nothing is said on %s: it can't be fenced", name)

    def _close(self, name: str) -> None:
        gone = self._beside.pop(name)
        for one in gone.neighbours.sockets:
            self._loop.forget(one)
            self._close_at = max(self._close_at, self._loop.now()) + CLOSE_GAP_S
            self._loop.at(self._close_at, one.close)
        self._nft.tries(not_beside(gone.number).encode())
        log.info("speaks on %s no more", name)

    def _listen(self, neighbours: Neighbours) -> None:
        for one in neighbours.sockets:
            self._loop.on_readable(one, partial(self._on_answer, one))

    def _move(self) -> list[str]:
        moved = [address for address, name in self._there.items() if self.of(address) != name]
        for address in moved:
            try:
                self.remove(address)
            except OSError as error:
                log.info("%s was not removed: %s", address, error)  # with its interface, perhaps
            try:
                self.add(address)
            except OSError as error:
                log.error("%s can't be moved to %s: %s", address, self.of(address), error)
        return moved

    # --- where a VIP is ---

    def of(self, address: str) -> str:
        """The interface that a VIP belongs to."""
        if self._networks:
            parsed = ipaddress.ip_address(address)
            for network, name in self._networks:
                if parsed in network:
                    return name
        return self._main

    def besides(self, addresses: Iterable[str]) -> frozenset[str]:
        """Those that belong to a VLAN."""
        return frozenset(a for a in addresses if self.of(a) != self._main) if self._networks else frozenset()

    def add(self, address: str) -> None:
        """Raises OSError; also where nothing guards what would be said there."""
        name, self._there[address] = self.of(address), NOWHERE
        if name != self._main and name not in self._beside:
            raise OSError(f"{name} is not there yet")
        self._addresses.add(name, address)
        self._there[address] = name

    def remove(self, address: str) -> None:
        """One that is not there is fine. Raises OSError."""
        name = self._there.pop(address, self._main)
        if name == self._main or name in self._beside:
            self._addresses.remove(name, address)

    def remove_left(self) -> None:
        """What a guard that was killed has left on any interface."""
        for _, name in socket.if_nameindex():
            if name != "lo":
                for address in self._addresses.ours(name):
                    self._addresses.remove(name, address)

    def announce(self, address: str) -> None:
        if (neighbours := self._of(address)) is not None:
            neighbours.announce(address)

    def probe(self, address: str) -> None:
        if (neighbours := self._of(address)) is not None:
            neighbours.probe(address)

    def _of(self, address: str) -> Neighbours | None:
        name = self.of(address)
        if name == self._main:
            return self._neighbours
        known = self._beside.get(name)
        return known.neighbours if known is not None else None
