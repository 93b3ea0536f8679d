"""ARP on a raw socket opened once: announcements (RFC 5227, both operations), probes, and what answers."""

from __future__ import annotations

import logging
import socket

from shoal.engine.guard.nft import ALIVE
from shoal.observe import frames

log = logging.getLogger("shoal.guard.arp")

SO_MARK = 36

# Keep the frame if the ARP operation (2 bytes at 20) is a reply; nobody is woken by others' questions.
REPLIES_ONLY = ((0x28, 0, 0, 20), (0x15, 0, 1, frames.REPLY), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))


class ArpSocket:
    """``mac`` is the interface's own, 6 bytes."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        frames.attach(self._socket, REPLIES_ONLY)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_MARK, ALIVE)
        self._socket.bind((interface, frames.ETH_P_ARP))
        self._socket.setblocking(False)
        self.mac: bytes = self._socket.getsockname()[4]

    def fileno(self) -> int:
        return self._socket.fileno()

    def announce(self, address: str) -> None:
        for data in frames.announcements(address, self.mac):
            self._send(data)

    def probe(self, address: str) -> None:
        self._send(frames.question(address, self.mac))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:  # interface down, or a full queue: it is repeated
            log.info("ARP frame not sent: %s", error)

    def answers(self) -> list[frames.Said]:
        """What other MACs have said since the last call."""
        found: list[frames.Said] = []
        own = self.mac.hex(":")
        while True:
            try:
                data = self._socket.recv(128)
            except BlockingIOError:
                return found
            except OSError as error:
                log.info("ARP socket: %s", error)
                return found
            said = frames.said(data)
            if said is not None and said.mac != own:
                found.append(said)
