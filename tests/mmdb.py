"""Small databases in MaxMind's format (MaxMind DB file format 2.0), for tests."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from shoal.controller.addresses.reading import MMDB

Node = list[Any]
SEPARATOR_BYTES = 16


class Data(int):
    """Where in the data a branch of the tree leads to."""


class Short(int):
    """Of 16 bits; numbers have 32."""


class Long(int):
    """Of 64 bits."""


def mmdb(records: Mapping[str, Any]) -> bytes:
    """Network -> record. Both versions of IP in a tree of IPv6, as MaxMind's are; no network within another."""
    nodes: list[Node] = [[None, None]]
    data, tree = bytearray(), bytearray()
    offsets: dict[bytes, int] = {}
    """Of each record: networks share them."""
    for text, record in records.items():
        network = ipaddress.ip_network(text)
        bits = format(int(network.network_address), "0128b")[-network.max_prefixlen :]
        bits = ("0" * 96 if network.version == 4 else "") + bits[: network.prefixlen]
        at = 0
        for bit in map(int, bits[:-1]):
            if nodes[at][bit] is None:
                nodes.append([None, None])
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        octets = encoded(record)
        if octets not in offsets:
            offsets[octets] = len(data)
            data += octets
        nodes[at][int(bits[-1])] = Data(offsets[octets])
    count = len(nodes)
    for node in nodes:
        for branch in node:
            there = branch
            if branch is None:
                there = count
            elif isinstance(branch, Data):
                there = count + SEPARATOR_BYTES + branch
            tree += int(there).to_bytes(3)
    about = {
        "binary_format_major_version": Short(2),
        "binary_format_minor_version": Short(0),
        "build_epoch": Long(1_700_000_000),
        "database_type": "Test",
        "description": {"en": "a test's"},
        "ip_version": Short(6),
        "languages": ["en"],
        "node_count": count,
        "record_size": Short(24),
    }
    return bytes(tree) + bytes(SEPARATOR_BYTES) + bytes(data) + MMDB + encoded(about)


def encoded(value: Any) -> bytes:
    if isinstance(value, Mapping):
        return _head(7, len(value)) + b"".join(encoded(key) + encoded(one) for key, one in value.items())
    if isinstance(value, str):
        text = value.encode()
        return _head(2, len(text)) + text
    if isinstance(value, list):
        return _head(11, len(value)) + b"".join(map(encoded, value))
    octets: bytes = value.to_bytes((value.bit_length() + 7) // 8)
    return _head(5 if isinstance(value, Short) else 9 if isinstance(value, Long) else 6, len(octets)) + octets


def _head(type: int, size: int) -> bytes:
    assert size < 285
    extended = bytes([type - 7]) if type > 7 else b""
    first = (type if type <= 7 else 0) << 5 | min(size, 29)
    return bytes([first]) + extended + (bytes([size - 29]) if size >= 29 else b"")
