"""How far an operation on a VIP has come, and what became of the last one, in the field's words (elastic-ha 3.6).

An operation is what an operator asked for, or what the controller does by itself: placing a VIP first, making up for a
lost engine, following an edit. `advance` is called when a VIP's record changes; the steps of one that is under way
are read off its placements (`state`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from shoal.placement.model import Placement, PlacementState, Request, RequestKind, RequestResult

from .records import Scaling, VipRecord

SCALE_OUT, SCALE_IN = "SCALE_OUT", "SCALE_IN"
SWITCHOVER = "SWITCHOVER"
MIGRATE_OUT, MIGRATE_IN = "MIGRATE_SCALEOUT", "MIGRATE_SCALEIN"
INITIAL, LOST, RAISED, DISABLED = "INITIAL_PLACEMENT", "SE_REMOVED", "MIN_SCALEOUT_UPDATED", "VS_DISABLED"
DONE = {SCALE_IN: "SCALEIN_SUCCESS", MIGRATE_OUT: "MIGRATE_SUCCESS", MIGRATE_IN: "MIGRATE_SUCCESS"}
FAILED = {SCALE_OUT: "SCALEOUT_ROLLBACK", SCALE_IN: "SCALEIN_ERROR", SWITCHOVER: "SCALEOUT_ERROR"}
"""How an operation ends, by its action; else SCALEOUT_SUCCESS and MIGRATE_ERROR."""
ACTIONS = {
    RequestKind.SCALE_OUT: SCALE_OUT,
    RequestKind.SCALE_IN: SCALE_IN,
    RequestKind.MIGRATE: MIGRATE_OUT,
    RequestKind.SWITCHOVER: SWITCHOVER,
}
JOINING = {
    PlacementState.WAITING: "CREATING_SE",
    PlacementState.ASSIGNED: "AWAITING_SE_PROGRAMMING",
    PlacementState.READY: "WAIT_FOR_SE_READY",
}
"""What an engine that joins waits for."""


def draining(record: VipRecord) -> list[Placement]:
    return [p for p in record.placements if p.state is PlacementState.DRAINING]


def ready(record: VipRecord | None) -> list[Placement]:
    return [p for p in record.placements if p.state is PlacementState.READY] if record else []


# --- what is under way ---


def advance(
    before: VipRecord | None,
    after: VipRecord,
    requests: Iterable[Request],
    results: Mapping[str, RequestResult],
    now: float,
) -> VipRecord:
    """``after`` with its operation begun, gone on with or ended. ``requests``: those open when the plan was made;
    ``results``: how the plan answered some of them."""
    found = before.scaling if before else None
    held = {p.request for p in after.placements} | {p.request for p in (before.placements if before else ())}
    asked = [r for r in requests if r.vip == after.id and r.id in held and r.kind in ACTIONS]
    last = before.last_scaling if before else None
    for request in asked:
        if found is None or found.request != request.id:
            found, last = _begun(request, after, now), found or last
        if request.id in results:
            found = _ended(found, after, results[request.id], now)
    if not any(request.id not in results for request in asked):
        found, last = _by_itself(before, after, found, last, now)
    return msgspec.structs.replace(after, scaling=found, last_scaling=last)


def _begun(request: Request, after: VipRecord, now: float) -> Scaling:
    engine = next((p.engine for p in after.placements if p.request == request.id), "")
    return Scaling(action=ACTIONS[request.kind], request=request.id, started_at=now, engine=engine)


def _ended(scaling: Scaling, after: VipRecord, result: RequestResult, now: float) -> Scaling:
    state = DONE.get(scaling.action, "SCALEOUT_SUCCESS") if result.ok else FAILED.get(scaling.action, "MIGRATE_ERROR")
    return _end(scaling, after, state, "" if result.ok else result.message, now)


def _end(scaling: Scaling, after: VipRecord, state: str, reason: str, now: float) -> Scaling:
    return msgspec.structs.replace(
        scaling, state=state, reason=reason, ended_at=now, requested=after.requested, assigned=len(ready(after))
    )


def _by_itself(
    before: VipRecord | None, after: VipRecord, found: Scaling | None, last: Scaling | None, now: float
) -> tuple[Scaling | None, Scaling | None]:
    """What the controller does without being asked: it is under way until the VIP has what it wants."""
    disabled = after.scale_state == "SCALEOUT_ERROR_DISABLED"
    if disabled:
        if found is not None and found.action == DISABLED:
            return found, last
        return _end(Scaling(action=DISABLED, started_at=now), after, after.scale_state, "", now), found or last
    whole = len(ready(after)) >= after.requested
    if found is None or found.state:
        if whole and found is not None:
            return found, last
        begun = Scaling(action=_cause(before, after), started_at=now)
        found, last = begun, found or last
    if whole:
        found = _end(found, after, "SCALEOUT_SUCCESS", "", now)
    return found, last


def _cause(before: VipRecord | None, after: VipRecord) -> str:
    if before is None or not before.generation:
        return INITIAL
    return RAISED if after.requested > before.requested and len(ready(after)) >= len(ready(before)) else LOST


# --- how it is shown ---


def state(record: VipRecord, requests: Mapping[str, Request], acknowledged: Mapping[str, int]) -> str:
    """``requests``: the open ones of this VIP, by id; ``acknowledged``: engine -> the list version it runs.

    A VIP that has all the engines it wants is not done while another one is on its way in or out.
    """
    asked = next((r for r in requests.values() if any(p.request == r.id for p in record.placements)), None)
    if record.scale_state == "SCALEOUT_RESOURCES":
        return "MIGRATE_SCALEOUT_RESOURCES" if asked and asked.kind is RequestKind.MIGRATE else record.scale_state
    if asked is not None:
        return _step(record, asked, acknowledged)
    if draining(record):
        return f"SCALEIN_{_release(record, acknowledged)}"
    if record.scale_state.endswith("SUCCESS") and record.scaling is not None and record.scaling.state:
        waiting = any(r.kind in ACTIONS for r in requests.values())
        return "SCALEOUT_PROCESSING" if waiting else record.scaling.state
    return record.scale_state


def _step(record: VipRecord, request: Request, acknowledged: Mapping[str, int]) -> str:
    mine = [p for p in record.placements if p.request == request.id]
    leaving = any(p.state is PlacementState.DRAINING for p in mine)
    prefix = "MIGRATE_" if request.kind is RequestKind.MIGRATE else ""
    if leaving or request.kind is RequestKind.SCALE_IN:
        return f"{prefix}SCALEIN_{_release(record, acknowledged)}"
    return f"{prefix}SCALEOUT_{JOINING[mine[0].state]}"


def _release(record: VipRecord, acknowledged: Mapping[str, int]) -> str:
    """What an engine that leaves waits for: that all who serve know, then its last connection."""
    leaving = {p.engine for p in draining(record)}
    told = {p.engine: acknowledged.get(p.engine, 0) >= record.list_version for p in record.placements}
    if not any(told.values()):
        return "AWAITING_SE_PRE_RELEASE"
    if not all(told[engine] for engine in told if engine not in leaving):
        return "AWAITING_SE_PROGRAMMING"
    return "AWAITING_SE_RELEASE" if all(told.values()) else "WAIT_FOR_SE_READY"
