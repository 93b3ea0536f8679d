"""Says and hears what a preflight asks for, on raw sockets of its own. Blocking: run it in a thread."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import time

from shoal.observe import frames
from shoal.wire.preflight import FRAMES_MAX, LISTEN_MS_MAX, Heard, Probe, Probed, Say

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
ETH_BYTES, IP_BYTES, ICMP_BYTES = 14, 20, 8
ECHO, ECHO_REPLY = 8, 0
SIOCGIFMTU = 0x8921
SMALL = 84
"""As ping(8) sends."""
IDENT = 0x5A0B
"""ICMP's identifier: of all preflights, so that an engine knows what another one has sent."""
DONT_FRAGMENT = 0x4000
HEARD_MAX = 512


def run(probe: Probe, interface: str, own: str) -> Probed:
    """``own``: the engine's address. Never raises."""
    try:
        return _run(probe, interface, own)
    except (OSError, ValueError) as error:
        return Probed(id=probe.id, problem=f"{interface}: {error}")


def _run(probe: Probe, interface: str, own: str) -> Probed:
    mtu = _mtu(interface)
    heard: list[Heard] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.bind((interface, ETH_P_ALL))
        if probe.mac:  # answers for a MAC that the interface does not have
            member = struct.pack("iHH8s", socket.if_nametoindex(interface), PACKET_MR_PROMISC, 0, b"")
            wire.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, member)
        mac: bytes = wire.getsockname()[4]
        began = time.monotonic()
        end = began + min(probe.listen_ms, LISTEN_MS_MAX) / 1000
        waiting = sorted(probe.says[:FRAMES_MAX], key=lambda say: say.at_ms)
        while (now := time.monotonic()) < end:
            while waiting and began + waiting[0].at_ms / 1000 <= now:
                for frame in _frames(waiting.pop(0), mac, own, mtu):
                    wire.send(frame)
            due = began + waiting[0].at_ms / 1000 if waiting else end
            if not select.select([wire], [], [], max(0.0, min(due, end) - now))[0]:
                continue
            frame, (_, _, kind, _, _) = wire.recvfrom(65536)
            if kind == PACKET_OUTGOING:
                continue
            if probe.answers and (reply := frames.reply(frame, probe.address, mac)) is not None:
                wire.send(reply)
            found = _heard(frame, (now - began) * 1000)
            if found is not None and len(heard) < HEARD_MAX:
                heard.append(found)
    return Probed(id=probe.id, heard=tuple(heard), mac=mac.hex(":"), mtu=mtu)


def _mtu(interface: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        answer = fcntl.ioctl(asker, SIOCGIFMTU, struct.pack("256s", interface.encode()[:15]))
    return int(struct.unpack_from("=i", answer, 16)[0])


def _frames(say: Say, mac: bytes, own: str, mtu: int) -> tuple[bytes, ...]:
    source_mac = _mac(say.mac) if say.mac else mac
    if say.kind == "ask":
        return (frames.question(say.target, source_mac),)
    if say.kind == "announce":
        return frames.announcements(say.source, source_mac)
    size = min(say.size or SMALL, mtu)
    return (_echo(source_mac, _mac(say.to_mac), say.source or own, say.target, say.number, size),)


def _mac(text: str) -> bytes:
    packed = bytes.fromhex(text.replace(":", ""))
    if len(packed) != 6:
        raise ValueError(f"{text} is no MAC address")
    return packed


def _echo(mac: bytes, to: bytes, source: str, target: str, number: int, size: int) -> bytes:
    body = bytes(size - IP_BYTES - ICMP_BYTES)
    icmp = struct.pack("!BBHHH", ECHO, 0, 0, IDENT, number) + body
    icmp = icmp[:2] + struct.pack("!H", _sum(icmp)) + icmp[4:]
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, size, number, DONT_FRAGMENT, 64, socket.IPPROTO_ICMP, 0) + addresses
    head = head[:10] + struct.pack("!H", _sum(head)) + head[12:]
    return to + mac + struct.pack("!H", frames.ETH_P_IP) + head + icmp


def _sum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _heard(frame: bytes, at_ms: float) -> Heard | None:
    said = frames.said(frame)
    to, source = frame[:6].hex(":"), frame[6:12].hex(":")
    if said is not None:
        return Heard(kind="answer", at_ms=round(at_ms, 1), mac=said.mac, to_mac=to, address=said.address)
    if (
        len(frame) < ETH_BYTES + IP_BYTES + ICMP_BYTES
        or frame[12:14] != b"\x08\x00"
        or frame[23] != socket.IPPROTO_ICMP
    ):
        return None
    kind, _, _, ident, number = struct.unpack_from("!BBHHH", frame, ETH_BYTES + (frame[14] & 0xF) * 4)
    if ident != IDENT or kind not in (ECHO, ECHO_REPLY):
        return None
    address = socket.inet_ntoa(frame[30:34])
    what = "echo" if kind == ECHO else "reply"
    return Heard(kind=what, at_ms=round(at_ms, 1), mac=source, to_mac=to, address=address, number=number)
