"""What must always hold. One module, used by tests, the simulator and the running controller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import reach
from .carry import applied
from .model import Engine, EngineState, Placement, PlacementState, Plan, RequestKind, Role, Snapshot, Vip
from .presets import LEGACY, SHARED
from .standing import Standing

ACTIVE = (PlacementState.WAITING, PlacementState.ASSIGNED, PlacementState.READY)
ENABLED = "SE_STATE_ENABLED"
FORCE = "SE_STATE_DISABLED_FORCE"
LEAVING_STATES = ("SE_STATE_DISABLED", FORCE, "NO_GATEWAY")


def violations(snapshot: Snapshot, plan: Plan | None = None) -> list[str]:
    """Sentences naming each rule that does not hold; empty = all is well.

    Alone, the snapshot's own consistency is looked at. With the plan made from it, so is what the plan does: limits
    that an edit of the group has broken already must not get worse, and nothing that serves may be given up.
    """
    if plan is None:
        return [*_consistency(snapshot), *_over(snapshot, None)]
    after = applied(snapshot, plan)
    found = [*_consistency(after), *_over(after, snapshot), *_moves(snapshot, after), *_buffer(after, plan)]
    return [*found, *_pair(snapshot, after)] if after.group.ha_mode == LEGACY else found


def violations_near(standing: Standing, plan: Plan, looked_at: Iterable[str], engines: Iterable[str]) -> list[str]:
    """As `violations` of the whole group, of what the plan touches alone, at that cost: the VIPs it changes and those
    ``looked_at``, and all others on the engines of these and on ``engines``. Counts of the group as a whole are looked at
    too. For groups in elastic modes; what it finds may be no violation in the light of the rest."""
    around = dict.fromkeys((*plan.retire_engines, *engines))
    vips = dict.fromkeys(id for id in (*looked_at, *(vip.id for vip in plan.vips)) if id in standing.vips)
    for placements in (*(standing.vips[id].placements for id in vips), *(vip.placements for vip in plan.vips)):
        around.update((placement.engine, None) for placement in placements)
    for engine in around:
        vips.update(standing.held.get(engine, {}))
    part = Snapshot(
        revision=standing.revision,
        group=standing.group,
        engines=tuple(standing.engines.values()),
        vips=tuple(standing.vips[id] for id in vips),
        requests=standing.requests,
        pace=standing.pace,
    )
    return violations(part, plan)


def _consistency(snapshot: Snapshot) -> Iterator[str]:
    engines = {engine.id for engine in snapshot.engines}
    suspects = {engine.id for engine in snapshot.engines if engine.state is EngineState.SUSPECT}
    for vip in snapshot.vips:
        held = [p.engine for p in vip.placements]
        active = [p for p in vip.placements if p.state in ACTIVE]
        primaries = [p.engine for p in active if p.role is Role.PRIMARY]
        if len(set(held)) != len(held):
            yield f"{vip.name} is placed twice on one engine: {held}"
        if active and len(primaries) != 1:
            yield f"{vip.name} has {len(primaries)} primaries: {primaries}"
        nowhere = all(p.state is PlacementState.WAITING for p in active)
        kept = nowhere and not suspects.isdisjoint(vip.succession)  # they may have taken over by it
        if vip.succession and vip.succession[0] not in primaries and not kept:
            yield f"{vip.name}: the succession starts with {vip.succession[0]}, the primary is {primaries}"
        if len(set(vip.succession)) != len(vip.succession):
            yield f"{vip.name}: an engine stands twice in the succession {vip.succession}"
        for engine in held:
            if engine not in engines:
                yield f"{vip.name} is placed on {engine}, which is not there"


def _load(snapshot: Snapshot, slots: dict[str, int]) -> dict[str, int]:
    load = {engine.id: 0 for engine in snapshot.engines}
    for vip in snapshot.vips:
        for placement in vip.placements:
            load[placement.engine] = load.get(placement.engine, 0) + slots[vip.id]
    return load


def _over(after: Snapshot, before: Snapshot | None) -> Iterator[str]:
    slots = {vip.id: vip.slots for vip in after.vips}
    was = _load(before, slots) if before else {}
    adopted = {vip.claimant for vip in (before or after).vips}  # carried out, a plan leaves no claim beyond its own
    for engine, used in _load(after, slots).items():
        most = after.group.max_vs_per_se
        if used > max(most, was.get(engine, 0)) and engine not in adopted:
            yield f"{engine} holds {used} of max_vs_per_se {most}"
    counted = [e for e in after.engines if e.state is not EngineState.DOWN]
    stood = sum(e.state is not EngineState.DOWN for e in before.engines) if before else 0
    if len(counted) > max(after.group.max_se, stood):
        yield f"{len(counted)} engines, max_se is {after.group.max_se}"


def _moves(before: Snapshot, after: Snapshot) -> Iterator[str]:
    engines = {engine.id: engine for engine in after.engines}
    was = {vip.id: vip for vip in before.vips}
    for vip in after.vips:
        yield from _placed_well(after, was[vip.id], vip, engines)
        yield from _kept_up(was[vip.id], vip, engines)
        yield from _left_alone(was[vip.id], vip, engines)
        yield from _ordered(was[vip.id], vip, engines)


def _placed_well(after: Snapshot, was: Vip, vip: Vip, engines: dict[str, Engine]) -> Iterator[str]:
    held = {p.engine for p in was.placements}
    if was.blocked and not held and vip.placements and not was.claimant:
        yield f"{vip.name} was placed, though {was.blocked}"
    for placement in vip.placements:
        engine = engines.get(placement.engine)
        if engine is None or engine.id in held or engine.id == was.claimant:
            continue
        if engine.state in (EngineState.DOWN, EngineState.SUSPECT) or engine.enable_state != ENABLED:
            yield f"{vip.name} was placed on {engine.id}, which is {engine.state.value}, {engine.enable_state}"
        if engine.state is EngineState.UP and (lacks := _lacks(after, vip, engine)):
            yield f"{vip.name} was placed on {engine.id}, which has no interface in {lacks}"
        spread = after.group.vs_host_redundancy and after.group.ha_mode != LEGACY  # there it is active on one
        if spread and not placement.request and engine.state is EngineState.UP:
            yield from _host(after, vip, placement, engines)


def _lacks(snapshot: Snapshot, vip: Vip, engine: Engine) -> str:
    vlans = {vlan for one in snapshot.engines for vlan in one.vlans}
    networks = engine.networks
    if not engine.home:  # what it has is not known yet
        homes = dict.fromkeys(one.home for one in snapshot.engines if one.home)
        networks = (*homes, *snapshot.group.networks_made, *engine.vlans)
    return reach.lacking(reach.needs(vip, vlans), networks)


def _host(after: Snapshot, vip: Vip, placement: Placement, engines: dict[str, Engine]) -> Iterator[str]:
    """One that is migrated may be where its successor goes: it leaves."""
    moving = {request.id for request in after.requests if request.kind is RequestKind.MIGRATE}

    def hosts(active: list[Placement]) -> set[str]:
        others = [engines[p.engine] for p in active if p.engine in engines and p.engine != placement.engine]
        return {engine.host for engine in others if engine.enable_state not in LEAVING_STATES}

    own = engines[placement.engine].host
    taken = hosts([p for p in vip.placements if p.state in ACTIVE and p.request not in moving])
    if not own or own not in taken:
        return
    taken |= hosts([p for p in vip.placements if p.state in ACTIVE])  # what is migrated takes up its new host, too
    load = _load(after, {v.id: v.slots for v in after.vips})
    held = {p.engine for p in vip.placements}  # it may be leaving one, as was asked for
    for engine in after.engines:
        if engine.id in held:
            continue
        good = engine.state is EngineState.UP and engine.enable_state == ENABLED and engine.host not in taken
        good = good and not _lacks(after, vip, engine)
        if good and load[engine.id] + vip.slots <= after.group.max_vs_per_se and engine.host:
            yield f"{vip.name} was placed twice on host {own}, {engine.id} on {engine.host} has room"


def _kept_up(was: Vip, vip: Vip, engines: dict[str, Engine]) -> Iterator[str]:
    def ready(of: Vip) -> list[str]:
        up = (p.engine for p in of.placements if p.state is PlacementState.READY and p.engine in engines)
        return [e for e in up if engines[e].state is EngineState.UP and engines[e].enable_state != FORCE]

    if vip.enabled and ready(was) and not ready(vip):
        yield f"{vip.name} was served by {ready(was)} and no longer is"


def _left_alone(was: Vip, vip: Vip, engines: dict[str, Engine]) -> Iterator[str]:
    """What engines out of sight hold stays there: they serve it still, for all that is known. One that a VIP only waits for
    was never told of it."""
    if not vip.enabled or was.claimant:
        return
    held = {p.engine for p in vip.placements if p.state in ACTIVE}
    for placement in was.placements:
        engine = engines.get(placement.engine)
        suspect = engine is not None and engine.state is EngineState.SUSPECT and engine.enable_state != FORCE
        told = placement.state is not PlacementState.WAITING or placement.engine in was.succession
        if suspect and told and placement.state in ACTIVE and placement.engine not in held:
            yield f"{vip.name} was moved off {placement.engine}, which is out of sight and may serve it"


def _ordered(was: Vip, vip: Vip, engines: dict[str, Engine]) -> Iterator[str]:
    if vip.succession and was.succession[:1] != vip.succession[:1] and vip.generation <= was.generation:
        yield f"{vip.name} has a new owner without a new generation ({vip.generation})"
    if vip.succession != was.succession and vip.list_version <= was.list_version:
        yield f"{vip.name} has a new succession without a new version ({vip.list_version})"
    if vip.generation < was.generation or vip.list_version < was.list_version:
        yield f"{vip.name}: generation or version went back"
    if vip.succession == was.succession:
        return  # a list that waits for a takeover stands as it was
    held = {p.engine for p in vip.placements}
    for engine in vip.succession[1:]:
        found = engines.get(engine)
        usable = found is not None and found.state is EngineState.UP and found.enable_state == ENABLED
        if engine not in held and not usable:
            yield f"{vip.name} would be taken over by {engine}, which may not take anything"


def _buffer(after: Snapshot, plan: Plan) -> Iterator[str]:
    group = after.group
    counted = sum(e.state is not EngineState.DOWN for e in after.engines)
    able = group.can_create and not group.create_retry_at and counted < group.max_se
    if group.ha_mode == SHARED and able and not plan.buffer.kept:
        yield f"the buffer has {plan.buffer.free} of {plan.buffer.needed} slots, {counted} engines of {group.max_se}"


def _pair(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """A VIP has one standby, and each engine that is to take over could carry what it takes beside what it has."""
    carries = {engine.id: 0 for engine in after.engines}
    takes = dict(carries)
    was = {vip.id: vip for vip in before.vips}
    for vip in after.vips:
        active = [p.engine for p in vip.placements if p.state in ACTIVE]
        if len(active) > max(2, sum(p.state in ACTIVE for p in was[vip.id].placements)):
            yield f"{vip.name} is active on {active}, and a pair has two engines"
        if len(vip.succession) > 2 and vip.succession != was[vip.id].succession:
            yield f"{vip.name} has more than one standby: {vip.succession}"
        for engine in active:
            carries[engine] = carries.get(engine, 0) + vip.slots
        for engine in vip.succession[1:]:
            if engine not in active and vip.succession != was[vip.id].succession:
                takes[engine] = takes.get(engine, 0) + vip.slots
    most = after.group.max_vs_per_se
    for engine, slots in takes.items():
        if slots and carries[engine] + slots > most:
            yield f"{engine} would carry {carries[engine]} and {slots} more, max_vs_per_se is {most}"
    new = [e for e in after.engines if e.id not in {engine.id for engine in before.engines}]
    counted = sum(e.state is not EngineState.DOWN for e in after.engines)
    if new and counted > 2:
        yield f"a pair was given an engine, and has {counted}"
