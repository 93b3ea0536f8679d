"""The desired state on an engine: the parts. What is in force is kept in a file, so that a restarted agent serves without a
controller; what came and was not put into effect yet is not, as nobody may take an engine that starts for one that runs it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from shoal.wire import desired as wire
from shoal.wire.desired import (
    Bgp,
    Credential,
    Gateways,
    Interface,
    Interfaces,
    Manifest,
    Part,
    Routes,
    Service,
    Settings,
    Vip,
)
from shoal.wire.networks import KIND, Networks


class Kept(msgspec.Struct, frozen=True):
    root: str
    parts: dict[str, bytes]


class Parts:
    """What the engine should run. `lacking` -> fetch -> `accept` -> `desired`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.root = ""
        self.turn = 0
        """Of the `State` that it came with; 0 = from the file."""
        self._data: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}
        self._decoded: dict[str, Part] = {}
        self._pool: dict[str, bytes] = {}
        self.kept = ""
        """The root of what is in the file."""
        self._vips: tuple[Vip, ...] = ()
        self.problems: dict[str, str] = {}
        """Part id -> why it can't be read; the others count all the same."""

    def restore(self) -> bool:
        """The last state from its file; False when there is none (or it is unreadable, which counts as none)."""
        try:
            kept = msgspec.msgpack.decode(self._file.read_bytes(), type=Kept)
            self._take(kept.root, kept.parts, {id: wire.digest(data) for id, data in kept.parts.items()})
        except (OSError, ValueError):
            return False
        self.kept = kept.root
        return True

    def offer(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """Parts that came from the controller."""
        for id, data in parts:
            self._pool[f"{id}@{wire.digest(data)}"] = data

    def lacking(self, manifest: Manifest) -> tuple[str, ...]:
        """Ids of the manifest's parts that are not here."""
        return tuple(p.id for p in manifest.parts if self._find(p.id, p.hash) is None)

    def accept(self, manifest: Manifest, turn: int = 0) -> None:
        """Make the manifest the desired state. All its parts must be here."""
        found = ((p, self._find(p.id, p.hash)) for p in manifest.parts)
        parts = {p: data for p, data in found if data is not None}
        self._take(manifest.root, {p.id: data for p, data in parts.items()}, {p.id: p.hash for p in parts})
        self.turn = turn
        self._pool.clear()

    def _find(self, id: str, digest: str) -> bytes | None:
        if self._hashes.get(id) == digest:
            return self._data[id]
        return self._pool.get(f"{id}@{digest}")

    def _take(self, root: str, parts: dict[str, bytes], hashes: dict[str, str]) -> None:
        decoded: dict[str, Part] = {}
        problems: dict[str, str] = {}
        for id, data in parts.items():
            if id in self._decoded and self._hashes.get(id) == hashes[id]:
                decoded[id] = self._decoded[id]  # the very object: what is unchanged is seen at a glance
                continue
            try:
                decoded[id] = wire.decode_part(data)
            except ValueError as error:
                problems[id] = f"The part can't be read: {error}"
        self.root, self._data, self._decoded = root, parts, decoded
        self._hashes, self.problems = hashes, problems
        self._vips = tuple(p for _, p in sorted(decoded.items()) if isinstance(p, Vip))

    def current(self) -> Kept:
        """What is to be put into effect now, for `keep`."""
        return Kept(self.root, self._data)

    def keep(self, kept: Kept) -> None:
        """It is in force: an agent that starts begins with it. Certificates' keys are in it, so only root may read the file.
        Raises OSError."""
        if kept.root in ("", self.kept):
            return
        fresh = self._file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(msgspec.msgpack.encode(kept))
        fresh.replace(self._file)
        self.kept = kept.root

    # --- reading ---

    @property
    def hashes(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(self._hashes.items()))

    def services(self) -> dict[str, Service]:
        return {p.id: p for p in self._decoded.values() if isinstance(p, Service) and p.enabled}

    def resting(self) -> dict[str, Service]:
        """Those that take no traffic, by intent."""
        return {p.id: p for p in self._decoded.values() if isinstance(p, Service) and not p.enabled}

    def credentials(self) -> tuple[Credential, ...]:
        return tuple(p for p in self._decoded.values() if isinstance(p, Credential))

    def lists(self) -> dict[str, Networks]:
        """By what rules call them."""
        found = self._decoded.items()
        return {id.removeprefix(f"{KIND}/"): part for id, part in found if isinstance(part, Networks)}

    def bgp(self) -> tuple[Bgp, ...]:
        return tuple(p for _, p in sorted(self._decoded.items()) if isinstance(p, Bgp))

    def interfaces(self) -> tuple[Interface, ...]:
        found = self._decoded.get("interfaces")
        return found.interfaces if isinstance(found, Interfaces) else ()

    def routes(self) -> tuple[Routes, ...]:
        return tuple(p for _, p in sorted(self._decoded.items()) if isinstance(p, Routes))

    def gateways(self) -> tuple[Gateways, ...]:
        return tuple(p for _, p in sorted(self._decoded.items()) if isinstance(p, Gateways))

    def vips(self) -> tuple[Vip, ...]:
        return self._vips

    def settings(self) -> Settings | None:
        found = self._decoded.get("settings")
        return found if isinstance(found, Settings) else None
