"""The servers' shares of new flows. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

HASH_BUCKETS = 256
TURNS_MAX = 1024
"""Of one round. Ratios that need more are rounded."""


def turns(weights: Mapping[str, int]) -> tuple[str, ...]:
    """One round of a weighted round robin, each server's turns spread over it.

    >>> turns({"a": 2, "b": 1})
    ('a', 'b', 'a')
    """
    taking = {name: weight for name, weight in weights.items() if weight > 0}
    if not taking:
        return ()
    common = math.gcd(*taking.values())
    shares = {name: weight // common for name, weight in taking.items()}
    total = sum(shares.values())
    if total > TURNS_MAX:
        shares = {name: max(1, round(share * TURNS_MAX / total)) for name, share in shares.items()}
    total, credit, round_ = sum(shares.values()), dict.fromkeys(shares, 0), []
    for _ in range(total):
        for name, share in shares.items():
            credit[name] += share
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= total
        round_.append(chosen)
    return tuple(round_)


def hashed(weights: Mapping[str, int], buckets: int = HASH_BUCKETS) -> tuple[str, ...]:
    """A server for each bucket of a hash: weighted rendezvous hashing, so that the table depends on nothing but the
    servers. All engines of a VIP have the same one, and a server that comes or goes moves its own share only."""
    taking = {name: weight for name, weight in weights.items() if weight > 0}
    if not taking:
        return ()
    return tuple(max(taking, key=lambda name: _score(name, taking[name], bucket)) for bucket in range(buckets))


def _score(name: str, weight: int, bucket: int) -> float:
    digest = hashlib.blake2b(f"{bucket} {name}".encode(errors="surrogatepass"), digest_size=8).digest()
    return -weight / math.log((int.from_bytes(digest) + 1) / (2**64 + 2))
