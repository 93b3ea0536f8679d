"""Addresses that were given up, until no engine can answer for them any more.

An engine that the controller cannot reach goes on serving what it was last told. If the address of a deleted VsVip were
given to another one at once, both engines would answer for it. So an address that is freed is kept apart until every
engine that may have had it has confirmed a state without it, or is deleted; see decision 31.

``/freed/<vip id>/<address>``, written in the transaction that gives the address up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from shoal.store.protocol import TRANSACTION_OPERATIONS_MAX, Records, Transaction, Unavailable

from .clock import Clock, SystemClock

FREED = "/freed/"
KEPT_APART_S_MAX = 3600.0
"""From when this controller knows of it. Then an address is given away even if an engine is still to be heard from."""
NAMES_MAX = 3
"""Engines that a reason names."""


class Given(msgspec.Struct, frozen=True):
    """An address given up by a VIP."""

    vip: str
    address: str

    @property
    def key(self) -> str:
        return f"{FREED}{self.vip}/{self.address}"


class Answering(Protocol):
    """Who may still answer for what."""

    def planned(self, vip: str, address: str, besides: str = "") -> bool:
        """The last plan of a group other than ``besides`` still has the VIP there: its engines are told so."""
        ...

    def engines(self, vip: str, address: str, besides: str = "") -> dict[str, str]:
        """Engines that could answer for the address as for this VIP's, by id, with their names; those of the group
        ``besides`` don't count."""
        ...


class Nobody:
    """While there are no engines."""

    def planned(self, vip: str, address: str, besides: str = "") -> bool:
        return False

    def engines(self, vip: str, address: str, besides: str = "") -> dict[str, str]:
        return {}


class Freed:
    """Told by whoever writes VsVips, before they are written; ``answering`` is asked whenever it matters."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._store: Records | None = None
        self._since: dict[Given, float] = {}
        self._of: dict[str, dict[Given, None]] = {}
        """The same by address."""
        self._moving: dict[tuple[str, str], float] = {}
        """(VIP, group it is given to) -> since when it waits for engines of other groups."""
        self.answering: Answering = Nobody()

    def copy(self) -> Freed:
        """For writes that are only tried."""
        other = Freed(self._clock)
        other._since, other.answering = dict(self._since), self.answering
        other._of = {address: dict(given) for address, given in self._of.items()}
        return other

    async def load(self, store: Records) -> None:
        """What an earlier controller has left; from now on, what is over is taken out of the store as well."""
        self._store = store
        for record in (await store.list(FREED)).records:
            given = msgspec.json.decode(record.value, type=Given)
            if given not in self._since:
                self._note(given)

    def __bool__(self) -> bool:
        return bool(self._since)

    def given_up(self, given: Given) -> tuple[str, bytes]:
        """The key and value to write."""
        self._note(given)
        return given.key, msgspec.json.encode(given)

    def heed(self, transaction: Transaction) -> None:
        """It is written, if only in a draft."""
        self.expect(transaction)
        self.taken(transaction.deletes)

    def expect(self, transaction: Transaction) -> None:
        """It is about to be written, and may be though that fails: what it gives up counts as given up."""
        for key, value in transaction.puts:
            if key.startswith(FREED):
                self._note(msgspec.json.decode(value, type=Given))

    def taken(self, keys: Iterable[str]) -> None:
        """These were deleted."""
        gone = {key for key in keys if key.startswith(FREED)}
        for given in [given for given in self._since if given.key in gone] if gone else ():
            self._forget(given)

    def _note(self, given: Given) -> None:
        self._since[given] = self._clock.monotonic()
        self._of.setdefault(given.address, {})[given] = None

    def _forget(self, given: Given) -> None:
        same = self._of.get(given.address, {})
        same.pop(given, None)
        if not same:
            self._of.pop(given.address, None)
        self._since.pop(given, None)

    def taken_again(self, vip: str, address: str) -> list[str]:
        """The VIP itself is to have the address once more: the keys to delete. It has it when they are (`taken`)."""
        given = Given(vip, address)
        return [given.key] if given in self._since else []

    # --- who must wait ---

    def kept(self) -> list[str]:
        """Addresses that no new VIP should get now."""
        return sorted({given.address for given in self._since if self._obstacle(given)})

    def obstacle(self, addresses: Iterable[str], vip: str = "", group: str = "") -> str:
        """Why the VIP (by its id) can't be served by these addresses yet, in a sentence without its full stop; "" if
        it can. ``group``: whose engines serve it; one that it takes again may be answered for by those of an earlier one."""
        if not self._since:
            return ""
        reasons = (
            self._elsewhere(vip, address, group) if given.vip == vip else self._obstacle(given)
            for address in addresses
            for given in self._of.get(address, ())
            if given.vip != vip or group
        )
        return next(filter(None, reasons), "")

    def obstacle_to_move(self, addresses: Iterable[str], vip: str, group: str) -> str:
        """The same for a VIP that is new in this group and was served by another one."""
        why = next((why for address in addresses if (why := self._elsewhere(vip, address, group))), "")
        if not why:
            self._moving.pop((vip, group), None)
            return ""
        since = self._moving.setdefault((vip, group), self._clock.monotonic())
        return why if self._clock.monotonic() - since < KEPT_APART_S_MAX else ""

    def _elsewhere(self, vip: str, address: str, group: str) -> str:
        was = f"{address} was served by another group before"
        if engines := list(self.answering.engines(vip, address, group).values()):
            return f"{was}, and {_unconfirmed(engines)}"
        return f"{was}, and is being taken off its engines" if self.answering.planned(vip, address, group) else ""

    def waited_for(self, vips: Iterable[tuple[str, str, Iterable[str]]]) -> set[str]:
        """Engines that any of these VIPs, as (group, VIP, addresses), waits for."""
        found: set[str] = set()
        for group, vip, addresses in vips:
            for address in addresses:
                given = (g for g in self._of.get(address, ()) if g.vip != vip and not self._old(g))
                found.update(engine for g in given for engine in self.answering.engines(g.vip, address))
                if (vip, group) in self._moving:
                    found.update(self.answering.engines(vip, address, group))
        return found

    def _old(self, given: Given) -> bool:
        return self._clock.monotonic() - self._since[given] >= KEPT_APART_S_MAX

    def _obstacle(self, given: Given) -> str:
        if self._old(given):
            return ""
        was = f"{given.address} was the address of another VsVip before"
        if engines := list(self.answering.engines(given.vip, given.address).values()):
            return f"{was}, and {_unconfirmed(engines)}"
        if self.answering.planned(given.vip, given.address):
            return f"{was}, and is being taken off its engines"
        return ""

    async def release(self, in_use: Callable[[str, str], bool]) -> None:
        """Forget those that nobody can answer for any more. ``in_use(vip, address)``: it is not given up after all, or
        not yet."""
        free = [given for given in self._since if not in_use(given.vip, given.address) and not self._obstacle(given)]
        for given in free:
            self._forget(given)
        if self._store is not None:
            for start in range(0, len(free), TRANSACTION_OPERATIONS_MAX):
                some = free[start : start + TRANSACTION_OPERATIONS_MAX]
                try:
                    await self._store.commit(Transaction(deletes=tuple(given.key for given in some)))
                except Unavailable:
                    for given in some:
                        self._note(given)  # to be released later


def _unconfirmed(engines: list[str]) -> str:
    more = f" and {len(engines) - NAMES_MAX} more" if len(engines) > NAMES_MAX else ""
    has = "has" if len(engines) == 1 else "have"
    return f"{', '.join(engines[:NAMES_MAX])}{more} may still answer for it and {has} not confirmed that it is gone"
