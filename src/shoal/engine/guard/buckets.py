"""Which engine serves which share of a VIP's new flows. Pure."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections import Counter
from collections.abc import Mapping, Sequence

from shoal.wire.messages import EQUAL_SHARE

BUCKETS = 256
WEIGHT_MIN = EQUAL_SHARE // 4
WEIGHT_MAX = EQUAL_SHARE * 4
"""Whatever the figures say: a member without new flows could not show that it is free again."""


def deal(
    old: Sequence[str], members: Sequence[str], weights: Mapping[str, int] | None = None, buckets: int = BUCKETS
) -> tuple[str, ...]:
    """A table of ``buckets`` entries over ``members``, each with its share within one, moving as few entries of ``old``
    as possible. ``weights``: thousandths of an equal share, within `WEIGHT_MIN` and `WEIGHT_MAX`; who has none gets an
    equal share.

    >>> Counter(deal((), ("a", "b", "c"), buckets=9))
    Counter({'a': 3, 'b': 3, 'c': 3})
    >>> Counter(deal((), ("a", "b"), {"a": 500, "b": 1500}, 8))
    Counter({'b': 6, 'a': 2})
    """
    if not members:
        return ()
    have = Counter(e for e in old if e in members)
    room = _room(members, weights or {}, have, buckets)
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


def _room(members: Sequence[str], weights: Mapping[str, int], have: Mapping[str, int], buckets: int) -> dict[str, int]:
    """How many buckets each member gets."""
    weight = {m: min(max(weights.get(m, EQUAL_SHARE), WEIGHT_MIN), WEIGHT_MAX) for m in members}
    total = sum(weight.values())
    room = {m: buckets * weight[m] // total for m in members}
    parts = {m: buckets * weight[m] % total for m in members}
    # those that have more get the odd ones: nothing moves for the remainder's sake
    ranked = sorted((m for m in members if parts[m]), key=lambda m: (have.get(m, 0) <= room[m], -parts[m]))
    for m in ranked[: buckets - sum(room.values())]:
        room[m] += 1
    return room


def settled(members: Sequence[str]) -> tuple[str, ...]:
    """A table that follows from who the members are alone, so that every engine makes the same, and in which only the
    buckets of a member that comes or goes move. Even as dice are: 256 buckets over 4 members are 64 each, give or take 7.

    Source: rendezvous hashing (Thaler, Ravishankar 1998).
    """
    if not members:
        return ()
    ranked = sorted(members)
    return tuple(ranked[scores.index(max(scores))] for scores in zip(*map(_scores, ranked), strict=True))


@functools.lru_cache(maxsize=1024)
def _scores(member: str) -> tuple[int, ...]:
    return struct.unpack(f"!{BUCKETS}Q", hashlib.shake_128(member.encode()).digest(8 * BUCKETS))
