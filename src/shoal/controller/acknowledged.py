"""What an engine has acknowledged that it runs: per VIP and part, and how and when it came to run it.

An acknowledgement counts for one version of a VIP's list. Versions grow with every change of who serves, drains or may
take over, so an engine that comes back to a VIP can't be taken for ready by what it ran before it left.
"""

from __future__ import annotations

import msgspec

from shoal.wire import messages

from .desired import EngineParts


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

    def greet(self, root: Root, monotonic: float) -> None:
        """What a hello says that it has."""
        self.lists = dict(root.lists)
        self._drain(root, monotonic)

    def take(self, message: messages.Applied, root: Root | None, now: float, monotonic: float) -> None:
        """``root`` is None for a state that was not sent in this session."""
        self.ways[message.how] = self.ways.get(message.how, 0) + 1
        if root is None:
            return
        self.lists = dict(root.lists)
        change, known = Change(message.how, message.took_ms, now), self.changes
        self.changes = {
            id: known[id] if id in known and self.hashes.get(id) == hash else change for id, hash in root.hashes.items()
        }
        self.hashes = root.hashes
        self._drain(root, monotonic)

    def _drain(self, root: Root, monotonic: float) -> None:
        self.drains = {key: self.drains.get(key, monotonic) for key in sorted(root.drains)}
