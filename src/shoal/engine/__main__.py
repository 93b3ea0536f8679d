"""``python -m shoal.engine engine.json``: run an engine's agent until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from shoal.engine.agent import Agent
from shoal.wire.engine_config import EngineConfig

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Of mallopt(3)."""
LARGE_BYTES = 64 * 1024
ARENAS = 2


async def _run(config: EngineConfig) -> None:
    agent = Agent(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.stop)
    await agent.run()


def _give_back() -> None:
    """Have large blocks (a configuration, HAProxy's statistics) go back to the kernel when they are freed: by default
    glibc keeps what was freed once for the next of that size, some 10 MB with 1,000 services."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(M_ARENA_MAX, ARENAS)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m shoal.engine ENGINE.JSON", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    _give_back()
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=EngineConfig)
    lock = os.open(Path(config.directory) / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"another agent runs in {config.directory}; stop it first", file=sys.stderr)
        return 1
    asyncio.run(_run(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
