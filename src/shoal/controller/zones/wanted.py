"""Which records there should be, and where. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from shoal.objects.views import uuid_of

Document = Mapping[str, Any]
CUSTOM_DNS = "IPAMDNS_TYPE_CUSTOM_DNS"
ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
TTL_S = 30
FAMILIES = {"DNS_RECORD_A": ("A", "ip_address"), "DNS_RECORD_AAAA": ("AAAA", "ip6_address")}
PARAMETERS = ("server", "port", "key_name", "algorithm", "ttl")
"""``dynamic_params`` that are known."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A DNS server that takes updates. ``zones``: what it is asked to change, without final dots; ``secret``: sealed."""

    id: str
    server: str
    port: int = 53
    zones: tuple[str, ...] = ()
    key_name: str = ""
    secret: str = ""
    algorithm: str = ALGORITHMS[0]
    ttl_s: int = TTL_S


class RecordSet(msgspec.Struct, frozen=True, kw_only=True):
    """All records of a name and type that are ours. ``name`` is in lower case, without its final dot."""

    provider: str
    zone: str
    name: str
    type: str
    values: tuple[str, ...]
    ttl_s: int
    of: tuple[str, ...] = ()
    """The VsVips that want it."""

    @property
    def key(self) -> str:
        return f"{self.name}/{self.type}"


class Source(Protocol):
    def get(self, type: str, uuid: str) -> dict[str, Any] | None: ...

    def all(self, type: str) -> list[dict[str, Any]]: ...

    def referrers(self, uuid: str) -> Iterable[tuple[str, str, str]]: ...


def provider_of(document: Document) -> Provider | None:
    """None for a profile that is not of a DNS server that takes updates."""
    custom = document.get("custom_profile") or {}
    given = {one["name"]: one.get("value", "") for one in custom.get("dynamic_params") or ()}
    if document["type"] != CUSTOM_DNS or not given.get("server"):
        return None
    return Provider(
        id=document["uuid"],
        server=given["server"],
        port=_number(given.get("port"), 53),
        zones=tuple(zone.rstrip(".").lower() for zone in custom.get("usable_domains") or ()),
        key_name=given.get("key_name", ""),
        secret=custom.get("tsig_secret", ""),
        algorithm=given.get("algorithm") or ALGORITHMS[0],
        ttl_s=_number(given.get("ttl"), TTL_S),
    )


def _number(text: object, otherwise: int) -> int:
    return int(str(text)) if str(text or "").isdigit() else otherwise


def zone_of(provider: Provider, name: str) -> str:
    """The longest of its zones that the name is in; "" for none."""
    return max((z for z in provider.zones if name == z or name.endswith(f".{z}")), key=len, default="")


def is_secret(text: str) -> bool:
    """Whether it is a TSIG secret: base64, 16 octets at least."""
    try:
        return len(base64.b64decode(text, validate=True)) >= 16
    except (binascii.Error, ValueError):
        return False


def wanted(source: Source, is_served: Callable[[str], bool] = lambda vsvip: True) -> dict[str, RecordSet]:
    """By key. ``is_served(uuid)``: whether an enabled virtual service has the VsVip."""
    found: dict[str, RecordSet] = {}
    for vsvip in source.all("vsvip"):
        if not vsvip.get("dns_info") or not is_served(vsvip["uuid"]):
            continue
        provider = provider_for(source, vsvip)
        if provider is None:
            continue
        for one in _sets(provider, vsvip):
            known = found.get(one.key)
            if known is None:
                found[one.key] = one
            elif one.type != "CNAME":  # several VIPs of one name are answered in turn
                values = tuple(dict.fromkeys((*known.values, *one.values)))
                found[one.key] = msgspec.structs.replace(known, values=values, of=(*known.of, *one.of))
    return found


def provider_for(source: Source, vsvip: Document) -> Provider | None:
    cloud = source.get("cloud", uuid_of(vsvip.get("cloud_ref", ""))) or {}
    profile = source.get("ipamdnsproviderprofile", uuid_of(cloud.get("dns_provider_ref", "")))
    return provider_of(profile) if profile is not None else None


def _sets(provider: Provider, vsvip: Document) -> Iterable[RecordSet]:
    for info in vsvip.get("dns_info") or ():
        name = str(info.get("fqdn", "")).rstrip(".").lower()
        zone = zone_of(provider, name)
        kind, values = _values(vsvip, info)
        if name and zone and values:
            yield RecordSet(
                provider=provider.id,
                zone=zone,
                name=name,
                type=kind,
                values=values,
                ttl_s=info.get("ttl") or provider.ttl_s,
                of=(vsvip["uuid"],),
            )


def _values(vsvip: Document, info: Document) -> tuple[str, tuple[str, ...]]:
    """(type, texts) of the records."""
    kind = info.get("type", "DNS_RECORD_A")
    if kind == "DNS_RECORD_CNAME":
        target = (info.get("cname") or {}).get("cname", "").rstrip(".")
        return "CNAME", (f"{target}.",) if target else ()
    if kind not in FAMILIES:
        return "", ()
    type, field = FAMILIES[kind]
    vips = (vip for vip in vsvip.get("vip") or () if vip.get("enabled", True))
    return type, tuple(vip[field]["addr"] for vip in vips if vip.get(field))
