"""Percentiles out of buckets are near those of the times themselves; counts add up over engines."""

from __future__ import annotations

import random

import pytest

from shoal.wire.latency import BUCKETS, RATIO, bucket_of, edge_us, percentile_us, within


def buckets(times: list[float]) -> list[float]:
    counts = [0.0] * BUCKETS
    for us in times:
        counts[bucket_of(us)] += 1
    return counts


@pytest.mark.parametrize("seed", range(20))
def test_a_percentile_is_within_one_bucket_of_the_true_one(seed: int) -> None:
    drawn = random.Random(seed)
    times = sorted(100 + drawn.lognormvariate(8, 1.5) for _ in range(2_000))
    for share in (0.5, 0.9, 0.99):
        true = times[int(len(times) * share) - 1]
        assert true / RATIO <= percentile_us(buckets(times), share) <= true * RATIO


def test_every_time_is_in_the_bucket_that_ends_after_it() -> None:
    for us in (0, 99.9, 100, 141, 142, 1_000, 5e5, 1e7):
        bucket = bucket_of(us)
        assert us < edge_us(bucket) * 1.0001 and (bucket == 0 or us >= edge_us(bucket - 1) * 0.9999)
    assert bucket_of(1e12) == BUCKETS - 1


def test_how_many_took_no_longer() -> None:
    counts = buckets([50.0] * 10 + [1_000.0] * 80 + [9e5] * 10)
    assert within(counts, 5e5) == pytest.approx(90)
    assert within(counts, 2e6) == pytest.approx(100)
    assert percentile_us([0.0] * BUCKETS, 0.99) == 0.0
