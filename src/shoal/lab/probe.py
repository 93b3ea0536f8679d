"""The outage probe: ``python -m shoal.lab.probe ADDRESS PORT SECONDS``; starts a request every 5 ms, JSON out.

A start fails when the connection is not made within 50 ms or no answer with status 200 comes within `ANSWER_WITHIN_S`.
Outage = first failed start to last failed start. Beside it, every message of ARP or neighbour discovery that says who
has the address is noted with its MAC (needs root).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time

import msgspec

from shoal.observe import frames

START_EVERY_S = 0.005
CONNECT_WITHIN_S = 0.05
ANSWER_WITHIN_S = 0.5
FIFO_PRIORITY = 1
"""Below the guards'."""
ETH_P_IPV6 = 0x86DD
ICMPV6, SOLICITATION, ADVERTISEMENT = 58, 135, 136
ICMPV6_ONLY = ((0x30, 0, 0, 20), (0x15, 0, 1, ICMPV6), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))
"""Classic BPF: keep the frame if its next header (1 byte at 20) is ICMPv6."""


class Start(msgspec.Struct, frozen=True, array_like=True):
    """``at`` monotonic seconds; ``took`` seconds."""

    at: float
    ok: bool
    took: float
    why: str = ""


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """A message from ``mac`` that claims the address: an ARP reply or gratuitous request, a neighbour advertisement, or
    a solicitation from the address that gives its asker's MAC away."""

    at: float
    mac: str


class Probed(msgspec.Struct, frozen=True):
    starts: list[Start]
    arp: list[Heard]

    def failed(self) -> list[Start]:
        return [start for start in self.starts if not start.ok]

    def outage_ms(self, after: float = 0.0) -> float:
        """First failed start to last failed start, of those from ``after`` on; 0 when none failed."""
        failed = [start.at for start in self.failed() if start.at >= after]
        return (failed[-1] - failed[0]) * 1000 + START_EVERY_S * 1000 if failed else 0.0

    def late_answers_ms(self) -> float:
        """How long after another MAC's first claim the former one still answered (the worst case); 0 if never."""
        worst = 0.0
        for index, heard in enumerate(self.arp[1:], 1):
            former = self.arp[index - 1].mac
            if heard.mac != former:
                again = [later.at for later in self.arp[index:] if later.mac == former]
                worst = max([worst, *((at - heard.at) * 1000 for at in again)])
        return worst


async def one(address: str, port: int, starts: list[Start]) -> None:
    at = time.monotonic()
    why = ""
    writer = None
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            reader, writer = await asyncio.open_connection(address, port)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            writer.write(b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
        if b" 200 " not in line:
            why = line.decode(errors="replace").strip() or "closed without an answer"
    except (OSError, TimeoutError) as error:
        why = type(error).__name__ if not writer else f"answer: {type(error).__name__}"
    finally:
        if writer is not None:
            writer.transport.abort()
    starts.append(Start(at, not why, time.monotonic() - at, why))


def claim_socket(address: str) -> socket.socket:
    """Hears what is said about who has an address."""
    kind = ETH_P_IPV6 if ":" in address else frames.ETH_P_ARP
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
    if kind == ETH_P_IPV6:
        frames.attach(listener, ICMPV6_ONLY)
    listener.setblocking(False)
    return listener


def arp_claim(frame: bytes, address: str) -> str:
    """The MAC that claims the address; "" if none does."""
    said = frames.said(frame)
    return said.mac if said is not None and said.address == address else ""


def nd_claim(frame: bytes, address: str) -> str:
    if len(frame) < 78 or frame[20] != ICMPV6:
        return ""
    packed = socket.inet_pton(socket.AF_INET6, address)
    said = frame[54] == ADVERTISEMENT and frame[62:78] == packed
    asked = frame[54] == SOLICITATION and frame[22:38] == packed
    return frame[6:12].hex(":") if said or asked else ""


def note_claims(listener: socket.socket, address: str, heard: list[Heard]) -> None:
    claim = nd_claim if ":" in address else arp_claim
    while True:
        try:
            frame = listener.recv(2048)
        except BlockingIOError:
            return
        if mac := claim(frame, address):
            heard.append(Heard(time.monotonic(), mac))


async def probe(address: str, port: int, seconds: float) -> Probed:
    """Run for ``seconds``."""
    starts: list[Start] = []
    heard: list[Heard] = []
    loop = asyncio.get_running_loop()
    listener = claim_socket(address)
    loop.add_reader(listener, note_claims, listener, address, heard)
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        count = 0
        while (now := time.monotonic()) < began + seconds:
            due = began + count * START_EVERY_S
            if now < due:
                await asyncio.sleep(due - now)
                continue
            tasks.create_task(one(address, port, starts))
            count += 1
    loop.remove_reader(listener)
    listener.close()
    starts.sort(key=lambda start: start.at)
    return Probed(starts, heard)


if __name__ == "__main__":
    import uvloop

    with contextlib.suppress(OSError):  # a probe that waits for a processor would tell it as an outage
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(probe(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
