"""``python -m shoal.engine.guard guard.json``."""

from __future__ import annotations

import fcntl
import logging
import logging.handlers
import os
import signal
import sys
from pathlib import Path

import msgspec

from shoal.engine.guard.guard import Guard
from shoal.wire.guard import GuardStart

LOG_BYTES_MAX = 512 * 1024


def main(path: str) -> int:
    start = msgspec.json.decode(Path(path).read_bytes(), type=GuardStart)
    directory = Path(start.directory)
    handler = logging.handlers.RotatingFileHandler(directory / "guard.log", maxBytes=LOG_BYTES_MAX, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    lock = os.open(directory / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"another guard runs in {directory}; stop it first", file=sys.stderr)
        return 1
    guard = Guard(start)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    guard.loop.on_readable(os.fdopen(reader, "rb", buffering=0), guard.stop)
    guard.run()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m shoal.engine.guard guard.json")
    sys.exit(main(sys.argv[1]))
