"""An HA mode is mostly a preset of other fields (reference: elastic-ha 1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHARED = "HA_MODE_SHARED"
SHARED_PAIR = "HA_MODE_SHARED_PAIR"
LEGACY = "HA_MODE_LEGACY_ACTIVE_STANDBY"
PACKED = "PLACEMENT_ALGO_PACKED"
DISTRIBUTED = "PLACEMENT_ALGO_DISTRIBUTED"

PRESETS: dict[str, dict[str, Any]] = {
    SHARED: {"min_scaleout_per_vs": 1, "max_scaleout_per_vs": 4, "algo": PACKED, "buffer_se": 1, "max_se": 10},
    SHARED_PAIR: {
        "min_scaleout_per_vs": 2,
        "max_scaleout_per_vs": 4,
        "algo": DISTRIBUTED,
        "buffer_se": 0,
        "max_se": 10,
    },
    LEGACY: {
        "min_scaleout_per_vs": 2,
        "max_scaleout_per_vs": 2,
        "algo": PACKED,
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
        if group.get("algo", DISTRIBUTED) == PACKED:
            found.append(
                "algo PLACEMENT_ALGO_PACKED under HA_MODE_SHARED_PAIR fills an engine before it uses the next: "
                "set it to PLACEMENT_ALGO_DISTRIBUTED to spread the load."
            )
        if group.get("buffer_se", 0) > 0:
            found.append("buffer_se is not used under HA_MODE_SHARED_PAIR: lost placements go to a new engine.")
    if mode == SHARED and group.get("min_scaleout_per_vs", 1) > 1:
        found.append(
            "min_scaleout_per_vs above 1 under HA_MODE_SHARED places like active/active; "
            "buffer_se still counts and does not include restoring the scale."
        )
    if mode == LEGACY:
        fixed = {"max_scaleout_per_vs": 2, "min_scaleout_per_vs": 2, "buffer_se": 0}
        others = [f"{field} {group[field]}" for field, value in fixed.items() if group.get(field, value) != value]
        if group.get("max_se", 2) > 2:
            others.append(f"max_se {group['max_se']}")
        if others:
            found.append(
                f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} not used under {LEGACY}: "
                "there each virtual service has one active engine and one standby, of two."
            )
        if group.get("max_se", 2) == 1:
            found.append(f"max_se 1 under {LEGACY} leaves no engine for the standby: set it to 2.")
    elif group.get("distribute_load_active_standby") or group.get("auto_redistribute_active_standby_load"):
        found.append(
            f"distribute_load_active_standby and auto_redistribute_active_standby_load act under {LEGACY} only."
        )
    return found + _too_few(group, mode)


def _too_few(group: Mapping[str, Any], mode: str) -> list[str]:
    """Where ``max_se`` allows fewer engines than other fields need."""
    most, scale, buffer = group.get("max_se", 10), group.get("min_scaleout_per_vs", 1), group.get("buffer_se", 0)
    if most == 0:
        return ["max_se 0 lets no engine be made: nothing is served. Set it to 1 or more."]
    if most < scale and mode != LEGACY:
        return [f"max_se {most} is below min_scaleout_per_vs {scale}: no virtual service gets all its engines."]
    if mode == SHARED and buffer >= most:
        return [f"buffer_se {buffer} can't be kept with max_se {most}: set max_se to {buffer + 1} or more."]
    return []
