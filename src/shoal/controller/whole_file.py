"""Files that are there whole or not at all, whatever cuts their writing short."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(file: Path, data: bytes) -> None:
    """Mode 0600, in the place of what was there. On the disk when this returns, its name once `flush` has returned. Raises
    OSError."""
    handle, aside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        Path(aside).rename(file)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def flush(directory: Path) -> None:
    """The names in it are on the disk when this returns. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
