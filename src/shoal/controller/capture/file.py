"""The two file formats: pcapng (an interface per engine; draft-ietf-opsawg-pcapng) and pcap. Pure."""

from __future__ import annotations

import struct

import msgspec

ETHERNET = 1
SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
PCAP_NS_MAGIC = 0xA1B23C4D
NS_PER_S = 1_000_000_000
COMMENT, IF_NAME, IF_DESCRIPTION, IF_RESOLUTION, USER_APPLICATION = 1, 2, 3, 9, 4
IF_RECEIVED, IF_DROPPED = 4, 5
NANOSECONDS = b"\x09"
PACKET_HEAD = struct.Struct("<IIIIIII")
PACKET_BYTES_MIN = PACKET_HEAD.size + 4
WHOLE = 262_144


class Packet(msgspec.Struct, frozen=True, order=True, gc=False):
    """One Enhanced Packet Block. Ordered by time, then as it came."""

    at_ns: int
    number: int
    block: bytes
    size: int


class Malformed(ValueError):
    """An engine sent what is no block of its interface."""


def packets(data: bytes, interface: int, number: int) -> list[Packet]:
    """The blocks of a chunk, numbered from ``number`` on. Raises Malformed."""
    found: list[Packet] = []
    at, end = 0, len(data)
    while at < end:
        if end - at < PACKET_BYTES_MIN:
            raise Malformed("a block is cut off")
        kind, length, number_of, high, low, size, _ = PACKET_HEAD.unpack_from(data, at)
        if kind != PACKET or number_of != interface or length % 4 or length > end - at:
            raise Malformed("a block is none of its interface")
        if length < PACKET_BYTES_MIN + size:
            raise Malformed("a packet is longer than its block")
        found.append(Packet(high << 32 | low, number + len(found), data[at : at + length], size))
        at += length
    return found


# --- pcapng ---


def section() -> bytes:
    body = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
    return _block(SECTION, body + _option(USER_APPLICATION, b"Shoal") + _END)


def interface(name: str, description: str, snap: int) -> bytes:
    options = _option(IF_NAME, name.encode()) + _option(IF_DESCRIPTION, description.encode())
    options += _option(IF_RESOLUTION, NANOSECONDS) + _END
    return _block(INTERFACE, struct.pack("<HHI", ETHERNET, 0, snap or WHOLE) + options)


def statistics(interface: int, at_ns: int, received: int, dropped: int, comment: str = "") -> bytes:
    """May be repeated; the last one of an interface counts."""
    options = _option(COMMENT, comment.encode()) if comment else b""
    options += _option(IF_RECEIVED, struct.pack("<Q", received)) + _option(IF_DROPPED, struct.pack("<Q", dropped))
    return _block(STATISTICS, struct.pack("<III", interface, at_ns >> 32, at_ns & 0xFFFFFFFF) + options + _END)


_END = struct.pack("<HH", 0, 0)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


# --- pcap ---


def pcap_header(snap: int) -> bytes:
    return struct.pack("<IHHiIII", PCAP_NS_MAGIC, 2, 4, 0, 0, snap or WHOLE, ETHERNET)


def pcap_record(packet: Packet) -> bytes:
    original = PACKET_HEAD.unpack_from(packet.block)[6]
    head = struct.pack("<IIII", packet.at_ns // NS_PER_S, packet.at_ns % NS_PER_S, packet.size, original)
    return head + packet.block[PACKET_HEAD.size : PACKET_HEAD.size + packet.size]
