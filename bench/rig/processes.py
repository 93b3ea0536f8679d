"""What processes cost, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

NS_PER_S = 1e9
KB_PER_MB = 1000 / 1.024
"""The kernel's kB are KiB; ours are megabytes of 10^6 octets."""


def cpu_s(pids: Iterable[int]) -> float:
    """Time on a CPU, user and system, of all their threads, to the nanosecond (schedstat); ended ones count 0."""
    total = 0
    for pid in pids:
        try:
            for task in os.scandir(f"/proc/{pid}/task"):
                total += int(Path(task.path, "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / NS_PER_S


def parent(pid: int) -> int:
    """0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    of: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            of.setdefault(parent(int(entry.name)), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += of.get(one, [])
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _kb(path: str, name: str) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def pss_mb(pid: int) -> float:
    """Proportional share: a page that n processes share counts 1/n for each. 0 for one that has ended."""
    return _kb(f"/proc/{pid}/smaps_rollup", "Pss") / KB_PER_MB


def rss_mb(pid: int) -> float:
    return _kb(f"/proc/{pid}/status", "VmRSS") / KB_PER_MB
