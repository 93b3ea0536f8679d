"""A network namespace that plays the host: whole systems run in it, the machine's own network is never touched."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNET = 0x40000000
NETNS = Path("/run/netns")


def _enter(file: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(file, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {file}")
    finally:
        os.close(fd)


@contextlib.contextmanager
def private_host() -> Iterator[str]:
    """This thread, and all it starts, is inside the new namespace until the end."""
    name = f"shtest-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/ns/net")
    before = os.open(own, os.O_RDONLY)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        _enter(NETNS / name)
        try:
            yield name
        finally:
            _enter(Path(f"/proc/self/fd/{before}"))
    finally:
        os.close(before)
        subprocess.run(["ip", "netns", "delete", name], check=True)
