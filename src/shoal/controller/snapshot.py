"""The frozen state a plan is made from: intent (view), durable records (ledger) and the present (fleet) in one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.placement.model import (
    Engine,
    EngineState,
    Group,
    Need,
    Pace,
    Placement,
    PlacementState,
    Request,
    Snapshot,
    Vip,
)
from shoal.placement.standing import ENABLED, LEAVING_STATES, NO_GATEWAY

from . import interfaces
from .desired import VipIntent
from .fleet import Fleet
from .ledger import Ledger
from .records import EngineRecord, UpgradeStep, VipRecord

SECONDS_PER_MINUTE = 60.0
EXPECTED_WITHIN_S = 5.0
"""An engine that is connected and does not put what it was told into effect holds others up for so long."""

Document = Mapping[str, Any]


def vip_id(vsvip: str, vip: str) -> str:
    """The placement's name of one VIP: ``<vsvip uuid>/<vip_id>``."""
    return f"{vsvip}/{vip}"


def intents_of(vsvip: views.VsVip, sharing: tuple[views.VirtualService, ...], order: int) -> Iterator[VipIntent]:
    """The VIPs of a VsVip that these virtual services of one group share, the oldest first; ``order``: that one's."""
    for vip in vsvip.vip:
        if vip.addresses:
            yield VipIntent(
                id=vip_id(vsvip.uuid, vip.vip_id),
                name=sharing[0].name,
                addresses=vip.addresses,
                services=sharing if vip.enabled else (),
                created=float(order),
                vrf=uuid_of(vsvip.vrf_context_ref),
                labels=vsvip.bgp_peer_labels,
            )


def vips_by_group(
    services: Iterable[views.VirtualService], vsvips: Iterable[views.VsVip], order: Callable[[str], int]
) -> dict[str, dict[str, VipIntent]]:
    """All VIPs in use, by group uuid and id, each with the virtual services that share it, in order of creation.
    ``order(service)`` grows with the time it was made."""
    known = {vsvip.uuid: vsvip for vsvip in vsvips}
    found: dict[tuple[str, str], list[views.VirtualService]] = {}
    for service in services:
        found.setdefault((uuid_of(service.se_group_ref), uuid_of(service.vsvip_ref)), []).append(service)
    groups: dict[str, dict[str, VipIntent]] = {}
    for (group, vsvip), sharing in found.items():
        if vsvip in known:
            for intent in intents_of(known[vsvip], tuple(sharing), order(sharing[0].uuid)):
                groups.setdefault(group, {})[intent.id] = intent
    return groups


def group_value(
    group: views.ServiceEngineGroup,
    *,
    retry_at: float,
    ever_used: bool,
    networks: tuple[str, ...] = (),
    upgrading: str = "",
) -> Group:
    """``networks``: in which an engine that is made will be by VLANs. ``upgrading``: see `emptied`."""
    return Group(
        id=group.uuid,
        name=group.name,
        ha_mode=group.ha_mode,
        algo=group.algo,
        buffer_se=group.buffer_se,
        max_se=group.max_se,
        min_se=group.min_se,
        max_vs_per_se=2 if group.per_app else group.max_vs_per_se,
        per_app=group.per_app,
        min_scaleout_per_vs=group.min_scaleout_per_vs,
        max_scaleout_per_vs=group.max_scaleout_per_vs,
        vs_host_redundancy=group.vs_host_redundancy,
        se_deprovision_delay_s=group.se_deprovision_delay * SECONDS_PER_MINUTE,
        vs_scaleout_timeout_s=float(group.vs_scaleout_timeout),
        vs_scalein_timeout_s=float(group.vs_scalein_timeout),
        vs_scalein_timeout_for_upgrade_s=float(group.vs_scalein_timeout_for_upgrade),
        upgrading=upgrading,
        create_retry_at=retry_at,
        networks_made=networks,
        ever_used=ever_used,
        vs_switchover_timeout_s=float(group.vs_switchover_timeout),
        distribute_load=group.distribute_load_active_standby,
        auto_redistribute=group.auto_redistribute_active_standby_load,
    )


def build(
    revision: int,
    group: views.ServiceEngineGroup,
    intents: Iterable[VipIntent],
    document: Callable[[str], Document | None],
    ledger: Ledger,
    fleet: Fleet,
    now: float,
    retry_at: float = 0.0,
    pace: Callable[[], Pace | None] = lambda: None,
    blocked: Callable[[VipIntent, VipRecord], str] = lambda intent, record: "",
    needs: Callable[[VipIntent], tuple[Need, ...]] = lambda intent: (),
    networks: tuple[str, ...] = (),
) -> Snapshot:
    """The snapshot of one group. ``document(engine id)`` is the stored one. ``pace`` is asked after all engines have
    been looked at; ``blocked`` says of a VIP that is nowhere why it must not be placed yet,
    ``needs`` which networks it wants its engines in; ``networks`` those that an engine that is made will be in."""
    engines = ledger.engines_of(group.uuid)
    states = fleet.look(ledger.engines)
    lost = fleet.without_gateway(engine.id for engine in engines)
    known = ledger.vips.get(group.uuid, {})
    return Snapshot(
        revision=revision,
        group=group_value(
            group,
            retry_at=retry_at,
            ever_used=bool(engines or known),
            networks=networks,
            upgrading=emptied(ledger, group.uuid),
        ),
        engines=tuple(
            engine_value(
                engine,
                states[engine.id],
                document(engine.id),
                fleet.live(engine.id).down_since,
                lost.get(engine.id, ""),
            )
            for engine in engines
        ),
        vips=tuple(
            vip_value(intent, record, states, fleet, now, blocked, needs)
            for intent in intents
            for record in (known.get(intent.id) or ledger.fresh_vip(group.uuid, intent.id),)
        ),
        requests=requests_of(ledger, group.uuid),
        pace=pace(),
    )


def emptied(ledger: Ledger, group: str) -> str:
    """The engine of the group that is being emptied to be upgraded; "" if none is."""
    upgrade = ledger.upgrades.get(group)
    return upgrade.engine if upgrade is not None and upgrade.step is UpgradeStep.EMPTY else ""


def requests_of(ledger: Ledger, group: str) -> tuple[Request, ...]:
    """The open ones, in the order in which they were made."""
    open = sorted(ledger.requests.get(group, {}).values(), key=lambda r: r.request.at)
    return tuple(record.request for record in open)


def engine_value(
    record: EngineRecord, state: EngineState, document: Document | None, down_since: float | None, gateway: str = ""
) -> Engine:
    """``gateway``: one that the engine has lost."""
    wish = document.get("enable_state", ENABLED) if document is not None else ENABLED
    return Engine(
        id=record.id,
        name=record.name,
        rank=record.rank,
        host=record.host,
        state=state,
        enable_state=NO_GATEWAY if gateway and wish not in LEAVING_STATES else wish,
        lost_gateway=gateway,
        idle_since=record.idle_since,
        down_since=down_since,
        migrate_state=record.migrate_state,
        home=interfaces.home(document) if document is not None else "",
        vlans=tuple(sorted(map(str, interfaces.networks(document)))) if document is not None else (),
    )


def vip_value(
    intent: VipIntent,
    record: VipRecord,
    states: Mapping[str, EngineState],
    fleet: Fleet,
    now: float,
    blocked: Callable[[VipIntent, VipRecord], str],
    needs: Callable[[VipIntent], tuple[Need, ...]],
) -> Vip:
    enabled = intent.enabled
    return Vip(
        id=intent.id,
        name=intent.name,
        slots=max(1, len(enabled)),
        created=intent.created,
        enabled=bool(enabled),
        user_factor=record.user_factor,
        placements=tuple(_progress(p, record, fleet, now) for p in record.placements),
        generation=record.generation,
        succession=record.succession,
        list_version=record.list_version,
        claimant=_claimant(record, states, fleet),
        awaiting_since=record.awaiting_since,
        requested=record.requested,
        tag=intent.tag,
        blocked="" if record.placements else blocked(intent, record),
        armed=fleet.agreed(record),
        addresses=intent.addresses,
        needs=needs(intent),
    )


def _progress(placement: Placement, record: VipRecord, fleet: Fleet, now: float) -> Placement:
    """What the engine has reported since: it serves now, or has no connection left."""
    if placement.since > now:  # the clock was set back: count from here, not hours later
        placement = msgspec.structs.replace(placement, since=now)
    if placement.state is PlacementState.ASSIGNED:
        acknowledged = fleet.acknowledged(placement.engine, record.id) >= record.list_version > 0
        if acknowledged and _expected(placement, record, fleet, now):
            return msgspec.structs.replace(placement, state=PlacementState.READY, since=now)
    elif placement.state is PlacementState.READY:
        live = fleet.live(placement.engine)
        restarted_empty = live.session is not None and record.id not in live.runs.lists and live.applied == ""
        if restarted_empty:
            return msgspec.structs.replace(placement, state=PlacementState.ASSIGNED, since=now)
    elif placement.state is PlacementState.DRAINING and not placement.drained:
        drained = fleet.drained(placement.engine, record.id, (p.engine for p in record.placements))
        return msgspec.structs.replace(placement, drained=drained)
    return placement


def _expected(placement: Placement, record: VipRecord, fleet: Fleet, now: float) -> bool:
    """Whether all that serve the VIP know of this engine. It may become the owner as soon as it is ready, and then asks
    them for their connections: one that has not heard of it yet would take its questions for a client's packets, and
    reset what it has no connection for."""
    others = (
        p.engine for p in record.placements if p.engine != placement.engine and p.state is not PlacementState.WAITING
    )
    asked = (engine for engine in others if fleet.live(engine).session is not None)
    told = all(fleet.acknowledged(engine, record.id) >= record.list_version for engine in asked)
    return told or now - placement.since >= EXPECTED_WITHIN_S


def _claimant(record: VipRecord, states: Mapping[str, EngineState], fleet: Fleet) -> str:
    """The engine that took the VIP over by itself, if it did. The report of an engine that was already replaced by a
    newer generation is no takeover, unless the planned owner is dead."""
    owner = fleet.owner(record.id)
    if owner is None or states.get(owner.engine) is not EngineState.UP:
        return ""
    planned = record.succession[0] if record.succession else ""
    if owner.claim.generation < record.generation and states.get(planned) in (EngineState.UP, EngineState.SUSPECT):
        return ""
    return owner.engine
