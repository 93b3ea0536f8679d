"""Keeps, per engine, the parts it should run. Fed after each plan; asked by the engines' sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shoal.objects import views
from shoal.placement.standing import FORCE
from shoal.wire import desired as wire
from shoal.wire.networks import KIND

from . import timing
from .bgp import bgp_part
from .desired import (
    Encoded,
    EngineParts,
    VipIntent,
    certificate_part,
    credentials_of,
    encoded,
    engines_of,
    service_part,
    trust_part,
    vip_part,
)
from .fleet import Fleet
from .gateways import gateways_part
from .interfaces import interfaces_part, vlans
from .ledger import Ledger
from .ocsp import Answer
from .protocols import Documents
from .records import EngineRecord, VipRecord
from .routes import routes_part
from .tickets import Secrets

TUNNEL_ALWAYS = 1
"""``se_tunnel_mode``: 0 and 2 are direct."""
NOTHING: Mapping[str, str] = {}
WATCHED = {False: "gateways", True: "gateways and next hops"}
"""By ``host_gateway_monitor`` of the group."""


class GroupState(msgspec.Struct, kw_only=True):
    """One group as last compiled."""

    group: views.ServiceEngineGroup
    intents: dict[str, VipIntent]
    vrfs: Counter[str]
    """How many VIPs are of each."""


class CompiledVip(msgspec.Struct, frozen=True):
    """A VIP's part, and all that it was made of."""

    record: VipRecord
    addresses: tuple[str, ...]
    slots: int
    route: wire.Route | None
    ecmp: bool
    armed: bool
    part: Encoded | None


class CompiledService(msgspec.Struct, frozen=True):
    """A service's part, and all that it was made of beside the documents it refers to. ``shared``: the certificates of all
    services of its VIP; ``needs``: kind and uuid of the credentials and routes that it serves with."""

    service: views.VirtualService
    addresses: tuple[str, ...]
    shared: tuple[str, ...]
    part: Encoded
    needs: tuple[tuple[str, str], ...]


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
    another by; ``account(management profile)`` the thumbprint of an ACME account,
    ``answer(certificate)`` what OCSP says of one, ``tickets(group)`` what its
    keys of session tickets are made from; ``networks(id)`` is a list of networks; ``gateway`` is the data network's, a witness for engines."""

    def __init__(
        self,
        documents: Documents,
        ledger: Ledger,
        fleet: Fleet,
        *,
        unseal: Callable[[str, str], str],
        heartbeat_key: Callable[[str], bytes],
        account: Callable[[str], str] = lambda profile: "",
        answer: Callable[[str], Answer | None] = lambda certificate: None,
        tickets: Callable[[str], Secrets | None] = lambda group: None,
        networks: Callable[[str], Encoded | None] = lambda list: None,
        gateway: str = "",
    ) -> None:
        self._documents = documents
        self._ledger = ledger
        self._fleet = fleet
        self._unseal = unseal
        self._heartbeat_key = heartbeat_key
        self._account = account
        self._answer = answer
        self._tickets = tickets
        self._networks = networks
        self._gateway = gateway
        self.going: Callable[[], Iterable[EngineRecord]] = tuple
        """Retired engines that the cloud has not deleted yet: they may run, by an old state."""
        self._groups: dict[str, GroupState] = {}
        self._vips: dict[str, dict[str, CompiledVip]] = {}
        """By group, then by VIP."""
        self._unheard: dict[str, tuple[list[EngineRecord], int, tuple[str, ...]]] = {}
        """By group: what `_strangers` depends on, and its answer."""
        self._services: dict[str, dict[str, CompiledService]] = {}
        """By service, then by VIP."""
        self._users: dict[tuple[str, str], dict[str, None]] = {}
        """(type, uuid) of a document -> the services compiled with it."""
        self._credentials: dict[tuple[str, str], Encoded | None] = {}
        """By kind of part and uuid."""
        self._settings_of: dict[str, tuple[wire.Settings, Encoded]] = {}
        """By engine."""

    def changed(self, type: str, uuid: str) -> Collection[str] | None:
        """A document changed: forget what was compiled from it. The services that were; None = any may have been."""
        if type == "virtualservice":  # its virtual hosts have its ports
            services = {uuid: None, **self._users.pop((type, uuid), {})}
            for service in services:
                self._services.pop(service, None)
            return services.keys()
        if type == "vrfcontext":
            for kind in ("bgp", "routes", *WATCHED.values()):
                self._credentials.pop((kind, uuid), None)
            return None
        if type == "pkiprofile":
            self._credentials.pop(("trust", uuid), None)
        services = self._users.pop((type, uuid), {})
        for service in services:
            self._services.pop(service, None)
        if type == "sslkeyandcertificate":
            self._credentials.clear()  # it may stand in others' chains
            return None
        return services.keys()

    def update(
        self, group: views.ServiceEngineGroup, intents: Mapping[str, VipIntent], vips: Iterable[str] | None = None
    ) -> bool:
        """``vips``: those whose intent may have changed; None = all. True if every engine of the group may have to run
        something else now."""
        known = self._groups.get(group.uuid)
        if known is None or vips is None:
            vrfs = Counter(intent.vrf for intent in intents.values())
            self._groups[group.uuid] = GroupState(group=group, intents=dict(intents), vrfs=vrfs)
            compiled = self._vips.get(group.uuid, {})
            self._vips[group.uuid] = {id: vip for id, vip in compiled.items() if id in intents}
            self._settings_of = {id: made for id, made in self._settings_of.items() if id in self._ledger.engines}
            return True
        vrfs = known.vrfs.copy()
        for id in vips:
            if (was := known.intents.get(id)) is not None:
                vrfs[was.vrf] -= 1
            intent = intents.get(id)
            if intent is not None:
                known.intents[id] = intent
                vrfs[intent.vrf] += 1
            else:
                known.intents.pop(id, None)
                self._vips.get(group.uuid, {}).pop(id, None)
        before, known.group = known.group, group
        watched, known.vrfs = known.vrfs, +vrfs
        return before != group or known.vrfs.keys() != watched.keys()

    def forget(self, group: str) -> None:
        self._groups.pop(group, None)
        self._vips.pop(group, None)
        self._unheard.pop(group, None)

    def intent(self, group: str, vip: str) -> VipIntent | None:
        state = self._groups.get(group)
        return state.intents.get(vip) if state else None

    def parts(self, engine: str, having: Mapping[str, str] = NOTHING) -> EngineParts:
        """All parts the engine should run, by id. An engine without placements gets its settings and gateways only.

        ``having``: the hashes of those that it has. Of a VIP it is the part that the engine has, if it makes no other difference
        than whether the list is armed.
        """
        record = self._ledger.engines.get(engine)
        state = self._groups.get(record.group) if record else None
        if record is None or state is None:
            return {}
        mine = [vip for vip in self._ledger.naming(engine) if vip.group == record.group and self.is_told(engine, vip)]
        parts: EngineParts = {}
        for vip in mine:
            intent = state.intents.get(vip.id)
            if intent is not None:
                self._add_vip(parts, intent, vip, having)
        secrets = self._tickets(record.group)
        if secrets is not None and any(id.startswith("certificate/") for id in parts):
            parts[f"tickets/{record.group}"] = encoded(wire.Tickets(id=record.group, secrets=secrets))
        document = self._documents.get("serviceengine", engine)
        if (interfaces := interfaces_part(document)) is not None and document is not None:
            parts["interfaces"] = encoded(interfaces)
            self._add_routes(parts, (views.uuid_of(vlan.get("vrf_ref") or "") for vlan in vlans(document)))
        for vrf in state.vrfs:  # an idle engine watches, too: whether it would do better is asked before it is needed
            if (gateways := self._credential(WATCHED[state.group.host_gateway_monitor], vrf)) is not None:
                parts[f"gateways/{vrf}"] = gateways
        parts["settings"] = self._encoded_settings(engine, self._settings(record, state.group, mine))
        return parts

    def _encoded_settings(self, engine: str, settings: wire.Settings) -> Encoded:
        known = self._settings_of.get(engine)
        if known is None or known[0] != settings:
            known = self._settings_of[engine] = settings, encoded(settings)
        return known[1]

    def is_told(self, engine: str, record: VipRecord) -> bool:
        """It has the VIP's configuration: by the plan, or still."""
        return engine in engines_of(record) or self.takes_over_still(engine, record)

    def takes_over_still(self, engine: str, record: VipRecord) -> bool:
        """By the list in force, until the next one is armed: make before break. Not once it has left the VIP, nor if an operator
        trusts it no more."""
        if engine not in record.in_force or self._fleet.armed(record) or not self._fleet.has(engine, record.id):
            return False
        return (self._documents.get("serviceengine", engine) or {}).get("enable_state") != FORCE

    def _add_vip(self, parts: EngineParts, intent: VipIntent, record: VipRecord, having: Mapping[str, str]) -> None:
        part = self._vip(intent, record, having.get(f"vip/{record.id}", ""))
        if part is None:
            return
        parts[f"vip/{intent.id}"] = part
        if part.vip is not None and (route := part.vip.route) is not None:
            bgp = self._credential("bgp", route.vrf)
            if bgp is not None:
                parts[f"bgp/{route.vrf}"] = bgp
        for service in intent.enabled:
            compiled = self._service(service, intent)
            parts[f"service/{service.uuid}"] = compiled.part
            for kind, uuid in compiled.needs:
                credential = self._credential(kind, uuid)
                if credential is not None:
                    parts[f"{kind}/{uuid}"] = credential

    def _add_routes(self, parts: EngineParts, vrfs: Iterable[str]) -> None:
        for vrf in vrfs:
            routes = self._credential("routes", vrf)
            if routes is not None:
                parts[f"routes/{vrf}"] = routes

    def _vip(self, intent: VipIntent, record: VipRecord, has: str = "") -> Encoded | None:
        """``has``: the hash of the one that the engine has; see `parts`."""
        armed, slots = self._fleet.armed(record), len(intent.enabled)
        compiled = self._vips.setdefault(record.group, {})
        known = compiled.get(record.id)
        same = known is not None and known.record is record and known.armed == armed
        facts = (intent.owned, slots, intent.route, intent.ecmp)
        if known is None or not same or (known.addresses, known.slots, known.route, known.ecmp) != facts:
            part = vip_part(intent, record, armed=armed)
            known = CompiledVip(record, *facts, armed, encoded(part) if part is not None else None)
            compiled[record.id] = known
        if has and known.part is not None and known.part.hash != has:
            other = vip_part(intent, record, armed=not armed)
            if other is not None and (was := encoded(other)).hash == has:
                return was
        return known.part

    def _service(self, service: views.VirtualService, intent: VipIntent) -> CompiledService:
        compiled = self._services.setdefault(service.uuid, {})
        known = compiled.get(intent.id)
        shared = tuple(reference for one in intent.services for reference in one.ssl_key_and_certificate_refs)
        made_of = (service, intent.addresses, shared)
        if known is None or known.service is not service or (known.addresses, known.shared) != made_of[1:]:
            used = Used(self._documents)
            part = service_part(used, service, intent, self._unseal, self._account)
            pool = used.get("pool", views.uuid_of(service.pool_ref)) or {}
            routed = dict.fromkeys((intent.vrf, views.uuid_of(pool.get("vrf_ref", ""))))
            needs = (*credentials_of(part), *(("routes", vrf) for vrf in routed if vrf))
            known = compiled[intent.id] = CompiledService(*made_of, encoded(part), needs)
            for key in (*used.keys, ("vsvip", views.uuid_of(service.vsvip_ref))):
                self._users.setdefault(key, {})[service.uuid] = None
        return known

    def _credential(self, kind: str, uuid: str) -> Encoded | None:
        if kind == KIND:
            return self._networks(uuid)
        if (kind, uuid) not in self._credentials:
            part: wire.Credential | wire.Bgp | wire.Routes | wire.Gateways | None
            if kind == "certificate":
                part = certificate_part(self._documents, uuid, self._unseal, self._answer)
            elif kind == "bgp":
                part = bgp_part(self._documents, uuid, self._unseal)
            elif kind == "routes":
                part = routes_part(self._documents, uuid)
            elif kind in WATCHED.values():
                part = gateways_part(self._documents, uuid, next_hops=kind == WATCHED[True])
            else:
                part = trust_part(self._documents, uuid)
            self._credentials[kind, uuid] = encoded(part) if part else None
        return self._credentials[kind, uuid]

    def _settings(
        self, engine: EngineRecord, group: views.ServiceEngineGroup, vips: Collection[VipRecord]
    ) -> wire.Settings:
        """An engine's peers are all that may have to do with a VIP of its own."""
        ids = {one for vip in vips for one in (*engines_of(vip), *self._fleet.runners(vip.id))}
        if vips:
            ids.update(self._strangers(engine.group))
        ids.discard(engine.id)
        known = self._ledger.engines
        found = [known[id] for id in ids if id in known and known[id].group == group.uuid]
        peers = sorted((*found, *self._going_with(group.uuid, vips)), key=_rank)
        return wire.Settings(
            group=group.uuid,
            group_name=group.name,
            peers=tuple(
                wire.Peer(id=peer.id, name=peer.name, rank=peer.rank, address=peer.address, mac=peer.mac)
                for peer in peers
                if peer.address
            ),
            timing=timing.in_force(group),
            slots_max=2 if group.per_app else group.max_vs_per_se,
            gateway=self._gateway,
            return_through_primary=group.se_tunnel_mode == TUNNEL_ALWAYS,
            heartbeat_key=self._heartbeat_key(group.uuid),
            announce_every_s=60 * group.gratarp_permanent_periodicity if group.enable_gratarp_permanent else 0,
            count_packets=group.auto_rebalance,
            link_mbit=group.data_link_mbit,
        )

    def _going_with(self, group: str, vips: Collection[VipRecord]) -> Iterator[EngineRecord]:
        """Retired engines of the group that may have one of the VIPs: who serves it goes on telling them so."""
        for engine in self.going():
            if engine.group == group:
                having = self._fleet.may_have(engine.id)
                if any(having is None or vip.id in having for vip in vips):
                    yield engine

    def _strangers(self, group: str) -> tuple[str, ...]:
        """Engines that an earlier controller knew and this one has not heard of: they may act by any state. None, most of
        the time, so they are not looked for at each call."""
        engines, heard = self._ledger.engines_of(group), self._fleet.first_heard
        known = self._unheard.get(group)
        if known is None or known[0] is not engines or known[1] != heard:
            found = tuple(engine.id for engine in engines if engine.seen and not self._fleet.heard_of(engine.id))
            known = self._unheard[group] = (engines, heard, found)
        return known[2]


def _rank(engine: EngineRecord) -> int:
    return engine.rank
