"""What files about addresses hold, by digest: kept in the store in pieces, in memory as a whole, and as lists for engines.

A file is uploaded once and read once. Its rows are there before the FileObject that names them, and go after the last one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shoal.controller.desired import Encoded, encoded
from shoal.controller.protocols import Documents
from shoal.controller.view import View
from shoal.errors import ShoalError
from shoal.store.protocol import TRANSACTION_OPERATIONS_MAX, VALUE_BYTES_MAX, Store, Transaction
from shoal.wire import desired as wire
from shoal.wire.networks import Layer, Networks

from .matching import LISTS, Wanted
from .reading import Content, Row

log = logging.getLogger("shoal.addresses")

KEPT = "/content/"
"""``/content/<digest>/<number>``: a piece."""
FILE = "fileobject"
PIECE_BYTES_MAX = VALUE_BYTES_MAX - 10_000
SWEEP_AFTER_S = 5.0


class Contents:
    """Documents, and lists of networks beside them (``get``). ``view`` says which contents are named by files."""

    def __init__(self, documents: Documents, view: View, store: Store) -> None:
        self._documents = documents
        self._view = view
        self._store = store
        self._contents: dict[str, Content] = {}
        self._pieces: dict[str, int] = {}
        """Digest -> how many are in the store."""
        self._lists: dict[str, tuple[str, Encoded]] = {}
        """By what was wanted: id, part."""
        self._parts: dict[str, Encoded] = {}
        self.turn = asyncio.Lock()
        """Whoever keeps contents and then writes the file that names them; meanwhile none are removed."""
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """Read what is kept; what no file names is what a crash or a deletion has left."""
        pieces: dict[str, list[bytes]] = {}
        for record in (await self._store.list(KEPT)).records:  # in the order of their keys
            pieces.setdefault(record.key.removeprefix(KEPT).partition("/")[0], []).append(record.value)
        self._pieces = {digest: len(found) for digest, found in pieces.items()}
        for digest in self._named() & pieces.keys():
            data = b"".join(pieces[digest])
            if wire.digest(data) == digest:
                self._contents[digest] = await asyncio.to_thread(msgspec.msgpack.decode, data, type=Content)
            else:
                log.error("what the store has of content %s is not whole", digest)
        await self.sweep()

    async def run(self) -> None:
        """Remove what no file names any more, until cancelled."""
        unsubscribe = self._view.subscribe(self._on_document)
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(SWEEP_AFTER_S)
                self._changed.clear()
                await self.sweep()
        finally:
            unsubscribe()

    def _on_document(self, type: str, uuid: str, document: Mapping[str, Any] | None) -> None:
        if type == FILE:
            self._changed.set()

    async def keep(self, data: bytes) -> tuple[str, Content]:
        """Digest and content of what `reading` has made, durable now. To be called within ``turn``. Raises what the store
        raises; then nothing refers to what is kept of it."""
        digest = wire.digest(data)
        content = await asyncio.to_thread(msgspec.msgpack.decode, data, type=Content)
        if digest not in self._contents:
            pieces = [data[at : at + PIECE_BYTES_MAX] for at in range(0, len(data), PIECE_BYTES_MAX)]
            self._pieces[digest] = len(pieces)  # before: what is kept in part is swept, too
            for number, piece in enumerate(pieces):
                await self._store.commit(Transaction(puts=((_key(digest, number), piece),)))
            self._contents[digest] = content
        return digest, content

    async def sweep(self) -> None:
        """Remove what no file names."""
        async with self.turn:
            named = self._named()
            for digest in [digest for digest in self._pieces if digest not in named]:
                keys = [_key(digest, number) for number in range(self._pieces[digest])]
                try:
                    for at in range(0, len(keys), TRANSACTION_OPERATIONS_MAX):
                        await self._store.commit(Transaction(deletes=tuple(keys[at : at + TRANSACTION_OPERATIONS_MAX])))
                except ShoalError as error:
                    log.warning("content %s is not removed yet: %s", digest, error)
                    continue
                del self._pieces[digest]
                self._contents.pop(digest, None)
            for key in [key for key in self._lists if not _digests(key) <= self._contents.keys()]:
                del self._lists[key]
            self._parts = dict(self._lists.values())

    def _named(self) -> frozenset[str]:
        files = self._view.all(FILE)
        return frozenset(digest for file in files if (digest := file.get("content")))

    # --- reading ---

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        if type != LISTS:
            return self._documents.get(type, uuid)
        known = self._lists.get(uuid)
        if known is None:
            wanted = msgspec.json.decode(uuid, type=Wanted)
            if not all(digest in self._contents for layer in wanted.layers for digest in layer):
                return None
            part = encoded(self._list(wanted))
            known = self._lists[uuid] = part.hash, part
            self._parts[part.hash] = part
        return {"id": known[0]}

    def part(self, id: str) -> Encoded | None:
        """The list of that id, for engines."""
        return self._parts.get(id)

    def _list(self, wanted: Wanted) -> Networks:
        layers = []
        values = {value.casefold() for value in wanted.values}
        for number, digests in enumerate(wanted.layers, start=1):
            rows = [
                row for digest in digests for row in self._contents[digest].rows if wanted.attribute in row.attributes
            ]
            mine = [row for row in rows if not values or row.attributes[wanted.attribute].casefold() in values]
            others = _others(rows, mine) if number < len(wanted.layers) else ()  # nothing is below the last one
            layers.append(Layer(tuple(row.networks for row in mine), tuple(row.networks for row in others)))
        return Networks(layers=tuple(layers))


def _others(rows: Iterable[Row], mine: Iterable[Row]) -> tuple[Row, ...]:
    chosen = {id(row) for row in mine}
    return tuple(row for row in rows if id(row) not in chosen)


def _key(digest: str, number: int) -> str:
    return f"{KEPT}{digest}/{number:05d}"


def _digests(key: str) -> set[str]:
    return {digest for layer in msgspec.json.decode(key, type=Wanted).layers for digest in layer}
