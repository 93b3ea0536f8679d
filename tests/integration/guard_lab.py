"""Engines' guards for tests: namespaces on a bridge in a namespace of its own, a fake HAProxy each, a raw-socket witness."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Changed, Desired, FromGuard, GuardStart, Report, Sharing
from shoal.wire.messages import Shares

VIP = "10.99.0.100"
CLIENT = "10.99.0.10"
VIP6 = "fd99::1:100"
CLIENT6 = "fd99::10"

FAKE_HAPROXY = """
import os, socket, sys, threading
def serve(listener):
    while True:
        c, _ = listener.accept()
        threading.Thread(target=answer, args=(c,), daemon=True).start()
def answer(c):
    with c:
        while c.recv(4096):
            c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
def tcp(listener, name):
    while True:
        c, _ = listener.accept()
        threading.Thread(target=talk, args=(c, name), daemon=True).start()
def talk(c, name):
    with c:
        try:
            c.sendall(name)
            while data := c.recv(4096):
                c.sendall(name)
        except OSError:
            return
check = socket.socket(socket.AF_UNIX); check.bind(sys.argv[1] + ".new"); check.listen(64)
for address, family in (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)):
    front = socket.create_server((address, 80), family=family, backlog=1024)
    threading.Thread(target=tcp, args=(front, sys.argv[2].encode()), daemon=True).start()
os.rename(sys.argv[1] + ".new", sys.argv[1])
serve(check)
"""

# Prints "<monotonic> <mac>" for each answer to a question for the VIP, asked every 5 ms with no sender address.
WITNESS = """
import socket, struct, sys, time
address = sys.argv[1]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)); s.bind(("eth0", 0x0806))
mac = s.getsockname()[4]; target = socket.inet_aton(address)
ask = struct.pack("!6s6sHHHBBH6s4s6s4s", b"\\xff"*6, mac, 0x0806, 1, 0x0800, 6, 4, 1, mac, b"\\0"*4, b"\\0"*6, target)
s.settimeout(0.005); due = time.monotonic()
while True:
    if time.monotonic() >= due:
        s.send(ask); due = time.monotonic() + 0.005
    try:
        data = s.recv(128)
    except TimeoutError:
        continue
    if data[28:32] == target and data[6:12] != mac:
        kind = "reply" if data[21] == 2 and data[38:42] == b"\\0" * 4 else "announce"
        print(time.monotonic(), data[22:28].hex(":"), kind, flush=True)
"""

# The same for IPv6.
WITNESS6 = """
import socket, sys, time
from shoal.engine.guard.ndp import probe
target = socket.inet_pton(socket.AF_INET6, sys.argv[1])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd)); s.bind(("eth0", 0x86dd))
mac = s.getsockname()[4]; ask = probe(sys.argv[1], mac)
s.settimeout(0.005); due = time.monotonic()
while True:
    if time.monotonic() >= due:
        s.send(ask); due = time.monotonic() + 0.005
    try:
        data = s.recv(256)
    except TimeoutError:
        continue
    said = data[54] == 136 and data[62:78] == target  # an advertisement; or a question that gives its asker away
    if data[20] == 58 and (said or data[54] == 135 and data[22:38] == target) and data[6:12] != mac:
        kind = "reply" if said and data[58] & 0x40 else "announce"
        print(time.monotonic(), data[6:12].hex(":"), kind, flush=True)
"""

NEW_CONNECTIONS = """
import collections, socket, sys
count = collections.Counter()
for _ in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], 80), timeout=2) as s:
        count[s.recv(20).decode()] += 1
print(*(f"{k}={v}" for k, v in sorted(count.items())))
"""

# Prints which engine each connection lives on; then, for each line of input, which still answer.
LONG_CONNECTIONS = """
import collections, select, socket, sys, time
home = {}
for _ in range(int(sys.argv[2])):
    s = socket.create_connection((sys.argv[1], 80), timeout=2); home[s] = s.recv(20).decode()
def say(some): print(*(f"{k}={v}" for k, v in sorted(collections.Counter(home[s] for s in some).items())), flush=True)
say(home)
for line in sys.stdin:
    alive, waiting, end = [], set(), time.monotonic() + 3
    for s in home:
        try:
            s.sendall(b"x"); waiting.add(s)
        except OSError:
            pass
    while waiting and time.monotonic() < end:
        for s in select.select(list(waiting), [], [], 0.2)[0]:
            waiting.discard(s)
            try:
                if s.recv(20): alive.append(s)
            except OSError:
                pass
    say(alive)
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class LabEngine:
    """One engine: namespace, fake HAProxy, guard. Reads the guard's lines."""

    def __init__(self, lab: Lab, name: str, rank: int) -> None:
        self.lab, self.name, self.rank = lab, name, rank
        self.address = f"10.99.0.{20 + rank}"
        self.mac = f"02:99:00:00:00:{rank:02x}"
        self.namespace = f"{lab.prefix}{name}"
        self.directory = lab.directory / name
        self.directory.mkdir()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.changes: list[tuple[float, Changed]] = []
        self.report: Report | None = None
        self._socket: socket.socket | None = None
        self._buffer = b""
        lab.wire(self.namespace, f"v{name}", self.address, self.mac)

    def execute(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["ip", "netns", "exec", self.namespace, *command], start_new_session=True)

    def start(self) -> None:
        check = self.directory / "check.sock"
        check.unlink(missing_ok=True)
        self.processes["haproxy"] = self.execute(sys.executable, "-c", FAKE_HAPROXY, str(check), self.name)
        wait(check.exists)
        self.start_guard()

    def start_guard(self) -> None:
        self.launch_guard()
        wait(lambda: self._connects())

    def launch_guard(self, agent_command: tuple[str, ...] = ()) -> None:
        """Without an agent's connection."""
        start = GuardStart(
            engine=self.name,
            rank=self.rank,
            directory=str(self.directory),
            interface="eth0",
            address=self.address,
            haproxy_socket=str(self.directory / "check.sock"),
            flows_max=self.lab.flows_max,
            agent_command=agent_command,
        )
        file = self.directory / "guard.json"
        file.write_bytes(msgspec.json.encode(start))
        (self.directory / "guard.sock").unlink(missing_ok=True)
        self.processes["guard"] = self.execute(sys.executable, "-m", "shoal.engine.guard", str(file))

    def _connects(self) -> bool:
        agent = socket.socket(socket.AF_UNIX)
        try:
            agent.connect(str(self.directory / "guard.sock"))
        except OSError:
            agent.close()
            return False
        agent.setblocking(False)
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = agent, b""
        return True

    def tell(self, message: Desired | Shares) -> None:
        assert self._socket is not None
        self._socket.setblocking(True)
        self._socket.sendall(msgspec.json.encode(message) + b"\n")
        self._socket.setblocking(False)

    def read(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self._socket.recv(65536):
                self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            message = msgspec.json.decode(line, type=FromGuard)
            if isinstance(message, Changed):
                self.changes.append((time.monotonic(), message))
            elif isinstance(message, Report):
                self.report = message
            elif self.report is not None:
                self.report = msgspec.structs.replace(self.report, peers=message.peers)

    @property
    def owns(self) -> bool:
        self.read()
        return self.report is not None and bool(self.report.owned)

    def signal(self, number: signal.Signals) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()

    def carrier(self, up: bool) -> None:
        run("ip", "-n", self.lab.bridge, "link", "set", f"v{self.name}", "up" if up else "down")

    def nft(self, what: str) -> dict[str, object]:
        out = run("ip", "netns", "exec", self.namespace, "nft", "-j", "list", *what.split())
        value: dict[str, object] = json.loads(out)
        return value


class Lab:
    def __init__(self, directory: Path) -> None:
        self.prefix = f"gt{secrets.token_hex(3)}"
        self.directory = directory
        self.flows_max = 262144
        self.sharing: tuple[Sharing, ...] = ()
        self.idle_s = 600
        self.return_through_primary = False
        self.gateway = ""
        self.vip = VIP
        """What clients use and the witness asks for: `VIP`, or `VIP6` (then the VIP has both addresses)."""
        self.bridge = f"{self.prefix}br"
        self.client = f"{self.prefix}cl"
        self.engines: dict[str, LabEngine] = {}
        self._others: list[subprocess.Popen[bytes]] = []

    def build(self, names: tuple[str, ...]) -> None:
        run("ip", "netns", "add", self.bridge)
        run("ip", "-n", self.bridge, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.bridge, "link", "set", "br0", "up")
        self.wire(self.client, "vclient", CLIENT, "02:99:00:00:00:fe")
        for rank, name in enumerate(names, 1):
            self.engines[name] = LabEngine(self, name, rank)

    def wire(self, namespace: str, port: str, address: str, mac: str) -> None:
        run("ip", "netns", "add", namespace)
        peer = ("peer", "name", "eth0", "netns", namespace, "address", mac)
        run("ip", "-n", self.bridge, "link", "add", port, "type", "veth", *peer)
        run("ip", "-n", self.bridge, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        address6 = "fd99::" + address.rpartition(".")[2]
        run("ip", "-n", namespace, "addr", "add", f"{address6}/64", "dev", "eth0", "nodad")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")

    def desired(self, **vip: object) -> Desired:
        """The first engine owns the VIP, the others succeed in order, unless ``vip`` says otherwise."""
        names = tuple(self.engines)
        value: dict[str, object] = {
            "id": "vip",
            "addresses": (VIP,) if self.vip == VIP else (VIP, VIP6),
            "generation": 1,
            "owner": names[0],
            "members": names[:1],
            "succession": names[1:],
            "list_version": 1,
            "armed": True,
        }
        value |= vip
        peers = tuple(
            Peer(id=e.name, name=e.name, rank=e.rank, address=e.address, mac=e.mac) for e in self.engines.values()
        )
        vips = (msgspec.convert(value, Vip),)
        return Desired(
            timing=Timing(),
            peers=peers,
            vips=vips,
            slots_max=10,
            sharing=self.sharing,
            idle_s=self.idle_s,
            return_through_primary=self.return_through_primary,
            gateway=self.gateway,
        )

    def start(self, **vip: object) -> None:
        """All engines up, told, and the first one owns the VIP and hears all the others."""
        for engine in self.engines.values():
            engine.start()
        self.tell(**vip)
        wait(lambda: any(e.owns for e in self.engines.values()))
        wait(lambda: all(self.hears_all(e) for e in self.engines.values()))

    def hears_all(self, engine: LabEngine) -> bool:
        engine.read()
        peers = engine.report.peers if engine.report else ()
        return len(peers) == len(self.engines) - 1 and all(p.alive and p.session for p in peers)

    def tell(self, **vip: object) -> None:
        for engine in self.engines.values():
            if engine.processes["guard"].poll() is None:
                engine.tell(self.desired(**vip))

    def owners(self) -> list[str]:
        return [e.name for e in self.engines.values() if e.owns]

    def witness(self) -> Path:
        """Start asking for the VIP every 5 ms; the file gets a line for each answer."""
        path = self.directory / f"witness{len(self._others)}"
        command = [
            "ip",
            "netns",
            "exec",
            self.client,
            sys.executable,
            "-c",
            WITNESS if self.vip == VIP else WITNESS6,
            self.vip,
        ]
        with path.open("wb") as out:
            self._others.append(subprocess.Popen(command, stdout=out, start_new_session=True))
        wait(lambda: path.stat().st_size > 0)
        return path

    def in_client(self, script: str, *arguments: str, timeout: float = 30) -> str:
        command = ["ip", "netns", "exec", self.client, sys.executable, "-c", script, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout).stdout

    def destroy(self) -> None:
        for engine in self.engines.values():
            engine.signal(signal.SIGCONT)
            engine.kill()
            if engine._socket is not None:
                engine._socket.close()
        for process in self._others:
            process.kill()
            process.wait()
        for name in (self.client, *(e.namespace for e in self.engines.values()), self.bridge):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def counted(words: str) -> Counter[str]:
    return Counter({w.split("=")[0]: int(w.split("=")[1]) for w in words.split()})


def shares(value: Lab, connections: int = 600) -> Counter[str]:
    """Which engines answer so many new connections."""
    return counted(value.in_client(NEW_CONNECTIONS, value.vip, str(connections)))


class LongConnections:
    """Connections of a client to the VIP; ``homes`` counts them by engine."""

    def __init__(self, value: Lab, count: int = 60) -> None:
        command = ["ip", "netns", "exec", value.client, sys.executable, "-c", LONG_CONNECTIONS, value.vip, str(count)]
        self._client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.homes = self._line()
        assert self.homes.total() == count

    def _line(self) -> Counter[str]:
        assert self._client.stdout is not None
        return counted(self._client.stdout.readline())

    def alive_by_home(self) -> Counter[str]:
        """Sends on each; those that answer within 3 s."""
        assert self._client.stdin is not None
        self._client.stdin.write("\n")
        return self._line()

    def alive(self) -> int:
        return self.alive_by_home().total()

    def close(self) -> None:
        self._client.kill()
        self._client.communicate()


def spreads_over(engine: LabEngine) -> tuple[str, ...]:
    engine.read()
    return engine.report.alive_members.get("vip", ()) if engine.report else ()


def wait_for_spread(engine: LabEngine, members: tuple[str, ...]) -> None:
    wait(lambda: spreads_over(engine) == members)


def wait(condition: Callable[[], bool], timeout_s: float = 10.0) -> float:
    """Until true; returns the monotonic time. Fails the test after ``timeout_s``."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.002)
    return time.monotonic()


@contextlib.contextmanager
def lab(directory: Path, names: tuple[str, ...] = ("a", "b", "c")) -> Iterator[Lab]:
    if os.geteuid():
        raise RuntimeError("needs root")
    value = Lab(directory)
    try:
        value.build(names)
        yield value
    finally:
        value.destroy()
