"""Certificates: a key and a certificate that belong together, told when they are written."""

from __future__ import annotations

import datetime
import time
import urllib.parse
from typing import Any

from shoal.controller import certificates, forms, issuing, ocsp
from shoal.controller.acme import profile as acme_profile
from shoal.controller.certificates import Unreadable

from .change import Around, Change

PENDING, FINISHED = "SSL_CERTIFICATE_PENDING", "SSL_CERTIFICATE_FINISHED"
DAYS_DEFAULT = 365
STANDS_IN_DAYS = 90


def make_key(change: Change) -> None:
    """A write that asks for a certificate and gives no key gets one. Runs in a thread of its own: it takes time."""
    raw, body = change.raw, change.raw.get("certificate")
    if raw.get("key") or (change.before or {}).get("key") or not isinstance(body, dict) or body.get("certificate"):
        return
    if not isinstance(body.get("subject"), dict) or not body["subject"].get("common_name"):
        return
    wanted = raw.get("key_params") or body.get("key_params") or {}
    change.made_key = issuing.new_key(wanted if isinstance(wanted, dict) else {})


def check(change: Change, around: Around) -> None:
    document = change.document
    body = document["certificate"]
    _converted(change, body)
    if change.problems:
        return
    managed = acme_profile.read(around.view, document.get("certificate_management_profile_ref", ""))
    if managed is not None and not document.get("key") and not change.made_key:
        change.wrong(
            "key", f"must be the controller's own, for {managed.name}", hint="Give no certificate.certificate."
        )
        return
    if not body.get("certificate") and not _made(change, body, for_authority=managed is not None):
        return
    try:
        found = certificates.certificate(body["certificate"])
    except Unreadable as error:
        change.wrong("certificate.certificate", str(error), hint="It begins with -----BEGIN CERTIFICATE-----.")
        return
    document["ocsp_responder_url_list_from_certs"] = ocsp.responders(found)
    stands_in = managed is not None and found.subject == found.issuer
    document["status"] = PENDING if stands_in else FINISHED
    if stands_in and not around.services_of(change):
        change.warnings.append(
            f"{managed.directory if managed else ''} is asked for it once a virtual service that has it is up and has an HTTP port 80 "
            "at its VIP; until then a self-signed certificate is in its place."
        )
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
    key = _key(change)
    if key is None:
        return
    if not certificates.belong_together(found, key):
        subject = body["subject"]["distinguished_name"]
        change.wrong("key", f"is not the key of this certificate ({subject})", hint="Give both of the same pair.")
        return
    if "ENCRYPTED" in change.secret("key"):
        document["key"] = certificates.plain_pem(key)
    if not issuing.is_for(body.get("certificate_signing_request", ""), key):
        body.pop("certificate_signing_request", None)
        if managed is not None:  # the next one is asked for with it
            _requested(change, body, key)


def _requested(change: Change, body: dict[str, Any], key: certificates.PrivateKey) -> None:
    try:
        body["certificate_signing_request"] = issuing.signing_request(body, key)
    except issuing.Unmakeable as error:
        change.wrong(f"certificate.{error.path}", str(error))


def _converted(change: Change, body: dict[str, Any]) -> None:
    """Other forms become PEM. The fields that name the form stay as they were given."""
    document, given = change.document, str(body.get("certificate") or "")
    key, passphrase = change.secret("key"), change.secret("key_passphrase")
    whole = document.get("format") == "SSL_PKCS12"
    where = "key" if key and not forms.is_pem(key) else "certificate.certificate"
    try:
        if whole and (where == "key" or (given and not forms.is_pem(given))):
            document["key"], body["certificate"] = forms.opened(key if where == "key" else given, passphrase)
            return
        where = "certificate.certificate"
        if document.get("certificate_base64") and given and not forms.is_pem(given):
            body["certificate"] = forms.certificate_pem(given)
        where = "key"
        if document.get("key_base64") and key and not forms.is_pem(key):
            document["key"] = forms.key_pem(key, passphrase)
    except Unreadable as error:
        change.wrong(where, str(error))


def _made(change: Change, body: dict[str, Any], *, for_authority: bool) -> bool:
    """Without a certificate: whether one was made, if only to be served until the authority has issued another. Else a
    signing request stands there, or a problem."""
    document = change.document
    if change.made_key and not document.get("key"):
        document["key"] = change.made_key
    if not document.get("key"):
        hint = "Give a certificate in PEM, or certificate.subject.common_name for a signing request."
        change.wrong("certificate.certificate", "required, and missing", hint=hint)
        return False
    key = _key(change)
    if key is None:
        return False
    try:
        if body.get("self_signed"):
            days = body.get("days_until_expire") or DAYS_DEFAULT
            body["certificate"] = issuing.self_signed(body, key, days, datetime.datetime.now(datetime.UTC))
            return True
        body["certificate_signing_request"] = issuing.signing_request(body, key)
        if for_authority:
            names = issuing.host_names(body)
            if not names or any("*" in name for name in names):
                why = "must be host names without *: the authority looks for its proof at each of them by HTTP"
                raise issuing.Unmakeable("subject_alt_names", why)
            body["certificate"] = issuing.self_signed(body, key, STANDS_IN_DAYS, datetime.datetime.now(datetime.UTC))
            return True
    except issuing.Unmakeable as error:
        change.wrong(f"certificate.{error.path}", str(error))
        return False
    document["status"] = PENDING
    return False


def _key(change: Change) -> certificates.PrivateKey | None:
    try:
        return certificates.private_key(change.secret("key"), change.secret("key_passphrase"))
    except Unreadable as error:
        change.wrong("key", str(error), hint="It begins with a line such as -----BEGIN PRIVATE KEY-----.")
        return None


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
        end = certificates.time_of(body.get("next_update", ""))
        if end is not None and end <= time.time():
            change.warnings.append(
                f"crls[{index}] ended at {body['next_update']}: its issuer's certificates are not taken."
            )


def check_management(change: Change, around: Around) -> None:
    """A CertificateManagementProfile: scripts are not run, one name stands for ACME."""
    document = change.document
    if not acme_profile.is_acme(around.view, document):
        change.warnings.append(f"Scripts are not run: only a profile with {acme_profile.SCRIPT} acts.")
        return
    given = acme_profile.params(document)
    url = urllib.parse.urlsplit(given.get("directory_url", ""))
    if url.scheme != "https" or not url.hostname:
        hint = 'Such as {"name": "directory_url", "value": "https://acme-v02.api.letsencrypt.org/directory"}.'
        change.wrong("script_params", "directory_url must be the https URL of an ACME directory", url.geturl(), hint)
    unknown = [name for name in given if name not in ("directory_url", "contact", "ca_certs")]
    if unknown:
        change.warnings.append(f"script_params: {', '.join(unknown)[:100]} has no effect.")
    if given.get("ca_certs"):
        try:
            certificates.certificates(given["ca_certs"])
        except Unreadable as error:
            change.wrong("script_params", f"ca_certs {error}")
