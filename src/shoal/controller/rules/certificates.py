"""Certificates: a key and a certificate that belong together, told when they are written."""

from __future__ import annotations

from shoal.controller import certificates
from shoal.controller.certificates import Unreadable

from .change import Around, Change

PEM_ONLY = "Give certificate and key in plain PEM."


def check(change: Change, around: Around) -> None:
    document = change.document
    for field in ("certificate_base64", "key_base64"):
        if document.get(field):
            change.wrong(field, "can't be true yet", hint=PEM_ONLY)
    if document.get("format") == "SSL_PKCS12":
        change.wrong("format", "SSL_PKCS12 is not taken yet", hint=PEM_ONLY)
    body = document["certificate"]
    if not body.get("certificate"):
        hint = "Certificates and signing requests are not made here yet: give one in PEM."
        change.wrong("certificate.certificate", "required, and missing", hint=hint)
    if change.problems:
        return
    try:
        found = certificates.certificate(body["certificate"])
    except Unreadable as error:
        change.wrong("certificate.certificate", str(error), hint="It begins with -----BEGIN CERTIFICATE-----.")
        return
    params = certificates.key_params(found)
    body.update(certificates.described(found))
    for place in (document, body):
        place.pop("key_params", None)
        place.update({"key_params": params} if params else {})
    if not document.get("key"):
        users = around.services_of(change)
        pools = [name for type, _, name in around.view.referrers(change.uuid) if type == "pool"]
        if users:
            change.wrong("key", f"required by virtual service {change.named(users)}, and missing")
        elif pools:
            change.wrong("key", f"required by pool {', '.join(pools)[:60]}, and missing")
        return
    try:
        key = certificates.private_key(change.secret("key"), change.secret("key_passphrase"))
    except Unreadable as error:
        change.wrong("key", str(error), hint="It begins with a line such as -----BEGIN PRIVATE KEY-----.")
        return
    if not certificates.belong_together(found, key):
        subject = body["subject"]["distinguished_name"]
        change.wrong("key", f"is not the key of this certificate ({subject})", hint="Give both of the same pair.")
    elif "ENCRYPTED" in change.secret("key"):
        document["key"] = certificates.plain_pem(key)


def check_authorities(change: Change, around: Around) -> None:
    """A PKI profile: what verifies nobody, or what HAProxy can't load, would take down all that use it."""
    profile = change.document
    if not profile.get("ca_certs"):
        change.wrong("ca_certs", "required, and missing", hint="Give at least one certificate of an authority in PEM.")
    issuers = []
    for index, body in enumerate(profile.get("ca_certs") or ()):
        try:
            found = certificates.certificates(body.get("certificate", ""))
        except Unreadable as error:
            change.wrong(
                f"ca_certs[{index}].certificate", str(error), hint="It begins with -----BEGIN CERTIFICATE-----."
            )
            continue
        body.update(certificates.described(found[0]))
        issuers += [one.subject for one in found]
    listed = {}
    for index, body in enumerate(profile.get("crls") or ()):
        try:
            revoked = certificates.revocation_list(body.get("body", ""))
        except Unreadable as error:
            change.wrong(f"crls[{index}].body", str(error), hint="It begins with -----BEGIN X509 CRL-----.")
            continue
        body.update(certificates.described_list(revoked))
        listed[revoked.issuer] = revoked
    if not profile.get("crl_check") or not listed:
        return
    for issuer in issuers:
        if issuer not in listed:
            change.warnings.append(f"No list (CRL) of {issuer.rfc4514_string()}: no certificate it issued is taken.")
    for index, body in enumerate(profile["crls"]):
        if body.get("next_update") and certificates.is_past(body["next_update"]):
            change.warnings.append(
                f"crls[{index}] ended at {body['next_update']}: its issuer's certificates are not taken."
            )
