"""Flows in conntrack by their mark (linux/netfilter/nfnetlink_conntrack.h), without a fork. Blocks, like `netfilter`."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from shoal.engine.guard.netlink import NLM_F_CREATE, attribute, messages

from .netfilter import BYTES_MAX, NETLINK, NLA_TYPE_MASK, answers, message, nested, request
from .plan import KIND, OURS, TCP

NLA_F_NESTED = 0x8000
NLM_F_EXCL = 0x200
NEW, GET, DELETE = 1 << 8 | 0, 1 << 8 | 1, 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_NAT_SRC, CTA_TIMEOUT, CTA_MARK = 1, 2, 3, 4, 6, 7, 8
CTA_NAT_DST, CTA_MARK_MASK = 13, 21
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE = 1, 1
TCP_STATE_AT = 12
"""Of the state (CTA_PROTOINFO_TCP_STATE), from the begin of CTA_PROTOINFO."""
TCP_TIME_WAIT = 7
"""From here on a connection is over (nf_conntrack_tcp.h)."""
TCP_ESTABLISHED = 3
SEEN_BOTH_WAYS = 2 | 4 | 8
"""IPS_SEEN_REPLY, IPS_ASSURED and IPS_CONFIRMED."""
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_NAT_PROTO, CTA_PROTONAT_PORT_MIN, CTA_PROTONAT_PORT_MAX = 3, 1, 2
NAT_FAMILIES = ((1, 2), (4, 5))
"""CTA_NAT_V4_MINIP and _MAXIP, CTA_NAT_V6_MINIP and _MAXIP."""
CONNECTIONS_AT_ONCE = 64
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


# --- connections that come from another engine ---


class Connection(NamedTuple):
    """An established TCP connection: what its client sends, and what its server sends."""

    mark: int
    client: Ends
    server: Ends


def established(marks: Collection[int]) -> Iterator[Connection]:
    """Of servers with these marks. Raises OSError."""
    for data in answers(dump("tcp")):
        mark, _ = seen_of(data)
        if mark not in marks:
            continue
        parts = nested(data)
        client, server = _ends(parts.get(CTA_TUPLE_ORIG, b"")), _ends(parts.get(CTA_TUPLE_REPLY, b""))
        if client and server and parts.get(CTA_PROTOINFO, b"")[TCP_STATE_AT - 4 :][:1] == bytes([TCP_ESTABLISHED]):
            yield Connection(mark, client, server)


def put(connections: Iterable[Connection], seconds: int) -> None:
    """Have the kernel know them, as they are now, for so long, or until a packet comes: a client may have come from the same
    port before. Raises OSError when it refuses any, after all the others."""
    _say(_gone(one) + _new(one, seconds) for one in connections)


def renew(connections: Iterable[Connection], seconds: int) -> None:
    """Let them be silent for so long. One that has ended is no error. Raises OSError, as `put`."""
    _say(_renewed(one, seconds) for one in connections)


def _say(said: Iterator[bytes]) -> None:
    """The kernel answers by the time it has been told, and only what it refuses; that something is there already, or is not, is
    no fault."""
    refused: set[int] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK) as link:
        link.bind((0, 0))
        while piece := b"".join(islice(said, CONNECTIONS_AT_ONCE)):
            link.send(piece)
            with contextlib.suppress(BlockingIOError):
                while True:
                    refused |= {-struct.unpack_from("=i", body)[0] for _, body in messages(link.recv(BYTES_MAX))}
    for code in sorted(refused - {0, errno.EEXIST, errno.ENOENT}):
        raise OSError(code, os.strerror(code))


def _new(one: Connection, seconds: int) -> bytes:
    """Netfilter makes the reply's ends of what is translated, so they are given as if nothing was."""
    client, server = one.client, one.server
    body = _tuple(CTA_TUPLE_ORIG, client) + _tuple(CTA_TUPLE_REPLY, (*client[2:], *client[:2]))
    body += _translated(CTA_NAT_DST, *server[:2]) + _translated(CTA_NAT_SRC, *server[2:])
    body += attribute(CTA_STATUS, struct.pack("!I", SEEN_BOTH_WAYS))
    body += attribute(CTA_TIMEOUT, struct.pack("!I", seconds)) + attribute(CTA_MARK, struct.pack("!I", one.mark))
    state = attribute(CTA_PROTOINFO_TCP_STATE, bytes([TCP_ESTABLISHED]))
    body += _nest(CTA_PROTOINFO, _nest(CTA_PROTOINFO_TCP, state))
    return message(NEW, body, flags=NLM_F_CREATE | NLM_F_EXCL, family=_family(client[0]))


def _gone(one: Connection) -> bytes:
    return message(DELETE, _tuple(CTA_TUPLE_ORIG, one.client), flags=0, family=_family(one.client[0]))


def _renewed(one: Connection, seconds: int) -> bytes:
    body = _tuple(CTA_TUPLE_ORIG, one.client) + attribute(CTA_TIMEOUT, struct.pack("!I", seconds))
    return message(NEW, body, flags=0, family=_family(one.client[0]))


def _tuple(kind: int, ends: Ends) -> bytes:
    source, port, target, own = ends
    addresses = FAMILIES[len(source) > 4]
    ip = attribute(addresses[0], source) + attribute(addresses[1], target)
    protocol = attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_TCP]))
    ports = attribute(CTA_PROTO_SRC_PORT, struct.pack("!H", port)) + attribute(
        CTA_PROTO_DST_PORT, struct.pack("!H", own)
    )
    return _nest(kind, _nest(CTA_TUPLE_IP, ip) + _nest(CTA_TUPLE_PROTO, protocol + ports))


def _translated(kind: int, address: bytes, port: int) -> bytes:
    ranges = b"".join(attribute(end, address) for end in NAT_FAMILIES[len(address) > 4])
    ports = b"".join(attribute(end, struct.pack("!H", port)) for end in (CTA_PROTONAT_PORT_MIN, CTA_PROTONAT_PORT_MAX))
    return _nest(kind, ranges + _nest(CTA_NAT_PROTO, ports))


def _nest(kind: int, value: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, value)


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6
