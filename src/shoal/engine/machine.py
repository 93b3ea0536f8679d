"""What the kernel counts of an engine: its processes, the machine, its data interface, TCP in its network namespace."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from shoal.wire.counters import EngineCounts

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
IDLE_COLUMNS = (3, 4)
"""Of the line ``cpu`` in /proc/stat, after its title: idle, iowait (proc(5))."""
GUEST_COLUMN = 8
"""From here on time that is in the columns before already."""
INTERFACE_COLUMNS = {
    "rx_bytes": 0,
    "rx_packets": 1,
    "rx_errors": 2,
    "rx_drops": 3,
    "tx_bytes": 8,
    "tx_packets": 9,
    "tx_errors": 10,
    "tx_drops": 11,
}
TCP_NAMES = {
    "tcp_active_opens": "ActiveOpens",
    "tcp_passive_opens": "PassiveOpens",
    "tcp_segments_out": "OutSegs",
    "tcp_retransmits": "RetransSegs",
}


class Processes:
    """CPU of processes that come and go: what each has used since it was first seen (all of it, when it began then)."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._begun = False
        self.cpu_ms = 0.0
        self.memory = 0
        """Bytes, of those alive at the last reading."""

    def read(self, pids: Collection[int]) -> None:
        used: dict[int, float] = {}
        self.memory = 0
        for pid in pids:
            text = _text(f"/proc/{pid}/stat")
            if text:
                fields = text.rsplit(")", 1)[1].split()
                used[pid] = (int(fields[11]) + int(fields[12])) * TICK_MS
                self.memory += int(fields[21]) * PAGE_BYTES
        if self._begun:
            self.cpu_ms += sum(max(0.0, ms - self._seen.get(pid, 0.0)) for pid, ms in used.items())
        self._seen, self._begun = used, True


class Machine:
    """Call `read` each time; ``interface`` is the data interface's name."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._all = Processes()
        self._haproxy = Processes()

    def read(self, pids: Collection[int], haproxy: Collection[int], **figures: int) -> EngineCounts:
        """``pids``: the engine's processes but ``haproxy``'s workers. ``figures``: what HAProxy says of itself."""
        self._haproxy.read(haproxy)
        self._all.read({*pids, *haproxy})
        columns = [int(value) for value in _line("/proc/stat", "cpu ").split()[:GUEST_COLUMN]]
        whole = sum(columns)
        idle = sum(columns[index] for index in IDLE_COLUMNS if index < len(columns))
        memory = dict(line.split(":", 1) for line in _text("/proc/meminfo").splitlines() if ":" in line)
        counts = EngineCounts(
            memory=self._all.memory,
            machine_memory=_kib(memory, "MemTotal"),
            machine_memory_free=_kib(memory, "MemAvailable"),
            cores=os.cpu_count() or 1,
            cpu_ms=round(self._all.cpu_ms),
            haproxy_cpu_ms=round(self._haproxy.cpu_ms),
            machine_busy_ms=round((whole - idle) * TICK_MS),
            machine_ms=round(whole * TICK_MS),
        )
        return msgspec.structs.replace(counts, **self._network(), **figures)

    def _network(self) -> dict[str, int]:
        values = _line("/proc/net/dev", f"{self._interface}:").split()
        found = {name: int(values[at]) for name, at in INTERFACE_COLUMNS.items() if at < len(values)}
        tcp = _pairs("/proc/net/snmp", "Tcp:")
        found |= {name: int(tcp.get(theirs, 0)) for name, theirs in TCP_NAMES.items()}
        found["tcp_listen_drops"] = int(_pairs("/proc/net/netstat", "TcpExt:").get("ListenDrops", 0))
        return found


def _text(path: str) -> str:
    """Empty when the kernel has no such file (any more)."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _line(path: str, title: str) -> str:
    """What follows the title."""
    lines = (line.strip() for line in _text(path).splitlines())
    return next((line[len(title) :] for line in lines if line.startswith(title)), "")


def _pairs(path: str, title: str) -> dict[str, str]:
    """/proc/net/snmp and netstat: a line of names, then a line of values with the same title."""
    lines = [line.split()[1:] for line in _text(path).splitlines() if line.startswith(title)]
    return dict(zip(lines[0], lines[1], strict=False)) if len(lines) > 1 else {}


def _kib(memory: Mapping[str, str], name: str) -> int:
    """/proc/meminfo has ``16314388 kB``."""
    number = memory.get(name, "").split()
    return int(number[0]) * 1024 if number else 0
