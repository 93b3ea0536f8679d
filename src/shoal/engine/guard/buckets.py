"""Which engine serves which share of a VIP's new flows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def deal(old: Sequence[str], members: Sequence[str], buckets: int = 256) -> tuple[str, ...]:
    """A table of ``buckets`` entries over ``members``, even within one, moving as few entries of ``old`` as possible.

    >>> Counter(deal((), ("a", "b", "c"), 9))
    Counter({'a': 3, 'b': 3, 'c': 3})
    """
    if not members:
        return ()
    have = Counter(e for e in old if e in members)
    # those that have most get the odd ones: nothing moves for the remainder's sake
    ranked = sorted(members, key=lambda m: (-have[m], members.index(m)))
    least, odd = divmod(buckets, len(members))
    room = {m: least + (i < odd) for i, m in enumerate(ranked)}
    table: list[str] = []
    for entry in old or ("",) * buckets:
        keep = room.get(entry, 0) > 0
        table.append(entry if keep else "")
        if keep:
            room[entry] -= 1
    for i, entry in enumerate(table):
        if not entry:  # round robin by what is left, so that neighbours differ
            taker = max(members, key=lambda m: room[m])
            table[i] = taker
            room[taker] -= 1
    return tuple(table)
