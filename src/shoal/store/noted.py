"""A store that says when it can't be used, and when it can be again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec

from shoal.store.protocol import Batch, Lease, Listing, Record, Store, Transaction, Unavailable

_T = TypeVar("_T")


class Trouble(msgspec.Struct, frozen=True):
    """``since``: seconds of the given clock; ``why``: a sentence, and what helps."""

    since: float
    why: str


class NotedStore:
    """``store`` itself otherwise. ``trouble`` lasts from the first operation that raises `Unavailable` to the first that
    writes; ``on_change(before, now)`` is called at its beginning and its end."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store, self._now = store, now
        self.trouble: Trouble | None = None
        self.on_change: Callable[[Trouble | None, Trouble | None], None] = lambda before, now: None

    async def get(self, key: str) -> Record | None:
        return await self._heard(self._store.get(key))

    async def list(self, prefix: str) -> Listing:
        return await self._heard(self._store.list(prefix))

    async def commit(self, transaction: Transaction) -> int:
        revision = await self._heard(self._store.commit(transaction))
        if self.trouble is not None:
            self._note(None)
        return revision

    def watch(self, prefix: str, since: int) -> AsyncIterator[Batch]:
        return self._store.watch(prefix, since)

    async def lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        return await self._heard(self._store.lease(name, holder, ttl_s))

    async def close(self) -> None:
        await self._store.close()

    async def _heard(self, work: Awaitable[_T]) -> _T:
        try:
            return await work
        except Unavailable as error:
            if self.trouble is None:
                self._note(Trouble(self._now(), str(error)))
            raise

    def _note(self, trouble: Trouble | None) -> None:
        before, self.trouble = self.trouble, trouble
        self.on_change(before, trouble)
