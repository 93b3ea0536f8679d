"""Networks: subnets that are some."""

from __future__ import annotations

import ipaddress
from typing import Any

from shoal.controller import ipam
from shoal.objects.views import uuid_of

from .change import Around, Change


def check(change: Change, around: Around) -> None:
    for index, subnet in enumerate(change.document.get("configured_subnets", ())):
        where = f"configured_subnets[{index}]"
        prefix = subnet["prefix"]
        text = f"{prefix['ip_addr']['addr']}/{prefix['mask']}"
        try:
            version = ipaddress.ip_network(text, strict=False).version
        except ValueError:
            why = "must be an address and the bits of its mask, such as 10.0.0.0/24 or fd00:1::/64"
            change.wrong(f"{where}.prefix", why, text)
            continue
        for place, ends in (("static_ip_ranges", "range"), ("static_ranges", "")):
            for number, entry in enumerate(subnet.get(place, ())):
                _range(change, f"{where}.{place}[{number}]", entry.get(ends, {}) if ends else entry, version)


def placement(change: Change, around: Around, where: str, wanted: list[dict[str, Any]]) -> None:
    """``placement_networks``: networks that engines have to be in."""
    for index, one in enumerate(wanted):
        path = f"{where}[{index}]"
        network = around.view.get("network", uuid_of(one.get("network_ref") or ""))
        given = [field for field in ipam.SUBNETS.values() if one.get(field)]
        if network is None and not given:
            change.wrong(path, "names no network and no subnet", hint="Give network_ref, subnet or both.")
        elif network is not None and not given and not network.get("configured_subnets"):
            change.wrong(f"{path}.network_ref", f"{network['name']} has no subnet to know an interface by")
        for field in given:
            try:
                ipam.prefix(one[field])
            except ValueError as error:
                change.wrong(f"{path}.{field}", str(error))


def _range(change: Change, where: str, ends: dict[str, Any], version: int) -> None:
    for end in ("begin", "end"):
        if end in ends:
            change.address(f"{where}.{end}", ends[end], version)
