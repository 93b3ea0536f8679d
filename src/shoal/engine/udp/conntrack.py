"""Flows in conntrack by their mark (linux/netfilter/nfnetlink_conntrack.h), without a fork. Blocks, like `netfilter`."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

from shoal.engine.guard.netlink import attribute

from .netfilter import answers, nested, request
from .plan import OURS

GET, DELETE = 1 << 8 | 1, 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_MARK, CTA_MARK_MASK = 1, 8, 21
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 2, 3
FAMILIES = ((1, 2), (3, 4))
"""CTA_IP_V4_SRC and _DST, CTA_IP_V6_SRC and _DST."""
SAMPLE_MAX = 10_000
"""Flows that are looked at for `flows`: exact up to so many, beyond that shares of them."""
COUNT_FILE = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def delete(mark: int) -> None:
    """Every flow with this mark: the next packet of its client is a new flow. Raises OSError."""
    for _ in answers(request(DELETE, _mark(mark, 0xFFFFFFFF), dump=False)):
        pass


def dump() -> bytes:
    """Asks the kernel for all our flows."""
    return request(GET, _mark(OURS, OURS), dump=True)


def flows(sample: int | None = SAMPLE_MAX) -> Counter[int]:
    """Mark -> how many flows it has now. Raises OSError. ``sample``: look at so many; None = at all."""
    found: Counter[int] = Counter()
    for seen, data in enumerate(answers(dump()), 1):
        found[_mark_of(data)] += 1
        if seen == sample:  # the table is in the order of a hash: its begin is a fair sample
            whole = int(COUNT_FILE.read_text())
            return Counter({mark: round(count * whole / seen) for mark, count in found.items()})
    return found


def client_of(data: bytes) -> tuple[bytes, int, bytes, int] | None:
    """Of a flow of a dump (its attributes): client's address and port, VIP and port, as its datagrams bear them."""
    parts = nested(nested(data).get(CTA_TUPLE_ORIG, b""))
    addresses, ports = nested(parts.get(CTA_TUPLE_IP, b"")), nested(parts.get(CTA_TUPLE_PROTO, b""))
    for source, target in FAMILIES:
        if source in addresses and target in addresses and CTA_PROTO_SRC_PORT in ports and CTA_PROTO_DST_PORT in ports:
            port, own = (int.from_bytes(ports[kind][:2]) for kind in (CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT))
            return addresses[source], port, addresses[target], own
    return None


def _mark(value: int, mask: int) -> bytes:
    return attribute(CTA_MARK, struct.pack("!I", value)) + attribute(CTA_MARK_MASK, struct.pack("!I", mask))


def _mark_of(data: bytes) -> int:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if kind == CTA_MARK:
            return int(struct.unpack_from("!I", data, at + 4)[0])
        if size < 4:
            break
        at += (size + 3) & ~3
    return 0
