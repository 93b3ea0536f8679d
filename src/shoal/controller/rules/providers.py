"""DNS servers that take the records of VIPs."""

from __future__ import annotations

from shoal.controller.names.members import is_name
from shoal.controller.zones.wanted import ALGORITHMS, CUSTOM_DNS, PARAMETERS, is_secret
from shoal.objects.views import is_address

from .change import Around, Change

PORT_MAX, TTL_S_MAX = 65_535, 604_800


def check(change: Change, around: Around) -> None:
    if change.document["type"] != CUSTOM_DNS:
        return
    custom = change.document.get("custom_profile") or {}
    path, params = "custom_profile.dynamic_params", custom.get("dynamic_params") or ()
    given = {one["name"]: one.get("value", "") for one in params}
    if unknown := [name for name in given if name not in PARAMETERS]:
        change.wrong(path, "is not known", unknown[0], f"There are: {', '.join(PARAMETERS)}.")
    if not is_address(given.get("server", "")):
        hint = 'Give {"name": "server", "value": "192.0.2.53"}.'
        change.wrong(path, "server must be the address of a DNS server", given.get("server", ""), hint)
    for name, most in (("port", PORT_MAX), ("ttl", TTL_S_MAX)):
        if name in given and not (given[name].isdigit() and 0 < int(given[name]) <= most):
            change.wrong(path, f"{name} must be 1..{most}", given[name])
    if given.get("algorithm", ALGORITHMS[0]) not in ALGORITHMS:
        change.wrong(path, "algorithm is not known", given["algorithm"], f"There are: {', '.join(ALGORITHMS)}.")
    for zone in custom.get("usable_domains") or ():
        if not is_name(zone):
            change.wrong("custom_profile.usable_domains", "must be names of zones", zone)
    if not custom.get("usable_domains"):
        change.wrong("custom_profile.usable_domains", "required, and missing", hint='Give ["example.org"].')
    secret = change.unseal("custom_profile.tsig_secret", custom["tsig_secret"]) if custom.get("tsig_secret") else ""
    if bool(given.get("key_name")) != bool(secret):
        change.wrong("custom_profile.tsig_secret", "goes with key_name in dynamic_params: give both or none")
    elif secret and not is_secret(secret):
        change.wrong("custom_profile.tsig_secret", "must be base64 of 16 octets at least, as tsig-keygen prints it")
    elif not secret:
        change.warnings.append("Updates are not signed: give key_name and tsig_secret.")
