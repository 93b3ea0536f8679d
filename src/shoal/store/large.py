"""Changes past the caps of one transaction, still all or nothing (decision 40).

The change is *staged* in as many transactions as it takes, under ``/staged/<id>/``, where nobody looks. One small
transaction then *decides* it, by the key ``/decided``: from there on it happens, whatever else does. Rolling it forward
(each staged key to where it belongs) can be cut short anywhere and is gone on with by `finish`, which a controller calls
before it reads anything. What was staged and never decided is removed by the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from shoal.errors import TooLarge
from shoal.store import caps
from shoal.store.protocol import (
    TRANSACTION_BYTES_MAX,
    TRANSACTION_OPERATIONS_MAX,
    Condition,
    Records,
    Transaction,
)

STAGED = "/staged/"
DECIDED = "/decided"
PUT, DELETE = "put", "delete"
OPERATIONS_OF_ONE = 2
"""Rolling one key forward takes two: its place, and the staged one that goes."""
BYTES_RESERVED = 2_000
"""Of a transaction, for what is beside the keys and values that are counted."""


async def commit(store: Records, transaction: Transaction, id: str) -> int:
    """As the store's own ``commit``, of any size; its keys are put in the order of ``transaction.puts``, the last of them
    at the revision that is returned. ``id`` is a new one. The conditions must fit one transaction.

    Whatever is raised past the caps leaves it open what has happened: nothing else may be written before `finish`.
    """
    if _fits(transaction):
        return await store.commit(transaction)
    operations = [(DELETE, key, b"") for key in transaction.deletes]
    operations += [(PUT, key, value) for key, value in transaction.puts]
    staged = [(f"{STAGED}{id}/{n:08d}/{what}{key}", value) for n, (what, key, value) in enumerate(operations)]
    for part in parts(staged):
        await store.commit(Transaction(puts=tuple(part)))
    conditions = (*transaction.conditions, Condition(DECIDED, 0))
    await store.commit(Transaction(conditions=conditions, puts=((DECIDED, id.encode()),)))
    return await finish(store)


async def finish(store: Records) -> int:
    """Roll forward what is decided, remove what is not. Returns the revision; repeated, it does nothing."""
    decided = await store.get(DECIDED)
    listing = await store.list(STAGED)
    wanted = f"{STAGED}{decided.value.decode()}/" if decided is not None else None
    forward = [(r.key, r.value) for r in listing.records if wanted and r.key.startswith(wanted)]
    kept = {key for key, _ in forward}
    await _discard(store, [record.key for record in listing.records if record.key not in kept])
    if decided is None:
        return listing.revision
    revision = listing.revision
    steps = list(parts(forward, operations_of_one=OPERATIONS_OF_ONE)) or [[]]
    for number, part in enumerate(steps, start=1):
        revision = await store.commit(_rolled(part, (DECIDED,) if number == len(steps) else ()))
    return revision


def _fits(transaction: Transaction) -> bool:
    try:
        caps.check(transaction)
    except TooLarge:
        return False
    return True


def _rolled(part: Iterable[tuple[str, bytes]], also_deleted: tuple[str, ...]) -> Transaction:
    puts, deletes = [], list(also_deleted)
    for staged, value in part:
        _, _, _, _, place = staged.split("/", 4)
        what, _, key = place.partition("/")
        deletes.append(staged)
        if what == PUT:
            puts.append((f"/{key}", value))
        else:
            deletes.append(f"/{key}")
    return Transaction(puts=tuple(puts), deletes=tuple(deletes))


def parts(puts: Sequence[tuple[str, bytes]], operations_of_one: int = 1) -> Iterator[list[tuple[str, bytes]]]:
    """In order, each within the caps of a transaction in which one of them takes so many operations."""
    part: list[tuple[str, bytes]] = []
    size = 0
    for key, value in puts:
        bytes_of_one = len(value) + operations_of_one * caps.key_bytes(key)
        full = (len(part) + 1) * operations_of_one >= TRANSACTION_OPERATIONS_MAX  # one is the decision's
        if part and (full or size + bytes_of_one > TRANSACTION_BYTES_MAX - BYTES_RESERVED):
            yield part
            part, size = [], 0
        part.append((key, value))
        size += bytes_of_one
    if part:
        yield part


async def _discard(store: Records, keys: Sequence[str]) -> None:
    for at in range(0, len(keys), TRANSACTION_OPERATIONS_MAX):
        await store.commit(Transaction(deletes=tuple(keys[at : at + TRANSACTION_OPERATIONS_MAX])))
