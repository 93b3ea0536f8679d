"""`shoal techsupport`: one file with what somebody who helps needs to see, and no secret in it.

It is made of the data directory, so it works while the controller runs, and when it does not. Two nets hold secrets back:
files that hold them are never taken, and everything that is taken goes through `Scrubber`, which knows every secret that
is stored and what secrets look like.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from shoal import __version__, whole_file
from shoal.controller.secrets import Secrets
from shoal.errors import NotReady, ShoalError
from shoal.objects import load
from shoal.store.protocol import Record
from shoal.store.sqlite import SqliteStore

FILE_BYTES_MAX = 5_000_000
"""The end of each log is taken."""
RECORDS_MAX = 5_000
"""The newest events and changes."""
COMMAND_WITHIN_S = 10.0
SECRET_CHARACTERS_MIN = 4
"""Shorter ones are not looked for: they would be found everywhere."""
HIDDEN = "<secret>"
INTENT = "/intent/"
LOGS = ("controller.log*", "engines/*/agent.log", "engines/*/guard.log", "engines/*/guard.out", "engines/*/haproxy.log")
CONFIGURATIONS = ("engines/*/haproxy.cfg", "engines/*/haproxy.json", "fabric.json")
LEFT_OUT = (
    "keys/, pki/, api/, backups/: keys and sealed backups",
    "engines/*/desired.msgpack, engines/*/engine.json, certificates: they hold private keys",
    "up.out: it has the first admin password",
    "logs/: requests of clients; decisions.log: it is no text (send it beside this file if asked)",
)
COMMANDS = {
    "machine/links.txt": ("ip", "-brief", "address"),
    "machine/namespaces.txt": ("ip", "netns", "list"),
    "machine/processes.txt": ("ps", "-eo", "pid,ppid,stat,etimes,rss,comm"),
    "machine/disk.txt": ("df", "-h"),
    "machine/haproxy.txt": ("haproxy", "-v"),
}
FILES = {"machine/memory.txt": Path("/proc/meminfo"), "machine/load.txt": Path("/proc/loadavg")}
OWN_RECORDS = ("/engine/", "/vip/", "/system/")
"""Records besides objects and events that are shown whole; of the others the number."""
_LOOKS = tuple(
    re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for pattern in (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"enc:v1:[A-Za-z0-9+/=]+",
        r"\$argon2[a-z]*\$[^\s\"']+",
        r"shoal_[0-9a-f]{8,}_[\w-]{8,}",
    )
)
_NAMED = re.compile(
    r"((?:authorization|cookie|x-csrftoken|password|passwd|passphrase|secret|token|community|sessionid|csrftoken)"
    r"\\?[\"']?\s*[:=]\s*\\?[\"']?)([^\r\n\"',;}]+)",
    re.IGNORECASE,
)
Document = dict[str, Any]


class Scrubber:
    """``secrets``: every one that is known."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            forms |= set(_forms(secret))
        known = sorted((f for f in forms if len(f) >= SECRET_CHARACTERS_MIN), key=lambda f: (-len(f), f))
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def clean(self, text: str, *, named: bool = False) -> str:
        """Without secrets. ``named``: also what stands behind words such as ``password=``."""
        for look in _LOOKS:
            text = look.sub(HIDDEN, text)
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _NAMED.sub(lambda found: found[1] + HIDDEN, text) if named else text


def _forms(secret: str) -> Iterator[str]:
    """As it may stand in a text: plain, in JSON, and line by line."""
    for text in (secret, secret.strip()):
        yield text
        yield json.dumps(text)[1:-1]
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) > 2 * SECRET_CHARACTERS_MIN and not line.startswith("-----"))


def collect(data_dir: Path, output: Path) -> list[str]:
    """Write the bundle (mode 0600, whole or not at all). The names of what is in it. Raises NotReady."""
    database = data_dir / "shoal.db"
    if not database.is_file():
        raise NotReady(f"{data_dir} is no data directory of Shoal: it has no shoal.db.", hint="Give --data-dir.")
    if output.exists():
        raise NotReady(f"{output} is there already.", hint="Give another name by --output.")
    records = asyncio.run(_records(database))
    documents = _documents(records)
    secrets, unread = _secrets(data_dir, documents)
    scrubber = Scrubber(secrets)
    notes = [f"Made by Shoal {__version__} at {_now()}.", *unread, "", "Not in here:", *LEFT_OUT, "", "In here:"]
    parts = dict(_parts(data_dir, records, documents, scrubber))
    parts["MANIFEST.txt"] = "\n".join([*notes, *(f"{len(text)} {name}" for name, text in sorted(parts.items())), ""])
    _write(output, parts)
    return sorted(parts)


async def _records(database: Path) -> list[Record]:
    """Of a copy: the controller may be writing."""
    with tempfile.TemporaryDirectory(prefix="shoal-techsupport-") as folder:
        copy = Path(folder) / "shoal.db"
        try:
            source, target = sqlite3.connect(f"file:{database}?mode=ro", uri=True), sqlite3.connect(copy)
            with closing(source), closing(target):
                source.backup(target)
            store = await SqliteStore.open(copy)
        except (sqlite3.Error, ShoalError, OSError) as error:
            raise NotReady(f"{database} can't be read ({error}).") from None
        try:
            return list((await store.list("")).records)
        finally:
            await store.close()


def _documents(records: Iterable[Record]) -> dict[tuple[str, str], Document]:
    found = {}
    for record in records:
        type, _, uuid = record.key.removeprefix(INTENT).partition("/")
        if record.key.startswith(INTENT):
            found[type, uuid] = load().type(type).decode(record.value)
    return found


def _secrets(data_dir: Path, documents: Mapping[tuple[str, str], Document]) -> tuple[set[str], list[str]]:
    """(every stored secret in plain text, what could not be opened)."""
    found: set[str] = set()
    failed = 0
    try:
        opener = (
            Secrets.open(data_dir / "keys" / "secrets.key") if (data_dir / "keys" / "secrets.key").exists() else None
        )
    except ShoalError:
        opener = None
    for (type, uuid), document in documents.items():

        def note(path: str, value: str, type: str = type, uuid: str = uuid) -> str:
            nonlocal failed
            found.add(value)
            try:
                if opener is not None and Secrets.is_sealed(value):
                    found.add(opener.unseal(value, f"{type}/{uuid}/{path}"))
            except ShoalError:
                failed += 1
            return value

        load().type(type).map_sensitive(document, note)
    unread = [f"{failed} stored secrets could not be opened to look for them."] if failed else []
    if opener is None:
        unread.append("The key of the stored secrets could not be read: they were looked for by their looks only.")
    return found - {""}, unread


def _parts(
    data_dir: Path, records: list[Record], documents: Mapping[tuple[str, str], Document], scrubber: Scrubber
) -> Iterator[tuple[str, str]]:
    yield "configuration.json", scrubber.clean(_pretty(_configuration(documents)))
    for name, prefix in (("events.json", "/event/"), ("changes.json", "/audit/")):
        newest = [record for record in records if record.key.startswith(prefix)][-RECORDS_MAX:]
        yield name, scrubber.clean(_pretty([_decoded(record.value) for record in newest]), named=True)
    own = {r.key: _decoded(r.value) for r in records if r.key.startswith(OWN_RECORDS)}
    yield "records.json", scrubber.clean(_pretty(own), named=True)
    counts: dict[str, int] = {}
    for record in records:
        kind = record.key.split("/")[1]
        counts[kind] = counts.get(kind, 0) + 1
    yield "versions.json", _pretty(_versions() | {"records": counts})
    for pattern in (*LOGS, *CONFIGURATIONS):
        for file in sorted(data_dir.glob(pattern)):
            if file.is_file() and not file.is_symlink():
                yield str(file.relative_to(data_dir)), scrubber.clean(_end_of(file), named=pattern in LOGS)
    for name, file in FILES.items():
        yield name, scrubber.clean(_end_of(file))
    for name, command in COMMANDS.items():
        yield name, scrubber.clean(_said(command))


def _configuration(documents: Mapping[tuple[str, str], Document]) -> dict[str, list[Document]]:
    """By type, secrets masked."""
    found: dict[str, list[Document]] = {}
    for (type, _), document in sorted(documents.items()):
        found.setdefault(type, []).append(load().type(type).emit(document, version="9999"))
    return found


def _versions() -> Document:
    packages = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    return {
        "shoal": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: str(item[0]).lower())),
    }


def _decoded(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return f"{len(value)} bytes"


def _end_of(file: Path) -> str:
    try:
        with file.open("rb") as source:
            source.seek(max(0, os.fstat(source.fileno()).st_size - FILE_BYTES_MAX))
            return source.read(FILE_BYTES_MAX).decode(errors="replace")
    except OSError as error:
        return f"{file.name} can't be read ({error.strerror}).\n"


def _said(command: tuple[str, ...]) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    program = shutil.which(command[0], path=path)
    if program is None:
        return f"{command[0]} is not here.\n"
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, timeout=COMMAND_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}\n"
    return (done.stdout + done.stderr).decode(errors="replace")


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _write(output: Path, parts: Mapping[str, str]) -> None:
    top = output.name.removesuffix(".tar.gz")
    try:
        with whole_file.written(output, replaces=False) as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, text in sorted(parts.items()):
                data = text.encode(errors="replace")
                entry = tarfile.TarInfo(f"{top}/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise NotReady(
            f"{output} can't be written ({error.strerror}).", hint="Give another place by --output."
        ) from None
