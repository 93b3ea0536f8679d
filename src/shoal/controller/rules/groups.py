"""Service engine groups: the presets of a mode, and values that work against it (reference: elastic-ha 1.4)."""

from __future__ import annotations

from shoal.controller import balance, sources, timing
from shoal.errors import Refused
from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.placement import presets

from .change import Around, Change, Document


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
    group["active_standby"] = group["ha_mode"] == presets.LEGACY
    if group["active_standby"] and change.before is not None and change.before["ha_mode"] != presets.LEGACY:
        _fits_a_pair(change, around)
    low, high = group["min_scaleout_per_vs"], group["max_scaleout_per_vs"]
    if low > high:
        change.wrong("min_scaleout_per_vs", f"must not be above max_scaleout_per_vs {high}", low)
    after = sources.Changed(around.view, change.type, change.uuid, group)
    for service, why in sources.obstacles(after, around.services_of(change)) if high > 1 else ():
        named = change.named([service])
        change.wrong("max_scaleout_per_vs", f"virtual service {named} needs one engine: {why}", high)
        break
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


def _fits_a_pair(change: Change, around: Around) -> None:
    """A live group becomes a pair only if either of two engines can carry all of it."""
    group = change.document
    slots = _slots(change.uuid, around)
    most = 2 if group["per_app"] else group["max_vs_per_se"]
    if slots > most:
        engines = sum(uuid_of(e.get("se_group_ref", "")) == change.uuid for e in around.view.all("serviceengine"))
        limit = f"{'per_app makes' if group['per_app'] else 'max_vs_per_se is'} {most}"
        raise Refused(
            f"{group['name']} can't become {presets.LEGACY}: its virtual services take {slots} placements, on {engines} "
            f"service engines now, and each engine of a pair must be able to carry all of them; {limit}.",
            hint=f"Raise max_vs_per_se to {slots}, or move virtual services that take {slots - most} to other groups.",
        )


def _slots(group: str, around: Around) -> int:
    """One for each enabled virtual service on each of its VIPs."""
    mine: list[Document] = [
        service
        for service in around.view.all("virtualservice")
        if uuid_of(service.get("se_group_ref", "")) == group and service.get("enabled", True)
    ]
    vsvips = (around.view.get("vsvip", uuid_of(service.get("vsvip_ref", ""))) for service in mine)
    return sum(sum(vip.get("enabled", True) for vip in vsvip["vip"]) for vsvip in vsvips if vsvip)
