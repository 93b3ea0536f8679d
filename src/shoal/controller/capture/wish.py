"""What a capture was asked for: a DebugVirtualService document, and two words the model has none for. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shoal.errors import Invalid, Problem
from shoal.wire.capture import Endpoint, Selection

SECONDS_MAX = 3600.0
"""A capture without end ends after an hour."""
PACKETS_MAX = 10_000_000
BYTES_DEFAULT = 100_000_000
BYTES_MAX = 2_000_000_000
SECONDS_PER_MINUTE = 60
BYTES_PER_MB = 1_000_000
NETWORKS_MAX = 16
"""Addresses, prefixes and ranges (taken apart into prefixes) in a filter: each costs instructions for every packet."""
SIDES = ("both", "client", "server")
FLAGS = {"tcp_fin": 0x01, "tcp_syn": 0x02, "tcp_push": 0x08, "tcp_ack": 0x10}
PORT_MAX = 65535

Document = Mapping[str, Any]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """``engines`` are references, none = all; ``snap`` 0 = whole packets; ``filters`` has no endpoints yet."""

    side: str
    seconds: float
    packets: int
    bytes: int
    snap: int
    pcapng: bool
    engines: tuple[str, ...]
    filters: Selection

    def selection(self, client: tuple[Endpoint, ...], server: tuple[Endpoint, ...]) -> Selection:
        chosen = {"client": client, "server": server, "both": (*client, *server)}[self.side]
        return msgspec.structs.replace(self.filters, endpoints=tuple(dict.fromkeys(chosen)))

    def said(self) -> tuple[str, ...]:
        """For the audit trail."""
        sides = "both sides" if self.side == "both" else f"{self.side} side"
        return (sides, f"at most {self.seconds:g} s", f"{self.packets} packets", f"{self.bytes} bytes")


def wish(document: Document, query: Mapping[str, str]) -> Wish:
    """From a complete DebugVirtualService; ``query`` may have ``side`` and ``seconds``. Raises Invalid."""
    problems: list[Problem] = []
    params = document.get("capture_params") or {}
    filters = document.get("capture_filters") or {}
    side = query.get("side", "both")
    if side not in SIDES:
        problems.append(Problem(path="side", value=side[:40], why=f"must be one of {', '.join(SIDES)}"))
    hosts: list[str] = []
    but: list[str] = []
    for path, address in (("debug_ip", document.get("debug_ip")), ("capture_ip", filters.get("capture_ip"))):
        inside = (address or {}).get("match_operation", "IS_IN") == "IS_IN"
        (hosts if inside else but).extend(_networks(path, address or {}, problems))
    if len(hosts) + len(but) > NETWORKS_MAX:
        why = f"come to {len(hosts) + len(but)} prefixes; at most {NETWORKS_MAX} are taken"
        problems.append(Problem(path="debug_ip", why=why))
    source = _ports(filters, "src_port", "src_port_range_end", problems)
    destination = _ports(filters, "dst_port_start", "dst_port_end", problems)
    seconds = _seconds(params, query, problems)
    if problems:
        raise Invalid(problems)
    size = (params.get("capture_file_size") or {}).get("absolute_size") or 0
    return Wish(
        side=side,
        seconds=seconds,
        packets=min(params.get("num_pkts") or PACKETS_MAX, PACKETS_MAX),
        bytes=min(size * BYTES_PER_MB or BYTES_DEFAULT, BYTES_MAX),
        snap=params.get("pkt_size", 128),
        pcapng=params.get("pcap_ng", True),
        engines=tuple((document.get("se_params") or {}).get("se_refs", ())),
        filters=Selection(
            endpoints=(),
            hosts=tuple(hosts),
            but_hosts=tuple(but),
            source_ports=source,
            destination_ports=destination,
            flags=sum(bit for name, bit in FLAGS.items() if filters.get(name)),
        ),
    )


def _seconds(params: Document, query: Mapping[str, str], problems: list[Problem]) -> float:
    text = query.get("seconds", "")
    try:
        asked = float(text) if text else float((params.get("duration") or 0) * SECONDS_PER_MINUTE)
    except ValueError:
        asked = -1.0
    if not 0 <= asked < float("inf"):
        problems.append(Problem(path="seconds", value=text[:40], why="must be a number of seconds"))
        return 0.0
    return min(asked or SECONDS_MAX, SECONDS_MAX)


def _ports(filters: Document, low: str, high: str, problems: list[Problem]) -> tuple[int, int]:
    first, last = filters.get(low), filters.get(high)
    first = last if first is None else first
    if first is None:
        return (0, PORT_MAX)
    last = first if last is None else last
    if not 0 <= first <= last <= PORT_MAX:
        problems.append(Problem(path=f"capture_filters.{low}", value=f"{first}-{last}", why="is no range of ports"))
    return (first, last)


def _networks(path: str, address: Document, problems: list[Problem]) -> Iterator[str]:
    try:
        for one in address.get("addrs", ()):
            yield str(ipaddress.ip_network(one["addr"]))
        for prefix in address.get("prefixes", ()):
            yield str(ipaddress.ip_network(f"{prefix['ip_addr']['addr']}/{prefix['mask']}", strict=False))
        for span in address.get("ranges", ()):
            first, last = (ipaddress.ip_address(span[end]["addr"]) for end in ("begin", "end"))
            yield from (str(n) for n in ipaddress.summarize_address_range(first, last))
    except (ValueError, TypeError) as error:
        problems.append(Problem(path=path, why=str(error)))
