"""What makes names, addresses and ports unique: keys written in the same transaction as the object.

``/name/<type>/<tenant>/<cloud>/<name>`` and ``/vipuse/<vrf>/<address>`` are create-only, ``/portuse/<vsvip>`` is
version-checked.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

import msgspec

from shoal.errors import Duplicate
from shoal.objects import ObjectType
from shoal.objects.views import uuid_of
from shoal.store.protocol import Condition, Records

from . import audit, protocols, sources
from .freed import Freed, Given
from .ipam import addresses_of
from .snapshot import vip_id
from .view import View, scope_of

Document = dict[str, Any]


class Keys(msgspec.Struct, kw_only=True):
    """The transaction being put together."""

    conditions: list[Condition] = []
    puts: list[tuple[str, bytes]] = []
    deletes: list[str] = []
    audit: tuple[str, audit.Record] | None = None


class Uniqueness:
    """Of addresses and of the ports of a VIP."""

    def __init__(self, store: Records, view: View, freed: Freed) -> None:
        self._store = store
        self._view = view
        self._freed = freed

    async def of_traffic(self, kind: ObjectType, keys: Keys, before: Document | None, after: Document | None) -> None:
        """What makes addresses and ports unique, in the same transaction."""
        if kind.endpoint == "vsvip":
            old = {vip_key(before, a) for a in addresses_of(before)} if before else set()
            new = {vip_key(after, a) for a in addresses_of(after)} if after else set()
            for key in sorted(new - old):
                keys.conditions.append(Condition(key, 0))
                keys.puts.append((key, (after or {})["uuid"].encode()))
            keys.deletes += sorted(old - new)
            self._note_freed(keys, vip_addresses(before), vip_addresses(after))
        elif kind.endpoint == "virtualservice":
            vsvips = {uuid_of(d["vsvip_ref"]) for d in (before, after) if d is not None}
            for vsvip in sorted(vsvips):
                await self._port_key(keys, vsvip, before, after)
            old, new = ({source_key(d, a) for a in sources.addresses_of(d)} for d in (before, after))
            for key in sorted(new - old):
                keys.conditions.append(Condition(key, 0))
                keys.puts.append((key, (after or {})["uuid"].encode()))
            keys.deletes += sorted(old - new)
            self._note_freed(keys, self._sources(before), self._sources(after))

    def _sources(self, service: Document | None) -> set[tuple[str, str]]:
        """(VIP id, address) of what its servers see, owned with its VIP."""
        vsvip = self._view.get("vsvip", uuid_of((service or {}).get("vsvip_ref", ""))) or {}
        ids = [vip_id(vsvip["uuid"], vip["vip_id"]) for vip in vsvip.get("vip", ())]
        return {(id, address) for id in ids for address in sources.addresses_of(service)}

    def _note_freed(self, keys: Keys, old: set[tuple[str, str]], new: set[tuple[str, str]]) -> None:
        """What a VIP gives up, and what it takes again."""
        for vip, address in sorted(old - new):
            keys.puts.append(self._freed.given_up(Given(vip, address)))
        for vip, address in sorted(new):
            keys.deletes += self._freed.taken_again(vip, address)

    async def _port_key(self, keys: Keys, vsvip: str, before: Document | None, after: Document | None) -> None:
        key = f"/portuse/{vsvip}"
        used_by = self._view.referrers(vsvip)
        # Written with the first service of a VIP and deleted with the last: for a new one there is nothing to read.
        record = await self._store.get(key) if any(type == "virtualservice" for type, _, _ in used_by) else None
        used = _used(record.value) if record else {}
        used.pop((before or after or {})["uuid"], None)
        if after is not None and uuid_of(after["vsvip_ref"]) == vsvip:
            mine = protocols.ports_of(self._view, after)
            for other, ranges in used.items():
                clash = protocols.overlap_between(mine, ranges)
                if clash:
                    name = (self._view.get("virtualservice", other) or {}).get("name", other)
                    clash = f"{clash[0].upper()}{clash[1:]}"
                    raise Duplicate(f"{clash} of this VIP is used by virtual service {name} already.")
            used[after["uuid"]] = mine
        keys.conditions.append(Condition(key, record.version if record else 0))
        if used:
            keys.puts.append((key, msgspec.json.encode(used)))
        elif record:
            keys.deletes.append(key)


def _used(data: bytes) -> dict[str, list[protocols.Range]]:
    """Records of the time before UDP name no protocol."""
    stored: dict[str, list[list[Any]]] = msgspec.json.decode(data)
    return {
        service: [(r[0], r[1], r[2] if len(r) > 2 else "tcp") for r in ranges] for service, ranges in stored.items()
    }


def of_name(kind: ObjectType, keys: Keys, before: Document | None, document: Document) -> None:
    new = name_key(kind.endpoint, document)
    old = name_key(kind.endpoint, before) if before else ""
    if new != old:
        keys.conditions.append(Condition(new, 0))
        keys.puts.append((new, document["uuid"].encode()))
        if old:
            keys.deletes.append(old)


def name_key(type: str, document: Document) -> str:
    tenant, cloud = scope_of(document)
    name = urllib.parse.quote(str(document.get("name") or document.get("uuid")), safe="")
    return f"/name/{type}/{tenant or '-'}/{cloud or '-'}/{name}"


def vip_addresses(vsvip: Document | None) -> set[tuple[str, str]]:
    """(VIP id, address) of each address of a VsVip."""
    return {
        (vip_id(vsvip["uuid"], vip["vip_id"]), address)
        for vip in (vsvip or {}).get("vip", ())
        for address in addresses_of({"vip": [vip]})
        if vsvip is not None
    }


def vip_key(vsvip: Document | None, address: str) -> str:
    return f"/vipuse/{uuid_of((vsvip or {}).get('vrf_context_ref', ''))}/{address}"


def source_key(service: Document | None, address: str) -> str:
    return f"/vipuse/{uuid_of((service or {}).get('vrf_context_ref', ''))}/{address}"


def system_key(type: str, uuid: str) -> str:
    return f"/system/{type}/{uuid}"
