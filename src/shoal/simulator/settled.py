"""What must become true once every fault is over, and stay so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from shoal.placement import plan
from shoal.placement.invariants import violations
from shoal.placement.model import Engine, EngineState, PlacementState, Snapshot, Vip
from shoal.placement.presets import LEGACY

if TYPE_CHECKING:
    from .system_world import SystemWorld

ENABLED = "SE_STATE_ENABLED"
PAIR = 2
LEAVING = ("SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE")
NOTHING: Mapping[str, int] = MappingProxyType({})


def unsettled(world: SystemWorld) -> list[str]:
    """What is not (yet) as intended, in sentences. Empty = every service is served as it should be, or can't be."""
    ledger = world.controller.ledger
    found = [f"{id} has no record, and is still there" for id in world.agents if id not in ledger.engines]
    owners = _owners(world)
    reconciler = world.controller.reconciler
    waiting = not all(machine.running for machine in world.segment.engines.values())
    for group in world.running.view.all("serviceenginegroup"):
        snapshot = reconciler.present(group["uuid"])
        if snapshot is None or not (snapshot.vips or snapshot.engines):
            continue
        engines = {engine.id: engine for engine in snapshot.engines}
        told = (_vip(owners.get(vip.id, []), snapshot, vip, engines, waiting) for vip in snapshot.vips)
        left = [*_engines(snapshot), *(sentence for sentences in told for sentence in sentences)]
        found += left or _at_rest(snapshot, world.clock.now())
    return found


def _engines(snapshot: Snapshot) -> Iterator[str]:
    for engine in snapshot.engines:
        if engine.state is EngineState.CREATING:
            yield f"{engine.name} is still being made"


def _owners(world: SystemWorld) -> dict[str, list[str]]:
    """Who answers for each VIP."""
    owners: dict[str, list[str]] = {}
    for engine in world.segment.engines.values():
        for vip in dict.fromkeys(engine.spoken_for(world.segment.now)):
            owners.setdefault(vip, []).append(engine.name)
    return owners


def _vip(
    owners: list[str], snapshot: Snapshot, vip: Vip, engines: Mapping[str, Engine], waiting: bool
) -> Iterator[str]:
    """``waiting``: there are engines that are not heard of."""
    active = [p for p in vip.placements if p.state is not PlacementState.DRAINING]
    ready = [p.engine for p in active if p.state is PlacementState.READY]
    wanted = vip.requested if vip.enabled else 0
    if len(ready) != len(active) or len(active) != len(vip.placements):
        states = [f"{p.engine} {p.state.value}" for p in vip.placements]
        yield f"{vip.name}: on its way still: {states}"
    elif len(active) > wanted:
        yield f"{vip.name}: on {ready}, wanted on {wanted}"
    elif owners != list(vip.succession[:1] if active else ()):
        yield f"{vip.name}: answered by {owners}, planned for {vip.succession[:1]}"
    elif not vip.armed:
        yield f"{vip.name}: its succession is not armed: {vip.succession}"
    elif vip.blocked and not active:
        if not waiting:
            yield f"{vip.name}: not placed, though every engine runs and is heard: {vip.blocked}"
    elif len(active) < wanted and (room := _room(snapshot, vip)):
        yield f"{vip.name}: on {len(active)} of {wanted} engines, though there is room: {room}"
    elif active and len(vip.succession) < 2 and (able := _able(snapshot, vip, _promised(snapshot, vip))):
        yield f"{vip.name}: nobody would take it over, though {able[0]} could"
    yield from _on_disabled(snapshot, vip, ready, engines)


def _promised(snapshot: Snapshot, vip: Vip) -> Mapping[str, int]:
    """Slots that the other VIPs of its owner take elsewhere when that dies: room for one of them is none for the next."""
    slots: dict[str, int] = {}
    for other in snapshot.vips:
        if other.id != vip.id and other.succession[:1] == vip.succession[:1] and len(other.placements) == 1:
            for engine in other.succession[1:2]:
                slots[engine] = slots.get(engine, 0) + other.slots
    return slots


def _able(snapshot: Snapshot, vip: Vip, promised: Mapping[str, int] = NOTHING) -> list[str]:
    """Engines that could take one VIP more, beside what is ``promised``."""
    if snapshot.group.ha_mode == LEGACY and not _pair_holds(snapshot, vip):
        return []
    load = {engine.id: promised.get(engine.id, 0) for engine in snapshot.engines}
    for other in snapshot.vips:
        for placement in other.placements:
            load[placement.engine] = load.get(placement.engine, 0) + other.slots
    held = {placement.engine for placement in vip.placements}
    return [
        engine.id
        for engine in snapshot.engines
        if engine.id not in held and _usable(engine) and load[engine.id] + vip.slots <= snapshot.group.max_vs_per_se
    ]


def _room(snapshot: Snapshot, vip: Vip) -> str:
    """Where the VIP could be, in words; "" if nowhere."""
    if able := _able(snapshot, vip):
        return f"{able[0]} could take it"
    group = snapshot.group
    counted = sum(engine.state is not EngineState.DOWN for engine in snapshot.engines)
    most = PAIR if group.ha_mode == LEGACY else group.max_se
    holds = group.ha_mode != LEGACY or _pair_holds(snapshot, vip)
    if counted < most and vip.slots <= group.max_vs_per_se and group.can_create and holds:
        return f"{counted} engines of {group.max_se}"
    return ""


def _pair_holds(snapshot: Snapshot, vip: Vip) -> bool:
    """Each of two engines can carry everything: the VIP beside what is placed."""
    placed = sum(other.slots for other in snapshot.vips if other.placements and other.id != vip.id)
    return placed + vip.slots <= snapshot.group.max_vs_per_se


def _usable(engine: Engine) -> bool:
    return engine.state is EngineState.UP and engine.enable_state == ENABLED


def _on_disabled(snapshot: Snapshot, vip: Vip, ready: list[str], engines: Mapping[str, Engine]) -> Iterator[str]:
    for id in ready:
        engine = engines.get(id)
        if engine is None:
            yield f"{vip.name}: on {id}, which is not there"
        elif engine.enable_state in LEAVING and _able(snapshot, vip):
            yield f"{vip.name}: still on {engine.name}, {engine.enable_state}, though {_able(snapshot, vip)[0]} could"


def _at_rest(snapshot: Snapshot, now: float) -> list[str]:
    """Planned again, nothing more is to be done, and every rule holds."""
    again = plan(snapshot, now)
    if not again.empty:
        return [f"{snapshot.group.name}: the next plan still does something: {again.sentence or again.vips}"]
    return violations(snapshot, again)
