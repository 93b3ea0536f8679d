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
STRING_OCTETS = 255
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
    if not any(_provider_in(source, cloud) for cloud in source.all("cloud")):
        return found
    for vsvip in source.all("vsvip"):
        infos = vsvip.get("dns_info") or ()
        provider = provider_for(source, vsvip) if infos and is_served(vsvip["uuid"]) else None
        if provider is not None:
            _add(found, _sets(provider, vsvip, infos))
    for service in source.all("virtualservice"):
        infos, fixed = infos_of(service), service.get("static_dns_records") or ()
        vsvip = source.get("vsvip", uuid_of(service.get("vsvip_ref") or "")) or {}
        provider = (
            provider_for(source, service) if (infos or fixed) and vsvip and service.get("enabled", True) else None
        )
        if provider is not None:
            _add(found, _sets(provider, vsvip, infos))
            _add(found, _fixed(provider, vsvip, fixed))
    return found


def infos_of(service: Document) -> list[Document]:
    """The ``dns_info`` of a virtual service, or what its ``fqdn`` says in short."""
    if name := service.get("fqdn"):
        return [{"fqdn": name, "type": kind} for kind in FAMILIES]
    return list(service.get("dns_info") or ())


def _add(found: dict[str, RecordSet], sets: Iterable[RecordSet]) -> None:
    for one in sets:
        known = found.get(one.key)
        if known is None:
            found[one.key] = one
        elif one.type != "CNAME":  # several VIPs of one name are answered in turn
            values = tuple(dict.fromkeys((*known.values, *one.values)))
            found[one.key] = msgspec.structs.replace(known, values=values, of=(*known.of, *one.of))


def provider_for(source: Source, vsvip: Document) -> Provider | None:
    return _provider_in(source, source.get("cloud", uuid_of(vsvip.get("cloud_ref", ""))) or {})


def _provider_in(source: Source, cloud: Document) -> Provider | None:
    profile = source.get("ipamdnsproviderprofile", uuid_of(cloud.get("dns_provider_ref", "")))
    return provider_of(profile) if profile is not None else None


def _sets(provider: Provider, vsvip: Document, infos: Iterable[Document]) -> Iterable[RecordSet]:
    for info in infos:
        kind, values = _values(vsvip, info)
        yield from _set(provider, vsvip, info.get("fqdn", ""), kind, values, info.get("ttl"))


def _set(
    provider: Provider, vsvip: Document, fqdn: object, kind: str, values: tuple[str, ...], ttl_s: int | None
) -> Iterable[RecordSet]:
    """None for a name in no zone of the provider's, or without values."""
    name = str(fqdn).rstrip(".").lower()
    zone = zone_of(provider, name)
    if name and zone and values:
        yield RecordSet(
            provider=provider.id,
            zone=zone,
            name=name,
            type=kind,
            values=values,
            ttl_s=ttl_s or provider.ttl_s,
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


# --- records that say themselves what they hold ---


def _fixed(provider: Provider, vsvip: Document, records: Iterable[Document]) -> Iterable[RecordSet]:
    for record in records:
        kind, values = fixed_values(record)
        for given in record.get("fqdn") or ():
            yield from _set(provider, vsvip, given, kind, values, record.get("ttl"))


def fixed_values(record: Document) -> tuple[str, tuple[str, ...]]:
    """(type, texts) of a ``DnsRecord``; none of types that are not published. Raises nothing: names were looked at when it was
    written."""
    kind = str(record.get("type", "")).removeprefix("DNS_RECORD_")
    match kind:
        case "A":
            return kind, tuple(one["ip_address"]["addr"] for one in record.get("ip_address") or ())
        case "AAAA":
            return kind, tuple(one["ip6_address"]["addr"] for one in record.get("ip6_address") or ())
        case "CNAME":
            target = (record.get("cname") or {}).get("cname", "")
            return kind, (_full(target),) if target else ()
        case "NS":
            return kind, tuple(_full(one["nsname"]) for one in record.get("ns") or ())
        case "MX":
            return kind, tuple(f"{one['priority']} {_full(one['host'])}" for one in record.get("mx_records") or ())
        case "TXT":
            return kind, tuple(_strings(one["text_str"]) for one in record.get("txt_records") or ())
        case "SRV":
            return kind, tuple(
                f"{one.get('priority', 0)} {one.get('weight', 0)} {one['port']} {_full(one.get('target', ''))}"
                for one in record.get("service_locator") or ()
            )
    return kind, ()


def targets(record: Document) -> list[tuple[str, str]]:
    """(path below the record, name) of the names that it leads to."""
    found = [("cname.cname", (record.get("cname") or {}).get("cname", ""))] if record.get("cname") else []
    found += [(f"ns[{number}].nsname", one["nsname"]) for number, one in enumerate(record.get("ns") or ())]
    found += [(f"mx_records[{number}].host", one["host"]) for number, one in enumerate(record.get("mx_records") or ())]
    locators = enumerate(record.get("service_locator") or ())
    return found + [(f"service_locator[{number}].target", one.get("target", "")) for number, one in locators]


def _full(name: str) -> str:
    return f"{name.rstrip('.')}."


def _strings(text: str) -> str:
    """As strings of at most 255 octets (RFC 1035, 3.3.14), all but plain characters escaped."""
    octets = text.encode(errors="replace")
    pieces = [octets[at : at + STRING_OCTETS] for at in range(0, len(octets), STRING_OCTETS)] or [b""]
    return " ".join('"' + "".join(_escaped(octet) for octet in piece) + '"' for piece in pieces)


def _escaped(octet: int) -> str:
    return chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\{octet:03d}"
