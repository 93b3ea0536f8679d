"""A backup becomes a data directory: made beside its place, and put there when it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from shoal import data_directory, whole_file
from shoal.errors import Invalid, NotReady
from shoal.store import large
from shoal.store.protocol import Transaction
from shoal.store.sqlite import SqliteStore

from .contents import Contents, read

DATABASE = "shoal.db"


async def restore(file: Path, words: str, data_dir: Path) -> Contents:
    """What was restored. ``data_dir`` must not exist, or be empty. Raises Invalid, NotReady; then it is as it was."""
    data_dir = data_dir.absolute()
    try:
        contents = read(file.read_bytes(), words)
    except OSError as error:
        raise NotReady(f"{file} can't be read: {error.strerror}.") from None
    if data_dir.exists() and any(data_dir.iterdir()):
        hint = "Give another --data-dir, or end the old one first: shoal down --purge."
        raise NotReady(f"{data_dir} is not empty; nothing was restored.", hint=hint)
    aside: Path | None = None
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=data_dir.parent, prefix=f".{data_dir.name}.restoring-"))
        await write(contents, aside)
        aside.rename(data_dir)  # takes an empty directory's place
        whole_file.flush(data_dir.parent)
    except OSError as error:
        raise NotReady(f"{data_dir} can't be written: {error.strerror}; nothing was restored.") from None
    finally:
        if aside is not None and aside.exists():
            shutil.rmtree(aside)
    return contents


async def write(contents: Contents, place: Path) -> None:
    """All of it into an empty directory, on the disk when this returns. Raises Invalid, NotReady, OSError."""
    data_directory.make(place)
    for name, data in contents.files.items():
        path = place / _inside(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        whole_file.flush(path.parent)
    store = await SqliteStore.open(place / DATABASE)
    try:
        for part in large.parts(contents.records):
            await store.commit(Transaction(puts=tuple(part)))
    finally:
        await store.close()
    whole_file.flush(place)


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise Invalid(f"The backup names a file {name[:80]!r}, outside of the data directory")
    return path
