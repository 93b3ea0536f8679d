"""Preflight between controller and engine: frames that an engine sends for a moment from a test address, and what it hears.

The test address is nobody's: no interface gets it, so no connection and no VIP is touched.
"""

from __future__ import annotations

import msgspec

LISTEN_MS_MAX = 5000
FRAMES_MAX = 64


class Say(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One frame. ``kind``: ``ask`` (who has ``target``? with no sender address, RFC 5227), ``announce`` (gratuitous ARP for
    ``source``), ``echo`` (an ICMP echo request from ``source`` to ``target``, not to be fragmented)."""

    kind: str
    at_ms: int
    source: str = ""
    """"" = the engine's own address."""
    target: str = ""
    mac: str = ""
    """It is sent from this one; "" = the engine's own."""
    to_mac: str = ""
    """Of an echo."""
    number: int = 0
    """Comes back with the echo's answer."""
    size: int = 0
    """Of an echo, with its IP header, in bytes; 0 = a small one."""


class Probe(msgspec.Struct, frozen=True, kw_only=True, tag="probe"):
    """``address``: the test address; ``answers``: say so to who asks for it. ``mac``: another one to hear answers for."""

    id: int
    address: str
    says: tuple[Say, ...]
    listen_ms: int
    answers: bool = False
    mac: str = ""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: ``answer`` (``mac`` has ``address``), ``reply`` (to an echo of the group's, sent to ``address``) or ``echo``
    (one itself, handed on by another engine). ``to_mac`` is the frame's destination."""

    kind: str
    at_ms: float
    mac: str
    to_mac: str
    address: str
    number: int = 0


class Probed(msgspec.Struct, frozen=True, kw_only=True, tag="probed"):
    """``mtu`` of the data interface. ``problem``: why nothing could be tried."""

    id: int
    heard: tuple[Heard, ...] = ()
    mac: str = ""
    mtu: int = 0
    problem: str = ""
