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
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            change.wrong(f"{where}.prefix", "must be an address and the bits of its mask, such as 10.0.0.0/24", text)
        for place, ends in (("static_ip_ranges", "range"), ("static_ranges", "")):
            for number, entry in enumerate(subnet.get(place, ())):
                _range(change, f"{where}.{place}[{number}]", entry.get(ends, {}) if ends else entry)


def _range(change: Change, where: str, ends: dict[str, Any]) -> None:
    for end in ("begin", "end"):
        if end in ends:
            try:
                ipaddress.ip_address(ends[end]["addr"])
            except ValueError:
                change.wrong(f"{where}.{end}.addr", "must be an address", ends[end]["addr"])
