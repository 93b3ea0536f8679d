"""Addresses and carrier by rtnetlink on sockets opened once: adding an address takes some 30 µs and no fork."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_CREATE = 1, 4, 0x300, 0x100, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTA_DST = 1
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 16, 18, 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY = 1, 2, 3, 6, 8, 9
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x2, 0x200
FOREVER = 0xFFFFFFFF
OURS = 0x5A0B
"""The route metric of our IPv6 addresses, which have no label: their mark (Linux 4.18 and later give it back). No route
has it, as they bring none."""
RTMGRP_LINK = 1
IFF_UP, IFF_RUNNING = 0x1, 0x40
GONE = (99, 19)  # EADDRNOTAVAIL, ENODEV
NO_SUCH_ROUTE = 3
BYTES_MAX = 65536
ROUTE_HEAD = struct.Struct("=BBBBBBBBI")
"""rtmsg: family, prefix length, length of the source's, TOS, table, protocol, scope, type, flags."""


def attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        found[kind] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return found


def messages(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < 16:
            break
        found.append((kind, data[at + 16 : at + size]))
        at += (size + 3) & ~3
    return found


class Netlink:
    """Requests to rtnetlink, one at a time."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def _ask(self, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        self._sequence += 1
        head = struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(head + body)
        found: list[tuple[int, bytes]] = []
        while True:
            for reply, data in messages(self._socket.recv(BYTES_MAX)):
                if reply == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return found
                if reply == NLMSG_DONE:
                    return found
                found.append((reply, data))


class RouteTable(Netlink):
    """Routes that are known as ours by their ``protocol`` (rtnetlink(7), ``rtm_protocol``), which no routing program has."""

    protocol: int

    def _replace(self, route: bytes) -> None:
        """One that is there already is fine. Raises OSError."""
        self._ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, route)

    def _delete(self, route: bytes) -> None:
        """One that is not there is fine. Raises OSError."""
        try:
            self._ask(RTM_DELROUTE, NLM_F_ACK, route)
        except OSError as error:
            if error.errno != NO_SUCH_ROUTE:
                raise

    def _ours(self) -> Iterator[tuple[bytes, dict[int, bytes]]]:
        """(head, attributes) of each. Raises OSError."""
        for kind, body in self._ask(RTM_GETROUTE, NLM_F_DUMP, bytes(ROUTE_HEAD.size)):
            if kind == RTM_NEWROUTE and body[5] == self.protocol:
                yield body[: ROUTE_HEAD.size], attributes(body[ROUTE_HEAD.size :])

    def _head(self, family: int, prefix_length: int, table: int, kind: int) -> bytes:
        return ROUTE_HEAD.pack(family, prefix_length, 0, 0, table, self.protocol, 0, kind, 0)


class Addresses(Netlink):
    """Host addresses this guard put on an interface; it knows its own by their mark, others' are never touched.

    IPv6: no duplicate address detection (a claim is probed for by the guard itself), and deprecated from the start, so
    that the kernel never chooses a VIP as the source of the engine's own connections.
    """

    def add(self, interface: str, address: str) -> None:
        """An address that is there already is fine. Raises OSError."""
        self._ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, _body(interface, address))

    def remove(self, interface: str, address: str) -> None:
        """An address that is not there is fine. Raises OSError."""
        try:
            self._ask(RTM_DELADDR, NLM_F_ACK, _body(interface, address))
        except OSError as error:
            if error.errno not in GONE:
                raise

    def ours(self, interface: str) -> tuple[str, ...]:
        """The addresses an earlier or this guard put there."""
        index, found = socket.if_nametoindex(interface), []
        for kind, body in self._ask(RTM_GETADDR, NLM_F_DUMP, bytes(8)):
            if kind != RTM_NEWADDR or struct.unpack_from("=I", body, 4)[0] != index:
                continue
            values = attributes(body[8:])
            if body[0] == socket.AF_INET6:
                if values.get(IFA_RT_PRIORITY) == struct.pack("=I", OURS):
                    found.append(socket.inet_ntop(socket.AF_INET6, values[IFA_ADDRESS]))
            elif values.get(IFA_LABEL, b"").rstrip(b"\0") == _label(interface) and IFA_LOCAL in values:
                found.append(socket.inet_ntoa(values[IFA_LOCAL]))
        return tuple(found)


def _label(interface: str) -> bytes:
    return f"{interface[:9]}:shoal".encode()


def _body(interface: str, address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    head = struct.pack("=BBBBI", family, len(packed) * 8, 0, 0, socket.if_nametoindex(interface))
    head += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if family == socket.AF_INET:
        return head + attribute(IFA_LABEL, _label(interface) + b"\0")
    flags = attribute(IFA_FLAGS, struct.pack("=I", IFA_F_NODAD | IFA_F_NOPREFIXROUTE))
    lifetimes = attribute(IFA_CACHEINFO, struct.pack("=IIII", 0, FOREVER, 0, 0))  # preferred: 0, valid: for ever
    return head + flags + lifetimes + attribute(IFA_RT_PRIORITY, struct.pack("=I", OURS))


class LinkMonitor:
    """Carrier of one interface, as the kernel tells it."""

    def __init__(self, interface: str) -> None:
        self._index = socket.if_nametoindex(interface)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_LINK))
        self._socket.setblocking(False)
        body = struct.pack("=BxHiII", 0, 0, self._index, 0, 0)
        self._socket.send(struct.pack("=IHHII", 16 + len(body), RTM_GETLINK, NLM_F_REQUEST, 1, 0) + body)

    def fileno(self) -> int:
        return self._socket.fileno()

    def news(self) -> list[bool]:
        """Up or down, in the order it happened; the first news is the state at the start."""
        found: list[bool] = []
        while True:
            try:
                data = self._socket.recv(BYTES_MAX)
            except OSError:  # nothing more; or overrun, and the next message tells the state
                return found
            for kind, body in messages(data):
                if kind != RTM_NEWLINK:
                    continue
                index, flags = struct.unpack_from("=iI", body, 4)
                if index == self._index:
                    found.append(bool(flags & IFF_UP) and bool(flags & IFF_RUNNING))
