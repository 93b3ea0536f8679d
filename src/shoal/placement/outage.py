"""How long a VIP is not answered when its owner dies: a sum of what was measured (docs/failover.md, docs/performance.md).

::

    taken    notice                       + PROBE_MS + turns * turn_ms
    placed   notice by the controller     + PLACE_MS
    made     notice by the controller     + creation + PLACE_MS

``notice`` is 0 where the engine's processes die (its TCP sessions end), and the detection time of the group where it
falls silent: frozen, cut off, without power. So there are two figures, the least and the most.
"""

from __future__ import annotations

import msgspec

from .outcome import Fate, How

PROBE_MS = 20.0
"""The address is probed so long before it is claimed."""
PLACE_MS = 104.0
"""From the controller's plan to the first answer on an engine that runs: `scripts/bench first200`, median."""
DEAD_NOTICED_MS = 200.0
"""The controller asks the cloud so often whether an engine that has hung up still runs."""
SILENT_NOTICED_MS = 1_300.0
"""The controller counts an engine that a peer has taken over from as down after so long a silence."""
SILENT_ALONE_NOTICED_MS = 3_000.0
"""And one that nobody has taken over from."""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Of a group, in milliseconds. ``turn_ms``: how much later the next in a succession claims. ``create_ms``: from the
    wish for an engine to its first contact; None = not known. ``witnessed``: whether some VIP of the engines that fail is taken over by others, which the controller hears."""

    detection_ms: float
    turn_ms: float
    create_ms: float | None = None
    witnessed: bool = True


class Outage(msgspec.Struct, frozen=True):
    """``least_ms`` where processes die, ``most_ms`` where the engine falls silent; ``most_ms`` None = until it is back, or
    capacity comes from elsewhere."""

    least_ms: float
    most_ms: float | None


NONE = Outage(0.0, 0.0)


def outage(fate: Fate, times: Times) -> Outage:
    """How long the VIP is not answered."""
    silent = SILENT_NOTICED_MS if times.witnessed else SILENT_ALONE_NOTICED_MS
    match fate.how:
        case How.KEPT:
            return NONE
        case How.TAKEN:
            takes = PROBE_MS + fate.turns * times.turn_ms
            return Outage(takes, times.detection_ms + takes)
        case How.PLACED:
            return Outage(DEAD_NOTICED_MS + PLACE_MS, silent + PLACE_MS)
        case How.MADE if times.create_ms is not None:
            takes = times.create_ms + PLACE_MS
            return Outage(DEAD_NOTICED_MS + takes, silent + takes)
    return Outage(DEAD_NOTICED_MS + PLACE_MS, None)
