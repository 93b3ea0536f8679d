"""The directory that one Shoal keeps everything in: whose it is, who runs on it, and what may be removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
from pathlib import Path

from shoal.errors import NotReady

MARK = "SHOAL"
"""The file that says whose directory this is."""
MARK_TEXT = "This directory belongs to Shoal; `shoal down --purge` removes it.\n"
RESTORED = ("restore.*", ".restoring-*", "before-restore-*", "failed-restore-*")
"""What a restore leaves, or was about to put in its place."""
OURS = (
    *("shoal.db*", "metrics.*", "decisions.log*", "logs", "keys", "pki", "api", "engines", "backups"),
    *("controller.log*", "controller.pid", "up.out", "fabric.json", "certify.json", "drill.lock"),
    *RESTORED,
)
"""All that `purge` removes; anything else in the directory is somebody else's."""
FOREIGN_SHOWN_MAX = 3


def make(data_dir: Path) -> None:
    """Make the directory, or make sure that it is one of ours. Raises NotReady for one that holds other things."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_ours(data_dir):
            if found := sorted(os.listdir(data_dir)):
                raise NotReady(
                    f"{data_dir} holds other things ({_some(found)}) and is no Shoal's data directory.",
                    hint="Give an empty or a new directory with --data-dir.",
                )
            (data_dir / MARK).write_text(MARK_TEXT)
    except OSError as error:
        raise NotReady(
            f"The data directory {data_dir} can't be used: {error.strerror}.", hint="Give another one with --data-dir."
        ) from error


def is_ours(data_dir: Path) -> bool:
    return (data_dir / MARK).is_file() or (data_dir / "shoal.db").is_file()


def purge(data_dir: Path) -> None:
    """Remove what Shoal made, and the directory if nothing else is in it. Raises NotReady if it is not Shoal's."""
    if not data_dir.exists():
        return
    if not is_ours(data_dir):
        raise NotReady(f"{data_dir} is no Shoal's data directory; nothing was removed.", hint="Check --data-dir.")
    for pattern in (*OURS, MARK):  # the mark last: cut short, the rest can be purged again
        for path in sorted(data_dir.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    with contextlib.suppress(OSError):  # something else is in it, and stays
        data_dir.rmdir()


def claim(id: str, data_dir: Path) -> socket.socket:
    """Hold the result while the controller runs: an abstract Unix socket, which no crash and no `rm` leaves behind or
    takes away. ``id`` is the data directory's (`Addressing.id`). Raises NotReady, naming the process that has it.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(_name(id))
    except OSError:
        listener.close()
        raise NotReady(
            f"A Shoal runs on {data_dir} already (process {holder(id) or 'unknown'}).", hint="Stop it with shoal down."
        ) from None
    listener.listen(1)
    return listener


def holder(id: str) -> int | None:
    """The pid of the controller that runs on the directory, even if the directory itself is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        try:
            caller.connect(_name(id))
        except OSError:
            return None
        credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _name(id: str) -> str:
    return f"\0shoal-controller-{id}"


def _some(names: list[str]) -> str:
    more = len(names) - FOREIGN_SHOWN_MAX
    return ", ".join(names[:FOREIGN_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
