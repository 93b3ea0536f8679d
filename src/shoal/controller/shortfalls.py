"""VIPs that the last plan could not give what they want: why, now.

A plan is written only where something of substance changes, so the reason in a VIP's record is that of the day it was
written; the plan itself, made anew on each change, always knows the present one.
"""

from __future__ import annotations

from shoal.placement.model import Decision, Plan

Shortfalls = dict[str, Decision]
"""VIP id -> the decision that nothing could be done for it, with the rule that rejected each engine."""


def shortfalls(result: Plan) -> Shortfalls:
    return {decision.vip: decision for decision in result.decisions if decision.vip and decision.what == "none"}
