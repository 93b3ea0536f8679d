"""Which engine serves which share of a VIP's new flows. Pure."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections import Counter
from collections.abc import Sequence

BUCKETS = 256


def deal(old: Sequence[str], members: Sequence[str], buckets: int = BUCKETS) -> tuple[str, ...]:
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


def settled(members: Sequence[str]) -> tuple[str, ...]:
    """A table that follows from who the members are alone, so that every engine makes the same, and in which only the
    buckets of a member that comes or goes move. Even as dice are: 256 buckets over 4 members are 64 each, give or take 7.

    Source: rendezvous hashing (Thaler, Ravishankar 1998).
    """
    if not members:
        return ()
    ranked = sorted(members)
    return tuple(max(ranked, key=lambda m: _scores(m)[bucket]) for bucket in range(BUCKETS))


@functools.lru_cache(maxsize=1024)
def _scores(member: str) -> tuple[int, ...]:
    return struct.unpack(f"!{BUCKETS}Q", hashlib.shake_128(member.encode()).digest(8 * BUCKETS))
