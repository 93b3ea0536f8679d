"""Writes that are tried and not made, or made together later: a store that keeps them to itself, over a copy of the
documents."""

from __future__ import annotations

import itertools

from shoal.store import caps
from shoal.store.protocol import Batch, Change, Condition, Conflict, Listing, Record, Records, Transaction

from .clock import FreshId
from .view import INTENT, View


class TrialRecords:
    """A `shoal.store.protocol.Records`: ``records`` as they would be after the writes made here, which reach ``view``
    (a copy) and nothing else. Documents are those of the view, whatever is written to the store meanwhile.

    ``checked`` False: conditions on what was not written here are left to the transaction that is made of all."""

    def __init__(self, records: Records, view: View, *, checked: bool = True) -> None:
        self._records = records
        self._view = view
        self._checked = checked
        self._written: dict[str, Record | None] = {}
        self._conditions: dict[str, int] = {}
        self._undo: dict[str, Record | None] = {}
        self._fresh: set[str] = set()

    async def get(self, key: str) -> Record | None:
        return self._written[key] if key in self._written else await self._records.get(key)

    async def list(self, prefix: str) -> Listing:
        found = {record.key: record for record in (await self._records.list(prefix)).records}
        for key, record in self._written.items():
            if key.startswith(prefix):
                found.pop(key, None)
                if record is not None:
                    found[key] = record
        return Listing(tuple(found[key] for key in sorted(found)), self._view.revision)

    async def commit(self, transaction: Transaction) -> int:
        caps.check(transaction)
        own = [c for c in transaction.conditions if self._checked or c.key in self._written]
        stale = [c.key for c in own if await self._version(c.key) != c.version]
        if stale:
            raise Conflict(tuple(stale))
        for condition in transaction.conditions:
            if condition.key not in self._written:
                self._conditions.setdefault(condition.key, condition.version)
        keys = [*(key for key, _ in transaction.puts), *transaction.deletes]
        self._undo = {key: self._written[key] for key in keys if key in self._written}
        self._fresh = {key for key in keys if key not in self._written}
        revision = self._view.revision + 1
        for key, value in transaction.puts:
            self._written[key] = Record(key, bytes(value), revision, revision)
        self._written |= dict.fromkeys(transaction.deletes)
        changes = [Change(key, bytes(value), revision) for key, value in transaction.puts]
        changes += [Change(key, None, revision) for key in transaction.deletes]
        self._view.take(Batch(revision, tuple(change for change in changes if change.key.startswith(INTENT))))
        return revision

    def settle(self, over: TrialRecords) -> None:
        """All that was written in a trial over this one. Raises Conflict, and nothing has happened then, where that was
        made from something else than what was written here."""
        stale = [k for k, version in over._conditions.items() if k in self._written and self._known(k) != version]
        if stale:
            raise Conflict(tuple(stale))
        for key, version in over._conditions.items():
            if key not in self._written:
                self._conditions.setdefault(key, version)
        self._written |= over._written

    def together(self) -> Transaction:
        """All that was written here as one transaction, on the condition that what it was made from is still so. Documents
        come last."""
        puts = [(key, record.value) for key, record in self._written.items() if record is not None]
        puts.sort(key=lambda put: put[0].startswith(INTENT))
        return Transaction(
            conditions=tuple(Condition(key, version) for key, version in self._conditions.items()),
            puts=tuple(puts),
            deletes=tuple(key for key, record in self._written.items() if record is None),
        )

    async def _version(self, key: str) -> int:
        if key in self._written or key.startswith(INTENT):
            return self._known(key)
        record = await self._records.get(key)
        return record.version if record is not None else 0

    def _known(self, key: str) -> int:
        """The version of a document, or of what was written here."""
        if key.startswith(INTENT):
            type, _, uuid = key.removeprefix(INTENT).partition("/")
            return self._view.version(type, uuid)
        record = self._written[key]
        return record.version if record is not None else 0

    def forget_last(self) -> None:
        """The last write changes nothing but its stamp: it is none. (The view keeps the stamp.)"""
        self._written |= self._undo
        for key in self._fresh:
            self._written.pop(key, None)


def serial_ids() -> FreshId:
    """Ids of objects that are never made: the same ones in each trial, so that a trial can be repeated."""
    numbers = itertools.count(1)
    return lambda: f"proposed-{next(numbers)}"
