"""Reads a pcapng file, strictly, and what is in its packets."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

import msgspec

TCP, UDP = 6, 17


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One packet over IPv4; ``flags`` of TCP."""

    at_ns: int
    engine: str
    outbound: bool
    source: str
    destination: str
    ports: tuple[int, int]
    flags: int
    captured: int
    original: int


class Statistics(msgspec.Struct, frozen=True):
    received: int
    dropped: int
    comment: str


class Capture(msgspec.Struct):
    engines: list[str] = []
    packets: list[Seen] = []
    statistics: dict[str, Statistics] = {}
    """The last of each engine."""


def read(file: Path | bytes) -> Capture:
    """Fails on anything that a reader might refuse."""
    data = file if isinstance(file, bytes) else file.read_bytes()
    found = Capture()
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and at + length <= len(data), "a block is cut off"
        assert struct.unpack_from("<I", data, at + length - 4)[0] == length
        body = data[at + 8 : at + length - 4]
        assert (at == 0) == (kind == 0x0A0D0D0A)
        if kind == 0x0A0D0D0A:
            assert struct.unpack_from("<IHH", body) == (0x1A2B3C4D, 1, 0)
        elif kind == 1:
            assert struct.unpack_from("<H", body)[0] == 1  # Ethernet
            options = _options(body[8:])
            assert options[9] == b"\x09"
            found.engines.append(options[2].decode())
        elif kind == 6:
            found.packets.append(_packet(body, found.engines))
        elif kind == 5:
            number = struct.unpack_from("<I", body)[0]
            options = _options(body[12:])
            received, dropped = (int.from_bytes(options[code], "little") for code in (4, 5))
            found.statistics[found.engines[number]] = Statistics(received, dropped, options.get(1, b"").decode())
        else:
            raise AssertionError(f"block of type {kind}")
        at += length
    return found


def _packet(body: bytes, engines: list[str]) -> Seen:
    number, high, low, captured, original = struct.unpack_from("<IIIII", body)
    frame = body[20 : 20 + captured]
    flags = _options(body[20 + captured + -captured % 4 :])[2]
    header = 14 + (frame[14] & 0xF) * 4
    assert frame[12:14] == b"\x08\x00" and frame[23] in (TCP, UDP)
    return Seen(
        at_ns=high << 32 | low,
        engine=engines[number],
        outbound=flags[0] & 3 == 2,
        source=str(ipaddress.IPv4Address(frame[26:30])),
        destination=str(ipaddress.IPv4Address(frame[30:34])),
        ports=struct.unpack_from("!HH", frame, header),
        flags=frame[header + 13] if frame[23] == TCP else 0,
        captured=captured,
        original=original,
    )


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        code, length = struct.unpack_from("<HH", data, at)
        if code == 0:
            break
        found[code] = data[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return found
