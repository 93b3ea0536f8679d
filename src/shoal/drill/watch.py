"""``python -m shoal.drill.watch http|tls|tcp://ADDRESS:PORT...``: starts at each every 5 ms until standard input ends.

A start fails when the connection is not made within 50 ms, or nothing comes back within 0.5 s; outage = first failed
start to last failed start, as in the lab's probe. A frozen engine's kernel goes on accepting connections, so HTTP is asked
for something (HEAD /), and TLS is sent what it is not: HAProxy closes. What else TCP carries is not ours to speak: there
the connection alone counts. With root, it is noted who says to have the address. Says ``ready``; JSON out.
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

from shoal.lab.probe import (
    ANSWER_WITHIN_S,
    CONNECT_WITHIN_S,
    START_EVERY_S,
    Heard,
    Probed,
    Start,
    claim_socket,
    note_claims,
)

TARGETS_AT_FULL_RATE = 4
"""More share their starts: a process makes some 800 a second."""
QUESTION = b"HEAD / HTTP/1.1\r\nHost: drill\r\nUser-Agent: shoal-drill\r\nConnection: close\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503"
"""HAProxy's own word when it knows no server that is up."""
LINGER_NONE = struct.pack("ii", 1, 0)
"""Ends with a reset: thousands of connections leave no TIME_WAIT behind."""


class Watched(msgspec.Struct, frozen=True):
    """``every_s``: between two starts at one address, which is the resolution."""

    every_s: float
    targets: dict[str, Probed]

    def outage_ms(self, target: str) -> float:
        failed = [start.at for start in self.targets[target].failed()]
        return (failed[-1] - failed[0] + self.every_s) * 1000 if failed else 0.0


class Target(msgspec.Struct, frozen=True):
    speaks: str
    address: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Target:
        speaks, _, rest = text.partition("://")
        address, _, port = rest.rpartition(":")
        return cls(speaks, address, int(port))


async def start(target: Target, starts: list[Start]) -> None:
    address, port = target.address, target.port
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    at, why = time.monotonic(), ""
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await loop.sock_connect(client, (address, port))
            if target.speaks != "tcp":
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await loop.sock_sendall(client, QUESTION)
                    answer = await loop.sock_recv(client, 4096)
                if answer.startswith(UNAVAILABLE):
                    why = "503"
        except ConnectionResetError:
            why = "" if target.speaks == "tls" else "ConnectionResetError"
        except (OSError, TimeoutError) as error:
            why = type(error).__name__
    starts.append(Start(at, not why, time.monotonic() - at, why))


async def watch(targets: list[Target]) -> Watched:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    starts: dict[str, list[Start]] = {target.address: [] for target in targets}
    heard: dict[str, list[Heard]] = {target.address: [] for target in targets}
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
            for target in targets:
                tasks.create_task(start(target, starts[target.address]))
            count += 1
    loop.remove_reader(sys.stdin.fileno())
    for listener in listeners:
        loop.remove_reader(listener)
        listener.close()
    for list in starts.values():
        list.sort(key=lambda start: start.at)
    return Watched(every_s, {address: Probed(starts[address], heard[address]) for address in starts})


def _listen(heard: dict[str, list[Heard]]) -> list[socket.socket]:
    """A socket for each address; none without the right to open one."""
    listeners = []
    for address, list in heard.items():
        try:
            listener = claim_socket(address)
        except PermissionError:
            break
        asyncio.get_running_loop().add_reader(listener, note_claims, listener, address, list)
        listeners.append(listener)
    return listeners


def main(arguments: list[str]) -> None:
    targets = [Target.parse(text) for text in arguments]
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(watch(targets))))


if __name__ == "__main__":
    main(sys.argv[1:])
