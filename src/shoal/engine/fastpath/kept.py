"""The flows that a map of `direct` keeps, by their server (linux/netfilter/nf_tables.h). Blocks, like `netfilter`."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

from shoal.engine.guard.netlink import attribute

from .direct import CLOSING
from .netfilter import answers, nested, request

GETSETELEM = 10 << 8 | 13
NFTA_LIST_TABLE, NFTA_LIST_SET, NFTA_LIST_ELEMENTS = 1, 2, 3
HEAD_BYTES = 4
"""Of each attribute: an element has its key first, and then its data, whose first attribute is the value."""


def flows(table: str, number: int, name: str) -> Counter[int]:
    """Mark -> how many flows the map keeps for it; without TCP's that their clients have closed. ``number``: the kernel's
    for the table's family. Raises OSError."""
    asked = attribute(NFTA_LIST_TABLE, table.encode() + b"\0") + attribute(NFTA_LIST_SET, name.encode() + b"\0")
    found: Counter[int] = Counter()
    for data in answers(request(GETSETELEM, asked, dump=True, family=number)):
        found.update(marks(nested(data).get(NFTA_LIST_ELEMENTS, b"")))
    return Counter({mark: count for mark, count in found.items() if not mark & CLOSING})


def marks(elements: bytes) -> Iterator[int]:
    """Of a list of elements. In the byte order of the machine, as registers have them."""
    at = 0
    while at + HEAD_BYTES < len(elements):
        (size,), (key,) = struct.unpack_from("=H", elements, at), struct.unpack_from("=H", elements, at + HEAD_BYTES)
        if size < HEAD_BYTES:
            break
        yield int(struct.unpack_from("=I", elements, at + ((key + 3) & ~3) + 3 * HEAD_BYTES)[0])
        at += (size + 3) & ~3
