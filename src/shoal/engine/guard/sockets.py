"""This engine's own TCP connections at an address, a piece at a time: those of HAProxy from the kernel's socket tables
(sock_diag(7)), those that the kernel itself carries from conntrack, or from a map where servers answer clients themselves.

A piece of the answer (some 300 sockets, or 60 flows) is read per turn of the loop, so that heartbeats are not kept
waiting by a hundred thousand connections.
"""

from __future__ import annotations

import abc
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator

from shoal.engine.fastpath import conntrack, kept, netfilter
from shoal.engine.fastpath.family import FAMILIES
from shoal.engine.guard.loop import Loop
from shoal.engine.guard.netlink import messages

log = logging.getLogger("shoal.guard.sockets")

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQ_BYTECODE = 1
BC_SOURCE = 7
LIVE_STATES = sum(1 << state for state in (1, 3, 4, 5, 8, 9, 11))
"""All but LISTEN, CLOSE, TIME_WAIT and SYN_SENT (include/net/tcp_states.h)."""
PIECE_BYTES = 65536

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")

Flow = tuple[bytes, int, int]
"""(client's address, 4 or 16 bytes; client's port; our port)."""


def request(address: str) -> bytes:
    """A dump of the TCP sockets whose local address is ``address``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    condition = struct.pack("=BBxxi", family, len(packed) * 8, -1) + packed
    length = 4 + len(condition)
    bytecode = struct.pack("=BBH", BC_SOURCE, length, length + 4) + condition
    attribute = struct.pack("=HH", 4 + len(bytecode), REQ_BYTECODE) + bytecode
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, LIVE_STATES) + bytes(48) + attribute
    header = _HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    return header + body


class _Dump:
    def __init__(self, address: str, on_piece: Callable[[list[Flow]], None], on_end: Callable[[], None]) -> None:
        self.address, self.on_piece, self.on_end = address, on_piece, on_end


class Listing(abc.ABC):
    """One dump at a time; the others wait for their turn."""

    netlink: int
    piece_bytes: int

    def __init__(self, loop: Loop) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self.netlink)
        self._waiting: deque[_Dump] = deque()
        loop.on_readable(self._socket, self._read)

    @abc.abstractmethod
    def request(self, address: str) -> bytes: ...

    @abc.abstractmethod
    def parsed(self, data: bytes, address: str) -> tuple[list[Flow], bool]:
        """The connections of one piece of the answer, and whether it was the last."""

    def list(self, address: str, on_piece: Callable[[list[Flow]], None], on_end: Callable[[], None]) -> None:
        """``on_piece(flows)`` any number of times, then ``on_end()``; both on the loop."""
        self._waiting.append(_Dump(address, on_piece, on_end))
        if len(self._waiting) == 1:
            self._ask()

    def _ask(self) -> None:
        self._socket.send(self.request(self._waiting[0].address))

    def _read(self) -> None:
        try:
            data = self._socket.recv(self.piece_bytes)
        except BlockingIOError:
            return
        dump = self._waiting[0]
        flows, ended = self.parsed(data, dump.address)
        if flows:
            dump.on_piece(flows)
        if ended:
            self._waiting.popleft()
            if self._waiting:
                self._ask()
            dump.on_end()


class Sockets(Listing):
    netlink, piece_bytes = NETLINK_SOCK_DIAG, PIECE_BYTES

    def request(self, address: str) -> bytes:
        return request(address)

    def parsed(self, data: bytes, address: str) -> tuple[list[Flow], bool]:
        return parsed(data)


class Flows(Listing):
    """Of what the kernel carries, whatever address it is to."""

    netlink, piece_bytes = netfilter.NETLINK, 16384

    @abc.abstractmethod
    def ends(self, data: bytes) -> Iterator[conntrack.Ends]:
        """Of the connections of one message that are not over: as what comes to the engine."""

    def parsed(self, data: bytes, address: str) -> tuple[list[Flow], bool]:
        vip, flows = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), list[Flow]()
        for kind, body in messages(data):
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                return flows, True
            found = self.ends(body[netfilter.HEAD_BYTES :])
            flows += ((client, port, own) for client, port, to, own in found if to == vip)
        return flows, False


class Carried(Flows):
    def request(self, address: str) -> bytes:
        return conntrack.dump("tcp")

    def ends(self, data: bytes) -> Iterator[conntrack.Ends]:
        if not conntrack.seen_of(data)[1]:  # the address may be a source, too
            yield from filter(None, (conntrack.client_of(data), conntrack.server_of(data)))


class Kept(Flows):
    """An engine without such services has no such map: that is an error, which ends the list."""

    def request(self, address: str) -> bytes:
        return kept.dump(FAMILIES[":" in address], kept.flows_map("tcp"))

    def ends(self, data: bytes) -> Iterator[conntrack.Ends]:
        return (kept.ends(key) for key, mark in kept.elements(data) if not mark & kept.CLOSING)


def parsed(data: bytes) -> tuple[list[Flow], bool]:
    """The sockets of one piece of the answer, and whether it was the last."""
    flows: list[Flow] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind in (NLMSG_DONE, NLMSG_ERROR) or length < _HEADER.size:
            if kind == NLMSG_ERROR:
                log.error("sock_diag: error %d", -struct.unpack_from("=i", data, at + _HEADER.size)[0])
            return flows, True
        own_port, client_port = _PORTS.unpack_from(data, at + 20)
        size = 16 if data[at + 16] == socket.AF_INET6 else 4
        flows.append((data[at + 40 : at + 40 + size], client_port, own_port))
        at += (length + 3) & ~3
    return flows, False
