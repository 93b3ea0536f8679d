"""How often somebody may ask: token buckets for users and addresses, in memory and bounded."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from shoal.errors import TooMany

REQUESTS_PER_S = 1_000
REQUESTS_AT_ONCE = 5_000
"""Of one user, and of one address; ``portal_request_rate_limit`` and ``portal_request_burst_limit`` override them."""
LOGINS_PER_S = 10
LOGINS_AT_ONCE = 60
"""Of one address: each takes 30 ms of a processor."""
RIGHT_LOGINS_COST = 0.1
"""What a login that succeeds counts: programs that log in for every call (Ansible's modules do) are no guessers."""
BUCKETS_MAX = 20_000


class Bucket(msgspec.Struct):
    left: float
    at: float


class Rates:
    """``now`` in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def take(self, kind: str, who: str, per_s: float, at_once: float) -> None:
        """One request of ``who``. Raises TooMany, with when the next one is due."""
        key, now = (kind, who), self._now()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(at_once, now)
            while len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.left = min(at_once, bucket.left + (now - bucket.at) * per_s)
        bucket.at = now
        if bucket.left < 1:
            wait_s = math.ceil((1 - bucket.left) / per_s)
            raise TooMany(
                f"Too many {kind}: {per_s:g} a second are taken, {at_once:g} at once.",
                hint=f"Try again in {wait_s} s.",
                retry_after_s=wait_s,
            )
        bucket.left -= 1

    def give_back(self, kind: str, who: str, share: float) -> None:
        """So much of a request that was taken did not count."""
        bucket = self._buckets.get((kind, who))
        if bucket is not None:
            bucket.left += share
