"""Failure detection in force for a group, from its ``dp_hb_*`` fields (reference: elastic-ha 6.2).

The schema's defaults are the vendor's (100 ms, 10 misses); what was measured to be safe here is quicker, and is in force
as long as a field has its default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shoal.objects.views import ServiceEngineGroup
from shoal.ownership.state import State, detection_s
from shoal.wire.desired import Timing

LEASE_INTERVALS = 2
"""The lease is renewed with each heartbeat, and lives through one that comes late."""
MISSES_MIN = 3
"""One more than the lease: the dead are silent before a peer may claim."""
MISSES_MAX = 60
INTERVAL_MS_MIN = 20
"""Below, the lease's margin over a kernel timer is gone."""
INTERVAL_MS_MAX = 1_000
"""A guard forgets a stranger that is silent for 2 s (`shoal.engine.guard.peers`)."""


class Pair(msgspec.Struct, frozen=True):
    """The two fields of one mode, their defaults in the schema, and what stands for each of these defaults."""

    interval_field: str
    misses_field: str
    interval_ms: int
    misses: int = MISSES_MIN
    schema_interval_ms: int = 100
    schema_misses: int = 10


STANDARD = Pair("dp_hb_frequency", "dp_hb_timeout_count", interval_ms=100)
AGGRESSIVE = Pair("dp_aggressive_hb_frequency", "dp_aggressive_hb_timeout_count", interval_ms=25)


def in_force(group: ServiceEngineGroup) -> Timing:
    pair = AGGRESSIVE if group.aggressive_failure_detection else STANDARD
    interval_ms, misses = getattr(group, pair.interval_field), getattr(group, pair.misses_field)
    if interval_ms == pair.schema_interval_ms:
        interval_ms = pair.interval_ms
    if misses == pair.schema_misses:
        misses = pair.misses
    interval_ms = min(max(interval_ms, INTERVAL_MS_MIN), INTERVAL_MS_MAX)  # stored before there were bounds
    return Timing(
        heartbeat_interval_ms=interval_ms,
        heartbeat_misses=min(max(misses, MISSES_MIN), MISSES_MAX),
        lease_ms=LEASE_INTERVALS * interval_ms,
    )


def problems(group: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, why) of what can't be put in force."""
    for pair in (STANDARD, AGGRESSIVE):
        if not INTERVAL_MS_MIN <= group[pair.interval_field] <= INTERVAL_MS_MAX:
            yield pair.interval_field, f"must be {INTERVAL_MS_MIN}..{INTERVAL_MS_MAX} ms"
        if not MISSES_MIN <= group[pair.misses_field] <= MISSES_MAX:
            yield pair.misses_field, f"must be {MISSES_MIN}..{MISSES_MAX} missed heartbeats"


def shown(group: ServiceEngineGroup) -> dict[str, Any]:
    """What a person reads; ``detection_ms``: from an owner's last heartbeat until a peer may take over."""
    timing = in_force(group)
    return {
        "mode": "aggressive" if group.aggressive_failure_detection else "standard",
        "heartbeat_interval_ms": timing.heartbeat_interval_ms,
        "heartbeat_misses": timing.heartbeat_misses,
        "lease_ms": timing.lease_ms,
        "detection_ms": round(detection_s(State(timing=timing)) * 1000),
    }
