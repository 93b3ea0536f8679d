"""Failure detection in force: quick and safe unless the group says otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.controller import timing
from shoal.objects.views import ServiceEngineGroup
from shoal.wire.desired import Timing


def group(**fields: Any) -> ServiceEngineGroup:
    return ServiceEngineGroup(uuid="g", name="g", **fields)


@pytest.mark.parametrize(
    ("fields", "interval_ms", "misses", "lease_ms"),
    [
        ({}, 100, 3, 200),
        ({"dp_hb_timeout_count": 5}, 100, 5, 200),
        ({"dp_hb_frequency": 200}, 200, 3, 400),
        ({"dp_aggressive_hb_frequency": 40}, 100, 3, 200),
        ({"aggressive_failure_detection": True}, 25, 3, 50),
        ({"aggressive_failure_detection": True, "dp_hb_frequency": 200}, 25, 3, 50),
        ({"aggressive_failure_detection": True, "dp_aggressive_hb_frequency": 40}, 40, 3, 80),
        ({"aggressive_failure_detection": True, "dp_aggressive_hb_timeout_count": 4}, 25, 4, 50),
    ],
)
def test_what_is_in_force(fields: dict[str, Any], interval_ms: int, misses: int, lease_ms: int) -> None:
    wanted = Timing(heartbeat_interval_ms=interval_ms, heartbeat_misses=misses, lease_ms=lease_ms)
    assert timing.in_force(group(**fields)) == wanted


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.booleans())
def test_the_dead_are_silent_before_a_peer_may_claim(interval_ms: int, misses: int, aggressive: bool) -> None:
    """Whatever is stored; and a heartbeat that comes one interval late costs nothing."""
    fields = {
        "dp_hb_frequency": interval_ms,
        "dp_hb_timeout_count": misses,
        "dp_aggressive_hb_frequency": interval_ms,
        "dp_aggressive_hb_timeout_count": misses,
    }
    found = timing.in_force(group(aggressive_failure_detection=aggressive, **fields))
    assert 2 * found.heartbeat_interval_ms <= found.lease_ms < found.heartbeat_interval_ms * found.heartbeat_misses


def test_what_is_shown() -> None:
    assert timing.shown(group(aggressive_failure_detection=True)) == {
        "mode": "aggressive",
        "heartbeat_interval_ms": 25,
        "heartbeat_misses": 3,
        "lease_ms": 50,
        "detection_ms": 75,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dp_hb_frequency", 0),
        ("dp_hb_frequency", 100_000),
        ("dp_hb_timeout_count", 1),
        ("dp_aggressive_hb_frequency", 5),
        ("dp_aggressive_hb_timeout_count", 4_000_000_000),
    ],
)
def test_nonsense_is_refused_by_the_fields_name(field: str, value: int) -> None:
    defaults = {"dp_hb_frequency": 100, "dp_aggressive_hb_frequency": 100}
    defaults |= {"dp_hb_timeout_count": 10, "dp_aggressive_hb_timeout_count": 10}
    assert list(timing.problems(defaults)) == []
    assert [path for path, _ in timing.problems({**defaults, field: value})] == [field]
