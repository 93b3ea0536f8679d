"""VIPs that the last plan could not give what they want: why, now.

A plan is written only where something of substance changes, so the reason in a VIP's record is that of the day it was
written; the plan itself, made anew on each change, always knows the present one.
"""

from __future__ import annotations

from collections.abc import Iterator

from shoal.placement.model import Decision, Event, PlacementState, Plan, Snapshot

Shortfalls = dict[str, Decision]
"""VIP id -> the decision that nothing could be done for it, with the rule that rejected each engine."""


def shortfalls(result: Plan) -> Shortfalls:
    return {decision.vip: decision for decision in result.decisions if decision.vip and decision.what == "none"}


def events(snapshot: Snapshot, result: Plan) -> Iterator[Event]:
    """For each VIP that can't be given all it wants (reference: elastic-ha 2.6, 7.4): it has no engine at all, or it
    serves with fewer."""
    short = shortfalls(result)
    if not short:
        return
    planned = {vip.id: vip for vip in result.vips}
    for vip in snapshot.vips:
        decision = short.get(vip.id)
        if decision is None:
            continue
        after = planned.get(vip.id)
        placements, requested = (after.placements, after.requested) if after else (vip.placements, vip.requested)
        active = [p for p in placements if p.state is not PlacementState.DRAINING]
        if not active:
            name = "VS_AWAITING_SE" if vip.generation else "VS_INITIAL_PLACEMENT_FAILED"
            yield Event(name=name, vip=vip.id, detail=f"{vip.name}: {decision.why}")
        elif len(active) < requested and all(p.state is PlacementState.READY for p in active):
            detail = f"{vip.name} is on {len(active)} of {requested} engines: {decision.why}"
            yield Event(name="VS_SCALEOUT_DONE_AWAITING_MORE_SE", vip=vip.id, detail=detail)
