"""Frames of neighbour discovery (RFC 4861): announcements, probes, and what answers. Pure.

What `shoal.observe.frames` has of ARP. All that is said for a VIP has the VIP as its source, as what the kernel says
has: so the fence knows it.
"""

from __future__ import annotations

import socket
import struct

ETH_P_IPV6 = 0x86DD
ICMPV6 = 58
SOLICITATION, ADVERTISEMENT = 135, 136
OVERRIDE = 0x20000000
SOURCE_LINK_ADDRESS, TARGET_LINK_ADDRESS = 1, 2
HOP_LIMIT = 255
"""Others are not from this segment (RFC 4861, 7.1)."""
ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
SOLICITED_NODE = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13]
FRAME = struct.Struct("!6s6sHIHBB16s16s")
MESSAGE = struct.Struct("!BBHI16sBB6s")
"""Type, code, checksum, flags, target, one option: a link-layer address."""

# Classic BPF: keep the frame if its next header (1 byte at 20) is ICMPv6 and the type (at 54) an advertisement.
ADVERTISEMENTS_ONLY = (
    (0x30, 0, 0, 20),
    (0x15, 0, 3, ICMPV6),
    (0x30, 0, 0, 54),
    (0x15, 0, 1, ADVERTISEMENT),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


def checksum(source: bytes, destination: bytes, message: bytes) -> int:
    """RFC 8200, 8.1. ``message`` has an even length."""
    data = source + destination + struct.pack("!II", len(message), ICMPV6) + message
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(mac: bytes, source: bytes, destination: bytes, kind: int, flags: int, target: bytes, option: int) -> bytes:
    """To a multicast group (RFC 2464, 7)."""
    values = flags, target, option, 1, mac
    sum16 = checksum(source, destination, MESSAGE.pack(kind, 0, 0, *values))
    message = MESSAGE.pack(kind, 0, sum16, *values)
    group = b"\x33\x33" + destination[12:]
    head = FRAME.pack(group, mac, ETH_P_IPV6, 0x60000000, len(message), ICMPV6, HOP_LIMIT, source, destination)
    return head + message


def announcements(address: str, mac: bytes) -> tuple[bytes]:
    """An unsolicited advertisement that overrides what neighbours know (RFC 4861, 7.2.6)."""
    packed = socket.inet_pton(socket.AF_INET6, address)
    return (frame(mac, packed, ALL_NODES, ADVERTISEMENT, OVERRIDE, packed, TARGET_LINK_ADDRESS),)


def link_local(mac: bytes) -> bytes:
    """RFC 4291, appendix A."""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def probe(address: str, mac: bytes) -> bytes:
    """A question from the interface itself. Not one from nobody (RFC 4862): its answer goes to all nodes, and makes every
    neighbour believe anew an owner that is being replaced."""
    packed = socket.inet_pton(socket.AF_INET6, address)
    group = SOLICITED_NODE + packed[13:]
    return frame(mac, link_local(mac), group, SOLICITATION, 0, packed, SOURCE_LINK_ADDRESS)


def answer(data: bytes) -> tuple[str, str] | None:
    """(address, MAC) of an advertisement, or None."""
    if len(data) < FRAME.size + 24:
        return None
    fields = FRAME.unpack_from(data)
    if fields[2] != ETH_P_IPV6 or fields[5] != ICMPV6 or fields[6] != HOP_LIMIT or data[FRAME.size] != ADVERTISEMENT:
        return None
    at, mac = FRAME.size + 24, fields[1]
    while at + 8 <= len(data) and data[at + 1]:
        if data[at] == TARGET_LINK_ADDRESS:
            mac = data[at + 2 : at + 8]
        at += data[at + 1] * 8
    return socket.inet_ntop(socket.AF_INET6, data[FRAME.size + 8 : FRAME.size + 24]), mac.hex(":")
