"""What observing costs: the prober by number of VIPs (as root), the guard's flight recorder in µs."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.private_host import private_host

from shoal.engine.guard.notes import Notes
from shoal.observe import ring
from shoal.observe.watch import Target, Targets
from shoal.ownership import events as on
from shoal.ownership import initial
from shoal.ownership.state import PeerView

SERVER = "import socket, time; s = socket.create_server(('0.0.0.0', 80), backlog=512); time.sleep(10_000)"
PROBER, PROBER_MAC = "10.200.0.2", "02:00:00:00:ff:02"
CALLS = 20_000
PEERS = 8
"""``watchers_per_engine_max``."""


class Segment:
    """So many engines on a bridge share the VIPs, each with a listening socket; the prober beside them."""

    def __init__(self, host: str, engines: int, vips: int) -> None:
        self.lan = f"{host}-lan"
        self.names = [f"{host}-{number}" for number in range(engines)]
        self.vips = [f"10.200.{128 + number // 250}.{number % 250 + 1}" for number in range(vips)]
        self.engines = {f"02:00:00:00:01:{number:02x}": f"se-{number}" for number in range(engines)}
        self._servers: list[subprocess.Popen[bytes]] = []

    def make(self) -> None:
        _run("ip", "netns", "add", self.lan)
        _batch(self.lan, ["link add br0 type bridge", "link set br0 up"])
        _run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "host", "netns", self.lan)
        _run("ip", "link", "set", "eth0", "up")
        _batch(self.lan, ["link set host master br0", "link set host up"])
        for number, (name, mac) in enumerate(zip(self.names, self.engines, strict=True)):
            _run("ip", "netns", "add", name)
            peer = f"peer name eth0 address {mac} netns {name}"
            _batch(self.lan, [f"link add v{number} type veth {peer}", f"link set v{number} master br0 up"])
            own = [f"addr add {vip}/32 dev eth0" for vip in self.vips[number :: len(self.names)]]
            _batch(name, ["link set lo up", f"addr add 10.200.1.{number + 1}/16 dev eth0", *own, "link set eth0 up"])
            command = ["ip", "netns", "exec", name, sys.executable, "-c", SERVER]
            self._servers.append(subprocess.Popen(command))

    def close(self) -> None:
        for server in self._servers:
            server.kill()
            server.wait()
        for name in (*self.names, self.lan):
            subprocess.run(["ip", "netns", "delete", name], check=False)


def prober(vips: int, engines: int, seconds: float) -> dict[str, object]:
    with private_host() as host, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        segment = Segment(host, engines, vips)
        try:
            segment.make()
            time.sleep(1.0)
            return _measured(segment, Path(folder) / "prober.ring", seconds)
        finally:
            segment.close()


def _measured(segment: Segment, file: Path, seconds: float) -> dict[str, object]:
    targets = tuple(Target(vip=vip, address=vip, port=80) for vip in segment.vips)
    command = [sys.executable, "-m", "shoal.observe.prober", "eth0", PROBER, PROBER_MAC, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(Targets(engines=segment.engines, vips=targets)) + b"\n")
    process.stdin.flush()
    time.sleep(3.0 + len(segment.vips) / 100)  # each was asked once, and the close look at the first is over
    before = _cpu_s(process.pid)
    time.sleep(seconds)
    used = _cpu_s(process.pid) - before
    memory = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line)
    found = ring.read(file, "prober")
    process.stdin.close()
    process.wait()
    return {
        "vips": len(segment.vips),
        "engines": len(segment.names),
        "cpu_percent_of_a_core": round(100 * used / seconds, 2),
        "memory_mb": int(memory.split()[1]) // 1024,
        "served": len({r.vip for r in found.records if r.kind == "serves"}) if found else 0,
    }


def recorder() -> dict[str, float]:
    """A typical record; and what a guard of `PEERS` peers spends when all is well: a heartbeat heard, a tick."""
    peers = {f"se-{n}": PeerView(id=f"se-{n}", heard_at=100.0, session=True) for n in range(PEERS)}
    state = replace(initial(), engine="se-x", peers=peers)
    heartbeat, tick = on.Heard(on.Heartbeat("se-1", "1", True, ())), on.Tick()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made = ring.Recorder.open(Path(folder) / "guard.ring", ring.GUARD_SLOTS)
        notes = Notes(made)
        vip, about, why = "vsvip-" + "0" * 36 + "/1", "se-" + "1" * 36, "x" * 80
        return {
            "record_us": _median_us(lambda: made.record("took", vip=vip, about=about, text=why, ms=21.5)),
            "heartbeat_us": _median_us(lambda: notes.event(state, heartbeat, 100.0)),
            "tick_us": _median_us(lambda: notes.event(state, tick, 100.0)),
        }


def _median_us(call: Callable[[], None]) -> float:
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        runs.append((time.perf_counter() - began) / CALLS * 1e6)
    return round(statistics.median(runs), 2)


def _cpu_s(pid: int) -> float:
    """Exact, where the fields of ``stat`` are sampled."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _batch(namespace: str, lines: list[str]) -> None:
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vips", type=int, nargs="+", default=[3, 10, 1000])
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("it makes network namespaces and needs root")
    cells = [prober(vips, options.engines, options.seconds) for vips in options.vips]
    print(json.dumps({"prober": cells, "recorder": recorder()}))


if __name__ == "__main__":
    main()
