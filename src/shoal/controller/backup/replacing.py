"""A restored directory takes the place of a data directory in use: staged inside of it while the controller runs, put in its
place before the next one begins. Each step is a rename, and goes on where a crash has cut it short.

::

    restore.pending/   restored, whole. What the data directory holds is moved into before-restore-TIME/, then it is called
    restore.placing/   and what is in it is moved up.

What was there stays, and can be called back: it is then staged itself.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from shoal import data_directory, whole_file
from shoal.errors import NotReady

from .contents import Contents
from .restoring import write

PENDING, PLACING = "restore.pending", "restore.placing"
MAKING = ".restoring-"
ASIDE = ".aside"
"""Names the directory that the present content goes to."""
BEFORE, FAILED = "before-restore-", "failed-restore-"
STAYS = ("controller.log*", "controller.pid", "up.out", "drill.lock")
"""The process's own, whatever it serves."""


async def stage(contents: Contents, data_dir: Path) -> Path:
    """Where what is there now will be. Raises Invalid, NotReady; then nothing is staged."""
    if is_staged(data_dir):
        raise NotReady("A backup is being restored already.", hint="Wait until the controller answers anew.")
    before = data_dir / f"{BEFORE}{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    place: Path | None = None
    try:
        for left in data_dir.glob(f"{MAKING}*"):
            shutil.rmtree(left)
        place = Path(tempfile.mkdtemp(dir=data_dir, prefix=MAKING))
        await write(contents, place)
        _stage(place, before.name)
    except OSError as error:
        raise NotReady(f"{data_dir} can't be written: {error.strerror}; nothing is restored.") from None
    finally:
        if place is not None and place.exists():
            shutil.rmtree(place)
    return before


def is_staged(data_dir: Path) -> bool:
    return any((data_dir / name).is_dir() for name in (PENDING, PLACING))


def finish(data_dir: Path) -> Path:
    """Put what is staged in its place, while nobody uses the directory. Returns where the content of before is. Raises
    NotReady; then it goes on at the next try."""
    pending, placing = data_dir / PENDING, data_dir / PLACING
    try:
        if pending.is_dir():
            before = data_dir / (pending / ASIDE).read_text()
            before.mkdir(mode=0o700, exist_ok=True)
            for path in _content(data_dir):
                path.rename(before / path.name)
            whole_file.flush(before)
            pending.rename(placing)
            whole_file.flush(data_dir)
        before = data_dir / (placing / ASIDE).read_text()
        for path in sorted(placing.iterdir()):
            if path.name != ASIDE:
                path.rename(data_dir / path.name)
        whole_file.flush(data_dir)
        done = data_dir / f"{MAKING}done"
        shutil.rmtree(done, ignore_errors=True)
        placing.rename(done)
        shutil.rmtree(done)
    except OSError as error:
        hint = f"What was there is in {BEFORE}* of it, what is to be there in {PENDING} or {PLACING}."
        raise NotReady(f"{data_dir} can't be written: {error.strerror}.", hint=hint) from None
    return before


def is_former(before: Path) -> bool:
    """Whether it served until a backup took its place: it is no backup that failed to."""
    return before.name.startswith(BEFORE)


def call_back(before: Path) -> None:
    """Stage what was there before `finish`, after what took its place has failed to start. Raises NotReady."""
    try:
        _stage(before, before.name.replace(BEFORE, FAILED))
    except OSError as error:
        raise NotReady(f"{before} can't be called back: {error.strerror}.") from None


def _stage(place: Path, aside: str) -> None:
    whole_file.write(place / ASIDE, aside.encode())
    whole_file.flush(place)
    place.rename(place.parent / PENDING)
    whole_file.flush(place.parent)


def _content(data_dir: Path) -> list[Path]:
    """What of a data directory is Shoal's and goes with its state."""
    stays = {path for pattern in (*STAYS, *data_directory.RESTORED) for path in data_dir.glob(pattern)}
    return sorted({path for pattern in data_directory.OURS for path in data_dir.glob(pattern)} - stays)
