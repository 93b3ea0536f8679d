"""Who resets connections: each TCP reset that arrives at a client's interface, with the MAC that sent it (needs root)."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict

from shoal.observe import frames

ETH_P_IP = 0x0800
KEPT_MAX = 1_000
_IS_RESET = (  # ether proto ip and tcp[13] & 4, as tcpdump -dd compiles it
    (0x28, 0, 0, 12),
    (0x15, 0, 6, ETH_P_IP),
    (0x30, 0, 0, 23),
    (0x15, 0, 4, 6),
    (0xB1, 0, 0, 14),
    (0x50, 0, 0, 27),
    (0x45, 0, 1, 4),
    (0x6, 0, 0, 0xFFFF),
    (0x6, 0, 0, 0),
)


class Resets:
    """Between `start` and `stop`, `sender` tells who reset the connection of a local port."""

    def __init__(self, interface: str = "eth0") -> None:
        self._interface = interface
        self._socket: socket.socket | None = None
        self._senders: OrderedDict[int, str] = OrderedDict()

    def start(self) -> None:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        frames.attach(listener, _IS_RESET)
        listener.bind((self._interface, 0))
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._read)
        self._socket = listener

    def stop(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def sender(self, port: int) -> str:
        """The MAC that last reset a connection of this local port; empty if none did."""
        return self._senders.get(port, "")

    def _read(self) -> None:
        assert self._socket is not None
        while True:
            try:
                frame, (_, _, kind, _, _) = self._socket.recvfrom(2048)
            except OSError:  # nothing more, or the link was taken away
                return
            at = 14 + (frame[14] & 15) * 4
            if kind != socket.PACKET_OUTGOING and len(frame) >= at + 14:
                port = int.from_bytes(frame[at + 2 : at + 4], "big")
                self._senders.pop(port, None)
                self._senders[port] = frame[6:12].hex(":")
                if len(self._senders) > KEPT_MAX:
                    self._senders.popitem(last=False)
