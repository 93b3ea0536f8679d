"""``python -m shoal.engine.capture.child``: reads packets off an interface until it is told to stop.

Standard input: one `CaptureStart`; its end means stop, so nothing outlives the agent. Standard output: `Captured`
messages. Both as 4 bytes of length (big-endian), then msgpack. A process of its own, with low priority: a flood costs
captured packets, never the service. While nobody takes what was read, nothing more is read, and the kernel drops.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
import time

import msgspec

from shoal.observe.frames import Instruction, attach
from shoal.wire.capture import CHUNK_BYTES, SNAP_BYTES_MAX, WATERMARK_INTERVAL_S, Captured, CaptureStart

from .bpf import program

NICENESS = 10
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
READ_AT_ONCE_MAX = 256
"""Packets between two looks at the clock and at standard input."""
LINGER_S = 1.0
"""How long the last chunk may take to go out."""
REORDER_NS = 5_000_000
"""Packets of several CPUs reach the socket in nearly the order of their time stamps."""

SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
SOL_PACKET, PACKET_STATISTICS, PACKET_AUXDATA = 263, 6, 8
PACKET_OUTGOING = 4
ETH_P_ALL = 3
_AUXDATA = struct.Struct("=IIIHHHH")
_TIMESPEC = struct.Struct("=qq")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_AUXDATA.size) + socket.CMSG_SPACE(_TIMESPEC.size)

_BLOCK_HEAD = struct.Struct("<IIIIIII")
"""Enhanced Packet Block: type, length, interface, time stamp (high, low), captured and original length."""
_BLOCK_TAIL = struct.Struct("<HHIII")
"""Option epb_flags (code, length, value), end of options, length again."""
_EPB, _EPB_FLAGS, _INBOUND, _OUTBOUND = 6, 2, 1, 2
_encoder = msgspec.msgpack.Encoder()


def open_tap(interface: str, lines: list[Instruction]) -> socket.socket:
    """A socket that has never seen an unfiltered packet: it is bound to no protocol until the filter is there."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    tap.setblocking(False)
    attach(tap, lines)
    tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    tap.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    tap.bind((interface, ETH_P_ALL))
    return tap


class Reader:
    """Packets from the tap into blocks, until the bounds of the request."""

    def __init__(self, tap: socket.socket, start: CaptureStart) -> None:
        self._tap = tap
        self._start = start
        self._buffer = memoryview(bytearray(SNAP_BYTES_MAX))
        self._deadline = time.monotonic() + start.seconds
        self._packets = self._bytes = self._received = self._dropped = 0
        self._last_ns = 0
        self._until_ns = 0
        self.blocks = bytearray()
        self.ended = ""

    def read(self) -> None:
        """Some packets; sets ``ended`` when a bound is reached."""
        began_ns = time.time_ns()
        for _ in range(READ_AT_ONCE_MAX):
            try:
                size, ancillary, _, address = self._tap.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
            except BlockingIOError:
                self._until_ns = began_ns  # what came before was in the socket, and is read
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # told once; the socket goes on when the interface is up again
                    continue
                self.ended = f"the interface: {error.strerror}"
                return
            self._block(size, ancillary, address[2])
            if self._packets >= self._start.packets:
                self.ended = f"{self._packets} packets"
                return
            if self._bytes >= self._start.bytes:
                self.ended = f"{self._bytes} bytes"
                return
            if len(self.blocks) >= CHUNK_BYTES:
                self._until_ns = self._last_ns
                break
        else:
            self._until_ns = self._last_ns
        if time.monotonic() >= self._deadline:
            self.ended = f"{self._start.seconds:g} s"

    def _block(self, size: int, ancillary: list[tuple[int, int, bytes]], kind: int) -> None:
        original, at_ns = size, 0
        for level, what, data in ancillary:
            if level == SOL_PACKET and what == PACKET_AUXDATA:
                original = _AUXDATA.unpack(data[: _AUXDATA.size])[1]
            elif level == socket.SOL_SOCKET and what == SO_TIMESTAMPNS:
                seconds, ns = _TIMESPEC.unpack(data[: _TIMESPEC.size])
                at_ns = seconds * 1_000_000_000 + ns
        at_ns = at_ns or time.time_ns()
        self._last_ns = at_ns
        padding = -size % 4
        length = _BLOCK_HEAD.size + size + padding + _BLOCK_TAIL.size
        self.blocks += _BLOCK_HEAD.pack(
            _EPB, length, self._start.interface, at_ns >> 32, at_ns & 0xFFFFFFFF, size, original
        )
        self.blocks += self._buffer[:size]
        direction = _OUTBOUND if kind == PACKET_OUTGOING else _INBOUND
        self.blocks += bytes(padding) + _BLOCK_TAIL.pack(_EPB_FLAGS, 4, direction, 0, length)
        self._packets += 1
        self._bytes += size

    def taken(self) -> Captured:
        """What was read since the last call, with the kernel's count."""
        received, dropped = struct.unpack("II", self._tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._received += received
        self._dropped += dropped
        message = Captured(
            id=self._start.id,
            data=bytes(self.blocks),
            until_ns=max(0, self._until_ns - REORDER_NS),
            received=self._received,
            dropped=self._dropped,
            ended=self.ended,
        )
        self.blocks.clear()
        return message


def frame(message: msgspec.Struct) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def run(start: CaptureStart, tap: socket.socket) -> None:
    """Until a bound, the end of standard input, or nobody reads any more."""
    reader, sender = Reader(tap, start), Sender()
    here, there = sys.stdin.fileno(), sys.stdout.fileno()
    reading, sending = select.poll(), select.poll()
    reading.register(tap, select.POLLIN)
    reading.register(there, 0)  # that nobody reads any more shows as an error
    sending.register(there, select.POLLOUT)
    for poll in (reading, sending):
        poll.register(here, select.POLLIN)
    due = 0.0
    while True:
        events = dict((sending if sender.pending else reading).poll(WATERMARK_INTERVAL_S * 1000))
        if events.get(there, 0) & (select.POLLERR | select.POLLHUP):
            return
        if here in events and not os.read(here, 4096):
            reader.ended = reader.ended or "stopped"
        if sender.pending:
            sender.go_on()
        elif not reader.ended:
            reader.read()
        now = time.monotonic()
        if sender.pending and not reader.ended:
            continue
        if reader.ended or len(reader.blocks) >= CHUNK_BYTES or now >= due:
            due = now + WATERMARK_INTERVAL_S
            sender.put(frame(reader.taken()))
        if reader.ended:
            sender.finish()
            return


class Sender:
    """Standard output, never waited for."""

    def __init__(self) -> None:
        self._out = sys.stdout.fileno()
        os.set_blocking(self._out, False)
        self.pending = b""

    def put(self, data: bytes) -> None:
        self.pending += data
        self.go_on()

    def go_on(self) -> None:
        """Raises OSError when nobody reads any more."""
        try:
            self.pending = self.pending[os.write(self._out, self.pending) :]
        except BlockingIOError:
            pass

    def finish(self) -> None:
        """What is pending goes out within `LINGER_S`, or not at all."""
        poll = select.poll()
        poll.register(self._out, select.POLLOUT)
        deadline = time.monotonic() + LINGER_S
        while self.pending and time.monotonic() < deadline:
            if poll.poll(LINGER_S * 1000):
                self.go_on()


def _started() -> CaptureStart:
    head = sys.stdin.buffer.read(4)
    return msgspec.msgpack.decode(sys.stdin.buffer.read(int.from_bytes(head, "big")), type=CaptureStart)


def main(interface: str) -> int:
    os.nice(NICENESS)
    start = _started()
    try:
        tap = open_tap(interface, program(start.selection, start.snap))
    except (OSError, ValueError) as error:
        sys.stdout.buffer.write(frame(Captured(id=start.id, ended=f"failed: {error}")))
        return 1
    with tap:
        try:
            run(start, tap)
        except BrokenPipeError:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
