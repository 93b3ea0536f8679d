"""The one narrow door to durable state.

Implementations: :mod:`shoal.store.sqlite` (the default), :mod:`shoal.store.memory` (tests, simulator); etcd comes
with the cluster. One contract suite, ``tests/unit/test_store_contract.py``, runs against all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from shoal.errors import NotReady, ShoalError

VALUE_BYTES_MAX = 1_000_000
TRANSACTION_BYTES_MAX = 1_500_000
TRANSACTION_OPERATIONS_MAX = 128
"""Caps are etcd's (128 operations, 1.5 MB a request) so that what fits one store fits all."""


class Record(msgspec.Struct, frozen=True):
    """One key. ``version`` is the store revision of its last write, ``created`` that of its first."""

    key: str
    value: bytes
    version: int
    created: int


class Listing(msgspec.Struct, frozen=True):
    """All records under a prefix, ordered by key, as of ``revision``."""

    records: tuple[Record, ...]
    revision: int


class Condition(msgspec.Struct, frozen=True):
    """The key's version must equal ``version``; 0 means the key must not exist."""

    key: str
    version: int


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """All or nothing: if every condition holds, all puts and deletes happen at one new revision.

    Deleting a key that does not exist is no error. A key may appear once among puts and deletes.
    """

    conditions: tuple[Condition, ...] = ()
    puts: tuple[tuple[str, bytes], ...] = ()
    deletes: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """One key changed. ``value`` is None when it was deleted."""

    key: str
    value: bytes | None
    revision: int


class Batch(msgspec.Struct, frozen=True):
    """The changes of one revision that match a watch, in the order of the transaction."""

    revision: int
    changes: tuple[Change, ...]


class Conflict(ShoalError):
    """A condition did not hold. ``keys`` names the conditions that failed. Nothing was written."""

    status = 409

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(f"The stored state changed meanwhile ({', '.join(keys)}).", hint="Read it again and retry.")
        self.keys = keys


class Unavailable(NotReady):
    """The store can't be used now and may be later: its disk is full, or it can't be reached. A commit that raises it may
    have been applied all the same."""


class Compacted(ShoalError):
    """The revision asked for is older than the store's history: list again and watch from there."""

    status = 500


class Lease(Protocol):
    """A name held by one holder at a time until it is released or not renewed for ``ttl_s`` seconds."""

    async def renew(self) -> bool:
        """False when the lease was lost."""
        ...

    async def release(self) -> None: ...


class Records(Protocol):
    """Reading and writing alone: what it takes to make a write, or to try one. Each raises `Unavailable` for as long as that
    lasts."""

    async def get(self, key: str) -> Record | None: ...

    async def list(self, prefix: str) -> Listing: ...

    async def commit(self, transaction: Transaction) -> int:
        """Apply durably and return the new revision.

        Raises `Conflict` when a condition fails, `shoal.errors.TooLarge` past a cap (the message names it).
        When this returns, the change survives ``kill -9``.
        """
        ...


class Store(Records, Protocol):
    def watch(self, prefix: str, since: int) -> AsyncIterator[Batch]:
        """Every later batch (revision > ``since``) under ``prefix``, in order, without gaps, for ever.

        Ends by cancellation or ``aclose``. Raises `Compacted` if ``since`` is older than the history kept, `Unavailable`.
        """
        ...

    async def lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """None when another holder has it."""
        ...

    async def close(self) -> None: ...
