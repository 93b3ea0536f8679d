"""VRFs: the routers that engines announce VIPs to."""

from __future__ import annotations

from typing import Any

from shoal.controller.bgp import community

from .change import Around, Change

UNSAFE = frozenset('"\n\r\0')
SECRET_BYTES_MAX = 80
"""What the kernel takes for TCP MD5."""


def check(change: Change, around: Around) -> None:
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
