"""ARP (RFC 826, 5227) and TCP frames as bytes: built by hand, so that a raw socket opened once is enough."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

ETH_P_IP, ETH_P_ARP = 0x0800, 0x0806
BROADCAST = b"\xff" * 6
NOBODY = b"\0" * 6
REQUEST, REPLY = 1, 2
ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")

SYN, RST, ACK = 0x02, 0x04, 0x10
TTL = 64
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_IP_AT, _TCP_AT = 14, 34
_PLAIN_IP = 0x45
_DONT_FRAGMENT = 0x4000

Instruction = tuple[int, int, int, int]
"""Of a classic BPF program: code, jump if true, jump if false, k."""
_SO_ATTACH_FILTER = 26


class Said(NamedTuple):
    """``mac`` says that it has ``address``: in a reply to the neighbour ``to``, or to all ("")."""

    address: str
    mac: str
    to: str


def arp(to: bytes, mac: bytes, operation: int, sender: str, target_mac: bytes, target: str) -> bytes:
    sender_ip, target_ip = socket.inet_aton(sender), socket.inet_aton(target)
    return ARP.pack(to, mac, ETH_P_ARP, 1, ETH_P_IP, 6, 4, operation, mac, sender_ip, target_mac, target_ip)


def announcements(address: str, mac: bytes) -> tuple[bytes, bytes]:
    """Gratuitous ARP as request and as reply: neighbours differ in which one they believe."""
    return (
        arp(BROADCAST, mac, REQUEST, address, NOBODY, address),
        arp(BROADCAST, mac, REPLY, address, BROADCAST, address),
    )


def question(address: str, mac: bytes) -> bytes:
    """With no sender address (RFC 5227): it changes no neighbour's table."""
    return arp(BROADCAST, mac, REQUEST, "0.0.0.0", NOBODY, address)


def said(frame: bytes) -> Said | None:
    """Who says to have which address: a reply, or a gratuitous request. None for everything else."""
    if len(frame) < ARP.size:
        return None
    to, _, kind, _, _, _, _, operation, mac, sender, _, target = ARP.unpack_from(frame)
    if kind != ETH_P_ARP or sender == b"\0\0\0\0" or not (operation == REPLY or sender == target):
        return None
    neighbour = to.hex(":") if operation == REPLY and to != BROADCAST else ""
    return Said(socket.inet_ntoa(sender), mac.hex(":"), neighbour)


def reply(frame: bytes, address: str, mac: bytes) -> bytes | None:
    """The reply to a question for ``address``; None if the frame is none."""
    if len(frame) < ARP.size:
        return None
    _, _, kind, _, _, _, _, operation, asker, sender, _, target = ARP.unpack_from(frame)
    if kind != ETH_P_ARP or operation != REQUEST or target != socket.inet_aton(address):
        return None
    return arp(asker, mac, REPLY, address, asker, socket.inet_ntoa(sender))


def attach(to: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel drop what the program does not keep, before anyone is woken. Raises OSError if it refuses it."""
    memory = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    filter = struct.pack("HL", len(program), ctypes.addressof(memory))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter)


def segment(mac: bytes, source: tuple[str, int], target: tuple[str, int], sequence: int, flags: int) -> bytes:
    """A TCP segment without content, ready but for the first six octets: the MAC it goes to."""
    source_ip, target_ip = socket.inet_aton(source[0]), socket.inet_aton(target[0])
    tcp = _TCP.pack(source[1], target[1], sequence, 0, 5 << 4, flags, 65535, 0, 0)
    pseudo = source_ip + target_ip + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
    tcp = _TCP.pack(source[1], target[1], sequence, 0, 5 << 4, flags, 65535, _checksum(pseudo + tcp), 0)
    fields = (_PLAIN_IP, 0, _IP.size + len(tcp), 0, _DONT_FRAGMENT, TTL, socket.IPPROTO_TCP)
    header = _IP.pack(*fields, _checksum(_IP.pack(*fields, 0, source_ip, target_ip)), source_ip, target_ip)
    return mac + struct.pack("!H", ETH_P_IP) + header + tcp


class Answer(NamedTuple):
    """To a SYN: taken (SYN and ACK) or refused (RST). ``mac`` sent it, for ``address``; ``port`` was our own."""

    address: str
    port: int
    mac: str
    taken: bool


def answer(frame: bytes) -> Answer | None:
    if len(frame) < _TCP_AT + _TCP.size or frame[12:15] != b"\x08\x00\x45" or frame[23] != socket.IPPROTO_TCP:
        return None
    flags = frame[_TCP_AT + 13]
    if not flags & (SYN | RST):
        return None
    port = int.from_bytes(frame[_TCP_AT + 2 : _TCP_AT + 4], "big")
    return Answer(socket.inet_ntoa(frame[26:30]), port, frame[6:12].hex(":"), not flags & RST)


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
