"""The heart: `plan` turns a frozen snapshot of a group into actions with reasons. Pure: no I/O, no clock, no chance.

`Planner` answers the same for a group that it has followed, at the cost of what has changed.
"""

from shoal.placement.planner import Planner, plan

__all__ = ["Planner", "plan"]
