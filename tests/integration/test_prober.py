"""The real prober on a real segment: it sees who answers, whether it serves, and a second one that answers too."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from shoal.observe import ring
from shoal.observe.watch import Finding, Target, Targets
from shoal.wire.recorded import Record

from .private_host import private_host

pytestmark = pytest.mark.root

VIP, PROBER = "10.77.1.9", "10.77.0.2"
ENGINE, ALIEN = "02:77:00:00:00:01", "66:77:00:00:00:02"
WITHIN_S = 10.0
SERVER = """
import socket, sys
server = socket.create_server(("0.0.0.0", 80))
print("ready", flush=True)
server.settimeout(0.02)
while True:
    try:
        server.accept()
        print("a connection was made", flush=True)
    except TimeoutError:
        pass
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True)


class Segment:
    def __init__(self, host: str, directory: Path) -> None:
        self.nodes: dict[str, str] = {}
        self.host = host
        self.file = directory / "prober.ring"
        self.prober: subprocess.Popen[bytes] | None = None
        self.server: subprocess.Popen[bytes] | None = None
        run("ip", "netns", "add", self.name("lan"))
        run("ip", "-n", self.name("lan"), "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.name("lan"), "link", "set", "br0", "up")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "client", "netns", self.name("lan"))
        run("ip", "-n", self.name("lan"), "link", "set", "client", "master", "br0", "up")
        run("ip", "link", "set", "eth0", "up")

    def name(self, node: str) -> str:
        return f"{self.host}-{node}"

    def node(self, node: str, mac: str, address: str) -> None:
        name = self.name(node)
        run("ip", "netns", "add", name)
        self.nodes[node] = name
        peer = ("peer", "name", "eth0", "address", mac, "netns", name)
        run("ip", "-n", self.name("lan"), "link", "add", node, "type", "veth", *peer)
        run("ip", "-n", self.name("lan"), "link", "set", node, "master", "br0", "up")
        run("ip", "-n", name, "addr", "add", f"{address}/16", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")

    def serve(self, node: str) -> None:
        command = ["ip", "netns", "exec", self.nodes[node], sys.executable, "-c", SERVER]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.server.stdout is not None and self.server.stdout.readline() == b"ready\n"

    def probe(self) -> None:
        command = [sys.executable, "-m", "shoal.observe.prober", "eth0", PROBER, "02:77:00:00:00:fe", str(self.file)]
        self.prober = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        target = Target(vip="shop", address=VIP, port=80)
        self.want(Targets(engines={ENGINE: "se-1"}, vips=(target,)))

    def want(self, targets: Targets) -> None:
        assert self.prober is not None and self.prober.stdin is not None
        self.prober.stdin.write(msgspec.json.encode(targets) + b"\n")
        self.prober.stdin.flush()

    def told(self) -> Finding:
        """What the prober says next."""
        assert self.prober is not None and self.prober.stdout is not None
        assert select.select([self.prober.stdout], [], [], WITHIN_S)[0], "it says nothing"
        return msgspec.json.decode(self.prober.stdout.readline(), type=Finding)

    def records(self) -> list[Record]:
        found = ring.read(self.file, "prober")
        return list(found.records) if found else []

    def until(self, check: Callable[[list[Record]], bool]) -> list[Record]:
        deadline = time.monotonic() + WITHIN_S
        while not check(found := self.records()):
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        return found

    def close(self) -> None:
        for process in (self.prober, self.server):
            if process is not None:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        with contextlib.suppress(OSError):
                            pipe.close()
        for name in (*self.nodes.values(), self.name("lan")):
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    with private_host() as host:
        made = Segment(host, tmp_path)
        try:
            yield made
        finally:
            made.close()


def test_what_happens_on_a_segment_is_seen(segment: Segment) -> None:
    segment.node("engine", ENGINE, VIP)
    segment.serve("engine")
    segment.probe()
    found = segment.until(lambda records: any(r.kind == "serves" for r in records))
    assert [(r.kind, r.vip, r.about) for r in found] == [("answers", "shop", ENGINE), ("serves", "shop", ENGINE)]

    segment.node("alien", ALIEN, "10.77.0.66")
    run("ip", "-n", segment.nodes["alien"], "addr", "add", f"{VIP}/32", "dev", "eth0")
    told = [segment.told(), segment.told()]
    kinds = {finding.kind: finding for finding in told}
    assert set(kinds) == {"stranger", "two answer"} and kinds["stranger"].about == ALIEN
    assert ENGINE in kinds["two answer"].text and ALIEN in kinds["two answer"].text
    run("ip", "-n", segment.nodes["alien"], "addr", "del", f"{VIP}/32", "dev", "eth0")
    segment.until(lambda records: any(r.kind == "one answers" and r.about == ENGINE for r in records))
    segment.until(
        lambda records: [r for r in records if r.kind == "serves" or "connection" in r.kind][-1].kind == "serves"
    )

    assert segment.server is not None and segment.server.stdout is not None
    killed_at = time.monotonic()
    segment.server.kill()
    segment.server.wait()
    outage = segment.told()
    assert (outage.kind, outage.about) == ("outage", ENGINE) and 500 <= outage.ms < 2000
    refused = [r for r in segment.records() if r.kind == "refuses"][-1]
    assert -0.001 <= refused.monotonic_ns / 1e9 - killed_at < 0.25, "noticed at the next probe"
    os.set_blocking(segment.server.stdout.fileno(), False)
    assert not segment.server.stdout.read(), "the server never saw a connection"
    segment.server.stdout.close()
    segment.serve("engine")
    again = segment.told()
    assert again.kind == "serves" and again.ms > outage.ms

    segment.want(Targets(engines={}, vips=()))
    time.sleep(0.1)
    run("ip", "-n", segment.nodes["engine"], "link", "set", "eth0", "down")
    count = len(segment.records())
    time.sleep(0.3)
    assert len(segment.records()) == count, "what is not to be watched any more is not missed"

    assert segment.prober is not None and segment.prober.stdin is not None
    segment.prober.stdin.close()
    assert segment.prober.wait(timeout=5) == 0, "it ends with whoever started it"
