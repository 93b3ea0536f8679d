"""Packet capture between controller and engine.

The controller starts a capture on an engine and grants it a number of chunks; each `Captured` uses one up, and
`CaptureMore` grants further ones as they are taken. An engine without a grant keeps what it has and lets the kernel
count what it drops: neither side ever holds more than the grant.
"""

from __future__ import annotations

import msgspec

CHUNK_BYTES = 64 * 1024
"""A chunk is sent when it has grown past this; one packet may bring it over."""
WATERMARK_INTERVAL_S = 0.05
"""An engine with nothing to tell says so this often."""
SNAP_BYTES_MAX = 262_144


class Endpoint(msgspec.Struct, frozen=True):
    """An address and a range of ports."""

    address: str
    port: int
    port_end: int


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which packets: TCP and UDP to or from one of the ``endpoints``, and as all the rest says. ``hosts`` are networks
    in CIDR form, one of which the packet comes from or goes to (``but_hosts``: does not); a port range of (0, 65535) is
    any; ``flags`` are TCP flag bits, one of which is set."""

    endpoints: tuple[Endpoint, ...]
    hosts: tuple[str, ...] = ()
    but_hosts: tuple[str, ...] = ()
    source_ports: tuple[int, int] = (0, 65535)
    destination_ports: tuple[int, int] = (0, 65535)
    flags: int = 0


class CaptureStart(msgspec.Struct, frozen=True, kw_only=True, tag="capture_start"):
    """Ends by itself after so many packets, bytes or seconds. ``interface`` is the pcapng interface id that the engine
    writes into its blocks; ``snap`` is how much of a packet is kept."""

    id: str
    interface: int
    selection: Selection
    snap: int
    packets: int
    bytes: int
    seconds: float
    chunks: int


class CaptureMore(msgspec.Struct, frozen=True, tag="capture_more"):
    id: str
    chunks: int


class CaptureStop(msgspec.Struct, frozen=True, tag="capture_stop"):
    id: str


class Captured(msgspec.Struct, frozen=True, kw_only=True, tag="captured"):
    """``data``: whole pcapng Enhanced Packet Blocks. ``received`` and ``dropped`` count since the start, as the kernel
    does: packets that passed the filter, and those of them that found no room. ``ended`` says why it is the last one."""

    id: str
    data: bytes = b""
    until_ns: int = 0
    """No packet older than this (ns since the epoch) will follow."""
    received: int = 0
    dropped: int = 0
    ended: str = ""
