"""Keeps, per engine, the parts it should run. Fed after each plan; asked by the engines' sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from shoal.objects import views
from shoal.wire import desired as wire

from . import timing
from .desired import (
    Encoded,
    EngineParts,
    VipIntent,
    certificate_part,
    encoded,
    engines_of,
    service_part,
    vip_part,
)
from .fleet import Fleet
from .ledger import Ledger
from .protocols import Documents
from .records import EngineRecord, VipRecord

TUNNEL_ALWAYS = 1
"""``se_tunnel_mode``: 0 and 2 are direct."""


class GroupState(msgspec.Struct, kw_only=True):
    """One group as last compiled."""

    group: views.ServiceEngineGroup
    intents: dict[str, VipIntent]


class CompiledVip(msgspec.Struct, frozen=True):
    """A VIP's part, and all that it was made of."""

    record: VipRecord
    addresses: tuple[str, ...]
    slots: int
    armed: bool
    part: Encoded | None


class Used:
    """Documents that notes which of them were asked for."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.keys: dict[tuple[str, str], None] = {}

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        self.keys[type, uuid] = None
        return self._documents.get(type, uuid)


class Compiler:
    """``unseal(text, context)`` opens private keys; ``heartbeat_key(group)`` is what a group's engines know one
    another by; ``gateway`` is the data network's, a witness for engines."""

    def __init__(
        self,
        documents: Documents,
        ledger: Ledger,
        fleet: Fleet,
        *,
        unseal: Callable[[str, str], str],
        heartbeat_key: Callable[[str], bytes],
        gateway: str = "",
    ) -> None:
        self._documents = documents
        self._ledger = ledger
        self._fleet = fleet
        self._unseal = unseal
        self._heartbeat_key = heartbeat_key
        self._gateway = gateway
        self._groups: dict[str, GroupState] = {}
        self._vips: dict[str, dict[str, CompiledVip]] = {}
        """By group, then by VIP."""
        self._on: dict[str, tuple[int, dict[str, list[VipRecord]]]] = {}
        """By group: the ledger's ``vips_written``, and then the VIPs of each engine."""
        self._services: dict[str, Encoded] = {}
        self._users: dict[tuple[str, str], dict[str, None]] = {}
        """(type, uuid) of a document -> the services compiled with it."""
        self._certificates: dict[str, Encoded | None] = {}

    def changed(self, type: str, uuid: str) -> None:
        """A document changed: forget what was compiled from it."""
        if type == "virtualservice":
            self._services.pop(uuid, None)
        elif type == "sslkeyandcertificate":
            self._certificates.clear()  # it may stand in others' chains
        else:
            for service in self._users.pop((type, uuid), ()):
                self._services.pop(service, None)

    def update(self, group: views.ServiceEngineGroup, intents: Iterable[VipIntent]) -> None:
        state = self._groups[group.uuid] = GroupState(group=group, intents={intent.id: intent for intent in intents})
        compiled = self._vips.get(group.uuid, {})
        if len(compiled) > len(state.intents):
            self._vips[group.uuid] = {id: vip for id, vip in compiled.items() if id in state.intents}

    def forget(self, group: str) -> None:
        self._groups.pop(group, None)
        self._vips.pop(group, None)
        self._on.pop(group, None)

    def intent(self, group: str, vip: str) -> VipIntent | None:
        state = self._groups.get(group)
        return state.intents.get(vip) if state else None

    def parts(self, engine: str) -> EngineParts:
        """All parts the engine should run, by id. An engine without placements gets its settings only."""
        record = self._ledger.engines.get(engine)
        state = self._groups.get(record.group) if record else None
        if record is None or state is None:
            return {}
        mine = self._vips_on(record.group, engine)
        parts: EngineParts = {}
        for vip in mine:
            intent = state.intents.get(vip.id)
            if intent is not None:
                self._add_vip(parts, intent, vip)
        parts["settings"] = encoded(self._settings(record, state.group, mine))
        return parts

    def _vips_on(self, group: str, engine: str) -> list[VipRecord]:
        """The VIPs that the engine must have the configuration of. Their index is made anew with each write: a plan of a
        thousand engines asks for it a thousand times."""
        written = self._ledger.vips_written
        known = self._on.get(group)
        if known is None or known[0] != written:
            index: dict[str, list[VipRecord]] = {}
            for vip in self._ledger.vips.get(group, {}).values():
                for one in engines_of(vip):
                    index.setdefault(one, []).append(vip)
            known = self._on[group] = (written, index)
        return known[1].get(engine, [])

    def armed(self, record: VipRecord) -> bool:
        """Every engine of the succession runs this list."""
        return all(self._fleet.acknowledged(e, record.id) >= record.list_version for e in record.succession)

    def _add_vip(self, parts: EngineParts, intent: VipIntent, record: VipRecord) -> None:
        part = self._vip(intent, record)
        if part is None:
            return
        parts[f"vip/{intent.id}"] = part
        for service in intent.enabled:
            parts[f"service/{service.uuid}"] = self._service(service, intent)
            for reference in service.ssl_key_and_certificate_refs:
                uuid = views.uuid_of(reference)
                certificate = self._certificate(uuid)
                if certificate is not None:
                    parts[f"certificate/{uuid}"] = certificate

    def _vip(self, intent: VipIntent, record: VipRecord) -> Encoded | None:
        armed, slots = self.armed(record), len(intent.enabled)
        compiled = self._vips.setdefault(record.group, {})
        known = compiled.get(record.id)
        same = known is not None and known.record is record and known.armed == armed
        if known is None or not same or (known.addresses, known.slots) != (intent.addresses, slots):
            part = vip_part(intent, record, armed=armed)
            known = CompiledVip(record, intent.addresses, slots, armed, encoded(part) if part is not None else None)
            compiled[record.id] = known
        return known.part

    def _service(self, service: views.VirtualService, intent: VipIntent) -> Encoded:
        known = self._services.get(service.uuid)
        if known is None:
            used = Used(self._documents)
            known = self._services[service.uuid] = encoded(service_part(used, service, intent))
            for key in (*used.keys, ("vsvip", views.uuid_of(service.vsvip_ref))):
                self._users.setdefault(key, {})[service.uuid] = None
        return known

    def _certificate(self, uuid: str) -> Encoded | None:
        if uuid not in self._certificates:
            part = certificate_part(self._documents, uuid, self._unseal)
            self._certificates[uuid] = encoded(part) if part else None
        return self._certificates[uuid]

    def _settings(
        self, engine: EngineRecord, group: views.ServiceEngineGroup, vips: Iterable[VipRecord]
    ) -> wire.Settings:
        mine = tuple(vips)
        others = {id for vip in mine for id in engines_of(vip)} - {engine.id}
        ids = {vip.id for vip in mine}
        records = [
            peer
            for peer in self._ledger.engines_of(engine.group)
            if peer.id in others or (ids and peer.id != engine.id and self._fleet.may_run(peer.id, ids))
        ]
        return wire.Settings(
            group=group.uuid,
            group_name=group.name,
            peers=tuple(
                wire.Peer(id=peer.id, name=peer.name, rank=peer.rank, address=peer.address, mac=peer.mac)
                for peer in records
                if peer.address
            ),
            timing=timing.in_force(group),
            slots_max=2 if group.per_app else group.max_vs_per_se,
            gateway=self._gateway,
            return_through_primary=group.se_tunnel_mode == TUNNEL_ALWAYS,
            heartbeat_key=self._heartbeat_key(group.uuid),
            count_packets=group.auto_rebalance,
        )
