"""What a backup holds: all records of the store as of one revision, and the files without which they are of no use.

Not in it: measured history, logs, flight recorders, and what engines keep (they are made anew).
"""

from __future__ import annotations

import asyncio
import time
import zlib
from pathlib import Path

import msgspec

from shoal import __version__
from shoal.errors import Invalid, NotReady
from shoal.store import large
from shoal.store.protocol import Records

from . import sealed

FORMAT = 1
FILES = ("keys/*", "pki/*", "fabric.json")
"""The sealing key, the internal CA, the subnets in use."""
EXPANDED_BYTES_MAX = 2_000_000_000


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """``records``: key and value, in the order in which the keys were made."""

    format: int
    shoal: str
    made_at: float
    revision: int
    files: dict[str, bytes]
    records: list[tuple[str, bytes]]


async def made(store: Records, data_dir: Path, words: str) -> bytes:
    """A sealed backup of the running system. Raises NotReady while a large change is on its way, or when a file can't be
    read."""
    listing = await store.list("")
    if any(record.key == large.DECIDED for record in listing.records):
        raise NotReady("A large change is being written.", hint="Try again in a second.")
    records = sorted(
        (r for r in listing.records if not r.key.startswith(large.STAGED)), key=lambda record: record.created
    )
    contents = Contents(
        format=FORMAT,
        shoal=__version__,
        made_at=time.time(),
        revision=listing.revision,
        files=await asyncio.to_thread(_files, data_dir),
        records=[(record.key, record.value) for record in records],
    )
    return await asyncio.to_thread(lambda: sealed.seal(zlib.compress(msgspec.msgpack.encode(contents), 6), words))


def read(data: bytes, words: str) -> Contents:
    """Raises Invalid for what `sealed.opened` refuses, and for a backup of a format that is not known here."""
    expander = zlib.decompressobj()
    try:
        plain = expander.decompress(sealed.opened(data, words), EXPANDED_BYTES_MAX)
        version = msgspec.msgpack.decode(plain, type=_Version).format
        if version != FORMAT:
            raise Invalid(f"The backup has format {version}; this Shoal reads format {FORMAT}")
        return msgspec.msgpack.decode(plain, type=Contents)
    except (zlib.error, msgspec.DecodeError) as error:
        raise Invalid(f"The backup's contents can't be read ({error})") from None


class _Version(msgspec.Struct):
    format: int


def _files(data_dir: Path) -> dict[str, bytes]:
    try:
        paths = [path for pattern in FILES for path in sorted(data_dir.glob(pattern)) if path.is_file()]
        return {str(path.relative_to(data_dir)): path.read_bytes() for path in paths if not path.name.startswith(".")}
    except OSError as error:
        raise NotReady(f"{error.filename} can't be read ({error.strerror}), so there is no backup.") from None
