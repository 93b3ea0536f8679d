"""Backups as the running controller makes them: handed to whoever asks, or kept in the data directory as a
BackupConfiguration says, each with a Backup object; the oldest go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shoal import whole_file
from shoal.controller import passphrase
from shoal.controller.intent import SYSTEM, Intent
from shoal.controller.view import INTENT, View
from shoal.errors import Invalid, NotFound, NotReady, Problem
from shoal.store.protocol import Records

from . import contents, replacing

log = logging.getLogger("shoal.backup")

Document = dict[str, Any]
FOLDER = "backups"
SUFFIX = ".shoalbackup"
PREFIX = "backup"
AT_ONCE_MAX = 1
AUTHORITY = "pki/ca.pem"
"""What tells one controller from another."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


class Backups:
    """``on_staged``: a backup is to take the place of all that is there; the controller is to begin anew. None = it can't."""

    def __init__(
        self,
        store: Records,
        view: View,
        intent: Intent,
        data_dir: Path,
        on_staged: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._view = view
        self._intent = intent
        self._data_dir = data_dir
        self._on_staged = on_staged
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)

    async def handed(self, words: str) -> bytes:
        """A sealed backup, kept nowhere. Raises Invalid for a passphrase that is too short."""
        passphrase.check(words)
        async with self._turn:
            return await contents.made(self._store, self._data_dir, words)

    async def keep(self, name: str, scheduler: str = "") -> Document:
        """Make one as the BackupConfiguration of that name or uuid says. Returns the Backup object."""
        configuration = self._configuration(name)
        kind = self._intent.registry.type("backupconfiguration")
        words = self._intent.opened(kind, configuration).get("backup_passphrase") or ""
        if not words:
            hint = "Set backup_passphrase of the backup configuration."
            raise Invalid([Problem(path="backup_passphrase", why="required, and missing", hint=hint)])
        data = await self.handed(words)
        prefix = re.sub(r"[^A-Za-z0-9._-]", "_", configuration.get("backup_file_prefix") or PREFIX)[:100]
        at = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(at))
        file = f"{prefix}-{stamp}-{int(at * 1000) % 1000:03d}{SUFFIX}"
        await asyncio.to_thread(_write, self._folder() / file, data)
        body = {
            "file_name": file,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
            "backup_config_ref": f"/api/backupconfiguration/{configuration['uuid']}",
            "local_file_url": f"/api/configuration/backup/{file}",
            "tenant_ref": "/api/tenant/admin",
        }
        if scheduler:
            body["scheduler_ref"] = f"/api/scheduler/{scheduler}"
        written = await self._intent.create("backup", body, SYSTEM)
        await self._forget_old(configuration)
        return written.doc

    async def read(self, file: str) -> bytes:
        """A kept one. Raises NotFound."""
        known = any(document["file_name"] == file for document in self._view.all("backup"))
        if not known or not _NAME.fullmatch(file):
            raise NotFound(f"There is no backup {file[:80]!r}.")
        try:
            return await asyncio.to_thread((self._data_dir / FOLDER / file).read_bytes)
        except OSError as error:
            raise NotFound(f"The file of backup {file} can't be read ({error.strerror}).") from None

    async def opened(self, data: bytes, words: str) -> Document:
        """What is in a sealed backup, and how this controller is made from it; nothing is written. Raises Invalid for
        what can't be opened by these words."""
        async with self._turn:
            found = await asyncio.to_thread(contents.read, data, words)
        kinds = Counter(key.split("/")[2] for key, _ in found.records if key.startswith(INTENT))
        types = self._intent.registry.types
        own = await asyncio.to_thread(self._own_authority)
        return {
            "made_at": found.made_at,
            "shoal": found.shoal,
            "objects": {types[kind].name if kind in types else kind: kinds[kind] for kind in sorted(kinds)},
            "same_controller": bool(own) and found.files.get(AUTHORITY) == own,
            "data_directory": str(self._data_dir.absolute()),
        }

    async def restore(self, data: bytes, words: str, by: str) -> Document:
        """A sealed backup takes the place of everything, this controller too: it is written beside what is there, then the
        controller begins anew with it. ``by``: who wants it. Raises Invalid for what can't be opened by these words, and
        NotReady; then all is as it was."""
        if self._on_staged is None:
            raise NotReady(
                "This controller does not restore while it runs.", hint="shoal restore does, when it is down."
            )
        async with self._turn:
            found = await asyncio.to_thread(contents.read, data, words)
            before = await replacing.stage(found, self._data_dir)
        made_at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.made_at))
        log.warning("%s restores the backup of %s; what was there goes to %s", by, made_at, before)
        self._on_staged()
        return {"status": f"The backup of {made_at} takes the place of everything.", "before": str(before)}

    def _own_authority(self) -> bytes:
        try:
            return (self._data_dir / AUTHORITY).read_bytes()
        except OSError:
            return b""

    def _configuration(self, name: str) -> Document:
        known = self._view.all("backupconfiguration")
        found = next((d for d in known if name in (d["uuid"], d["name"])), None)
        if found is None:
            raise NotFound(f"There is no BackupConfiguration {name[:80]!r}.")
        return found

    async def _forget_old(self, configuration: Document) -> None:
        """More than ``maximum_backups_stored`` of one configuration are not kept, nor files without an object."""
        mine = [d for d in self._view.all("backup") if d.get("backup_config_ref", "").endswith(configuration["uuid"])]
        for document in mine[: max(0, len(mine) - configuration["maximum_backups_stored"])]:
            await self._intent.delete("backup", document["uuid"], SYSTEM)
        known = {document["file_name"] for document in self._view.all("backup")}
        for path in (self._data_dir / FOLDER).glob(f"*{SUFFIX}"):
            if path.name not in known:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _folder(self) -> Path:
        folder = self._data_dir / FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NotReady(f"{folder} can't be made: {error.strerror}.") from None
        return folder


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all."""
    try:
        whole_file.write(file, data)
    except OSError as error:
        raise NotReady(f"The backup can't be written: {error.strerror}. None was kept.") from None
