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
    """For each VIP that has no engine at all, and can't be given one (reference: elastic-ha 7.4)."""
    short = shortfalls(result)
    planned = {vip.id: vip.placements for vip in result.vips}
    for vip in snapshot.vips:
        decision = short.get(vip.id)
        placements = planned.get(vip.id, vip.placements)
        if decision is None or any(p.state is not PlacementState.DRAINING for p in placements):
            continue
        name = "VS_AWAITING_SE" if vip.generation else "VS_INITIAL_PLACEMENT_FAILED"
        yield Event(name=name, vip=vip.id, detail=f"{vip.name}: {decision.why}")
