"""How much of what a peer sends is lost on the way, and how many heartbeats in a row must then be missing. Pure."""

from __future__ import annotations

import math

RISE, FALL = 1 / 8, 1 / 32
"""Weight of one datagram lost, and of one that came: caution comes at once and goes after some three seconds."""
FALSE_ALARM = 1e-5
"""The share of moments at which silence by chance alone would be taken for death."""
NEGLIGIBLE = 0.04
MISSES_MIN, MISSES_MAX = 3, 24
GAP_MAX = 10
"""A longer gap was an interruption, not loss."""
GAP_S_MAX = 2.0


class Loss:
    """``misses`` follows the measured loss; it falls back slowly, so that it does not flap."""

    def __init__(self) -> None:
        self.share = 0.0
        self.misses = MISSES_MIN
        self._number = 0
        self._at = -math.inf

    def hear(self, number: int, now: float) -> None:
        """Datagram ``number`` (counted by the sender, from 1 at each of its starts) has come."""
        gap = number - self._number - 1
        if self._number and 0 <= gap <= GAP_MAX and now - self._at < GAP_S_MAX:
            for lost in (*(1.0,) * gap, 0.0):
                self.share += (RISE if lost else FALL) * (lost - self.share)
            self._judge()
        if gap >= 0 or number < self._number - GAP_MAX:  # not one that was overtaken; or the sender began anew
            self._number, self._at = number, now

    def _judge(self) -> None:
        needed = MISSES_MIN
        if self.share > NEGLIGIBLE:
            needed = math.ceil(math.log(FALSE_ALARM) / math.log(min(self.share, 0.9)))
            needed = max(MISSES_MIN, min(MISSES_MAX, needed))
        if needed > self.misses or needed < self.misses - 1:
            self.misses = needed
