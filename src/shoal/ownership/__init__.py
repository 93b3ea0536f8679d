"""Who answers for a VIP: claims, succession, leases. Pure: no file, no socket, no clock.

`step(state, event, now)` returns the next state and the effects to carry out, in order. ``now`` is monotonic seconds.
The engine's guard and the simulator run this same code.
"""

from shoal.ownership.machine import breathe, step
from shoal.ownership.state import State, initial, report, wake_at

__all__ = ["State", "breathe", "initial", "report", "step", "wake_at"]
