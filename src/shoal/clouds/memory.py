"""Folders of files that live in memory (tmpfs): a real-time process may write a mapped one without waiting for a disk."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from shoal.observe import ring

log = logging.getLogger("shoal.clouds")

PLACES = ("/run", "/dev/shm")
MOUNTS = Path("/proc/self/mounts")


def folder(name: str) -> str:
    """Make the folder; "" when there is nothing in memory to make it in."""
    for place in _in_memory():
        try:
            return str(ring.folder(place / name))
        except OSError as error:
            log.warning("no folder in memory: %s", error)
    return ""


def remove(name: str) -> None:
    """No error if it is gone, or never was."""
    for place in _in_memory():
        shutil.rmtree(place / name, ignore_errors=True)


def remove_all(prefix: str) -> None:
    """Every folder whose name begins so."""
    for place in _in_memory():
        for path in place.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def _in_memory() -> list[Path]:
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    tmpfs = {words[1] for words in mounts if len(words) > 2 and words[2] == "tmpfs"}
    return [Path(place) for place in PLACES if place in tmpfs]
