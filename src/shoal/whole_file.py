"""Files that are there whole or not at all, whatever cuts their writing short."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written(file: Path, *, replaces: bool = True) -> Iterator[BinaryIO]:
    """What is written in the block is the file when it ends: mode 0600, in the place of what was there, or, unless it
    ``replaces``, only where nothing was. On the disk then, its name once `flush` has returned. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        if replaces:
            aside.rename(file)
        else:
            file.hardlink_to(aside)
    finally:
        aside.unlink(missing_ok=True)


def write(file: Path, data: bytes) -> None:
    """The same, of data that is there already."""
    with written(file) as out:
        out.write(data)


def flush(directory: Path) -> None:
    """The names in it are on the disk when this returns. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
