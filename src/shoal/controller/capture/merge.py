"""Several engines' packets in one order of time. Pure; ``now`` is monotonic seconds.

Each engine says up to when it has told all; what is older than that of every engine can go. An engine that is silent
for `STALL_S` holds the others up no longer; what it brings afterwards is put in late, and counted.
"""

from __future__ import annotations

import bisect

import msgspec

from .file import Packet, packets

STALL_S = 2.0


class Feed(msgspec.Struct, kw_only=True):
    """One engine, with its pcapng interface. ``ended`` says why nothing more comes."""

    name: str
    interface: int
    heard_at: float
    until_ns: int = 0
    received: int = 0
    dropped: int = 0
    late: int = 0
    ended: str = ""


class Merge:
    def __init__(self) -> None:
        self.feeds: dict[str, Feed] = {}
        """By engine."""
        self._waiting: list[Packet] = []
        self._number = 0
        self._gone_ns = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, feed: Feed, data: bytes) -> None:
        """A chunk of a feed. Raises Malformed."""
        fresh = packets(data, feed.interface, self._number)
        self._number += len(fresh)
        feed.late += sum(packet.at_ns < self._gone_ns for packet in fresh)
        self._waiting += fresh

    def last(self) -> str:
        """The engine that the others wait for; "" if none can be."""
        open = {engine: feed.until_ns for engine, feed in self.feeds.items() if not feed.ended}
        return min(open, key=lambda engine: open[engine], default="")

    def held(self, since: float, now: float) -> None:
        """Nothing was taken for a while, so nothing was granted: that is no silence of the engines'."""
        for feed in self.feeds.values():
            feed.heard_at = min(now, feed.heard_at + now - since)

    def ready(self, now: float, *, rest: bool = False) -> list[Packet]:
        """What can go, in order. ``rest``: nothing more comes."""
        if not self._waiting:
            return []
        self._waiting.sort()
        heard = [feed for feed in self.feeds.values() if not feed.ended and now - feed.heard_at < STALL_S]
        count = len(self._waiting)
        if heard and not rest:
            horizon = min(feed.until_ns for feed in heard)
            count = bisect.bisect_right(self._waiting, horizon, key=lambda packet: packet.at_ns)
        found, self._waiting = self._waiting[:count], self._waiting[count:]
        if found:
            self._gone_ns = max(self._gone_ns, found[-1].at_ns)
        return found
