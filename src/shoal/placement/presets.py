"""An HA mode is mostly a preset of other fields (reference: elastic-ha 1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHARED = "HA_MODE_SHARED"
SHARED_PAIR = "HA_MODE_SHARED_PAIR"
LEGACY = "HA_MODE_LEGACY_ACTIVE_STANDBY"

PRESETS: dict[str, dict[str, Any]] = {
    SHARED: {"min_scaleout_per_vs": 1, "algo": "PLACEMENT_ALGO_PACKED", "buffer_se": 1},
    SHARED_PAIR: {"min_scaleout_per_vs": 2, "algo": "PLACEMENT_ALGO_DISTRIBUTED", "buffer_se": 0},
    LEGACY: {
        "min_scaleout_per_vs": 2,
        "max_scaleout_per_vs": 2,
        "algo": "PLACEMENT_ALGO_PACKED",
        "buffer_se": 0,
        "max_se": 2,
    },
}


def preset(ha_mode: str) -> dict[str, Any]:
    """The fields that ``ha_mode`` sets when a write leaves them out."""
    return dict(PRESETS[ha_mode])


def contradictions(group: Mapping[str, Any]) -> list[str]:
    """Sentences for explicit values that work against the mode; they are kept all the same."""
    mode = group.get("ha_mode", SHARED)
    found = []
    if mode == SHARED_PAIR:
        if group.get("min_scaleout_per_vs", 2) < 2:
            found.append(
                "min_scaleout_per_vs 1 under HA_MODE_SHARED_PAIR puts each virtual service on one engine only: "
                "set it to 2 for active/active."
            )
        if group.get("buffer_se", 0) > 0:
            found.append("buffer_se is not used under HA_MODE_SHARED_PAIR: lost placements go to a new engine.")
    if mode == SHARED and group.get("min_scaleout_per_vs", 1) > 1:
        found.append(
            "min_scaleout_per_vs above 1 under HA_MODE_SHARED places like active/active; "
            "buffer_se still counts and does not include restoring the scale."
        )
    return found
