"""How far an operation on a VIP has come, in the field's words (reference: elastic-ha 3.6)."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.placement.model import Placement, PlacementState, Request, RequestKind

from .records import VipRecord

JOINING = {
    PlacementState.WAITING: "CREATING_SE",
    PlacementState.ASSIGNED: "AWAITING_SE_PROGRAMMING",
    PlacementState.READY: "WAIT_FOR_SE_READY",
}
"""What a migrate waits for, by the state of the engine that joins."""


def draining(record: VipRecord) -> list[Placement]:
    return [p for p in record.placements if p.state is PlacementState.DRAINING]


def state(record: VipRecord, requests: Mapping[str, Request], acknowledged: Mapping[str, int]) -> str:
    """``requests``: the open ones of this VIP, by id; ``acknowledged``: engine -> the list version it runs.

    A VIP that has all the engines it wants is not done while another one is on its way in or out.
    """
    if not record.scale_state.endswith("SUCCESS"):
        return record.scale_state
    moved = [p for p in record.placements if p.request in requests and _is_migrate(requests[p.request])]
    if draining(record):
        programmed = all(acknowledged.get(p.engine, 0) >= record.list_version for p in record.placements)
        step = "AWAITING_SE_RELEASE" if programmed else "AWAITING_SE_PROGRAMMING"
        return f"{'MIGRATE_' if moved else ''}SCALEIN_{step}"
    return f"MIGRATE_SCALEOUT_{JOINING[moved[0].state]}" if moved else record.scale_state


def _is_migrate(request: Request) -> bool:
    return request.kind is RequestKind.MIGRATE
