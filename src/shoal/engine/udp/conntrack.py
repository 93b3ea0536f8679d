"""Flows in conntrack by their mark (ctnetlink, linux/netfilter/nfnetlink_conntrack.h), without a fork.

All calls block for as long as the kernel goes through its table (milliseconds): call them in a thread.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from shoal.engine.guard.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    messages,
)

from .plan import OURS

NETLINK_NETFILTER = 12
CTNETLINK = 1 << 8
GET, DELETE = CTNETLINK | 1, CTNETLINK | 2
CTA_MARK, CTA_MARK_MASK = 8, 21
BYTES_MAX = 65536
SAMPLE_MAX = 10_000
"""Flows that are looked at for `flows`: exact up to so many, beyond that shares of them."""
COUNT_FILE = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_GENERIC = struct.pack("!BBH", socket.AF_UNSPEC, 0, 0)


def delete(mark: int) -> None:
    """Every flow with this mark: the next packet of its client is a new flow. Raises OSError."""
    with _socket() as link:
        body = _GENERIC + _mark(mark, 0xFFFFFFFF)
        link.send(_message(DELETE, NLM_F_REQUEST | NLM_F_ACK, body))
        for _, data in _answers(link):
            code = -struct.unpack_from("=i", data)[0]
            if code:
                raise OSError(code, os.strerror(code))


def flows(sample: int | None = SAMPLE_MAX) -> Counter[int]:
    """Mark -> how many flows it has now. Raises OSError. ``sample``: look at so many; None = at all."""
    found: Counter[int] = Counter()
    seen = 0
    with _socket() as link:
        link.send(_message(GET, NLM_F_REQUEST | NLM_F_DUMP, _GENERIC + _mark(OURS, OURS)))
        for kind, data in _answers(link):
            if kind == NLMSG_ERROR:
                code = -struct.unpack_from("=i", data)[0]
                raise OSError(code, os.strerror(code))
            found[_mark_of(data)] += 1
            seen += 1
            if seen == sample:
                break
    if seen != sample:
        return found
    whole = int(COUNT_FILE.read_text())  # the table is in the order of a hash: its begin is a fair sample
    return Counter({mark: round(count * whole / seen) for mark, count in found.items()})


def _mark(value: int, mask: int) -> bytes:
    return attribute(CTA_MARK, struct.pack("!I", value)) + attribute(CTA_MARK_MASK, struct.pack("!I", mask))


def _mark_of(data: bytes) -> int:
    at = len(_GENERIC)
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if kind == CTA_MARK:
            return int(struct.unpack_from("!I", data, at + 4)[0])
        if size < 4:
            break
        at += (size + 3) & ~3
    return 0


def _socket() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    link.bind((0, 0))
    link.settimeout(5.0)
    return link


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _answers(link: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Up to the end of the dump, or to the acknowledgement, which is an error message of number 0."""
    while True:
        for kind, data in messages(link.recv(BYTES_MAX)):
            if kind == NLMSG_DONE:
                return
            yield kind, data
            if kind == NLMSG_ERROR:
                return
