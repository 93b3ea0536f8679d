"""Names that a virtual service wants published: its own, and records that it gives."""

from __future__ import annotations

from shoal.controller.names.members import is_name
from shoal.controller.zones import wanted as zones

from . import vips
from .change import Around, Change

FIXED = "static_dns_records"


def check(change: Change, around: Around) -> None:
    service = change.document
    if service.get("fqdn") and service.get("dns_info"):
        change.wrong("fqdn", "can't be given beside dns_info", hint="Give the one or the other.")
    if service.get("fqdn"):
        vips.publishable(change, around, "fqdn", service["fqdn"])
    infos = enumerate(service.get("dns_info") or ())
    vips.published(change, around, ((f"dns_info[{number}]", info) for number, info in infos))
    for number, record in enumerate(service.get(FIXED) or ()):
        path, (kind, values) = f"{FIXED}[{number}]", zones.fixed_values(record)
        for at, name in enumerate(record.get("fqdn") or ()):
            vips.publishable(change, around, f"{path}.fqdn[{at}]", name)
        for below, name in zones.targets(record):
            if not is_name(name):
                change.wrong(f"{path}.{below}", "must be a name of DNS", name)
        for field, version in (("ip_address", 4), ("ip6_address", 6)):
            for at, one in enumerate(record.get(field) or ()):
                change.address(f"{path}.{field}[{at}].{field}", one[field], version)
        if not values:
            change.warnings.append(f"{path} is not published: it holds nothing for a {kind} record that there can be.")
