"""Guessing passwords costs time: the more wrong ones from an address for a name, the longer the next one waits.

In memory and bounded: an attack on many names forgets the oldest, which costs it nothing it could use, as every address is
also limited in its requests (`shoal.api.rates`). Names that nobody has are counted alike, so that an answer tells nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from shoal.errors import TooMany

FREE_FAILURES = 4
"""Wrong ones in a row without a wait: people mistype."""
FIRST_WAIT_S = 1.0
WAIT_S_MAX = 300.0
FORGOTTEN_AFTER_S = 3_600.0
KEPT_MAX = 10_000


class Tries(msgspec.Struct):
    failures: int = 0
    last: float = 0.0


class Backoff:
    """``now`` in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tries: OrderedDict[tuple[str, str], Tries] = OrderedDict()

    def begin(self, name: str, address: str) -> None:
        """Counted as a failure until `right` says otherwise: guesses made at once count each. Raises TooMany."""
        key, now = (name, address), self._now()
        tries = self._tries.setdefault(key, Tries())
        if now - tries.last > FORGOTTEN_AFTER_S:
            tries.failures = 0
        left = tries.last + wait_s(tries.failures) - now
        if tries.failures and left > 0:
            raise TooMany(
                f"Too many failed logins for this name from {address or 'here'}.",
                hint=f"Try again in {math.ceil(left)} s.",
                retry_after_s=math.ceil(left),
            )
        tries.failures += 1
        tries.last = now
        self._tries.move_to_end(key)
        while len(self._tries) > KEPT_MAX:
            self._tries.popitem(last=False)

    def right(self, name: str, address: str) -> None:
        self._tries.pop((name, address), None)


def wait_s(failures: int) -> float:
    """After so many failures in a row: 0 at first, then 1, 2, 4 ... seconds."""
    beyond = failures - FREE_FAILURES
    return 0.0 if beyond <= 0 else min(WAIT_S_MAX, FIRST_WAIT_S * 2.0 ** min(beyond - 1, 20))
