"""``python -m shoal.drill.watch ADDRESS:PORT...``: connects to each every 5 ms until standard input ends; JSON out.

A start fails when the connection is not made within 50 ms; outage = first failed start to last failed start, as in the
lab's probe. With root, it is noted who says by ARP to have the address. Says ``ready`` when it begins.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import sys
import time

import msgspec
import uvloop

from shoal.lab.probe import CONNECT_WITHIN_S, START_EVERY_S, Heard, Probed, Start, arp_socket, note_arp

TARGETS_AT_FULL_RATE = 4
"""More share their starts: a process makes some 800 a second."""
LINGER_NONE = struct.pack("ii", 1, 0)
"""Ends with a reset: thousands of connections leave no TIME_WAIT behind."""


class Watched(msgspec.Struct, frozen=True):
    """``every_s``: between two starts at one address, which is the resolution."""

    every_s: float
    targets: dict[str, Probed]

    def outage_ms(self, target: str) -> float:
        failed = [start.at for start in self.targets[target].failed()]
        return (failed[-1] - failed[0] + self.every_s) * 1000 if failed else 0.0


async def connect(address: str, port: int, starts: list[Start]) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    at, why = time.monotonic(), ""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await asyncio.get_running_loop().sock_connect(client, (address, port))
        except (OSError, TimeoutError) as error:
            why = type(error).__name__
    starts.append(Start(at, not why, time.monotonic() - at, why))


async def watch(targets: list[tuple[str, int]]) -> Watched:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    starts: dict[str, list[Start]] = {address: [] for address, _ in targets}
    heard: dict[str, list[Heard]] = {address: [] for address, _ in targets}
    listeners = _listen(heard)
    every_s = START_EVERY_S * max(1, math.ceil(len(targets) / TARGETS_AT_FULL_RATE))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    began, count = time.monotonic(), 0
    async with asyncio.TaskGroup() as tasks:
        while not ended.is_set():
            due = began + count * every_s
            if (now := time.monotonic()) < due:
                await asyncio.sleep(due - now)
                continue
            for address, port in targets:
                tasks.create_task(connect(address, port, starts[address]))
            count += 1
    loop.remove_reader(sys.stdin.fileno())
    for listener in listeners:
        loop.remove_reader(listener)
        listener.close()
    for list in starts.values():
        list.sort(key=lambda start: start.at)
    return Watched(every_s, {address: Probed(starts[address], heard[address]) for address, _ in targets})


def _listen(heard: dict[str, list[Heard]]) -> list[socket.socket]:
    """A socket for each address of IPv4; none without the right to open one."""
    listeners = []
    for address, list in heard.items():
        if ":" not in address:
            try:
                listener = arp_socket()
            except PermissionError:
                break
            asyncio.get_running_loop().add_reader(listener, note_arp, listener, socket.inet_aton(address), list)
            listeners.append(listener)
    return listeners


def main(arguments: list[str]) -> None:
    pairs = (text.rpartition(":") for text in arguments)
    targets = [(address.strip("[]"), int(port)) for address, _, port in pairs]
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(watch(targets))))


if __name__ == "__main__":
    main(sys.argv[1:])
