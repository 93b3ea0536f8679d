"""What a transaction may hold, alike in every store."""

from __future__ import annotations

from shoal.errors import Invalid, TooLarge
from shoal.store.protocol import (
    TRANSACTION_BYTES_MAX,
    TRANSACTION_OPERATIONS_MAX,
    VALUE_BYTES_MAX,
    Transaction,
)


def check(transaction: Transaction) -> None:
    """Raises `TooLarge` past a cap, `Invalid` for an empty, unencodable or repeated key.

    As in etcd, the operations cap counts the conditions, and the puts and deletes together, each for itself.
    """
    writes = len(transaction.puts) + len(transaction.deletes)
    for count, what in ((len(transaction.conditions), "conditions"), (writes, "puts and deletes")):
        if count > TRANSACTION_OPERATIONS_MAX:
            raise TooLarge(
                f"A transaction of {count} {what} is over the limit of {TRANSACTION_OPERATIONS_MAX} operations "
                "(TRANSACTION_OPERATIONS_MAX).",
                hint="Split it.",
            )
    size = 0
    for key, value in transaction.puts:
        if len(value) > VALUE_BYTES_MAX:
            raise TooLarge(
                f"The value of {key} has {len(value)} bytes, over the limit of {VALUE_BYTES_MAX} (VALUE_BYTES_MAX)."
            )
        size += len(value)
    written = [key for key, _ in transaction.puts] + list(transaction.deletes)
    for key in [*written, *(condition.key for condition in transaction.conditions)]:
        size += key_bytes(key)
    if size > TRANSACTION_BYTES_MAX:
        raise TooLarge(
            f"A transaction of {size} bytes is over the limit of {TRANSACTION_BYTES_MAX} (TRANSACTION_BYTES_MAX).",
            hint="Split it.",
        )
    if len(set(written)) != len(written):
        twice = next(key for key in written if written.count(key) > 1)
        raise Invalid(f"The key {twice} is written twice in one transaction")


def key_bytes(key: str) -> int:
    if not key:
        raise Invalid("A key of the store is empty")
    try:
        return len(key.encode())
    except UnicodeEncodeError:
        raise Invalid(f"The key {key!r} is not valid Unicode") from None
