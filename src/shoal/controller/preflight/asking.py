"""Which engines take part and with which addresses; one preflight of a group at a time."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.controller import ipam
from shoal.controller.fleet import Fleet
from shoal.controller.ledger import Ledger
from shoal.controller.records import EngineRecord
from shoal.controller.view import View
from shoal.errors import Invalid, NotFound, Problem, Refused
from shoal.wire.preflight import Probe, Probed

from . import judge, steps

MEMBERS = frozenset({"address", "neighbour", "uuid"})


class Preflights:
    """``gateway``: of the data network, the neighbour that is asked unless another one is named."""

    def __init__(self, view: View, ledger: Ledger, fleet: Fleet, gateway: str) -> None:
        self._view = view
        self._ledger = ledger
        self._fleet = fleet
        self._gateway = gateway
        self._running: set[str] = set()

    async def run(self, group: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Some six seconds. ``body``: ``address`` (default: the highest free one of the VIPs' networks), ``neighbour``.
        Raises NotFound, Invalid, Refused."""
        document = self._view.get("serviceenginegroup", group)
        if document is None:
            raise NotFound(f"No service engine group {group}.")
        problems = [
            Problem(path=key, value=str(body[key])[:60], why="is not known here") for key in body if key not in MEMBERS
        ]
        wanted = {key: _address(body, key, problems) for key in ("address", "neighbour")}
        if problems:
            raise Invalid(problems)
        neighbour = wanted["neighbour"] or self._gateway
        if not neighbour:
            raise Refused("The engines' network has no gateway to ask.", hint="Give a neighbour's address.")
        first, second = self._two(group, document["name"])
        if group in self._running:
            raise Refused(f"A preflight of {document['name']} runs already.", hint="Wait some seconds.")
        self._running.add(group)
        try:
            trial = steps.Trial(
                a=_party(first), b=_party(second), address=wanted["address"] or self._free(), neighbour=neighbour
            )
            await steps.run(self._ask, trial)
        finally:
            self._running.discard(group)
        status = [self._fleet.live(engine.id).status for engine in (first, second)]
        bgp = [peer for one in status if one is not None for peer in one.bgp]
        found: dict[str, Any] = msgspec.to_builtins(judge.report(document["name"], trial, bgp))
        return found

    async def _ask(self, engine: str, probe: Probe) -> Probed | None:
        return await self._fleet.probe(engine, probe)

    def _two(self, group: str, name: str) -> tuple[EngineRecord, EngineRecord]:
        """Two connected engines, on two hosts if there are."""
        here = [e for e in self._ledger.engines_of(group) if e.address and self._fleet.live(e.id).session is not None]
        here.sort(key=lambda engine: engine.rank)
        if len(here) < 2:
            raise Refused(
                f"{name} has {len(here)} connected engine{'' if len(here) == 1 else 's'}, and two are needed.",
                hint="Place a virtual service in it: an engine comes for it, and the buffer's beside it (buffer_se).",
            )
        first = here[0]
        return first, next((e for e in here[1:] if e.host != first.host), here[1])

    def _free(self) -> str:
        """The highest address of the first VIP network that no VIP has: new VIPs get the lowest."""
        taken = {a for vsvip in self._view.all("vsvip") for a in ipam.addresses_of(vsvip)}
        for network in self._view.all("network"):
            for first, last in ipam.pools(network, 4):
                for number in range(last, first - 1, -1):
                    address = str(ipaddress.IPv4Address(number))
                    if address not in taken:
                        return address
        raise Refused("No configured network has a free IPv4 address for VIPs.", hint="Give an address to try with.")


def _party(engine: EngineRecord) -> steps.Party:
    return steps.Party(id=engine.id, name=engine.name, address=engine.address)


def _address(body: Mapping[str, Any], key: str, problems: list[Problem]) -> str:
    value = body.get(key)
    if value in (None, ""):
        return ""
    try:
        return str(ipaddress.IPv4Address(value))
    except (ValueError, TypeError):
        problems.append(Problem(path=key, value=str(value)[:60], why="must be an IPv4 address"))
        return ""
