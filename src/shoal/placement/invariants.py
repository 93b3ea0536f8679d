"""What must always hold. One module, used by tests, the simulator and the running controller."""

from __future__ import annotations

from .model import EngineState, PlacementState, Role, Snapshot

ACTIVE = (PlacementState.WAITING, PlacementState.ASSIGNED, PlacementState.READY)


def violations(snapshot: Snapshot) -> list[str]:
    """Sentences naming each rule that does not hold in a settled snapshot; empty = all is well."""
    found: list[str] = []
    load = dict.fromkeys((engine.id for engine in snapshot.engines), 0)
    state = {engine.id: engine for engine in snapshot.engines}
    for vip in snapshot.vips:
        engines = [p.engine for p in vip.placements]
        if len(set(engines)) != len(engines):
            found.append(f"{vip.name} is placed twice on one engine: {engines}")
        primaries = [p.engine for p in vip.placements if p.role is Role.PRIMARY and p.state in ACTIVE]
        if any(p.state in ACTIVE for p in vip.placements) and len(primaries) != 1:
            found.append(f"{vip.name} has {len(primaries)} primaries")
        if vip.succession and vip.succession[0] not in primaries:
            found.append(f"{vip.name}: the succession starts with {vip.succession[0]}, the primary is {primaries}")
        if len(set(vip.succession)) != len(vip.succession):
            found.append(f"{vip.name}: an engine stands twice in the succession {vip.succession}")
        for placement in vip.placements:
            engine = state.get(placement.engine)
            if engine is None or engine.state is EngineState.DOWN:
                found.append(f"{vip.name} is placed on {placement.engine}, which is not there")
            else:
                load[engine.id] += vip.slots
    for id, used in load.items():
        if used > snapshot.group.max_vs_per_se:
            found.append(f"{id} holds {used} of max_vs_per_se {snapshot.group.max_vs_per_se}")
    counted = [e for e in snapshot.engines if e.state is not EngineState.DOWN]
    if len(counted) > snapshot.group.max_se:
        found.append(f"{len(counted)} engines, max_se is {snapshot.group.max_se}")
    return found
