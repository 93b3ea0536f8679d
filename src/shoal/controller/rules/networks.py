"""Networks: subnets that are some."""

from __future__ import annotations

import ipaddress
from typing import Any

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


def _range(change: Change, where: str, ends: dict[str, Any], version: int) -> None:
    for end in ("begin", "end"):
        if end in ends:
            change.address(f"{where}.{end}", ends[end], version)
