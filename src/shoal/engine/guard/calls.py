"""What a guard holds, called out to everybody on its segment, as far as an ARP announcement reaches.

Two engines that both answer for a VIP and know nothing of each other (each goes by a plan that does not name the other)
would find out by nothing else. Who serves one of the VIPs of a call and does not know the caller treats it as a stranger
that has spoken: it sends it heartbeats, which the caller answers, and claims decide (decision 82).
"""

from __future__ import annotations

import logging
import socket
import struct
import zlib
from collections.abc import Callable, Iterable

import msgspec

from shoal.engine.guard import ENGINE_PORT
from shoal.engine.guard.loop import Loop
from shoal.engine.guard.peers import EVERYBODY, PeerNetwork
from shoal.ownership.state import CALL_S

log = logging.getLogger("shoal.guard.calls")

VIPS_MAX = 16_000
"""In one call."""
DATAGRAM_BYTES_MAX = 65_535
NUMBER_BYTES = 4


class Call(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """``address``: the caller's, where it hears. ``vips``: a number of four bytes for each that it holds (`number`)."""

    engine: str
    address: str
    vips: bytes


def number(vip: str) -> int:
    """Short for a VIP's id. Two that share one by chance make two engines hear each other for nothing."""
    return zlib.crc32(vip.encode())


class Calls:
    """``held()``: the VIPs that are called out.

    Raises OSError from the constructor if the interface is not there.
    """

    def __init__(
        self,
        loop: Loop,
        engine: str,
        interface: str,
        address: str,
        peers: PeerNetwork,
        held: Callable[[], Iterable[str]],
    ) -> None:
        self._loop, self._engine, self._address, self._peers, self._held = loop, engine, address, peers, held
        self._numbers: dict[str, int] = {}
        self._known: frozenset[int] = frozenset()
        self._decoder = msgspec.msgpack.Decoder(Call)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        self._socket.bind((EVERYBODY, ENGINE_PORT))
        loop.on_readable(self._socket, self._receive)
        self._call()

    def want(self, vips: Iterable[str]) -> None:
        """The VIPs that this engine serves, or may take over."""
        self._numbers = {vip: number(vip) for vip in vips}
        self._known = frozenset(self._numbers.values())

    def _call(self) -> None:
        held = [self._numbers[vip] for vip in self._held() if vip in self._numbers][:VIPS_MAX]
        if held:
            data = struct.pack(f"!{len(held)}I", *held)
            self._peers.call(msgspec.msgpack.encode(Call(self._engine, self._address, data)))
        self._loop.at(self._loop.now() + CALL_S, self._call)

    def _receive(self) -> None:
        while True:
            try:
                data, (address, _) = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("calls: %s", error)
                return
            if (content := self._peers.opened(data)) is not None:
                self._take(content, address)

    def _take(self, content: bytes, address: str) -> None:
        try:
            call = self._decoder.decode(content)
            numbers = struct.unpack(f"!{len(call.vips) // NUMBER_BYTES}I", call.vips)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, struct.error) as error:
            log.warning("nonsense from %s: %s", address, error)
            return
        if call.engine == self._engine or call.address != address:
            return  # its own, or said again by somebody who is to hear nothing
        if not self._known.isdisjoint(numbers):
            self._peers.meet_stranger(call.engine, address)
