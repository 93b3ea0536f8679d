"""VRFs: the routers that engines announce VIPs to, and static routes."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from shoal.controller.bgp import community

from .change import Address, Around, Change

UNSAFE = frozenset('"\n\r\0')
SECRET_BYTES_MAX = 80
"""What the kernel takes for TCP MD5."""
INTERFACE = re.compile(r"[^\s/:]{1,15}")
"""As Linux takes names of interfaces."""


def check(change: Change, around: Around) -> None:
    seen: dict[str, int] = {}
    for index, route in enumerate(change.document.get("static_routes") or ()):
        where = f"static_routes[{index}]"
        _route(change, around, where, route)
        if seen.setdefault(route["route_id"], index) != index:
            change.wrong(
                f"{where}.route_id", f"is that of static_routes[{seen[route['route_id']]}], too", route["route_id"]
            )
    watched: dict[str, int] = {}
    for index, gateway in enumerate(change.document.get("gateway_mon") or ()):
        where = f"gateway_mon[{index}].gateway_ip"
        address = change.address(where, gateway["gateway_ip"])
        if address is None:
            continue
        _router(change, where, address)
        if address.is_link_local:
            change.wrong(where, "is a link-local address: every interface has those", address)
        if watched.setdefault(str(address), index) != index:
            change.wrong(where, f"is that of gateway_mon[{watched[str(address)]}], too", address)
    _bgp(change)


def _router(change: Change, where: str, address: Address) -> bool:
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        change.wrong(where, "is not the address of a router", address)
        return False
    return True


def _route(change: Change, around: Around, where: str, route: dict[str, Any]) -> None:
    prefix, mask = route["prefix"], route["prefix"]["mask"]
    first = change.address(f"{where}.prefix.ip_addr", prefix["ip_addr"])
    hop = change.address(f"{where}.next_hop", route["next_hop"], *([first.version] if first is not None else []))
    interface = route.get("if_name") or ""
    if interface and not INTERFACE.fullmatch(interface):
        change.wrong(f"{where}.if_name", "is no name of an interface", interface)
    if first is not None and not 0 <= mask <= first.max_prefixlen:
        change.wrong(f"{where}.prefix.mask", f"must be from 0 to {first.max_prefixlen}", mask)
    elif first is not None:
        network = ipaddress.ip_network((first, mask), strict=False)
        prefix["ip_addr"]["addr"] = str(network.network_address)
        if network.is_multicast or network.is_loopback or network.is_link_local:
            change.wrong(f"{where}.prefix", "is nothing that a router is asked for", network)
        elif around.reserved(str(network[0])) and around.reserved(str(network[-1])):
            why = "lies in the engines' own network: they reach one another and the controller there"
            change.wrong(f"{where}.prefix", why, network)
    if hop is None:
        return
    if _router(change, f"{where}.next_hop", hop) and hop.is_link_local and not interface:
        hint = "Give if_name, the interface it is reached by."
        change.wrong(f"{where}.next_hop", "is a link-local address: every interface has those", hop, hint)


def _bgp(change: Change) -> None:
    profile = change.document.get("bgp_profile")
    if not profile:
        return
    if profile.get("ibgp") and not profile.get("local_as"):
        change.wrong("bgp_profile.local_as", "required, and missing")
    for index, text in enumerate(profile.get("community", ())):
        _community(change, f"bgp_profile.community[{index}]", text)
    for index, some in enumerate(profile.get("ip_communities", ())):
        _of_addresses(change, f"bgp_profile.ip_communities[{index}]", some)
    seen: dict[str, int] = {}
    for index, peer in enumerate(profile.get("peers", ())):
        where = f"bgp_profile.peers[{index}]"
        _peer(change, where, profile, peer)
        for field in ("peer_ip", "peer_ip6"):
            address = (peer.get(field) or {}).get("addr")
            if address and seen.setdefault(address, index) != index:
                change.wrong(f"{where}.{field}", f"is that of peers[{seen[address]}], too", address)


def _peer(change: Change, where: str, profile: dict[str, Any], peer: dict[str, Any]) -> None:
    fields = {"peer_ip": 4, "peer_ip6": 6}
    if not any(peer.get(field) for field in fields):
        change.wrong(where, "has no address", hint="Give peer_ip, peer_ip6 or both.")
    for field, version in fields.items():
        if peer.get(field):
            change.address(f"{where}.{field}", peer[field], version)
    local = peer.get("local_as") or profile["local_as"]
    remote = peer.get("remote_as")
    if not profile.get("ibgp") and not remote:
        change.wrong(f"{where}.remote_as", "required, and missing", hint="Give the router's AS, or ibgp true.")
    elif profile.get("ibgp") and remote and remote != local:
        change.wrong(f"{where}.remote_as", f"must be the own AS, {local}, with ibgp true", remote, "Give ibgp false.")
    elif not profile.get("ibgp") and remote == local:
        change.wrong(f"{where}.remote_as", "is the own AS, with ibgp false", remote, "Give ibgp true.")
    hold = profile["hold_time"] if peer.get("hold_time") is None else peer["hold_time"]
    keepalive = profile["keepalive_interval"] if peer.get("keepalive_interval") is None else peer["keepalive_interval"]
    if keepalive > hold:
        change.wrong(f"{where}.keepalive_interval", f"must not be above hold_time ({hold} s)", keepalive)
    secret = peer.get("md5_secret")
    plain = change.unseal("bgp_profile.peers.md5_secret", secret) if secret else ""
    if not UNSAFE.isdisjoint(plain):
        change.wrong(f"{where}.md5_secret", "has a quotation mark or a line break, which BIRD can't take")
    elif len(plain.encode()) > SECRET_BYTES_MAX:
        change.wrong(f"{where}.md5_secret", f"is longer than {SECRET_BYTES_MAX} bytes, which the kernel can't take")


def _of_addresses(change: Change, where: str, some: dict[str, Any]) -> None:
    first = change.address(f"{where}.ip_begin", some["ip_begin"])
    last = change.address(f"{where}.ip_end", some["ip_end"]) if some.get("ip_end") else first
    if first is not None and last is not None and (first.version, int(first)) > (last.version, int(last)):
        change.wrong(f"{where}.ip_end", f"is before ip_begin ({first})", last)
    elif first is not None and last is not None and first.version != last.version:
        change.wrong(f"{where}.ip_end", f"is not of ip_begin's family ({first})", last)
    for index, text in enumerate(some.get("community", ())):
        _community(change, f"{where}.community[{index}]", text)


def _community(change: Change, where: str, text: str) -> None:
    if community(text) is None:
        hint = "Give it as 65001:100, or internet, no-export, no-advertise or local-AS."
        change.wrong(where, "is no community", text, hint)
