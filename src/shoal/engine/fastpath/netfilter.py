"""Netlink to netfilter, as far as fast paths need it: one question, its answers (linux/netfilter/nfnetlink.h).

Blocks for as long as the kernel goes through its tables (milliseconds): call it in a thread.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from shoal.engine.guard.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    messages,
)

NETLINK = 12
"""NETLINK_NETFILTER."""
NLA_TYPE_MASK = 0x3FFF
HEAD_BYTES = 4
"""Of each message's body, before its attributes."""
BYTES_MAX = 65536
ANSWER_WITHIN_S = 5.0


def request(kind: int, body: bytes, *, dump: bool, family: int = socket.AF_UNSPEC) -> bytes:
    return message(kind, body, flags=NLM_F_DUMP if dump else NLM_F_ACK, family=family)


def message(kind: int, body: bytes, *, flags: int, family: int) -> bytes:
    whole = struct.pack("!BBH", family, 0, 0) + body
    return struct.pack("=IHHII", 16 + len(whole), kind, NLM_F_REQUEST | flags, 1, 0) + whole


def answers(asked: bytes) -> Iterator[bytes]:
    """The attributes of each message of a dump; nothing for what is only acknowledged. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK) as link:
        link.bind((0, 0))
        link.settimeout(ANSWER_WITHIN_S)
        link.send(asked)
        while True:
            for kind, data in messages(link.recv(BYTES_MAX)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield data[HEAD_BYTES:]


def nested(data: bytes) -> dict[int, bytes]:
    return {kind & NLA_TYPE_MASK: value for kind, value in attributes(data).items()}
