"""Leases of a store that lives in one process.

They are kept in memory, by a clock that never jumps, and not on disk: a database file is locked by one controller at
a time, so a lease that outlived its process could only belong to the dead, and would make the next start wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Clock = Callable[[], float]


class _Held:
    def __init__(self, holder: str, ttl_s: float, expires: float) -> None:
        self.holder = holder
        self.ttl_s = ttl_s
        self.expires = expires


class Leases:
    """Who holds which name. ``now`` gives seconds; only differences count."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._held: dict[str, _Held] = {}

    def take(self, name: str, holder: str, ttl_s: float) -> LocalLease | None:
        """None when another holder has it. The same holder gets it anew; its former lease is then lost.

        Raises ValueError when ``ttl_s`` is not a positive number.
        """
        if not (ttl_s > 0 and math.isfinite(ttl_s)):
            raise ValueError(f"a lease needs a ttl above 0 seconds, not {ttl_s}")
        now = self._now()
        # Names come from callers and are few, but a name never asked for again must not stay for ever.
        self._held = {key: held for key, held in self._held.items() if now < held.expires}
        current = self._held.get(name)
        if current is not None and current.holder != holder:
            return None
        held = self._held[name] = _Held(holder, ttl_s, now + ttl_s)
        return LocalLease(self, name, held)

    def renew(self, name: str, held: _Held) -> bool:
        now = self._now()
        if self._held.get(name) is not held or now >= held.expires:
            return False
        held.expires = now + held.ttl_s
        return True

    def release(self, name: str, held: _Held) -> None:
        if self._held.get(name) is held:
            del self._held[name]


class LocalLease:
    """A `shoal.store.protocol.Lease`. Once expired it is lost, even if nobody else took it."""

    def __init__(self, leases: Leases, name: str, held: _Held) -> None:
        self._leases = leases
        self._name = name
        self._lease = held

    async def renew(self) -> bool:
        return self._leases.renew(self._name, self._lease)

    async def release(self) -> None:
        """No error when it was lost already; another holder's lease is left alone."""
        self._leases.release(self._name, self._lease)
