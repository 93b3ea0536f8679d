"""Network, application, persistence and SSL profiles: which are served, and what has no place in a configuration."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any

from shoal.controller import http_profile, key_exchange, limits, log_streams, policies, protocols, sources, tls
from shoal.controller.answers import statuses_of
from shoal.errors import Invalid
from shoal.objects.views import SslProfile, uuid_of, view
from shoal.wire.desired import CURVES, SUITES
from shoal.wire.policy import ERRORS, NAME, PAGE_OCTETS_MAX, TOKEN

from .change import Around, Change
from .policies import check_clients, check_indices, plain

ONE_WAY = "Make another virtual service of the ports without it, with the same vsvip_ref."
OTHER = "Use System-TCP-Proxy, System-UDP-Fast-Path, or another TCP or UDP profile."


def check(change: Change, around: Around) -> None:
    """A profile of any protocol is kept; one that virtual services use must be served, and its protocol stays."""
    profile = change.document
    users = around.services_of(change)
    if not users:
        return
    named = change.named(users)
    why = protocols.unserved(profile)
    before = change.before
    if why:
        change.wrong("profile", f"{profile['name']} {why}; it is used by virtual service {named}", hint=OTHER)
    elif before is not None and protocols.protocol(before) != protocols.protocol(profile):
        why = f"can't change between TCP and UDP while virtual service {named} uses the profile"
        change.wrong("profile.type", why, hint="Make another profile, and give it to the virtual service.")
    elif before is not None and protocols.fast(profile) and not protocols.fast(before):
        proxied = [service for service in users if _needs_proxy(service, change.uuid, around)]
        if proxied:
            why = f"can't become a fast path: virtual service {change.named(proxied)} needs a proxy for HTTP or TLS"
            change.wrong("profile.type", why, hint="Make another profile.")
        _one_engine(change, around, "profile.type")
    after = sources.Changed(around.view, change.type, change.uuid, change.document)
    if mixed := [service for service in users if protocols.mixed(after, service)]:
        why = f"virtual service {change.named(mixed)} has ports of the protocol with a dsr_profile then, and ports without"
        change.wrong("profile", why, hint=ONE_WAY)


def _needs_proxy(service: Mapping[str, Any], profile: str, around: Around) -> bool:
    """Of one that has this network profile: whether it speaks HTTP or TLS at ports that are served by it."""
    own = uuid_of(service.get("network_profile_ref", "")) == profile
    application = around.view.get("applicationprofile", uuid_of(service.get("application_profile_ref", ""))) or {}
    if own and application.get("type") == "APPLICATION_PROFILE_TYPE_HTTP":
        return True
    return any(
        port.get("enable_ssl")
        and uuid_of(port.get("override_network_profile_ref") or service["network_profile_ref"]) == profile
        for port in service.get("services", ())
    )


def check_analytics(change: Change, around: Around) -> None:
    config = change.document.get(log_streams.CONFIG)
    try:
        log_streams.targets(config) if config else []
    except Invalid as error:
        for problem in error.problems:
            change.wrong(f"{log_streams.CONFIG}.{problem.path}", problem.why, problem.value, problem.hint)


def _one_engine(change: Change, around: Around, path: str) -> None:
    """What services that use it ask for may need another group than theirs."""
    after = sources.Changed(around.view, change.type, change.uuid, change.document)
    for service, why in sources.obstacles(after, around.services_of(change)):
        change.wrong(path, f"{why} (virtual service {change.named([service])})", hint=sources.HINT)
        break


def check_application(change: Change, around: Around) -> None:
    if change.document.get("preserve_client_port") and not change.document.get("preserve_client_ip"):
        change.warnings.append("preserve_client_port has no effect without preserve_client_ip.")
    if change.document.get("preserve_client_ip"):
        _one_engine(change, around, "preserve_client_ip")
    name = (change.document.get("http_profile") or {}).get("xff_alternate_name", "")
    if name and not TOKEN.fullmatch(name):
        change.wrong("http_profile.xff_alternate_name", "must be a header name (RFC 9110, 5.6.2)", name)
    for part in ("http_profile", "tcp_app_profile"):
        profile = change.document.get(part) or {}
        mode = profile.get("ssl_client_certificate_mode", tls.NO_CLIENT_CERTIFICATE)
        if mode != tls.NO_CLIENT_CERTIFICATE and not profile.get("pki_profile_ref"):
            hint = "Give the PKI profile with the authorities that may issue them."
            change.wrong(f"{part}.pki_profile_ref", f"required by {mode}, and missing", hint=hint)
    _http(change, change.document.get("http_profile") or {})
    action = (change.document.get("http_profile") or {}).get("ssl_client_certificate_action") or {}
    for index, header in enumerate(action.get("headers") or ()):
        name, value = header.get("request_header", ""), header.get("request_header_value", "")
        where = f"http_profile.ssl_client_certificate_action.headers[{index}]"
        if not TOKEN.fullmatch(name):
            change.wrong(f"{where}.request_header", "must be a header name (RFC 9110, 5.6.2)", name)
        elif action.get("close_connection") and not NAME.fullmatch(name):
            change.wrong(f"{where}.request_header", "must be letters, digits, '_', '.' and '-'", name)
        if action.get("close_connection") and not value:
            continue
        if value == "HTTP_POLICY_VAR_HTTP_HDR" or value not in policies.VARIABLES:
            change.warnings.append(f"The header {name} is not set: there is no {value or 'request_header_value'} here.")
    for problem in limits.problems(change.document, limits.OF_PROFILE):
        change.wrong(*problem)
    change.warnings += limits.untaken(change.document, limits.OF_PROFILE)


def _http(change: Change, profile: Mapping[str, Any]) -> None:
    for number, name in enumerate((profile.get("true_client_ip") or {}).get("headers") or ()):
        if not NAME.fullmatch(name):
            where = f"http_profile.true_client_ip.headers[{number}]"
            change.wrong(where, "must be letters, digits, '_', '.' and '-'", name)
    timeout = profile.get("client_body_timeout", http_profile.BODY_TIMEOUT_MS)
    if timeout != http_profile.BODY_TIMEOUT_MS and not profile.get("enable_request_body_buffering"):
        why = "client_body_timeout counts with enable_request_body_buffering only: other bodies go to servers as they come."
        change.warnings.append(why)
    filters = (profile.get("compression_profile") or {}).get("filter") or ()
    for number, one in enumerate(filters):
        path = f"http_profile.compression_profile.filter[{number}]"
        addresses = http_profile.addresses_of(one)
        if any(addresses.values()):
            check_clients(change, path, addresses, {ours: theirs for theirs, ours in http_profile.ADDRESSES.items()})
        for index, text in enumerate(one.get("user_agent") or ()):
            plain(change, f"{path}.user_agent[{index}]", text)
    check_indices(change, "http_profile.compression_profile.filter", filters)


def check_error_page(change: Change, around: Around) -> None:
    octets = len(change.document.get("error_page_body", "").encode(errors="replace"))
    if octets > PAGE_OCTETS_MAX:
        change.wrong("error_page_body", f"has {octets} octets; {PAGE_OCTETS_MAX} can be")


def check_error_pages(change: Change, around: Around) -> None:
    for number, page in enumerate(change.document.get("error_pages") or ()):
        path, target = f"error_pages[{number}]", page.get("error_redirect", "")
        if target and not _TARGET.fullmatch(target):
            change.wrong(f"{path}.error_redirect", "must be a URL", target, "Give https://sorry.example/, for example.")
        if not page.get("enable", True):
            continue
        if not page.get("error_page_body_ref") and not target:
            change.wrong(path, "has neither error_page_body_ref nor error_redirect")
        if not page.get("match"):
            change.wrong(
                f"{path}.match",
                "required, and missing",
                hint='Give {"match_criteria": "IS_IN", "status_codes": [503]}.',
            )
        elif not any(statuses_of(page["match"])):
            named = ", ".join(map(str, ERRORS))
            change.wrong(f"{path}.match", "names no error that engines answer with", hint=f"Those are {named}.")


_TARGET = re.compile(r"https?://[!-~]{1,1000}|/[!-~]{0,1000}")
PICK_NEW = "HM_DOWN_PICK_NEW_SERVER"
KEPT_BY_COOKIE = ("PERSISTENCE_TYPE_HTTP_COOKIE", "PERSISTENCE_TYPE_APP_COOKIE")
NAMED = {
    "PERSISTENCE_TYPE_HTTP_COOKIE": ("http_cookie_persistence_profile", "cookie_name"),
    "PERSISTENCE_TYPE_APP_COOKIE": ("app_cookie_persistence_profile", "prst_hdr_name"),
    "PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER": ("hdr_persistence_profile", "prst_hdr_name"),
}


def check_persistence(change: Change, around: Around) -> None:
    """A cookie of the engines' own may be without a name, the others must say which."""
    kind = change.document["persistence_type"]
    if kind in ("PERSISTENCE_TYPE_TLS", "PERSISTENCE_TYPE_GSLB_SITE"):
        change.warnings.append(f"{kind} has no effect: clients are balanced as if no persistence were asked for.")
    part, field = NAMED.get(kind, ("", ""))
    recovery = change.document.get("server_hm_down_recovery", PICK_NEW)
    if recovery != PICK_NEW and kind not in KEPT_BY_COOKIE:
        why = "a server follows from what a client is, so that one that is down has no clients"
        change.warnings.append(f"{recovery} acts as {PICK_NEW} with {kind}: {why}.")
    name = (change.document.get(part) or {}).get(field, "")
    if part and not NAME.fullmatch(name) and (name or field != "cookie_name"):
        change.wrong(f"{part}.{field}", "must be letters, digits, '_', '.' and '-'", name)


def prepare_ssl(change: Change) -> None:
    """Finds out whether parameters of key exchange are good, which takes time."""
    if isinstance(given := change.raw.get("dhparam"), str) and given:
        key_exchange.fault(key_exchange.parameters(given))


def check_ssl(change: Change, around: Around) -> None:
    profile = change.document
    given = profile.get("dhparam", "")
    is_new = given and given != (change.before or {}).get("dhparam")
    if is_new and (fault := key_exchange.fault(key_exchange.parameters(given))):
        change.wrong("dhparam", fault, hint="Give what `openssl dhparam 2048` prints.")
    accepted = [one["type"] for one in profile.get("accepted_versions") or ()]
    if accepted and not tls.VERSIONS.keys() & set(accepted):
        change.wrong("accepted_versions", "no version is left that can be served", accepted, "Give SSL_VERSION_TLS1_2.")
    typed = view({**profile, "uuid": change.uuid}, SslProfile)
    if tls.VERSIONS.keys() & set(accepted) and not tls.versions(typed):
        why = "has no cipher for any of the accepted_versions"
        change.wrong("cipher_enums", why, hint="Name ciphers of TLS 1.3 and of the versions before, as are accepted.")
    elif (names := tls.named_ciphers(typed)) and not _known(":".join(names)):
        change.wrong("cipher_enums", "OpenSSL knows none of these ciphers", profile["cipher_enums"])
    ciphers = profile.get("accepted_ciphers", "")
    if ciphers and ciphers != tls.CIPHERS_DEFAULT and not _known(ciphers):
        change.wrong("accepted_ciphers", "OpenSSL knows none of these ciphers", ciphers)
    curves = profile.get("ec_named_curve", "auto")
    if curves != "auto" and (unknown := [name for name in curves.split(":") if name not in CURVES]):
        why = f"no curve: {', '.join(unknown)[:60]}"
        change.wrong("ec_named_curve", why, hint=f"auto, or of these, with colons between: {', '.join(CURVES)}.")
    suites = profile.get("ciphersuites", "")
    unknown = [name for name in suites.split(":") if name and name not in SUITES]
    if unknown or (suites and not suites.strip(":")):
        change.wrong("ciphersuites", f"no TLS 1.3 cipher suite: {', '.join(unknown)[:60] or suites[:60]}")


def _known(ciphers: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
    except ssl.SSLError:
        return False
    return True
