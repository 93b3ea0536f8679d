"""Networks that VIPs need their engines to be in, by ``placement_networks`` of VsVips and of the pools behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shoal.objects.views import uuid_of
from shoal.placement.model import Need

from . import ipam
from .desired import VipIntent
from .view import View

Document = Mapping[str, Any]
PLACING = ("vsvip", "pool")


class Needs:
    """`of` is asked for each VIP whenever it is looked at."""

    def __init__(self, documents: View) -> None:
        self._documents = documents
        self._heeded: dict[tuple[str, str], None] = {}
        """(type, uuid) of what a need has come from."""

    def of(self, intent: VipIntent) -> tuple[Need, ...]:
        found = [self._need(wanted) for wanted in self._vips(intent)]
        found += [self._need(wanted) for wanted in self._pools(intent)]
        return tuple(dict.fromkeys(need for need in found if need is not None))

    def concerns(self, type: str, uuid: str, document: Document | None) -> bool:
        """Whether a change of this object may change what VIPs need."""
        places = [document or {}, *(document or {}).get("vip", ())] if type in PLACING else []
        return (type, uuid) in self._heeded or any(place.get("placement_networks") for place in places)

    def _vips(self, intent: VipIntent) -> Iterable[Document]:
        vsvip, _, id = intent.id.partition("/")
        vips = (self._documents.get("vsvip", vsvip) or {}).get("vip", ())
        found = next((vip.get("placement_networks") or () for vip in vips if vip["vip_id"] == id), ())
        if found:
            self._heeded["vsvip", vsvip] = None
        return found

    def _pools(self, intent: VipIntent) -> Iterator[Document]:
        asking = (service for service in intent.services if service.pool_ref and not service.ign_pool_net_reach)
        for uuid in dict.fromkeys(uuid_of(service.pool_ref) for service in asking):
            if wanted := (self._documents.get("pool", uuid) or {}).get("placement_networks"):
                self._heeded["pool", uuid] = None
                yield from wanted

    def _need(self, wanted: Document) -> Need | None:
        """None for a network that has no subnet, as one that is gone."""
        uuid = uuid_of(wanted.get("network_ref") or "")
        self._heeded["network", uuid] = None
        network = self._documents.get("network", uuid) or {}
        subnets = [str(ipam.prefix(wanted[field])) for field in ipam.SUBNETS.values() if wanted.get(field)]
        subnets = subnets or [str(subnet) for version in (4, 6) for subnet in ipam.subnets(network, version)]
        name = str(network.get("name") or ", ".join(subnets))
        return Need(name=name, subnets=tuple(subnets)) if subnets else None
