"""ARP on a raw socket opened once: announcements (RFC 5227, both operations), probes, and what answers."""

from __future__ import annotations

import ctypes
import logging
import socket
import struct

from shoal.engine.guard.nft import ALIVE

log = logging.getLogger("shoal.guard.arp")

ETH_P_ARP = 0x0806
BROADCAST = b"\xff" * 6
NOBODY = b"\0" * 6
REQUEST, REPLY = 1, 2
SO_ATTACH_FILTER, SO_MARK = 26, 36
FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")

# Classic BPF: keep the frame if the ARP operation (2 bytes at 20) is a reply; nobody is woken by others' questions.
REPLIES_ONLY = ((0x28, 0, 0, 20), (0x15, 0, 1, REPLY), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))


def frame(to: bytes, mac: bytes, operation: int, sender: str, target_mac: bytes, target: str) -> bytes:
    sender_ip, target_ip = socket.inet_aton(sender), socket.inet_aton(target)
    return FRAME.pack(to, mac, ETH_P_ARP, 1, 0x0800, 6, 4, operation, mac, sender_ip, target_mac, target_ip)


def announcements(address: str, mac: bytes) -> tuple[bytes, bytes]:
    """Gratuitous ARP as request and as reply: neighbours differ in which one they believe."""
    return (
        frame(BROADCAST, mac, REQUEST, address, NOBODY, address),
        frame(BROADCAST, mac, REPLY, address, BROADCAST, address),
    )


def probe(address: str, mac: bytes) -> bytes:
    """A question with no sender address (RFC 5227): it changes no neighbour's table."""
    return frame(BROADCAST, mac, REQUEST, "0.0.0.0", NOBODY, address)


def answer(data: bytes) -> tuple[str, bytes] | None:
    """(address, MAC) of a reply, or None."""
    if len(data) < FRAME.size:
        return None
    fields = FRAME.unpack_from(data)
    if fields[2] != ETH_P_ARP or fields[7] != REPLY:
        return None
    return socket.inet_ntoa(fields[9]), fields[8]


class ArpSocket:
    """``mac`` is the interface's own, 6 bytes."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        program = b"".join(struct.pack("HBBI", *i) for i in REPLIES_ONLY)
        memory = ctypes.create_string_buffer(program)
        self._socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(REPLIES_ONLY), ctypes.addressof(memory))
        )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_MARK, ALIVE)
        self._socket.bind((interface, ETH_P_ARP))
        self._socket.setblocking(False)
        self.mac: bytes = self._socket.getsockname()[4]

    def fileno(self) -> int:
        return self._socket.fileno()

    def announce(self, address: str) -> None:
        for data in announcements(address, self.mac):
            self._send(data)

    def probe(self, address: str) -> None:
        self._send(probe(address, self.mac))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:  # interface down, or a full queue: it is repeated
            log.info("ARP frame not sent: %s", error)

    def answers(self) -> list[tuple[str, bytes]]:
        """What other MACs have said since the last call."""
        found: list[tuple[str, bytes]] = []
        while True:
            try:
                data = self._socket.recv(128)
            except BlockingIOError:
                return found
            except OSError as error:
                log.info("ARP socket: %s", error)
                return found
            said = answer(data)
            if said is not None and said[1] != self.mac:
                found.append(said)
