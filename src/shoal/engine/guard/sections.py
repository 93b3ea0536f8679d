"""Long heartbeats, cut into sections: what has changed is sent, of the rest only that it is as it was. Pure.

A heartbeat names every VIP of its engine, some 100 octets each; a thousand of them are more than a datagram can carry,
and a datagram of many fragments is lost with any one of them. So the VIPs are dealt to sections by their ids. What is
said each interval is the list of the sections' digests; a section itself is sent when it is new, and again to a peer
that lacks it. A short heartbeat is sent as it is.
"""

from __future__ import annotations

import hashlib
import zlib

import msgspec

from shoal.ownership.events import Entry, Heartbeat

SECTIONS = 64
DIGEST_BYTES = 8
WHOLE_BYTES_MAX = 1200
"""A heartbeat up to this, which fits in one frame, is sent whole."""


class Section(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """Some VIPs of a heartbeat. ``entries`` is encoded: its digest names it."""

    engine: str
    entries: bytes


class Contents(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """A heartbeat by reference: ``digests`` of its sections, one after the other."""

    engine: str
    incarnation: str
    able: bool
    digests: bytes


class Again(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """Sections that ``engine`` lacks."""

    engine: str
    digests: bytes


_encoder = msgspec.msgpack.Encoder()
_entries: msgspec.msgpack.Decoder[tuple[Entry, ...]] = msgspec.msgpack.Decoder(tuple[Entry, ...])


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def each(digests: bytes) -> list[bytes]:
    return [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]


class Saying:
    """The sender's side."""

    def __init__(self) -> None:
        self._sections: dict[bytes, bytes] = {}

    def say(self, heartbeat: Heartbeat) -> tuple[Heartbeat | Contents, tuple[Section, ...]]:
        """(what to send each time, the sections to send before it, once)"""
        if len(_encoder.encode(heartbeat)) <= WHOLE_BYTES_MAX:
            return heartbeat, ()
        dealt: dict[int, list[Entry]] = {}
        for entry in heartbeat.entries:
            dealt.setdefault(zlib.crc32(entry.vip.encode()) % SECTIONS, []).append(entry)
        encoded = [_encoder.encode(dealt[number]) for number in sorted(dealt)]
        before, self._sections = self._sections, {digest(data): data for data in encoded}
        fresh = tuple(Section(heartbeat.engine, data) for name, data in self._sections.items() if name not in before)
        return Contents(heartbeat.engine, heartbeat.incarnation, heartbeat.able, b"".join(self._sections)), fresh

    def again(self, wanted: Again, engine: str) -> tuple[Section, ...]:
        """Those that are still true: of others a newer list is on its way."""
        return tuple(Section(engine, self._sections[name]) for name in each(wanted.digests) if name in self._sections)


class Hearing:
    """The receiver's side, of one peer."""

    def __init__(self) -> None:
        self._sections: dict[bytes, tuple[Entry, ...]] = {}
        self._early: dict[bytes, tuple[Entry, ...]] = {}
        self._open: Contents | None = None

    def contents(self, contents: Contents) -> tuple[Heartbeat | None, bytes]:
        """(the heartbeat if all of it is here, digests of the sections to ask for)"""
        names = each(contents.digests)
        known = self._sections | self._early
        self._sections = {name: known[name] for name in names if name in known}
        self._early = {}
        lacking = [name for name in names if name not in known]
        if lacking:
            self._open = contents
            return None, b"".join(lacking)
        self._open = None
        entries = tuple(entry for name in names for entry in self._sections[name])
        return Heartbeat(contents.engine, contents.incarnation, contents.able, entries), b""

    def section(self, section: Section) -> Heartbeat | None:
        """The heartbeat that was open, if this was the last it lacked. Raises `msgspec.MsgspecError`."""
        if len(self._early) >= SECTIONS:
            self._early = {}
        self._early[digest(section.entries)] = _entries.decode(section.entries)
        if self._open is None or any(n not in self._sections | self._early for n in each(self._open.digests)):
            return None
        return self.contents(self._open)[0]
