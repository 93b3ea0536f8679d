"""What an engine has acknowledged that it runs: per VIP and part, and how and when it came to run it.

An acknowledgement counts for one version of a VIP's list. Versions grow with every change of who serves, drains or may
take over, so an engine that comes back to a VIP can't be taken for ready by what it ran before it left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from shoal.wire import desired as wire
from shoal.wire import messages

from .desired import EngineParts

VIP_PART = "vip/"
STATES_KEPT_MAX = 16
"""Sent and not acknowledged yet; of more than these it is no longer known which came first."""


class Change(msgspec.Struct, frozen=True):
    """How an engine took a part on: as one of those in the state that it acknowledged ``at`` (wall clock)."""

    how: str
    took_ms: float
    at: float


class Root(msgspec.Struct, frozen=True):
    """A desired state that was sent: VIP id -> list version, part id -> hash, (VIP id, engine) for each that drains."""

    lists: dict[str, int]
    hashes: dict[str, str]
    drains: frozenset[tuple[str, str]]


def root_of(parts: EngineParts) -> Root:
    vips = [part.vip for part in parts.values() if part.vip is not None]
    return Root(
        lists={vip.id: vip.list_version for vip in vips},
        hashes={id: part.hash for id, part in parts.items()},
        drains=frozenset((vip.id, engine) for vip in vips for engine in vip.draining),
    )


class Sent(msgspec.Struct, frozen=True):
    """A state that an engine was sent, or has. ``addresses``: of each VIP, None where they are not known; None as a
    whole: neither are the VIPs."""

    root: str
    addresses: Mapping[str, frozenset[str] | None] | None
    turn: int = 0

    def may_answer(self, vip: str, address: str) -> bool:
        if self.addresses is None:
            return True
        known = self.addresses.get(vip, frozenset())
        return known is None or address in known

    def joined(self, other: Sent) -> Sent:
        """What it has that was sent either."""
        if self.addresses is None or other.addresses is None:
            return Sent("", None)
        both = {**self.addresses, **other.addresses}
        for vip in self.addresses.keys() & other.addresses.keys():
            one, two = self.addresses[vip], other.addresses[vip]
            both[vip] = None if one is None or two is None else one | two
        return Sent("", both)


def _manifest(hello: messages.Hello) -> str:
    """The root of the parts that an engine has."""
    return wire.manifest(wire.PartReference(*part) for part in hello.parts).root


def _greeted(hello: messages.Hello, known: EngineParts) -> Sent:
    """What an engine with this hello may go by. It runs what it has only if that is the state it says it has applied:
    it may have been told of a newer one and still go by the older."""
    if hello.parts and hello.root != _manifest(hello):
        return Sent(hello.root, None)
    addresses: dict[str, frozenset[str] | None] = {owned.vip: None for owned in hello.owned}
    for id, hash in hello.parts:
        if id.startswith(VIP_PART):
            part = known.get(id)
            vip = part.vip if part is not None and part.hash == hash else None
            addresses[id.removeprefix(VIP_PART)] = frozenset(vip.owned) if vip is not None else None
    return Sent(hello.root, addresses)


class Acknowledged(msgspec.Struct):
    """Of one engine."""

    lists: dict[str, int] = {}
    """VIP id -> the list version it runs."""
    hashes: dict[str, str] = {}
    changes: dict[str, Change] = {}
    """Part id -> its last change, of the parts it runs."""
    ways: dict[str, int] = {}
    """How often each way was taken since this controller knows it."""
    drains: dict[tuple[str, str], float] = {}
    """(VIP id, engine) -> since when it knows that the engine drains (monotonic): from then on it sends it nothing."""
    states: list[Sent] = []
    """What it may go by: the state it acknowledged last, and those it was sent since."""

    def greet(self, hello: messages.Hello, known: EngineParts, monotonic: float) -> None:
        """What a hello says that it has. ``known``: those of its parts that are as they should be.

        What it has only received, and not put into effect yet, it does not run: it will say so. An agent that has not applied
        anything itself begins with what an earlier one did."""
        if (hello.root or hello.kept) == _manifest(hello):
            root, same = root_of(known), self._acknowledged_of(hello)
            self.lists = {vip: version for vip, version in self.lists.items() if vip in same} | root.lists
            self._drain(root.drains.union(key for key in self.drains if key[0] in same), monotonic)
        elif not hello.root:  # what an earlier agent acknowledged is nowhere any more, or older than what this one has
            self.lists, self.drains = {}, {}
        self.states = [_greeted(hello, known)]

    def _acknowledged_of(self, hello: messages.Hello) -> set[str]:
        """The VIPs that it has exactly as it acknowledged them last."""
        parts = (id for id, hash in hello.parts if self.hashes.get(id) == hash)
        return {id.removeprefix(VIP_PART) for id in parts if id.startswith(VIP_PART)}

    def sent(self, root: str, parts: EngineParts, turn: int = 0) -> None:
        """The engine is about to be sent this state."""
        vips = [part.vip for part in parts.values() if part.vip is not None]
        self.states.append(Sent(root, {vip.id: frozenset(vip.owned) for vip in vips}, turn))
        if len(self.states) > STATES_KEPT_MAX:
            first, second = self.states[:2]
            self.states[:2] = [first.joined(second)]

    @property
    def vips(self) -> frozenset[str] | None:
        """All that it may answer for anything of; None = not known."""
        known = [state.addresses for state in self.states if state.addresses is not None]
        return frozenset(vip for vips in known for vip in vips) if len(known) == len(self.states) else None

    def may_answer(self, vip: str, address: str) -> bool:
        """Whether it could answer for the address as for one of this VIP's."""
        return any(state.may_answer(vip, address) for state in self.states)

    def take(self, message: messages.Applied, root: Root | None, now: float, monotonic: float) -> None:
        """``root`` is None for a state that was not sent in this session."""
        self.ways[message.how] = self.ways.get(message.how, 0) + 1
        same = [n for n, state in enumerate(self.states) if state.root == message.root]
        by_turn = [n for n in same if message.turn and self.states[n].turn == message.turn]
        del self.states[: next(iter(by_turn or same), 0)]
        if root is None:
            return
        self.lists = dict(root.lists)
        change, known = Change(message.how, message.took_ms, now), self.changes
        self.changes = {
            id: known[id] if id in known and self.hashes.get(id) == hash else change for id, hash in root.hashes.items()
        }
        self.hashes = root.hashes
        self._drain(root.drains, monotonic)

    def _drain(self, drains: Iterable[tuple[str, str]], monotonic: float) -> None:
        self.drains = {key: self.drains.get(key, monotonic) for key in sorted(drains)}
