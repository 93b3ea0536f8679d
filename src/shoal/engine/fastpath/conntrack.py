"""Flows in conntrack by their mark (linux/netfilter/nfnetlink_conntrack.h), without a fork. Blocks, like `netfilter`."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from shoal.engine.guard.netlink import attribute

from .netfilter import NLA_TYPE_MASK, answers, nested, request
from .plan import KIND, OURS, TCP

NLA_F_NESTED = 0x8000
GET, DELETE = 1 << 8 | 1, 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_PROTOINFO, CTA_MARK, CTA_MARK_MASK = 1, 2, 4, 8, 21
TCP_STATE_AT = 12
"""Of the state (CTA_PROTOINFO_TCP_STATE), from the begin of CTA_PROTOINFO."""
TCP_TIME_WAIT = 7
"""From here on a connection is over (nf_conntrack_tcp.h)."""
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


def close(addresses: Collection[str]) -> int:
    """Every TCP connection to these addresses of VIPs; how many. Raises OSError."""
    wanted = {ipaddress.ip_address(address).packed for address in addresses}
    found = []
    for data in answers(dump("tcp")):
        client = client_of(data)
        if client is not None and client[2] in wanted:
            family = socket.AF_INET if len(client[2]) == 4 else socket.AF_INET6
            found.append((attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, nested(data)[CTA_TUPLE_ORIG]), family))
    for tuple_, family in found:
        try:
            for _ in answers(request(DELETE, tuple_, dump=False, family=family)):
                pass
        except FileNotFoundError:  # it has ended by itself
            continue
    return len(found)


def dump(protocol: str = "") -> bytes:
    """Asks the kernel for all our flows, or those of one protocol."""
    if not protocol:
        return request(GET, _mark(OURS, OURS), dump=True)
    return request(GET, _mark(OURS | (TCP if protocol == "tcp" else 0), KIND), dump=True)


def flows(sample: int | None = SAMPLE_MAX) -> Counter[int]:
    """Mark -> how many flows it has now; TCP's without those that are over. Raises OSError. ``sample``: look at so many; None = at all."""
    found: Counter[int] = Counter()
    for seen, data in enumerate(answers(dump()), 1):
        mark, over = seen_of(data)
        found[mark] += not over
        if seen == sample:  # the table is in the order of a hash: its begin is a fair sample
            whole = int(COUNT_FILE.read_text())
            return Counter({mark: round(count * whole / seen) for mark, count in found.items()})
    return found


Ends = tuple[bytes, int, bytes, int]
"""Address and port a packet comes from, and those it goes to."""


def client_of(data: bytes) -> Ends | None:
    """Of a flow of a dump (its attributes): as what its client sends."""
    return _ends(nested(data).get(CTA_TUPLE_ORIG, b""))


def server_of(data: bytes) -> Ends | None:
    """As what its server sends."""
    return _ends(nested(data).get(CTA_TUPLE_REPLY, b""))


def _ends(tuple_: bytes) -> Ends | None:
    parts = nested(tuple_)
    addresses, ports = nested(parts.get(CTA_TUPLE_IP, b"")), nested(parts.get(CTA_TUPLE_PROTO, b""))
    for source, target in FAMILIES:
        if source in addresses and target in addresses and CTA_PROTO_SRC_PORT in ports and CTA_PROTO_DST_PORT in ports:
            port, own = (int.from_bytes(ports[kind][:2]) for kind in (CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT))
            return addresses[source], port, addresses[target], own
    return None


def _mark(value: int, mask: int) -> bytes:
    return attribute(CTA_MARK, struct.pack("!I", value)) + attribute(CTA_MARK_MASK, struct.pack("!I", mask))


def seen_of(data: bytes) -> tuple[int, bool]:
    """(mark, whether it is a TCP connection that is over) of a flow of a dump."""
    at, mark, state = 0, None, None
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if kind == CTA_MARK:
            mark = int(struct.unpack_from("!I", data, at + 4)[0])
        elif kind & NLA_TYPE_MASK == CTA_PROTOINFO and size > TCP_STATE_AT:
            state = data[at + TCP_STATE_AT]
        if size < 4 or (mark is not None and (state is not None or not mark & TCP)):
            break
        at += (size + 3) & ~3
    return mark or 0, state is not None and state >= TCP_TIME_WAIT
