"""The flight recorder: a ring of records in a memory-mapped file.

Writing is one copy into memory, no system call; what was written outlives the process, killed at whatever point: a
record that was being written fails its checksum and is left out. One writer at a time; anyone may read meanwhile.

Layout: a header of `SLOT_BYTES` (`_HEADER`), then slots of `SLOT_BYTES` each: CRC-32, `_HEAD`, a msgpack list.
"""

from __future__ import annotations

import logging
import mmap
import os
import stat
import struct
import time
import zlib
from pathlib import Path

import msgspec

from shoal.wire.recorded import Record, Recording

log = logging.getLogger("shoal.recorder")

SLOT_BYTES = 256
GUARD_SLOTS = 4096
"""1 MB; a takeover of 1,000 VIPs writes four records for each."""
AGENT_SLOTS = 1024
PROBER_SLOTS = 4096
FILE_BYTES_MAX = 16 * 1024 * 1024
"""A longer file is no recorder's."""
FIELD_CHARACTERS_MAX = 80
TEXT_BYTES_MIN = 16
GUARD_FILE, AGENT_FILE, PROBER_FILE = "guard.ring", "agent.ring", "prober.ring"
MAGIC = b"SHOALREC"
VERSION = 1

_HEADER = struct.Struct("<8sHHI36s")
"""Magic, version, bytes of a slot, slots, boot id."""
_ALIVE = struct.Struct("<Q")
_ALIVE_AT = 64
_CRC = struct.Struct("<I")
_HEAD = struct.Struct("<QQQH")
"""Number, monotonic and wall time in ns, bytes of the content."""
_HEAD_BYTES = _CRC.size + _HEAD.size
CONTENT_BYTES_MAX = SLOT_BYTES - _HEAD_BYTES


class _Content(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    vip: str
    about: str
    text: str
    ms: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Content)


def boot_id() -> str:
    """Changes with each boot of the machine; "" where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:36]
    except OSError:
        return ""


def folder(path: Path) -> Path:
    """Make a folder for recorders' files, ours alone. Raises OSError when it is another's: then the files could be cut
    short under their writer."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{path} is not ours alone")
    return path


class Recorder:
    """The writer's side. `open` never fails: without a file the records are kept in this process only."""

    def __init__(self, memory: mmap.mmap, slots: int, number: int = 0) -> None:
        self._memory = memory
        self._slots = slots
        self._number = number

    @classmethod
    def open(cls, path: Path, slots: int) -> Recorder:
        """Go on where the last writer of this file stopped, if it is one of ours and of this boot."""
        size = SLOT_BYTES * (slots + 1)
        header = _HEADER.pack(MAGIC, VERSION, SLOT_BYTES, slots, boot_id().encode())
        try:
            memory = _mapped(path, size)
        except OSError as error:
            log.warning("%s can't be written (%s): what happens is recorded in memory only", path, error)
            memory = mmap.mmap(-1, size)
        if memory[: _HEADER.size] != header:
            if memory[: _HEADER.size].strip(b"\0"):  # else it is new, and zero
                memory[:] = bytes(size)
            memory[: _HEADER.size] = header
        last = max((record.number for record in _records(memory[:], slots)), default=0)
        made = cls(memory, slots, last)
        made.alive(time.monotonic_ns())
        return made

    def record(
        self,
        kind: str,
        *,
        vip: str = "",
        about: str = "",
        text: str = "",
        ms: float = 0.0,
        monotonic_ns: int = 0,
    ) -> None:
        """``monotonic_ns``: when it happened, if not now. What is too long for a slot loses its end."""
        try:
            content = _encoder.encode((kind, vip, about, text, ms))
        except UnicodeEncodeError:  # a lone surrogate, from bytes that were no text
            content = b""
        if not content or len(content) > CONTENT_BYTES_MAX:
            content = _shortened(kind, vip, about, text, ms)
        now, wall = time.monotonic_ns(), time.time_ns()
        at = monotonic_ns or now
        self._number = number = self._number + 1
        data = _HEAD.pack(number, at, wall - (now - at), len(content)) + content
        start = SLOT_BYTES * (1 + number % self._slots)
        self._memory[start : start + _CRC.size + len(data)] = _CRC.pack(zlib.crc32(data)) + data

    def alive(self, monotonic_ns: int) -> None:
        """The writer runs at this time (`open` says so too)."""
        _ALIVE.pack_into(self._memory, _ALIVE_AT, monotonic_ns)


def _mapped(path: Path, size: int) -> mmap.mmap:
    """All of the file's room is taken at once: a full file system must not strike in the middle of a write (SIGBUS)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no plain file")
        if os.fstat(fd).st_size != size:
            os.ftruncate(fd, 0)
        os.posix_fallocate(fd, 0, size)
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


def _shortened(kind: str, vip: str, about: str, text: str, ms: float) -> bytes:
    """Every field cut to what a slot holds, in UTF-8."""
    kind, vip, about = (_cut(field, FIELD_CHARACTERS_MAX) for field in (kind, vip, about))
    room = CONTENT_BYTES_MAX - len(_encoder.encode((kind, vip, about, "", ms))) - 2
    if room < TEXT_BYTES_MIN:
        kind, vip, about = (_cut(field, FIELD_CHARACTERS_MAX // 2) for field in (kind, vip, about))
        room = CONTENT_BYTES_MAX - len(_encoder.encode((kind, vip, about, "", ms))) - 2
    return _encoder.encode((kind, vip, about, _cut(text, room), ms))


def _cut(text: str, bytes_max: int) -> str:
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def read(path: Path, writer: str) -> Recording | None:
    """What a recorder's file holds, oldest first, whoever wrote it and however it ended; None if it is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or not SLOT_BYTES <= status.st_size <= FILE_BYTES_MAX:
                return None
            data = file.read(FILE_BYTES_MAX)
    except OSError:
        return None
    if len(data) < SLOT_BYTES:
        return None
    magic, version, slot_bytes, slots, boot = _HEADER.unpack_from(data)
    if (magic, version, slot_bytes) != (MAGIC, VERSION, SLOT_BYTES) or len(data) != SLOT_BYTES * (slots + 1):
        return None
    (alive_ns,) = _ALIVE.unpack_from(data, _ALIVE_AT)
    found = sorted(_records(data, slots), key=lambda record: record.number)
    name = boot.rstrip(b"\0").decode("ascii", errors="replace")
    return Recording(writer=writer, boot=name, alive_ns=alive_ns, records=tuple(found))


def read_engine(folder: Path, seconds: float) -> tuple[Recording, ...]:
    """What the guard and the agent that record in this folder noted in the last ``seconds`` of this machine's time."""
    began = time.monotonic_ns() - int(seconds * 1e9)
    files = {"guard": GUARD_FILE, "agent": AGENT_FILE}
    found = (read(folder / name, writer) for writer, name in files.items())
    return tuple(since(recording, began) for recording in found if recording is not None)


def since(recording: Recording, monotonic_ns: int) -> Recording:
    """Only what happened from then on, by the writer's monotonic clock."""
    kept = tuple(record for record in recording.records if record.monotonic_ns >= monotonic_ns)
    return msgspec.structs.replace(recording, records=kept)


def _records(data: bytes, slots: int) -> list[Record]:
    """All whole records, in the order of the slots."""
    found = []
    for start in range(SLOT_BYTES, SLOT_BYTES * (slots + 1), SLOT_BYTES):
        (crc,) = _CRC.unpack_from(data, start)
        if not crc:
            continue
        head = start + _CRC.size
        number, monotonic_ns, wall_ns, size = _HEAD.unpack_from(data, head)
        body = data[head : head + _HEAD.size + size]
        if size > CONTENT_BYTES_MAX or zlib.crc32(body) != crc:
            continue
        try:
            content = _decoder.decode(body[_HEAD.size :])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        found.append(
            Record(number, monotonic_ns, wall_ns, content.kind, content.vip, content.about, content.text, content.ms)
        )
    return found
