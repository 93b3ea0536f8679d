"""Carrying a plan out on paper: the snapshot as it stands afterwards. For what-if, invariants, benchmarks and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from .model import Engine, EngineState, Placement, PlacementState, Plan, Snapshot, Vip, VipPlan
from .standing import Standing

MADE = "made-"
"""What engines that a plan wants are called on paper, with their rank."""


def applied(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The snapshot once ``plan`` is stored: placements as planned, wanted engines being created, answered requests
    gone. Engines that the plan wants get the ids ``made-<rank>``."""
    created = _created(snapshot.engines, plan)
    ids = _ids(created)
    planned = {vip.id: vip for vip in plan.vips}
    answered = {result.request for result in plan.results}
    states = dict(plan.engines_disabled)
    kept = (engine for engine in snapshot.engines if engine.id not in plan.retire_engines)
    return msgspec.structs.replace(
        snapshot,
        engines=(*(_with_state(engine, states) for engine in kept), *created.values()),
        vips=tuple(_as_planned(vip, planned.get(vip.id), ids) for vip in snapshot.vips),
        requests=tuple(request for request in snapshot.requests if request.id not in answered),
    )


def enter(standing: Standing, plan: Plan) -> None:
    """Like `applied`, in place: takes as long as the plan is large."""
    created = _created(standing.engines.values(), plan)
    ids = _ids(created)
    for engine in created.values():
        standing.put_engine(engine)
    for planned in plan.vips:
        standing.put_vip(_as_planned(standing.vips[planned.id], planned, ids))
    for retired in plan.retire_engines:
        standing.drop_engine(retired)
    for disabled, state in plan.engines_disabled:
        standing.put_engine(msgspec.structs.replace(standing.engines[disabled], migrate_state=state))
    if plan.results:
        answered = {result.request for result in plan.results}
        standing.put_requests(request for request in standing.requests if request.id not in answered)


def progress(standing: Standing, plan: Plan, now: float) -> None:
    """Like `progressed`, in place, for what the plan, which was entered, has begun."""
    for engine in [e for e in standing.engines.values() if e.state is EngineState.CREATING] if plan.new_engines else ():
        standing.put_engine(msgspec.structs.replace(engine, state=EngineState.UP))
    for planned in plan.vips:
        vip = standing.vips[planned.id]
        acknowledged = tuple(_acknowledged(p, now) for p in vip.placements)
        standing.put_vip(msgspec.structs.replace(vip, placements=acknowledged, claimant=""))


def made(snapshot: Snapshot, plan: Plan) -> dict[str, str]:
    """The ids that `applied` gives the engines a plan wants, by the plan's placeholders."""
    return _ids(_created(snapshot.engines, plan))


def progressed(snapshot: Snapshot, now: float) -> Snapshot:
    """The snapshot once engines that were being created are up, and all have acknowledged what they were told: who is
    planned to own a VIP owns it."""
    return msgspec.structs.replace(
        snapshot,
        engines=tuple(
            msgspec.structs.replace(e, state=EngineState.UP) if e.state is EngineState.CREATING else e
            for e in snapshot.engines
        ),
        vips=tuple(
            msgspec.structs.replace(vip, placements=tuple(_acknowledged(p, now) for p in vip.placements), claimant="")
            for vip in snapshot.vips
        ),
    )


def _created(engines: Iterable[Engine], plan: Plan) -> dict[str, Engine]:
    """The engines that the plan wants beside these, by its placeholders."""
    if not plan.new_engines:
        return {}
    first = max((engine.rank for engine in engines), default=0) + 1
    return {
        wanted.id: Engine(
            id=f"{MADE}{rank}", name=f"{MADE}{rank}", rank=rank, host=wanted.host, state=EngineState.CREATING
        )
        for rank, wanted in enumerate(plan.new_engines, start=first)
    }


def _ids(created: Mapping[str, Engine]) -> dict[str, str]:
    return {placeholder: engine.id for placeholder, engine in created.items()}


def _with_state(engine: Engine, states: Mapping[str, str]) -> Engine:
    return msgspec.structs.replace(engine, migrate_state=states[engine.id]) if engine.id in states else engine


def _as_planned(vip: Vip, planned: VipPlan | None, ids: Mapping[str, str]) -> Vip:
    if planned is None:
        return vip
    return msgspec.structs.replace(
        vip,
        placements=tuple(msgspec.structs.replace(p, engine=ids.get(p.engine, p.engine)) for p in planned.placements),
        generation=planned.generation,
        succession=tuple(ids.get(engine, engine) for engine in planned.succession),
        list_version=planned.list_version,
        user_factor=planned.user_factor,
        requested=planned.requested,
        awaiting_since=planned.awaiting_since,
        claimant=vip.claimant if planned.generation == vip.generation else "",  # it yields to the newer generation
    )


def _acknowledged(placement: Placement, now: float) -> Placement:
    if placement.state is not PlacementState.ASSIGNED:
        return placement
    return msgspec.structs.replace(placement, state=PlacementState.READY, since=now)
