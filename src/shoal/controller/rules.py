"""What the product demands of a document beyond its schema, by type. Each rule may fill in, warn, or name problems."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shoal.errors import Duplicate, Invalid, NotAllowed, Problem, Refused
from shoal.objects.views import uuid_of
from shoal.placement import presets

from . import ipam, timing
from .view import View

Document = dict[str, Any]
HOST_BITS = 32


class Change(msgspec.Struct, kw_only=True):
    """One write on its way. ``raw`` is as the client gave it, ``document`` complete; ``before`` the stored one."""

    type: str
    uuid: str
    raw: Document
    before: Document | None = None
    touched: set[str] | None = None
    """For PATCH: the fields the patch names."""
    document: Document = {}
    warnings: list[str] = []
    problems: list[Problem] = []
    system: bool = False
    """The controller's own write."""

    def wrong(self, path: str, why: str, value: object = "", hint: str = "") -> None:
        self.problems.append(Problem(path=path, why=why, value=str(value)[:60] if value != "" else "", hint=hint))


class Rules:
    """``reserved`` are the networks that VIPs may not come from (the engines' own addresses)."""

    def __init__(self, view: View, reserved: Callable[[str], bool] = lambda address: False) -> None:
        self._view = view
        self._reserved = reserved
        self._fill: dict[str, Callable[[Change], None]] = {
            "serviceenginegroup": self._group_presets,
            "virtualservice": self._service_defaults,
            "pool": self._pool_defaults,
            "vsvip": self._vsvip_defaults,
            "serviceengine": self._engine_guard,
        }
        self._check: dict[str, Callable[[Change], None]] = {
            "serviceenginegroup": self._group,
            "virtualservice": self._service,
            "pool": self._pool,
            "vsvip": self._vsvip,
        }

    def fill(self, change: Change) -> None:
        """Before validation: what the controller fills in when the client leaves it out."""
        rule = self._fill.get(change.type)
        if rule is not None:
            rule(change)

    def check(self, change: Change) -> None:
        """After validation and resolution. Raises Invalid (all problems), Refused or Duplicate."""
        rule = self._check.get(change.type)
        if rule is not None:
            rule(change)
        if change.problems:
            raise Invalid(change.problems)

    def _default(self, change: Change, field: str, type: str, name: str) -> None:
        named = change.raw.get(field.removesuffix("_ref") + "_name")
        if change.raw.get(field) in (None, "") and named in (None, ""):
            found = next((d for d in self._view.all(type) if d.get("name") == name), None)
            if found is not None:
                change.raw[field] = f"/api/{type}/{found['uuid']}"

    # --- service engine groups ---

    def _group_presets(self, change: Change) -> None:
        """Fields that a write omits take the mode's preset (elastic-ha 1.4)."""
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

    def _group(self, change: Change) -> None:
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
                change.wrong(
                    "disk_per_se", f"must be at least 5 + 2 x memory_per_se: {least:g} gb", group["disk_per_se"]
                )
        for field, why in timing.problems(group):
            change.wrong(field, why, group[field])
        change.warnings += presets.contradictions(group)

    def _engine_guard(self, change: Change) -> None:
        if change.system:
            return
        if change.before is None:
            raise NotAllowed(
                "Service engines are made by the controller.", hint="Create a virtual service, or scale out."
            )
        editable = {"enable_state", "name", "availability_zone"}
        for field in sorted(set(change.raw) & set(change.before) - editable):
            if field.startswith("_") or field.endswith("_ref") or field in ("uuid", "url"):
                continue
            if change.raw[field] != change.before[field]:
                change.wrong(field, "can't be changed on a service engine", hint="enable_state can.")
        if change.problems:
            raise Invalid(change.problems)
        change.raw = {**change.before, **{f: change.raw[f] for f in editable if f in change.raw}}

    # --- virtual services ---

    def _service_defaults(self, change: Change) -> None:
        self._default(change, "se_group_ref", "serviceenginegroup", "Default-Group")
        self._default(change, "vrf_context_ref", "vrfcontext", "global")
        self._default(change, "analytics_profile_ref", "analyticsprofile", "System-Analytics-Profile")
        self._default(change, "network_profile_ref", "networkprofile", "System-TCP-Proxy")
        self._default(change, "application_profile_ref", "applicationprofile", "System-HTTP")
        if not change.raw.get("cloud_type"):
            change.raw["cloud_type"] = "CLOUD_NONE"

    def _service(self, change: Change) -> None:
        service = change.document
        for index, port in enumerate(service.get("services", ())):
            if not 1 <= port["port"] <= 65535:
                change.wrong(f"services[{index}].port", "must be 1..65535", port["port"])
            port["port_range_end"] = port.get("port_range_end") or port["port"]
            if port["port_range_end"] < port["port"]:
                change.wrong(f"services[{index}].port_range_end", f"must not be below port {port['port']}")
        if not service.get("services"):
            change.wrong("services", "required, and missing", hint='Give at least one, such as [{"port": 80}].')
        if service.get("vip"):
            change.wrong("vip", "is not taken on a virtual service", hint="Create a VsVip and give vsvip_ref.")
        if not service.get("vsvip_ref"):
            change.wrong("vsvip_ref", "required, and missing", hint="Create a VsVip first.")
            return
        overlap = _overlap(ports_of(service))
        if overlap:
            change.wrong("services", f"port {overlap} is given twice")
        self._same_group(change)

    def _same_group(self, change: Change) -> None:
        """All virtual services of a VIP live in one group: the VIP is the unit of placement."""
        service = change.document
        for type, uuid, name in self._view.referrers(uuid_of(service["vsvip_ref"])):
            other = self._view.get(type, uuid)
            if type != "virtualservice" or uuid == change.uuid or other is None:
                continue
            if uuid_of(other["se_group_ref"]) != uuid_of(service["se_group_ref"]):
                hint = "Use the same se_group_ref for all virtual services of a VsVip."
                change.wrong(
                    "se_group_ref", f"virtual service {name} shares this VIP and is in another group", hint=hint
                )

    # --- pools ---

    def _pool_defaults(self, change: Change) -> None:
        self._default(change, "vrf_ref", "vrfcontext", "global")
        self._default(change, "analytics_profile_ref", "analyticsprofile", "System-Analytics-Profile")

    def _pool(self, change: Change) -> None:
        pool = change.document
        seen: dict[tuple[str, int], int] = {}
        for index, server in enumerate(pool.get("servers", ())):
            where = f"servers[{index}]"
            address = _address(change, f"{where}.ip.addr", server["ip"]["addr"])
            server.setdefault("hostname", server["ip"]["addr"])
            key = (address, server.get("port") or pool["default_server_port"])
            if key in seen:
                change.wrong(where, f"is servers[{seen[key]}] again ({key[0]}:{key[1]})")
            seen[key] = index

    # --- VIPs ---

    def _vsvip_defaults(self, change: Change) -> None:
        self._default(change, "vrf_context_ref", "vrfcontext", "global")
        vips = change.raw.get("vip")
        if isinstance(vips, list):
            change.raw["vip"] = [
                {"vip_id": str(index), "prefix_length": HOST_BITS, **vip} if isinstance(vip, dict) else vip
                for index, vip in enumerate(vips)
            ]

    def _vsvip(self, change: Change) -> None:
        vips = change.document.get("vip", [])
        if not vips:
            change.wrong("vip", "required, and missing", hint='Give one, such as [{"auto_allocate_ip": true}].')
        before = {v.get("vip_id"): v for v in (change.before or {}).get("vip", ())}
        for index, vip in enumerate(vips):
            where = f"vip[{index}]"
            if "ip_address" not in vip:
                old = before.get(vip["vip_id"], {}).get("ip_address")
                if old is not None and vip.get("auto_allocate_ip"):
                    vip["ip_address"] = old
                elif vip.get("auto_allocate_ip") and vip.get("auto_allocate_ip_type", "V4_ONLY") == "V4_ONLY":
                    vip["ip_address"] = {"addr": self._allocate(vip, vips), "type": "V4"}
                else:
                    hint = "Give ip_address, or auto_allocate_ip true."
                    change.wrong(where, "has no address (IPv4 only for now)", hint=hint)
                    continue
            address = _address(change, f"{where}.ip_address.addr", vip["ip_address"]["addr"])
            if address and self._reserved(address):
                change.wrong(f"{where}.ip_address.addr", "is one of the engines' own addresses", address)
        self._unused(change, vips)

    def _allocate(self, vip: Mapping[str, Any], siblings: list[Document]) -> str:
        wanted = uuid_of((vip.get("ipam_network_subnet") or {}).get("network_ref", ""))
        network = (
            self._view.get("network", wanted) if wanted else self._view.named("network", "vip-network", cloud=None)
        )
        if network is None:
            raise Refused("There is no network to allocate from.", hint="Give ipam_network_subnet.network_ref.")
        used = [a for document in self._view.all("vsvip") for a in addresses_of(document)]
        used += [sibling["ip_address"]["addr"] for sibling in siblings if "ip_address" in sibling]
        return ipam.allocate(network, used)

    def _unused(self, change: Change, vips: list[Document]) -> None:
        vrf = uuid_of(change.document.get("vrf_context_ref", ""))
        mine = [vip["ip_address"]["addr"] for vip in vips if "ip_address" in vip]
        if len(set(mine)) != len(mine):
            change.wrong("vip", "an address is given twice")
        for other in self._view.all("vsvip"):
            if other["uuid"] == change.uuid or uuid_of(other.get("vrf_context_ref", "")) != vrf:
                continue
            for address in set(mine) & set(addresses_of(other)):
                raise Duplicate(
                    f"{address} is the address of VsVip {other['name']} already.", hint="Refer to that one."
                )


def addresses_of(vsvip: Mapping[str, Any]) -> list[str]:
    return [vip["ip_address"]["addr"] for vip in vsvip.get("vip", ()) if "ip_address" in vip]


def ports_of(service: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(p["port"], p.get("port_range_end") or p["port"]) for p in service.get("services", ())]


def _overlap(ranges: list[tuple[int, int]]) -> int:
    """The first port that two ranges share; 0 if none."""
    last = 0
    for low, high in sorted(ranges):
        if low <= last:
            return low
        last = max(last, high)
    return 0


def overlap_between(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int:
    for low, high in one:
        for low2, high2 in other:
            if max(low, low2) <= min(high, high2):
                return max(low, low2)
    return 0


def _address(change: Change, path: str, text: str) -> str:
    """The normalised IPv4 address; "" with a problem noted."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        change.wrong(path, "must be an IPv4 address", text)
        return ""
    if found.version != 4:
        change.wrong(path, "must be an IPv4 address; IPv6 is not served yet", text)
        return ""
    return str(found)
