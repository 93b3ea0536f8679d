"""The heart: `plan` turns a frozen snapshot of a group into actions with reasons. Pure: no I/O, no clock, no chance."""

from shoal.placement.planner import plan

__all__ = ["plan"]
