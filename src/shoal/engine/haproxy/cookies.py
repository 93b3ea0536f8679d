"""HAProxy's dynamic cookies: which cookie leads to which server, as HAProxy makes them (``srv_set_dyncookie``: XXH64 of the
key, the address and the port). Pure.

XXH64 follows its specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

from shoal.wire.desired import Pool

from . import servers
from .escape import address

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
STRIPE = 32


def refusals(pool: Pool, cookie: str, key: str) -> Iterator[str]:
    """Lines of a backend: clients whose server is down are turned away. One for each server, so that these have to be
    loaded anew when servers come or go."""
    for server in pool.servers:
        if server.enabled:
            led = (
                f"{{ req.cook({cookie}) -m beg {value(key, server.address, 0 if pool.service_port else server.port)} }}"
            )
            yield f"http-request reject if {led} !{{ srv_is_up({servers.name(server)}) }}"


def value(key: str, place: str, port: int) -> str:
    """Raises Unrenderable for what is no address."""
    packed = ipaddress.ip_address(address(place).strip("[]")).packed
    return f"{xxh64(key.encode() + packed + struct.pack('!I', port)):016x}"


def xxh64(data: bytes) -> int:
    """With seed 0."""
    at = 0
    if len(data) >= STRIPE:
        lanes = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
        while at + STRIPE <= len(data):
            lanes = [_round(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at), strict=True)]
            at += STRIPE
        found = sum(_turned(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            found = ((found ^ _round(0, lane)) * P1 + P4) & MASK
    else:
        found = P5
    found = (found + len(data)) & MASK
    while at + 8 <= len(data):
        found = (_turned(found ^ _round(0, *struct.unpack_from("<Q", data, at)), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= len(data):
        found ^= struct.unpack_from("<I", data, at)[0] * P1 & MASK
        found = (_turned(found, 23) * P2 + P3) & MASK
        at += 4
    for octet in data[at:]:
        found = _turned(found ^ (octet * P5 & MASK), 11) * P1 & MASK
    for shift, factor in ((33, P2), (29, P3)):
        found = (found ^ found >> shift) * factor & MASK
    return found ^ found >> 32


def _round(lane: int, word: int) -> int:
    return _turned((lane + word * P2) & MASK, 31) * P1 & MASK


def _turned(number: int, by: int) -> int:
    return (number << by | number >> 64 - by) & MASK
