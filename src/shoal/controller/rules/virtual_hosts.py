"""Virtual hosting: parents, and children that get what clients ask for there: by the name they tell by TLS, or by what
their requests are like."""

from __future__ import annotations

import urllib.parse
from typing import Any

from shoal.controller.policies import untaken_match
from shoal.controller.virtual_hosts import ENHANCED
from shoal.objects.check import shown
from shoal.objects.views import uuid_of
from shoal.wire.desired import SERVER_NAME

from . import policies
from .change import Around, Change, Document

PARENT, CHILD = "VS_TYPE_VH_PARENT", "VS_TYPE_VH_CHILD"
INHERITED = ("vsvip_ref", "se_group_ref")
OF_CONNECTIONS = ("performance_limits", "connections_rate_limit", "max_cps_per_client")
"""What is decided before a client has told which name it wants."""
OF_TLS = ("ssl_profile_ref", "ssl_key_and_certificate_refs", "allow_invalid_client_cert")
"""What the parent decides where requests are told apart."""
BY_NAME = "VS_TYPE_VH_SNI"


def fill(change: Change, around: Around) -> None:
    """A child is where its parent is."""
    parent = _named(change, around)
    if change.raw.get("type") == CHILD and parent is not None:
        change.raw |= {field: parent[field] for field in INHERITED if not change.raw.get(field)}
        if not change.raw.get("vh_type"):
            change.raw["vh_type"] = parent.get("vh_type", BY_NAME)


def _named(change: Change, around: Around) -> dict[str, Any] | None:
    """The virtual service that a client names as parent, by reference or by name. None of another tenant."""
    reference = str(change.raw.get("vh_parent_vs_ref") or "")
    name = str(change.raw.get("vh_parent_vs_name") or urllib.parse.unquote(reference.partition("name=")[2]))
    tenant = uuid_of(str(change.raw.get("tenant_ref") or ""))
    found = around.view.get("virtualservice", uuid_of(reference)) or around.view.named("virtualservice", name, tenant)
    return found if found is not None and change.sight.reaches("virtualservice", found) else None


def children_of(around: Around, uuid: str) -> list[Document]:
    found = (around.view.get(type, one) for type, one, _ in around.view.referrers(uuid) if type == "virtualservice")
    return [one for one in found if one is not None and uuid_of(one.get("vh_parent_vs_ref") or "") == uuid]


def check(change: Change, around: Around) -> None:
    if change.document.get("type") == CHILD:
        _child(change, around)
    else:
        _parent(change, around)


def _parent(change: Change, around: Around) -> None:
    service = change.document
    children = children_of(around, change.uuid) if change.before is not None else []
    tls = any(port.get("enable_ssl") for port in service.get("services", ()))
    if service.get("type") == PARENT and not tls and not _by_request(service):
        hint = f"Set enable_ssl on a port: children are told apart by the name that clients tell by TLS. Or take {ENHANCED}."
        change.wrong("services", "a parent of virtual hosts has none with TLS", hint=hint)
    if service.get("type") == PARENT and _by_request(service):
        _speaks_http(change, around)
    if not children or change.before is None:
        return
    names = change.named(children)
    if service.get("type") != PARENT:
        change.wrong("type", f"can't change while it is the parent of {names}")
    for field in (*INHERITED, "vh_type"):
        if service.get(field) != change.before.get(field):
            change.wrong(field, f"can't change while it is the parent of {names}", hint="Delete the children first.")


def _child(change: Change, around: Around) -> None:
    service = change.document
    parent = around.view.get("virtualservice", uuid_of(service.get("vh_parent_vs_ref") or ""))
    if parent is None or parent.get("type") != PARENT:
        why = "required, and missing" if parent is None else f"{parent['name']} is no VS_TYPE_VH_PARENT"
        change.wrong("vh_parent_vs_ref", why)
        return
    for field in INHERITED:
        if service.get(field) and service[field] != parent[field]:
            change.wrong(field, f"is not that of its parent {parent['name']}", hint="Leave it out.")
    if service.get("services"):
        change.wrong("services", "can't be given: a child is reached at the ports of its parent")
    if service.get("vh_type", BY_NAME) != parent.get("vh_type", BY_NAME):
        change.wrong("vh_type", f"is not that of its parent {parent['name']}", service.get("vh_type"), "Leave it out.")
        return
    change.warnings += [
        f"{field} has no effect on a child: its parent {parent['name']} takes the connections."
        for field in OF_CONNECTIONS
        if service.get(field)
    ]
    if _by_request(service):
        _speaks_http(change, around)
        _matches(change, around)
        change.warnings += [
            f"{field} has no effect on a child of {ENHANCED}: TLS is that of its parent {parent['name']}."
            for field in OF_TLS
            if service.get(field)
        ]
        return
    if not service.get("ssl_key_and_certificate_refs"):
        change.wrong("ssl_key_and_certificate_refs", "required, and missing", hint="A child has its own certificate.")
    _names(change, around, parent)


def _names(change: Change, around: Around, parent: Document) -> None:
    names = change.document.get("vh_domain_name") or ()
    if not names:
        change.wrong("vh_domain_name", "required, and missing", hint="Give the names clients ask for.")
    taken = {
        host.lower(): one["name"]
        for one in children_of(around, parent["uuid"])
        if one["uuid"] != change.uuid
        for host in one.get("vh_domain_name") or ()
    }
    for index, name in enumerate(names):
        if not SERVER_NAME.fullmatch(name.removeprefix("*.")):
            change.wrong(f"vh_domain_name[{index}]", "must be a host name, or *. and a domain", shown(name))
        elif name.lower() in taken:
            change.wrong(f"vh_domain_name[{index}]", f"is that of {taken[name.lower()]} already", name)


# --- by request ---


def _by_request(service: Document) -> bool:
    return bool(service.get("vh_type") == ENHANCED)


def _speaks_http(change: Change, around: Around) -> None:
    reference = change.document.get("application_profile_ref") or ""
    application = around.view.get("applicationprofile", uuid_of(reference)) or {}
    if application.get("type") != "APPLICATION_PROFILE_TYPE_HTTP":
        why = f"{application.get('name')} is not HTTP, and {ENHANCED} tells requests apart"
        change.wrong("application_profile_ref", why, hint="Use System-HTTP, or vh_type VS_TYPE_VH_SNI.")


def _matches(change: Change, around: Around) -> None:
    given = change.document.get("vh_matches") or ()
    if not given:
        change.wrong("vh_matches", "required, and missing", hint="Give a host, and rules with what its paths are like.")
    for number, one in enumerate(given):
        path = f"vh_matches[{number}]"
        if not SERVER_NAME.fullmatch(one["host"].removeprefix("*.")):
            change.wrong(f"{path}.host", "must be a host name, or *. and a domain", shown(one["host"]))
        for at, rule in enumerate(one.get("rules") or ()):
            policies.check_match(change, around, f"{path}.rules[{at}].matches", rule["matches"])
            if unknown := list(untaken_match({"match": rule["matches"]})):
                why = f"there is no matching of {', '.join(unknown)}"
                change.wrong(f"{path}.rules[{at}].matches", why, hint="Match path, headers, method and the like.")
