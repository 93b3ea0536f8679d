"""The flows that a map of `direct` keeps (linux/netfilter/nf_tables.h). Blocks, like `netfilter`."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

from shoal.engine.guard.netlink import attribute

from .conntrack import Ends
from .family import Family
from .netfilter import answers, nested, request
from .plan import KEEPS_CLIENT

CLOSING = KEEPS_CLIENT
"""Set in what is kept of a TCP connection whose client has said that it is over. These servers always see their client."""
GETSETELEM = 10 << 8 | 13
NETDEV = 5
"""NFPROTO_NETDEV."""
NFTA_LIST_TABLE, NFTA_LIST_SET, NFTA_LIST_ELEMENTS = 1, 2, 3
HEAD_BYTES = 4
"""Of each attribute: an element has its key first, and then its data; the first attribute of both is the value."""
SAMPLE_MAX = 50_000
"""Flows of a map that are counted. The kernel goes through all that it has said for each message: so many take 0.13 s of a core,
four times as many 5 s."""


def table(family: Family) -> str:
    return f"netdev shoal_direct{'' if family.version == 4 else family.version}"


def flows_map(protocol: str) -> str:
    return f"flows_{protocol}"


def dump(family: Family, flows: str) -> bytes:
    """Asks the kernel for all flows of a map."""
    name = table(family).split()[1]
    asked = attribute(NFTA_LIST_TABLE, name.encode() + b"\0") + attribute(NFTA_LIST_SET, flows.encode() + b"\0")
    return request(GETSETELEM, asked, dump=True, family=NETDEV)


def count(family: Family, flows: str) -> Counter[int]:
    """Mark -> how many flows the map keeps for it, of `SAMPLE_MAX` at most; without TCP's that their clients have closed.
    Raises OSError."""
    found: Counter[int] = Counter()
    for data in answers(dump(family, flows)):
        found.update(mark for _, mark in elements(data))
        if found.total() >= SAMPLE_MAX:
            break
    return Counter({mark: count for mark, count in found.items() if not mark & CLOSING})


def elements(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(key, mark) of what is in one message of a dump (its attributes)."""
    listed, at = nested(data).get(NFTA_LIST_ELEMENTS, b""), 0
    while at + HEAD_BYTES < len(listed):
        (size,), (key,) = struct.unpack_from("=H", listed, at), struct.unpack_from("=H", listed, at + HEAD_BYTES)
        if size < HEAD_BYTES:
            break
        value = at + HEAD_BYTES + ((key + 3) & ~3)
        mark = struct.unpack_from("=I", listed, value + 2 * HEAD_BYTES)[0]  # as registers have it
        yield listed[at + 3 * HEAD_BYTES : at + HEAD_BYTES + key], int(mark)
        at += (size + 3) & ~3


def ends(key: bytes) -> Ends:
    """Of an element's key, as what its client sends: each part fills registers of four bytes."""
    size = len(key) // 2 - 4
    (port,), (own,) = struct.unpack_from("!H", key, size), struct.unpack_from("!H", key, 2 * size + 4)
    return key[:size], port, key[size + 4 : 2 * size + 4], own
