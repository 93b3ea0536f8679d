"""The prober: ``python -m shoal.observe.prober INTERFACE ADDRESS MAC FILE`` asks every VIP of a segment, as a client.

It is a neighbour of its own, with an address and a MAC that nobody else has: the interface only carries its frames, and
the machine's own network (its tables, its firewall) has no part in it.

Each VIP gets `RATE_HZ` probes a second as long as that makes `PROBES_PER_SECOND_MAX` at most; more VIPs share these
evenly. One that changed is asked `QUICK_HZ` times a second for a moment. What neighbours announce is heard at once,
whatever the rate. A connection is begun (SYN) and taken back (RST) as soon as it is answered: the service is as proven
as by a connect, and HAProxy sees, counts and logs nothing.

Standard input: `Targets`, one JSON line each; its end ends the process. Standard output: the `Finding`s worth telling.
All findings are recorded in FILE (`shoal.observe.ring`).
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from shoal.observe import frames
from shoal.observe.ring import PROBER_SLOTS, Recorder
from shoal.observe.watch import ANSWER_WITHIN_S, Finding, Probe, Target, Targets, Watch

RATE_HZ = 10.0
PROBES_PER_SECOND_MAX = 100
QUICK_HZ = 50.0
QUICK_VIPS_MAX = 20
PORTS = range(61440, 61448)
"""Source ports. Few, as each is a flow that a spreading owner remembers."""
SEQUENCE = 0x5348_4F41
"""Always the same: should a RST be lost, the next SYN counts as the first one sent again."""
GONE = (errno.ENXIO, errno.ENODEV)
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
LINE_BYTES_MAX = 16 * 1024 * 1024
FRAMES_A_TURN_MAX = 512

# To a TCP port of ours, in an IPv4 header without options and no later fragment.
ANSWERS_ONLY = (
    (0x30, 0, 0, 14), (0x15, 0, 8, 0x45),
    (0x30, 0, 0, 23), (0x15, 0, 6, socket.IPPROTO_TCP),
    (0x28, 0, 0, 20), (0x45, 4, 0, 0x1FFF),
    (0x28, 0, 0, 36), (0x35, 0, 2, PORTS.start), (0x25, 1, 0, PORTS.stop - 1),
    (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0),
)  # fmt: skip


class Asked:
    """A watch, and the frames that ask for its VIP. ``probes``: the last one by source port. ``turn`` -1: given up."""

    def __init__(self, target: Target, mac: bytes, address: str) -> None:
        self.watch = Watch(target)
        self.question = frames.question(target.address, mac)
        to = (target.address, target.port)
        self.begin = {p: frames.segment(mac, (address, p), to, SEQUENCE, frames.SYN) for p in PORTS}
        self.end = {p: frames.segment(mac, (address, p), to, SEQUENCE + 1, frames.RST) for p in PORTS}
        self.ports = itertools.cycle(PORTS)
        self.probes: dict[int, Probe] = {}
        self.turn = 0


class Prober:
    """``find(finding)`` is called for each change. Raises OSError if the interface is not there."""

    def __init__(self, interface: str, address: str, mac: str, find: Callable[[Finding], None]) -> None:
        self._address, self._mac, self._name = address, bytes.fromhex(mac.replace(":", "")), mac
        self._find = find
        self._engines: dict[str, str] = {}
        self._asked: dict[str, Asked] = {}
        """By the VIP's address."""
        self._due: list[tuple[float, int, int, Asked]] = []
        """(when, order, turn): a turn that is not the VIP's present one is void."""
        self._order = itertools.count()
        self._open: deque[tuple[float, Asked, Probe]] = deque()
        self._close: set[Asked] = set()
        """Those that changed just now, at most `QUICK_VIPS_MAX`."""
        self._arp = _listener(interface, frames.ETH_P_ARP)
        self._ip = _listener(interface, frames.ETH_P_IP, ANSWERS_ONLY)

    @property
    def readers(self) -> dict[int, Callable[[], None]]:
        """File descriptor -> what to call when it is readable."""
        return {self._arp.fileno(): self.read_arp, self._ip.fileno(): self.read_ip}

    def want(self, targets: Targets) -> None:
        self._engines = targets.engines
        wanted = {target.address: target for target in targets.vips}
        for address in [a for a, asked in self._asked.items() if wanted.get(a) != asked.watch.target]:
            self._asked.pop(address).turn = -1
        new = [target for target in targets.vips if target.address not in self._asked]
        now = time.monotonic()
        for index, target in enumerate(new):
            asked = self._asked[target.address] = Asked(target, self._mac, self._address)
            self._plan(asked, now + self.interval_s() * index / len(new))

    def interval_s(self) -> float:
        return max(1 / RATE_HZ, len(self._asked) / PROBES_PER_SECOND_MAX)

    def wait_s(self, now: float) -> float | None:
        """Until something is to be done. A probe that was answered can wait until there is more to do."""
        times = [self._due[0][0]] if self._due else []
        times += [when for when, _, probe in self._open if not probe.whole][:1]
        return max(0.0, min(times) - now) if times else None

    def work(self) -> None:
        """What is due. Answers go first, so that none counts as missing while it waits to be read."""
        now = time.monotonic()
        if self._open and self._open[0][0] <= now:
            self.read_arp()
            self.read_ip()
        while self._open and self._open[0][0] <= now:
            _, asked, probe = self._open.popleft()
            if asked.turn >= 0:
                self._found(asked, asked.watch.judge(probe, now))
        while self._due and self._due[0][0] <= now:
            when, _, turn, asked = heapq.heappop(self._due)
            if turn == asked.turn:
                self._probe(asked, now)
                quick = asked in self._close and now < asked.watch.quick_until
                step = 1 / QUICK_HZ if quick else self.interval_s()
                self._plan(asked, max(when + step, now + step / 2))
        self.read_arp()  # on a bridge of this machine the answers are there already
        self.read_ip()

    def read_arp(self) -> None:
        for frame in _frames(self._arp):
            reply = frames.reply(frame, self._address, self._mac)
            if reply is not None:
                self._send(reply)
            said = frames.said(frame)
            asked = self._asked.get(said.address) if said is not None else None
            if said is not None and asked is not None:
                now = time.monotonic()
                self._found(asked, asked.watch.heard(said.mac, now, self._engines, asked=said.to == self._name))

    def read_ip(self) -> None:
        for frame in _frames(self._ip):
            answer = frames.answer(frame)
            asked = self._asked.get(answer.address) if answer is not None else None
            if answer is None or asked is None:
                continue
            if answer.taken:
                self._send(bytes.fromhex(asked.watch.mac.replace(":", "")) + asked.end[answer.port])
            probe = asked.probes.pop(answer.port, None)
            if probe is not None:
                found = asked.watch.answered(probe, answer.mac, time.monotonic(), taken=answer.taken)
                self._found(asked, found)

    def _found(self, asked: Asked, found: list[Finding]) -> None:
        for finding in found:
            self._find(finding)
        if found and asked.turn >= 0:
            now = time.monotonic()
            if len(self._close) >= QUICK_VIPS_MAX:
                self._close = {other for other in self._close if other.watch.quick_until > now}
            if len(self._close) < QUICK_VIPS_MAX:
                self._close.add(asked)
            self._plan(asked, now)

    def _plan(self, asked: Asked, when: float) -> None:
        asked.turn += 1
        heapq.heappush(self._due, (when, next(self._order), asked.turn, asked))

    def _probe(self, asked: Asked, now: float) -> None:
        watch = asked.watch
        probe = watch.ask(now)
        self._send(asked.question)
        if probe.connects:
            port = next(asked.ports)
            asked.probes[port] = probe
            self._send(bytes.fromhex(watch.mac.replace(":", "")) + asked.begin[port])
        self._open.append((now + ANSWER_WITHIN_S, asked, probe))

    def _send(self, frame: bytes) -> None:
        """Raises OSError when the interface is gone."""
        try:
            self._arp.send(frame)
        except OSError as error:
            if error.errno in GONE:
                raise
            # the link is down, or its queue full: nothing is answered then


def _listener(interface: str, protocol: int, program: tuple[frames.Instruction, ...] = ()) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if program:
        frames.attach(made, program)
    made.bind((interface, protocol))
    index = socket.if_nametoindex(interface)
    made.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
    made.setblocking(False)
    return made


def _frames(listener: socket.socket) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < FRAMES_A_TURN_MAX:
        try:
            found.append(listener.recv(128))
        except OSError:  # nothing more, or the link went down
            break
    return found


class Lines:
    """JSON lines from a file descriptor that does not block."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""
        self.ended = False

    def read(self) -> list[bytes]:
        while True:
            try:
                data = os.read(self._fd, 1 << 20)
            except BlockingIOError:
                break
            if not data or len(self._rest) > LINE_BYTES_MAX:
                self.ended = True
                break
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return lines


def main(interface: str, address: str, mac: str, file: str) -> int:
    recorder = Recorder.open(Path(file), PROBER_SLOTS)
    os.set_blocking(1, False)

    def find(finding: Finding) -> None:
        recorder.record(
            finding.kind,
            vip=finding.vip,
            about=finding.about,
            text=finding.text,
            ms=finding.ms,
            monotonic_ns=int(finding.at * 1e9),
        )
        if finding.told:
            with contextlib.suppress(OSError):  # nobody reads: it is recorded all the same
                os.write(1, msgspec.json.encode(finding) + b"\n")

    try:
        _run(Prober(interface, address, mac, find), recorder)
    except OSError as error:
        print(f"cannot look at {interface}: {error}", file=sys.stderr)
        return 1
    return 0


def _run(prober: Prober, recorder: Recorder) -> None:
    """Until standard input ends."""
    told = Lines(0)
    decoder = msgspec.json.Decoder(Targets)

    def hear() -> None:
        for line in told.read()[-1:]:  # the newest targets are all that matters
            prober.want(decoder.decode(line))

    readers = {0: hear, **prober.readers}
    poll = select.epoll()
    for fd in readers:
        poll.register(fd, select.EPOLLIN)
    while not told.ended:
        for fd, _ in poll.poll(prober.wait_s(time.monotonic())):
            readers[fd]()
        prober.work()
        recorder.alive(time.monotonic_ns())


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python -m shoal.observe.prober INTERFACE ADDRESS MAC FILE")
    sys.exit(main(*sys.argv[1:]))
