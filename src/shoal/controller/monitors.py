"""Health monitors as engines run them (`shoal.wire.monitors`)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from shoal.objects import monitor_views, views
from shoal.objects.views import uuid_of, view
from shoal.wire import monitors as wire

from .protocols import Documents
from .tls import tls_of

Document = Mapping[str, Any]
Unseal = Callable[[str, str], str]
"""(sealed text, its context) -> the secret in plain text."""
SCOPES = {"LDAP_BASE_MODE": "base", "LDAP_ONE_MODE": "one", "LDAP_SUB_MODE": "sub"}
NOT_RUN = ("AUTH_NTLM",)


def withheld(text: str, context: str) -> str:
    """For whoever has no use for secrets."""
    return ""


def kind_of(type: str) -> str:
    """``HEALTH_MONITOR_TCP`` -> ``TCP``."""
    return type.removeprefix("HEALTH_MONITOR_")


def detail(monitor: Document) -> Document:
    """The member that is of the monitor's type, e.g. ``http_monitor``."""
    return monitor.get(f"{kind_of(monitor['type']).lower()}_monitor") or {}


def why_not_run(monitor: Document) -> str:
    """In half a sentence; "" for one that engines run. One that they can't is as if it were not there: a pool without a
    check serves, a pool with one that can't be run would not."""
    kind = kind_of(monitor["type"])
    if kind not in wire.MONITOR_KINDS:
        return f"Health monitors of type {kind} can't be run yet"
    if detail(monitor).get("auth_type") in NOT_RUN:
        return "Health monitors with AUTH_NTLM can't be run"
    return ""


def monitor_part(documents: Documents, document: Document, unseal: Unseal) -> wire.Monitor:
    found = view(document, monitor_views.HealthMonitor)
    kind = kind_of(found.type)
    secret = found.authentication or monitor_views.Authentication()
    part: dict[str, Any] = {
        "name": found.name,
        "kind": kind,
        "interval_s": found.send_interval,
        "timeout_s": found.receive_timeout,
        "rise": found.successful_checks,
        "fall": found.failed_checks,
        "port": found.monitor_port,
        "apart": found.allow_duplicate_monitors,
        "quick": not found.disable_quickstart,
    }
    if secret.username and kind not in ("TCP", "UDP", "PING", "DNS"):
        part |= {
            "user": secret.username,
            "password": _opened(unseal, found, "authentication.password", secret.password),
        }
    own = getattr(found, f"{kind.lower()}_monitor", None)
    attributes = getattr(own, "ssl_attributes", None)
    if attributes is not None:
        part["tls"] = _tls(documents, attributes, unseal)
    match own:
        case monitor_views.Http():
            part |= _http(own)
        case monitor_views.Tcp():
            part |= {"request": own.tcp_request, "response": own.tcp_response, "maintenance": own.maintenance_response}
        case monitor_views.Udp():
            part |= {"request": own.udp_request, "response": own.udp_response, "maintenance": own.maintenance_response}
        case monitor_views.Dns():
            part["response"] = own.response_string
            part["asks"] = wire.DnsQuestion(
                name=own.query_name, record_type=own.record_type, answer=own.qtype, code=own.rcode
            )
        case monitor_views.Sip():
            part |= {"response": own.sip_response, "asks": wire.Sip(tcp=own.sip_monitor_transport == "SIP_TCP_PROTO")}
        case monitor_views.Radius():
            part |= {
                "user": own.username,
                "password": _opened(unseal, found, "radius_monitor.password", own.password),
                "asks": wire.Shared(secret=_opened(unseal, found, "radius_monitor.shared_secret", own.shared_secret)),
            }
        case None:
            pass
        case _:
            part["asks"] = _asks(own)
    return wire.Monitor(**part)


def _http(own: monitor_views.Http) -> dict[str, Any]:
    with_user = own.auth_type == "AUTH_BASIC"
    found: dict[str, Any] = {} if with_user else {"user": "", "password": ""}
    return found | {
        "request": own.http_request,
        "body": own.http_request_body,
        "exact": own.exact_http_request,
        "codes": own.http_response_code,
        "response": own.http_response,
        "maintenance_codes": own.maintenance_code,
        "maintenance": own.maintenance_response,
        "answer_bytes": own.response_size or wire.ANSWER_BYTES,
    }


def _asks(own: object) -> wire.Asks | None:
    match own:
        case monitor_views.External():
            return wire.Script(
                code=own.command_code,
                parameters=tuple(words(own.command_parameters)),
                variables=tuple(words(own.command_variables)),
            )
        case monitor_views.Smtp():
            return wire.Mail(
                domain=own.domainname, sender=own.sender_id, recipients=own.recipients_ids, data=own.mail_data
            )
        case monitor_views.Imap():
            return wire.Folder(name=own.folder)
        case monitor_views.Ftp():
            return wire.File(name=own.filename, passive=own.mode != "FTP_PORT_MODE")
        case monitor_views.Ldap():
            attributes = tuple(part.strip() for part in own.attributes.split(",") if part.strip())
            scope = SCOPES.get(own.scope, "base")
            return wire.Search(base=own.base_dn, filter=own.filter, scope=scope, attributes=attributes)
    return None


def words(text: str) -> list[str]:
    """As a shell splits them. Raises ValueError for quotes that do not end."""
    return shlex.split(text)


def _opened(unseal: Unseal, monitor: monitor_views.HealthMonitor, path: str, value: str) -> str:
    return unseal(value, f"healthmonitor/{monitor.uuid}/{path}") if value else ""


def _tls(documents: Documents, wanted: monitor_views.SslAttributes, unseal: Unseal) -> wire.MonitorTls:
    profile = documents.get("sslprofile", uuid_of(wanted.ssl_profile_ref)) if wanted.ssl_profile_ref else None
    trusted = documents.get("pkiprofile", uuid_of(wanted.pki_profile_ref)) if wanted.pki_profile_ref else None
    accepted = tls_of(view(profile, views.SslProfile) if profile is not None else None)
    authorities = [one.get("certificate", "") for one in (trusted or {}).get("ca_certs", ())]
    return wire.MonitorTls(
        authorities="\n".join(text.strip() for text in authorities if text.strip()),
        certificate=_certificate(documents, uuid_of(wanted.ssl_key_and_certificate_ref), unseal),
        server_name=wanted.server_name,
        version_min=accepted.version_min,
        version_max=accepted.version_max,
        ciphers=accepted.ciphers,
    )


def _certificate(documents: Documents, uuid: str, unseal: Unseal) -> str:
    """With its key."""
    found = documents.get("sslkeyandcertificate", uuid) if uuid else None
    if found is None or not found.get("key"):
        return ""
    key = unseal(found["key"], f"sslkeyandcertificate/{uuid}/key")
    return f"{(found.get('certificate') or {}).get('certificate', '').strip()}\n{key.strip()}\n"
