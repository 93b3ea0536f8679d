"""The in-memory, indexed copy of intent, fed by the store's watch. Reads of the API and the reconciler come from here."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterator, MutableMapping
from functools import lru_cache
from typing import Any, TypeVar

from shoal.objects import Registry
from shoal.objects.views import uuid_of
from shoal.store.patience import RETRY_S, patiently
from shoal.store.protocol import Batch, Compacted, Store, Unavailable

from . import sources
from .ipam import Address, addresses_of
from .layers import Layer, Layers

log = logging.getLogger("shoal.view")

INTENT = "/intent/"
RANGES_MAX = 1_000
"""Ranges of addresses of which is known how far they are taken."""
NUMBERS_KEPT_MAX = 65_536
Document = dict[str, Any]
Callback = Callable[[str, str, Document | None], None]
K = TypeVar("K")
L = TypeVar("L")


def intent_key(type: str, uuid: str) -> str:
    return f"{INTENT}{type}/{uuid}"


def scope_of(document: Document) -> tuple[str, str]:
    """(tenant uuid, cloud uuid) of a document; "" where it has none."""
    return uuid_of(document.get("tenant_ref", "")), uuid_of(document.get("cloud_ref", ""))


class View:
    """Documents are shared: do not mutate them."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self.revision = 0
        self._documents: MutableMapping[str, MutableMapping[str, Document]] = {}
        self._versions: MutableMapping[tuple[str, str], int] = {}
        self._order: MutableMapping[tuple[str, str], int] = {}
        self._made = 0
        """How many documents there have been."""
        self._named: MutableMapping[tuple[str, str], MutableMapping[tuple[str, str], str]] = {}
        """(type, name) -> (tenant, cloud) -> uuid."""
        self._targets: MutableMapping[tuple[str, str], frozenset[str]] = {}
        self._referrers: MutableMapping[str, MutableMapping[tuple[str, str], None]] = {}
        self._at: MutableMapping[tuple[int, int], MutableMapping[str, None]] = {}
        """(version of IP, address as a number) -> uuids of the VsVips that have it, and of virtual services that have their
        servers see it."""
        self._taken: dict[tuple[int, int], int] = {}
        """(version of IP, number) -> a number up to which, from the first, VsVips have every address."""
        self._over: View | None = None
        """Of a draft: what it lies over."""
        self._given_up: list[tuple[int, int]] = []
        """Of a draft: addresses that a VsVip had there and has not here."""
        self._callbacks: list[Callback] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._held: list[Batch] | None = None
        self._arrivals: list[asyncio.Future[None]] = []

    async def start(self) -> None:
        """Read everything, then follow."""
        await self._read_all()
        self._task = asyncio.create_task(self._follow(), name="view")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def seen(self, revision: int) -> None:
        """Returns once that revision is applied. Raises `Unavailable` when the store can't be followed until then."""
        if self.revision < revision:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((revision, future))
            await future

    def copy(self) -> View:
        """The same documents in a view of its own, which follows no store and calls nobody: `take` changes it."""
        other = View(self._store, self._registry)
        other.revision = self.revision
        other._documents = {type: dict(documents) for type, documents in self._documents.items()}
        other._versions = dict(self._versions)
        other._order, other._made = dict(self._order), self._made
        other._named = {name: dict(owners) for name, owners in self._named.items()}
        other._targets = dict(self._targets)
        other._referrers = {target: dict(referrers) for target, referrers in self._referrers.items()}
        other._at = {address: dict(holders) for address, holders in self._at.items()}
        other._taken = dict(self._taken)
        return other

    def draft(self) -> View:
        """As `copy`, at a cost that does not grow with the number of documents; but what changes here is seen there,
        too, so it is for a few moments only."""
        other = View(self._store, self._registry)
        other.revision = self.revision
        other._documents = Layers(self._documents)
        other._versions = Layer(self._versions)
        other._order, other._made = Layer(self._order), self._made
        other._named = Layers(self._named)
        other._targets = Layer(self._targets)
        other._referrers = Layers(self._referrers)
        other._at = Layers(self._at)
        other._over = self
        return other

    def settle(self, draft: View) -> None:
        """All that was taken by a `draft` of this view, which is of no use any more. Nobody is called."""
        for own, changed in zip(self._mappings(), draft._mappings(), strict=True):
            changed.settle_into(own)
        self._made = draft._made
        self._taken.clear()
        self._given_up += draft._given_up
        self.revision = draft.revision

    def _mappings(self) -> tuple[Any, ...]:
        return self._documents, self._versions, self._order, self._named, self._targets, self._referrers, self._at

    # --- reading ---

    def get(self, type: str, uuid: str) -> Document | None:
        return self._documents.get(type, {}).get(uuid)

    def name_of(self, type: str, uuid: str) -> str:
        """Empty for an object that is not there."""
        return str((self.get(type, uuid) or {}).get("name", ""))

    def named(self, type: str, name: str, tenant: str = "admin", cloud: str | None = None) -> Document | None:
        """By exact name in a tenant (uuid) and, where given, a cloud (uuid)."""
        owners = self._named.get((type, name), {})
        if cloud is not None:
            uuid = owners.get((tenant, cloud))
            return self.get(type, uuid) if uuid else None
        for (owner, _), uuid in owners.items():
            if owner in (tenant, ""):
                return self.get(type, uuid)
        return None

    def oldest_named(self, type: str, name: str) -> Document | None:
        """The one that was made first of all with this name, in whatever tenant and cloud."""
        uuids = self._named.get((type, name), {}).values()
        uuid = min(uuids, key=lambda uuid: self._order[type, uuid], default=None)
        return self.get(type, uuid) if uuid else None

    def holders(self, address: Address) -> list[Document]:
        """The VsVips that have this address, in whatever VRF."""
        found = [self.get("vsvip", uuid) for uuid in self._at.get((address.version, int(address)), ())]
        return [document for document in found if document is not None]

    def free(self, version: int, first: int, last: int) -> Iterator[int]:
        """The addresses from ``first`` to ``last``, as numbers, that no VsVip has and no servers see, lowest first."""
        for number in range(self._up_to(version, first, last), last + 1):
            if (version, number) not in self._at:
                yield number

    def _up_to(self, version: int, first: int, last: int) -> int:
        """A number, as high as is known at little cost, below which all from ``first`` on are taken."""
        if self._over is not None:
            number = self._over._up_to(version, first, last)
            return min([number, *(n for v, n in self._given_up if v == version and n >= first)])
        number = self._taken.get((version, first), first)
        while number <= last and (version, number) in self._at:
            number += 1
        if len(self._taken) > RANGES_MAX:
            self._taken.clear()
        self._taken[version, first] = number
        return number

    def users(self, address: Address) -> list[Document]:
        """The virtual services whose servers see this address."""
        found = [self.get("virtualservice", uuid) for uuid in self._at.get((address.version, int(address)), ())]
        return [document for document in found if document is not None]

    def all(self, type: str, tenant: str | None = None) -> list[Document]:
        """In order of creation."""
        documents = self._documents.get(type, {}).values()
        return [d for d in documents if tenant is None or uuid_of(d.get("tenant_ref", "")) in (tenant, "")]

    def referrers(self, uuid: str) -> list[tuple[str, str, str]]:
        """(type, uuid, name) of every object that refers to this one."""
        found = []
        for type, referrer in self._referrers.get(uuid, {}):
            document = self.get(type, referrer)
            if document is not None and referrer != uuid:
                found.append((type, referrer, str(document.get("name", referrer))))
        return found

    def version(self, type: str, uuid: str) -> int:
        """The store version of a document, for conditions; 0 if there is none."""
        return self._versions.get((type, uuid), 0)

    def order(self, type: str, uuid: str) -> int:
        """Less than that of any document that was made later; the same as long as this view lives."""
        return self._order[type, uuid]

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """``callback(type, uuid, document or None)`` runs on the loop for each change; call the result to end."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    # --- following ---

    async def _read_all(self) -> None:
        listing = await self._store.list(INTENT)
        records = sorted(listing.records, key=lambda record: record.created)
        present = {record.key for record in records}
        for type, documents in list(self._documents.items()):
            for uuid in list(documents):
                if intent_key(type, uuid) not in present:
                    self._apply(intent_key(type, uuid), None, listing.revision)
        for record in records:
            self._apply(record.key, record.value, record.version)
        self._reached(listing.revision)

    async def _follow(self) -> None:
        while True:
            try:
                async for batch in self._store.watch(INTENT, self.revision):
                    self.take(batch)
            except Compacted:
                log.info("the store's history does not reach back to %d; reading all", self.revision)
                await patiently(self._read_all, "what documents there are")
            except Unavailable as error:
                self._lose_sight(error)
                await asyncio.sleep(RETRY_S)

    def _lose_sight(self, error: Unavailable) -> None:
        waiting, self._waiters = self._waiters, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(
                    Unavailable(f"It is written, but not in force yet: {error.message}", hint=error.hint)
                )

    def hold(self) -> None:
        """Until `release` nothing that the store writes is seen here."""
        if self._held is None:
            self._held = []

    async def release(self, revision: int) -> None:
        """Everything held is seen, at once, when it reaches up to that revision. Returns then."""
        while self._held is not None and max([self.revision, *(b.revision for b in self._held)]) < revision:
            arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._arrivals.append(arrived)
            await arrived
        held, self._held = self._held or [], None
        changes = {change.key: change for b in held if b.revision > self.revision for change in b.changes}
        if changes:
            self.take(Batch(held[-1].revision, tuple(changes.values())))

    def take(self, batch: Batch) -> None:
        """Apply what a store has written."""
        if self._held is not None:
            self._held.append(batch)
            arrivals, self._arrivals = self._arrivals, []
            for arrived in arrivals:
                if not arrived.done():
                    arrived.set_result(None)
            return
        for change in batch.changes:
            self._apply(change.key, change.value, change.revision)
        self._reached(batch.revision)

    def _reached(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        waiting, self._waiters = self._waiters, []
        for wanted, future in waiting:
            if wanted > self.revision:
                self._waiters.append((wanted, future))
            elif not future.done():
                future.set_result(None)

    def _apply(self, key: str, value: bytes | None, version: int) -> None:
        type, _, uuid = key.removeprefix(INTENT).partition("/")
        self._unindex(type, uuid)
        document: Document | None = None
        if value is None:
            if type in self._documents:
                self._documents[type].pop(uuid, None)
            self._versions.pop((type, uuid), None)
            self._order.pop((type, uuid), None)
        else:
            document = self._registry.type(type).decode(value)
            self._documents.setdefault(type, {})[uuid] = document
            self._versions[type, uuid] = version
            if (type, uuid) not in self._order:
                self._made += 1
                self._order[type, uuid] = self._made
            self._index(type, uuid, document)
        for callback in list(self._callbacks):
            callback(type, uuid, document)

    def _index(self, type: str, uuid: str, document: Document) -> None:
        self._named.setdefault((type, str(document.get("name", ""))), {})[scope_of(document)] = uuid
        targets = frozenset(uuid_of(r.value) for r in self._registry.type(type).references(document))
        self._targets[type, uuid] = targets
        for target in targets:
            self._referrers.setdefault(target, {})[type, uuid] = None
        for address in _addresses(type, document):
            self._at.setdefault(address, {})[uuid] = None

    def _unindex(self, type: str, uuid: str) -> None:
        old = self.get(type, uuid)
        if old is None:
            return
        _take_out(self._named, (type, str(old.get("name", ""))), scope_of(old))
        for target in self._targets.pop((type, uuid), frozenset()):
            _take_out(self._referrers, target, (type, uuid))
        for address in _addresses(type, old):
            _take_out(self._at, address, uuid)
            if self._over is not None:
                self._given_up.append(address)
            for (version, first), number in self._taken.items():
                if version == address[0] and first <= address[1] < number:
                    self._taken[version, first] = address[1]


def _addresses(type: str, document: Document) -> list[tuple[int, int]]:
    given = {"vsvip": addresses_of, "virtualservice": sources.addresses_of}.get(type)
    return [_number(address) for address in given(document)] if given else []


@lru_cache(maxsize=NUMBERS_KEPT_MAX)
def _number(address: str) -> tuple[int, int]:
    """(version, the address as a number)"""
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)


def _take_out(index: MutableMapping[K, MutableMapping[L, Any]], key: K, entry: L) -> None:
    """What is empty then goes, too: the index is as large as what it holds."""
    if key in index:
        entries = index[key]
        entries.pop(entry, None)
        if not entries:
            index.pop(key, None)
