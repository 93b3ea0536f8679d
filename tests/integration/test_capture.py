"""``shoal capture`` on a whole Shoal: packets of all engines, both sides, in order; and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.clouds.fabric import processes_in
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration import pcapng
from tests.integration.private_shoal import prepared

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(120)]

SERVICE = "vs-ha-mode-shared-pair"
"""On two engines."""
SYN, ACK = 0x02, 0x10
ENDED_WITHIN_S = 10.0
FLOOD = """
import socket, sys, time
flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for burst in range(200):
    for _ in range(120):
        flood.sendto(bytes(1400), (sys.argv[1], 80))
    time.sleep(0.01)
"""
"""24,000 packets in a good 2 s: more than all buffers on the way hold."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with prepared(tmp_path_factory.mktemp("capture"), modes=["HA_MODE_SHARED_PAIR"]) as bench:
        yield bench


def start(bench: Bench, *options: str, output: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shoal", "capture", SERVICE, "--controller", bench.url, *options]
    environment = {**os.environ, "SHOAL_PASSWORD": PASSWORD}
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, env=environment)
    assert child.stderr is not None
    words = child.stderr.readline()
    assert words.startswith(b"Capturing"), words
    return child


def ended(child: subprocess.Popen[bytes], status: int = 0) -> tuple[bytes, str]:
    out, errors = child.communicate(timeout=ENDED_WITHIN_S)
    assert child.returncode == status, errors
    return out or b"", errors.decode()


def requests(bench: Bench, seconds: float) -> int:
    """A request every 5 ms from the client; how many failed."""
    lab = Lab(bench.options.data_dir)
    address = bench.services["HA_MODE_SHARED_PAIR"]["address"]
    return len(asyncio.run(lab.probe("client", address, 80, seconds)).failed())


def children(bench: Bench) -> list[int]:
    """Processes that capture, on any engine."""
    fabric = Lab(bench.options.data_dir).fabric
    found = []
    for pid in (pid for name in fabric.namespaces() for pid in processes_in(name)):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"shoal.engine.capture.child" in line:
            found.append(pid)
    return found


def until(what: str, check: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_both_sides_of_all_engines_in_one_file_in_order(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "all.pcapng"
    child = start(bench, "-o", str(file), "--seconds", "4", "--json")
    assert requests(bench, 2.0) == 0  # and time for all of it to be written, on a busy machine too
    told = json.loads(ended(child)[0])
    found = pcapng.read(file)
    assert file.stat().st_mode & 0o077 == 0
    times = [packet.at_ns for packet in found.packets]
    assert times == sorted(times)
    vip = bench.services["HA_MODE_SHARED_PAIR"]["address"]
    clients = {p.engine for p in found.packets if p.destination == vip and p.ports[1] == 80 and p.flags & SYN}
    servers = {p.engine for p in found.packets if p.outbound and p.source != vip and p.flags & SYN}
    assert len(clients) == 2 and clients == servers <= set(found.engines)
    opened = {(p.source, p.ports) for p in found.packets if p.destination == vip and p.flags & (SYN | ACK) == SYN}
    assert len(opened) >= 390, "each connection of the client is there"
    assert told["packets"] == len(found.packets) and told["dropped"] == 0
    assert {e["name"]: e["ended"] for e in told["engines"]} == dict.fromkeys(found.engines, "4 s")
    received = sum(statistics.received for statistics in found.statistics.values())
    assert received == len(found.packets)
    if tcpdump := shutil.which("tcpdump"):
        lines = subprocess.run([tcpdump, "-n", "-r", str(file)], capture_output=True, text=True, check=True).stdout
        assert len(lines.splitlines()) == len(found.packets)
    until("the engines have ended their captures", lambda: not children(bench))


def test_a_filter_a_side_a_size_and_a_bound(bench: Bench) -> None:
    options = ("--filter", "syn and dst port 80", "--side", "client", "--size", "64", "--packets", "30")
    child = start(bench, "-o", "-", *options)
    requests(bench, 1.0)
    data, words = ended(child)
    found = pcapng.read(data)
    assert len(found.packets) == 30 and "30 packets of" in words
    vip = bench.services["HA_MODE_SHARED_PAIR"]["address"]
    assert {(p.destination, p.ports[1], bool(p.flags & SYN)) for p in found.packets} == {(vip, 80, True)}
    assert all(p.captured == min(64, p.original) for p in found.packets)  # a prober's SYN is shorter
    assert any(p.original > 64 for p in found.packets)


def test_ctrl_c_leaves_a_whole_file_and_nothing_on_the_engines(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "cut.pcapng"
    child = start(bench, "-o", str(file))
    requests(bench, 0.7)
    assert len(children(bench)) >= 2
    child.send_signal(signal.SIGINT)
    ended(child)
    assert len(pcapng.read(file).packets) > 500
    until("a reader that has gone ends the capture on all engines", lambda: not children(bench))
    child = start(bench, "-o", str(file))
    child.kill()
    child.communicate()
    until("also when it said nothing", lambda: not children(bench))


def test_an_agent_that_dies_takes_its_capture_along_and_is_followed_when_it_is_back(
    bench: Bench, tmp_path: Path
) -> None:
    file = tmp_path / "agent.pcapng"
    lab = Lab(bench.options.data_dir)
    child = start(bench, "-o", str(file), "--seconds", "4")
    until("it is captured", lambda: len(children(bench)) >= 2)

    async def owner() -> str:
        async with Api(bench.url, PASSWORD) as api:
            return str((await api.placed(bench.services["HA_MODE_SHARED_PAIR"]["uuid"], 2))["answers"])

    engine = asyncio.run(owner())
    before = set(children(bench))
    killed_ns = time.time_ns()
    lab.kill_some(engine, "shoal.engine\0")
    until("its child is gone", lambda: before - set(children(bench)))
    until("another one runs", lambda: len(children(bench)) == len(before))
    back_ns = time.time_ns()
    requests(bench, 1.0)
    ended(child)
    found = pcapng.read(file)
    assert len(found.engines) == len(set(found.engines)), "it keeps its interface"
    assert [p for p in found.packets if p.engine == engine and p.at_ns > back_ns > killed_ns]


def test_a_flood_and_a_reader_that_stands_still_cost_packets_and_no_request(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "flood.pcapng"
    child = start(bench, "-o", str(file), "--seconds", "4", "--megabytes", "2000", "--json")
    lab = Lab(bench.options.data_dir)
    address = bench.services["HA_MODE_SHARED_PAIR"]["address"]
    more = []
    child.send_signal(signal.SIGSTOP)
    try:
        flood = subprocess.Popen(lab.fabric.enter("lab-client", sys.executable, "-c", FLOOD, address))
        assert requests(bench, 2.0) == 0
        assert flood.wait(ENDED_WITHIN_S) == 0
        more = [start(bench, "-o", "-", "--packets", "1000000") for _ in range(3)]
        fifth = subprocess.run(
            [sys.executable, "-m", "shoal", "capture", SERVICE, "--controller", bench.url, "-o", "-"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "SHOAL_PASSWORD": PASSWORD},
        )
        assert fifth.returncode == 1 and fifth.stderr == b"Error: 4 captures run already. End one of them, or wait.\n"
    finally:
        child.send_signal(signal.SIGCONT)
        for other in more:
            other.kill()
            other.communicate()
    told = json.loads(ended(child)[0])
    assert told["dropped"] > 1_000 and told["packets"] > 1_000
    times = [packet.at_ns for packet in pcapng.read(file).packets]
    assert times == sorted(times)
    until("all have ended", lambda: not children(bench))
