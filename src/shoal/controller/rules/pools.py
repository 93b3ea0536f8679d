"""Pools: each server once, and which health monitors are run. Pool groups: each pool once, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.controller import deployments, pools, tls
from shoal.controller.desired import passed_over
from shoal.controller.metric_ids import METRICS, POOL
from shoal.controller.names import members
from shoal.objects import views
from shoal.objects.check import meant, shown
from shoal.objects.views import uuid_of
from shoal.wire.desired import SERVER_NAME

from . import networks, segments
from .change import Around, Change
from .policies import plain

Document = Mapping[str, Any]

HOSTNAME_CHARACTERS_MAX = 255
"""As in DNS; health checks send it as the Host header."""


def fill(change: Change, around: Around) -> None:
    change.default(around.view, "vrf_ref", "vrfcontext", "global")
    change.default(around.view, "analytics_profile_ref", "analyticsprofile", "System-Analytics-Profile")


def check(change: Change, around: Around) -> None:
    pool = change.document
    seen: dict[tuple[str, int], int] = {}
    for index, server in enumerate(pool.get("servers", ())):
        where = f"servers[{index}]"
        name = members.name_of(server, pool)
        if not name:
            _address(change, where, server)
        server.setdefault("hostname", server["ip"]["addr"])
        if len(server["hostname"]) > HOSTNAME_CHARACTERS_MAX or not server["hostname"].isprintable():
            why = f"must be at most {HOSTNAME_CHARACTERS_MAX} printable characters"
            change.wrong(f"{where}.hostname", why, shown(server["hostname"]))
        plain(change, f"{where}.prst_hdr_val", server.get("prst_hdr_val") or "")
        key = (name or server["ip"]["addr"], server.get("port") or pool["default_server_port"])
        if key in seen:
            change.wrong(where, f"is servers[{seen[key]}] again ({key[0]}:{key[1]})")
        seen[key] = index
    fail_action(change, pool.get("fail_action") or {})
    networks.placement(change, around, "placement_networks", pool.get("placement_networks") or [])
    segments.of_pool(change, around)
    _names(change)
    _tls(change, around)
    policy = around.view.get("serverautoscalepolicy", uuid_of(pool.get("autoscale_policy_ref") or "")) or {}
    if policy.get("intelligent_autoscale") and not pool.get("capacity_estimation"):
        change.warnings.append(f"{policy['name']} scales by load only pools with capacity_estimation.")
    change.warnings += passed_over(around.view, pool)


def _names(change: Change) -> None:
    """Of servers that are to be told their own."""
    pool = views.view({**change.document, "uuid": change.uuid}, views.Pool)
    asked = [server for server in pool.servers if server.rewrite_host_header]
    if not pool.rewrite_host_header_to_server_name and asked and len(asked) < len(pool.servers):
        change.warnings.append("servers.rewrite_host_header has no effect until all servers of the pool have it.")
    elif (pool.rewrite_host_header_to_server_name or asked) and pool.servers and not pools.names_told(pool):
        odd = next((s.hostname for s in pool.servers if not pools.can_be_told(s.hostname.rstrip("."))), "")
        why = f"{shown(odd)} is no host name" if odd else "servers at one address have no names of their own"
        change.warnings.append(f"Servers get the client's Host header: {why}. Give each server a hostname.")


def _tls(change: Change, around: Around) -> None:
    pool = views.view({**change.document, "uuid": change.uuid}, views.Pool)
    for field, name in (("server_name", pool.server_name), *(("domain_name", name) for name in pool.domain_name)):
        if name and not SERVER_NAME.fullmatch(name):
            change.wrong(field, "must be a host name", shown(name))
    impossible, otherwise = tls.names_not_checked(pool)
    if impossible:
        hint = "Give server_name as one of domain_name, or turn sni_enabled or host_check_enabled off."
        change.wrong("host_check_enabled", impossible, hint=hint)
    if otherwise:
        change.warnings.append(otherwise)
    if pool.rewrite_host_header_to_sni and not (pool.sni_enabled and pool.server_name):
        change.warnings.append("rewrite_host_header_to_sni has no effect without sni_enabled and server_name.")
    if pool.use_service_ssl_mode and not pool.use_service_port:
        change.warnings.append("use_service_ssl_mode has no effect without use_service_port.")
    own = pool.ssl_key_and_certificate_ref
    found = around.view.get("sslkeyandcertificate", uuid_of(own)) if own else None
    if found is not None and not (found.get("key") and found["certificate"].get("certificate")):
        why = f"{found['name']} has no {'certificate yet' if found.get('key') else 'private key'}"
        change.wrong("ssl_key_and_certificate_ref", why, hint="Give one with certificate and key.")
    for field in ("pki_profile_ref", "ssl_key_and_certificate_ref"):
        if change.document.get(field) and not tls.may_speak(pool):
            change.warnings.append(f"{field} has no effect without ssl_profile_ref: servers are spoken to without TLS.")


def _address(change: Change, where: str, server: dict[str, Any]) -> None:
    """Of a server that is not to be looked up."""
    if server["ip"]["type"] == "DNS":
        change.wrong(f"{where}.ip.addr", "must be a name of DNS", server["ip"]["addr"], "Give www.example.com.")
        return
    if server.get("resolve_server_by_dns"):
        hint = "Give the name as hostname, or as ip.addr with ip.type DNS."
        change.wrong(f"{where}.hostname", "must be a name of DNS", shown(server.get("hostname", "")), hint)
    address = change.address(f"{where}.ip", server["ip"])
    if address is not None and address.version == 6 and address.is_link_local:
        change.wrong(f"{where}.ip.addr", "is a link-local address: engines don't know on which link", address)


def check_group(change: Change, around: Around) -> None:
    """Labels say which members go first: numbers, or those of a PriorityLabels object."""
    group = change.document
    labels = around.view.get("prioritylabels", uuid_of(group.get("priority_labels_ref") or "")) or {}
    known = {label for one in labels.get("equivalent_labels") or () for label in one.get("labels") or ()}
    seen: dict[str, int] = {}
    for index, member in enumerate(group.get("members") or ()):
        label = member.get("priority_label", "")
        if (
            label
            and not group.get("priority_labels_ref")
            and not group.get("implicit_priority_labels")
            and not (label.isascii() and label.isdigit() and len(label) < 10)
        ):
            why = "must be a number where neither priority_labels_ref nor implicit_priority_labels is given: the highest goes first"
            change.wrong(f"members[{index}].priority_label", why, shown(label))
        elif label and known and label not in known:
            change.warnings.append(f"members[{index}] goes last: {labels.get('name')} has no label {shown(label)}.")
        if member["pool_ref"] in seen:
            change.wrong(f"members[{index}].pool_ref", f"is that of members[{seen[member['pool_ref']]}] again")
        seen[member["pool_ref"]] = index
    _candidates(change)
    fail_action(change, group.get("fail_action") or {})


def _candidates(change: Change) -> None:
    """Of a deployment policy."""
    members = change.document.get("members") or ()
    found = [index for index, one in enumerate(members) if one.get("deployment_state") == deployments.CANDIDATE]
    for index in found[1:]:
        why = f"members[{found[0]}] is evaluated: one at a time"
        change.wrong(f"members[{index}].deployment_state", why, deployments.CANDIDATE)
    if found and not change.document.get("deployment_policy_ref"):
        change.warnings.append(f"members[{found[0]}] is evaluated by nothing: give the group a deployment_policy_ref.")
    elif found and not deployments.peers(members, found[0]):
        change.warnings.append(f"members[{found[0]}] gets all requests: no other member is in service.")


def check_deployment(change: Change, around: Around) -> None:
    known = {name: metric for name, metric in METRICS.items() if metric.kind == POOL}
    for index, rule in enumerate(change.document.get("rules") or ()):
        name = rule.get("metric_id") or deployments.HEALTH
        if name != deployments.HEALTH and name not in known:
            hint = meant(name, known) or f"Such as {deployments.HEALTH} or l7_server.pct_response_errors."
            change.wrong(f"rules[{index}].metric_id", "is no metric of pools", shown(name), hint)


def fail_action(change: Change, action: Document) -> None:
    kind = action.get("type")
    for of, part in (("FAIL_ACTION_HTTP_REDIRECT", "redirect"), ("FAIL_ACTION_HTTP_LOCAL_RSP", "local_rsp")):
        if kind == of and not action.get(part):
            change.wrong(f"fail_action.{part}", f"must be given with {of}")
    for field in ("host", "path", "query"):
        plain(change, f"fail_action.redirect.{field}", (action.get("redirect") or {}).get(field, ""))
    if file := (action.get("local_rsp") or {}).get("file"):
        plain(change, "fail_action.local_rsp.file.file_content", file["file_content"], lines=True)
        plain(change, "fail_action.local_rsp.file.content_type", file["content_type"])
    if kind == "FAIL_ACTION_BACKUP_POOL":
        what = "give a pool group, and the pool that stands in a lower priority_label"
        change.warnings.append(f"FAIL_ACTION_BACKUP_POOL has no effect, for it names no pool: {what}.")
