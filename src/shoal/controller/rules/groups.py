"""Service engine groups: the presets of a mode, and values that work against it (reference: elastic-ha 1.4)."""

from __future__ import annotations

from shoal.controller import balance, timing
from shoal.errors import Refused
from shoal.objects import views
from shoal.placement import presets

from .change import Around, Change


def fill(change: Change, around: Around) -> None:
    """Fields that a write omits take the mode's preset."""
    raw = change.raw
    mode = str(raw.get("ha_mode") or presets.SHARED).upper()
    if mode not in presets.PRESETS:
        return
    wanted = presets.preset(mode)
    before = change.before
    if before is not None and change.touched is not None:
        if "ha_mode" in change.touched and mode != before["ha_mode"]:
            old = presets.preset(before["ha_mode"])
            for field, value in wanted.items():
                if field not in change.touched and before.get(field) == old.get(field, before.get(field)):
                    raw[field] = value
        return
    for field, value in wanted.items():
        if raw.get(field) is None:
            raw[field] = value


def check(change: Change, around: Around) -> None:
    group = change.document
    if group["ha_mode"] == presets.LEGACY:
        raise Refused(
            "ha_mode HA_MODE_LEGACY_ACTIVE_STANDBY is not available yet.",
            hint="Use HA_MODE_SHARED (N+M) or HA_MODE_SHARED_PAIR (active/active).",
        )
    low, high = group["min_scaleout_per_vs"], group["max_scaleout_per_vs"]
    if low > high:
        change.wrong("min_scaleout_per_vs", f"must not be above max_scaleout_per_vs {high}", low)
    if group["min_cpu_usage"] > group["max_cpu_usage"]:
        change.wrong("min_cpu_usage", f"must not be above max_cpu_usage {group['max_cpu_usage']}")
    if "disk_per_se" in change.raw and change.before is None:
        least = 5 + 2 * group["memory_per_se"] / 1024
        if group["disk_per_se"] < least:
            change.wrong("disk_per_se", f"must be at least 5 + 2 x memory_per_se: {least:g} gb", group["disk_per_se"])
    for field, why in timing.problems(group):
        change.wrong(field, why, group[field])
    change.warnings += presets.contradictions(group)
    change.warnings += balance.warnings(views.view({**group, "uuid": change.uuid}, views.ServiceEngineGroup))
