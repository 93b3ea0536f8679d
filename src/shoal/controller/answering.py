"""Which engines could still answer for an address: by what they were sent, have acknowledged or said at their hello."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .compiler import Compiler
from .fleet import Fleet
from .ledger import Ledger
from .records import EngineRecord


class Engines:
    """A `shoal.controller.freed.Answering`. ``going``: engines without a record that the cloud has not deleted yet."""

    def __init__(
        self, ledger: Ledger, fleet: Fleet, compiler: Compiler, going: Callable[[], Iterable[EngineRecord]]
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._compiler = compiler
        self._going = going

    def planned(self, vip: str, address: str, besides: str = "") -> bool:
        for group, vips in self._ledger.vips.items():
            if vip in vips and group != besides:
                intent = self._compiler.intent(group, vip)
                if intent is None or address in intent.addresses:
                    return True
        return False

    def engines(self, vip: str, address: str, besides: str = "") -> dict[str, str]:
        """One that has never connected has nothing."""
        there = (e for e in (*self._ledger.engines.values(), *self._going()) if e.seen and e.group != besides)
        return {e.id: e.name for e in there if self._fleet.may_answer(e.id, vip, address)}
