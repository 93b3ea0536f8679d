"""What is said on the segment about who has an address, on raw sockets opened once: ARP for IPv4, ND for IPv6."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import NamedTuple

from shoal.engine.guard import ndp
from shoal.engine.guard.descriptors import Low
from shoal.engine.guard.nft import ALIVE
from shoal.observe import frames

log = logging.getLogger("shoal.guard.neighbours")

FRAME_BYTES_MAX = 256


class Speech(NamedTuple):
    """A protocol. ``answers_only``: classic BPF that lets through what says who has an address: nobody is woken by
    others' questions, nor by traffic."""

    ethertype: int
    answers_only: tuple[frames.Instruction, ...]
    announcements: Callable[[str, bytes], tuple[bytes, ...]]
    probe: Callable[[str, bytes], bytes]
    answer: Callable[[bytes], tuple[str, str] | None]


def _arp_answer(frame: bytes) -> tuple[str, str] | None:
    said = frames.said(frame)
    return (said.address, said.mac) if said is not None else None


# Keep the frame if the ARP operation (2 bytes at 20) is a reply.
REPLIES_ONLY = ((0x28, 0, 0, 20), (0x15, 0, 1, frames.REPLY), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))
ARP = Speech(frames.ETH_P_ARP, REPLIES_ONLY, frames.announcements, frames.question, _arp_answer)
ND = Speech(ndp.ETH_P_IPV6, ndp.ADVERTISEMENTS_ONLY, ndp.announcements, ndp.probe, ndp.answer)


class NeighbourSocket:
    """``mac`` is the interface's own, 6 bytes. ``low`` gives it its descriptor; None = it has the next one."""

    def __init__(self, interface: str, speech: Speech, low: Low | None = None) -> None:
        self._speech = speech
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        frames.attach(self._socket, speech.answers_only)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, ALIVE)
        self._socket.bind((interface, speech.ethertype))
        self._socket.setblocking(False)
        self.mac: bytes = self._socket.getsockname()[4]
        self._low = low
        if low is not None:
            self._socket = low.move(self._socket)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Takes some 15 ms."""
        if self._low is not None:
            self._low.close(self._socket)
        else:
            self._socket.close()

    def announce(self, address: str) -> None:
        for data in self._speech.announcements(address, self.mac):
            self._send(data)

    def probe(self, address: str) -> None:
        self._send(self._speech.probe(address, self.mac))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:  # interface down, or a full queue: it is repeated
            log.info("frame not sent: %s", error)

    def answers(self) -> list[tuple[str, str]]:
        """What other MACs have said since the last call."""
        found: list[tuple[str, str]] = []
        own = self.mac.hex(":")
        while True:
            try:
                data = self._socket.recv(FRAME_BYTES_MAX)
            except BlockingIOError:
                return found
            except OSError as error:
                log.info("raw socket: %s", error)
                return found
            said = self._speech.answer(data)
            if said is not None and said[1] != own:
                found.append(said)


class Neighbours:
    """Both protocols; an address says which one speaks of it."""

    def __init__(self, interface: str, low: Low | None = None) -> None:
        self._ipv4, self._ipv6 = NeighbourSocket(interface, ARP, low), NeighbourSocket(interface, ND, low)
        self.sockets = (self._ipv4, self._ipv6)
        self.mac = self._ipv4.mac

    def announce(self, address: str) -> None:
        self._of(address).announce(address)

    def probe(self, address: str) -> None:
        self._of(address).probe(address)

    def _of(self, address: str) -> NeighbourSocket:
        return self._ipv6 if ":" in address else self._ipv4
