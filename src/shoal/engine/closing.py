"""Ends the TCP connections of an address that is not served here any more, or of a service that asks for it, whichever
process has them.

The kernel resets them (sock_diag(7), SOCK_DESTROY), so that both sides know at once; a client that only waits would
otherwise never hear that nobody is there. Old HAProxy workers are in no runtime API, so HAProxy can't be asked.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from shoal.wire.desired import Service, Vip

from .guard.sockets import LIVE_STATES, NETLINK_SOCK_DIAG, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, PIECE_BYTES, request

log = logging.getLogger("shoal.closing")

SOCK_DESTROY = 21
NLM_F_ACK = 0x4
ANSWER_WITHIN_S = 2.0

_HEADER = struct.Struct("=IHHII")
_ID = slice(20, 68)
"""Of a message of the dump: which socket it is, with the kernel's cookie, so that no other one can be meant."""


def ended(engine: str, before: Iterable[Vip], after: Iterable[Vip], held: Collection[str] = ()) -> set[str]:
    """Addresses that ``engine`` served by the state before and does not by the one after: the VIP has left it, or its
    drain is over and it is at most a successor now. ``held``: VIPs that it has taken over, which the plan need not know yet."""
    now = {vip.id: vip for vip in after}
    found: set[str] = set()
    for old in before:
        new = now.get(old.id)
        over = new is not None and engine in old.draining and engine not in (new.owner, *new.members, *new.draining)
        if new is None or (over and new.id not in held):
            found.update(old.addresses)
        else:
            found.update(set(old.addresses) - set(new.addresses))
    return found - {a for vip in now.values() if engine in vip.members for a in vip.addresses}


class Sockets(NamedTuple):
    """Of a service: an address, and its ports as ranges."""

    address: str
    ports: tuple[tuple[int, int], ...]


def cut_off(before: Mapping[str, Service], after: Mapping[str, Service]) -> dict[str, tuple[Sockets, ...]]:
    """By name: the services whose clients are to lose their connections, and where these are. ``after``: all that are
    known, those that take no traffic too. A virtual host has the ports of its parent: with one whose clients are cut off all
    clients there come anew; one that takes no more traffic leaves them as they are."""
    found: dict[str, tuple[Sockets, ...]] = {}
    for id, old in before.items():
        new = after.get(id)
        if new is not None and new is not old and (_rests(new) or (new.cuts_clients and new != old)):
            ports = tuple((one.port, one.port_end) for one in old.listeners if not one.carried)
            found[old.name] = tuple(Sockets(address, ports) for address in old.addresses)
    return found


def _rests(service: Service) -> bool:
    return not service.enabled and not service.parent


def find(addresses: Iterable[str], ports: tuple[tuple[int, int], ...] | None = None) -> list[bytes]:
    """The connections at these addresses, at local ``ports`` only where any are given. Raises OSError where the kernel does
    not answer."""
    found: list[bytes] = []
    for address in addresses:
        with _netlink() as asker:
            asker.send(request(address))
            found += (one for one in _listed(asker) if ports is None or _is_at(one, ports))
    return found


def end(connections: Iterable[bytes]) -> int:
    """How many of those that `find` found were ended. Blocks for some microseconds each; raises OSError where the kernel does
    not answer."""
    with _netlink() as destroyer:
        return sum(_destroyed(destroyer, one) for one in connections)


def _is_at(listed: bytes, ports: tuple[tuple[int, int], ...]) -> bool:
    (port,) = struct.unpack_from("!H", listed, _ID.start)
    return any(first <= port <= last for first, last in ports)


def _netlink() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    made.settimeout(ANSWER_WITHIN_S)
    return made


def _listed(asker: socket.socket) -> Iterator[bytes]:
    while True:
        data, at = asker.recv(PIECE_BYTES), 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind in (NLMSG_DONE, NLMSG_ERROR) or length < _HEADER.size:
                return
            yield data[at : at + length]
            at += (length + 3) & ~3


def _destroyed(destroyer: socket.socket, listed: bytes) -> bool:
    """One that has ended by itself meanwhile is none."""
    family = listed[_HEADER.size]
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, LIVE_STATES) + listed[_ID]
    destroyer.send(_HEADER.pack(_HEADER.size + len(body), SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
    answer = destroyer.recv(PIECE_BYTES)
    error = -int(struct.unpack_from("=i", answer, _HEADER.size)[0])
    if error and error != 2:  # ENOENT
        raise OSError(error, "the kernel does not end connections")
    return not error
