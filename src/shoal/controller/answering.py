"""Which engines could still answer for an address: by what they were sent, have acknowledged or said at their hello."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .compiler import Compiler
from .fleet import Fleet
from .ledger import Ledger
from .records import EngineRecord

INDEXED_FROM = 8
"""Questions in a row: for fewer, all engines are asked."""


class Engines:
    """A `shoal.controller.freed.Answering`. ``going``: engines without a record that the cloud has not deleted yet."""

    def __init__(
        self, ledger: Ledger, fleet: Fleet, compiler: Compiler, going: Callable[[], Iterable[EngineRecord]]
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._compiler = compiler
        self._going = going
        self._told = -1
        self._asked = 0
        self._having: dict[str, list[str]] = {}
        """VIP -> the engines that may have it; ``""``: those of which it is not known. By ``_told``."""

    def planned(self, vip: str, address: str, besides: str = "") -> bool:
        for group, vips in self._ledger.vips.items():
            if vip in vips and group != besides:
                intent = self._compiler.intent(group, vip)
                if intent is None or address in intent.owned:
                    return True
        return False

    def engines(self, vip: str, address: str, besides: str = "") -> dict[str, str]:
        """One that has never connected has nothing."""
        return {
            engine.id: engine.name
            for engine in sorted(self._asked_about(vip), key=lambda engine: engine.rank)
            if engine.seen and engine.group != besides and self._fleet.may_answer(engine.id, vip, address)
        }

    def _asked_about(self, vip: str) -> list[EngineRecord]:
        """Engines among which are all that may have the VIP."""
        going = list(self._going())
        if self._told != self._fleet.told:
            self._told, self._asked, self._having = self._fleet.told, 0, {}
        self._asked += 1
        if self._asked < INDEXED_FROM:
            return [*self._ledger.engines.values(), *going]
        if self._asked == INDEXED_FROM:
            self._having = self._index()
        known = self._ledger.engines
        mine = (*self._having.get(vip, ()), *self._having.get("", ()))
        return [*(known[engine] for engine in mine if engine in known), *going]

    def _index(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for engine in self._ledger.engines:
            vips = self._fleet.may_have(engine)
            for vip in ("",) if vips is None else vips:
                found.setdefault(vip, []).append(engine)
        return found
