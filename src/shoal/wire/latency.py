"""Times in buckets of equal ratio, so that counts of many engines and of any span of time add up to percentiles.

A bucket is `RATIO` wide, and a percentile is placed inside its bucket by the logarithm: it is at most 41 % above or 29 %
below what the requests really had, and within some 10 % where neighbouring buckets are filled alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

FIRST_US = 100
"""The end of the first bucket, which begins at 0."""
RATIO = math.sqrt(2)
BUCKETS = 42
"""The last one begins at 105 s and has no end."""

Buckets = tuple[tuple[int, int], ...]
"""(bucket, how many), in order, those with none left out."""


def bucket_of(us: float) -> int:
    if us < FIRST_US:
        return 0
    return min(BUCKETS - 1, int(2 * math.log2(us / FIRST_US)) + 1)


def edge_us(bucket: int) -> float:
    """Where it ends."""
    return float(FIRST_US * RATIO**bucket)


def percentile_us(counts: Sequence[float], share: float) -> float:
    """The time that ``share`` (0..1) of them did not take longer than; 0 of nothing. ``counts``: by bucket."""
    wanted = sum(counts) * share
    for bucket, count in enumerate(counts):
        if count and wanted <= count:
            end = edge_us(bucket)
            inside = wanted / count
            return end * inside if bucket == 0 else float(end * RATIO ** (inside - 1))
        wanted -= count
    return 0.0


def within(counts: Sequence[float], us: float) -> float:
    """How many of them took ``us`` at most."""
    last = bucket_of(us)
    begin = edge_us(last - 1) if last else 0.0
    inside = (math.log(us / begin) / math.log(RATIO)) if last else us / FIRST_US
    return sum(counts[:last]) + (counts[last] * min(1.0, inside) if last < len(counts) else 0.0)
