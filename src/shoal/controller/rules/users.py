"""Users and roles: who may log in, and that nobody gives away more than is his."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.controller.access import Access
from shoal.controller.permissions import Rights, levels_of
from shoal.controller.sight import ADMIN
from shoal.errors import Forbidden, Refused
from shoal.objects.types import SENSITIVE_MASK
from shoal.objects.views import uuid_of

from .change import Around, Change

PROFILE = "Default-User-Account-Profile"
FOREIGN_SECRETS = ("unix_crypt_password", "recovery_token")
"""Of other systems: they would be readable here, and let nobody in."""
LACKING_NAMED_MAX = 5


def fill(change: Change, around: Around) -> None:
    raw = change.raw
    for name, other in (("name", "username"), ("username", "name")):
        if not raw.get(name) and isinstance(raw.get(other), str):
            raw[name] = raw[other]
    if change.before is not None and not raw.get("password"):
        raw["password"] = SENSITIVE_MASK  # a PUT without one keeps it
    change.default(around.view, "user_profile_ref", "useraccountprofile", PROFILE)
    for name in FOREIGN_SECRETS:
        if raw.pop(name, None):
            change.warnings.append(f"{name} is not taken: set password.")


def check(change: Change, around: Around) -> None:
    user = change.document
    login = user.get("username") or user["name"]
    for other in around.view.all("user"):
        if other["uuid"] != change.uuid and login in (other.get("username"), other["name"]):
            change.wrong("username", "is another user's", login, "Take another one.")
            break
    if ":" in login or not login.isprintable():
        change.wrong("username", "must be printable, and without a colon (basic authentication ends it there)", login)
    password = user.get("password", "")
    kept = (change.before or {}).get("password", "")
    if password and password != kept and password not in change.hashes and not change.system:
        change.wrong("password", "can be set as a member only", hint='Send {"replace": {"password": "..."}}.')
    for number, entry in enumerate(user.get("access") or ()):
        where = f"access[{number}]"
        if not entry.get("role_ref"):
            change.wrong(f"{where}.role_ref", "required, and missing")
        if not entry.get("tenant_ref") and not entry.get("all_tenants"):
            change.wrong(f"{where}.tenant_ref", "required, and missing", hint="Or say all_tenants true.")
        role = around.view.get("role", uuid_of(entry.get("role_ref", ""))) or {}
        if entry.get("all_tenants") and uuid_of(role.get("tenant_ref", "")) not in (ADMIN, ""):
            change.wrong(f"{where}.role_ref", "is a role of one tenant, and can't count in all of them")
        _not_more(change, f"{where}.role_ref", role)
        tenant = uuid_of(entry.get("tenant_ref", ""))
        if not change.rights.whole and (entry.get("all_tenants") or tenant != change.sight.tenant):
            change.wrong(where, "reaches beyond the tenant you act in", hint="That takes a superuser.")
    if not change.rights.whole and user.get("is_superuser"):
        change.wrong("is_superuser", "can be given by a superuser only")
    before = change.before or {}
    if before.get("is_superuser") and not change.rights.whole:
        change.wrong("name", "is a superuser, whom only superusers change", user["name"])
    if _lets_in(before) and not _lets_in(user) and not _others(change.uuid, around):
        change.wrong("is_superuser", "is the last active superuser's", hint="Make another one first.")


def check_role(change: Change, around: Around) -> None:
    _not_more(change, "privileges", change.document)
    if change.before is not None:
        _not_more(change, "name", change.before)


def check_authentication(change: Change, around: Around) -> None:
    """Who decides who a person is may make anybody of himself: what is in use for that is superusers' alone."""
    if change.rights.whole or change.system:
        return
    if change.type == "systemconfiguration":
        field = "admin_auth_configuration"
        if (change.before or {}).get(field) != change.document.get(field):
            change.wrong(field, "decides who gets in", hint="That takes a superuser.")
    elif any(type == "systemconfiguration" for type, _, _ in around.view.referrers(change.uuid)):
        change.wrong("name", "decides who gets in: the system configuration names it", hint="That takes a superuser.")


def check_mapping(change: Change, around: Around) -> None:
    """What a rule gives, it gives to everybody who matches."""
    check_authentication(change, around)
    for number, rule in enumerate(change.document.get("rules") or ()):
        for role in rule.get("role_refs") or ():
            _not_more(change, f"rules[{number}].role_refs", around.view.get("role", uuid_of(role)) or {})
        everywhere = rule.get("is_superuser") or rule.get("assign_tenant") == "ASSIGN_ALL"
        if everywhere and not change.rights.whole and not change.system:
            change.wrong(f"rules[{number}]", "gives more than one tenant", hint="That takes a superuser.")


def check_deletion(user: Mapping[str, Any], rights: Rights, around: Around) -> None:
    roles = (around.view.get("role", uuid_of(entry.get("role_ref", ""))) or {} for entry in user.get("access") or ())
    more = any(rights.lacking(levels_of(role)) for role in roles)
    if not rights.whole and (Access.is_superuser(user) or more):
        raise Forbidden(f"{user['name']} may more than you.", hint="That takes a superuser.")
    if _lets_in(user) and not _others(str(user["uuid"]), around):
        raise Refused(f"{user['name']} is the last active superuser.", hint="Make another one first.")


def _not_more(change: Change, path: str, role: Mapping[str, Any]) -> None:
    lacking = [] if change.system else change.rights.lacking(levels_of(role))
    if lacking:
        named = ", ".join(lacking[:LACKING_NAMED_MAX]) + (" ..." if len(lacking) > LACKING_NAMED_MAX else "")
        change.wrong(path, f"allows more than you may yourself: {named}", role.get("name", ""))


def _lets_in(user: Mapping[str, Any]) -> bool:
    return bool(Access.is_superuser(user) and user.get("is_active", True) and user.get("password"))


def _others(uuid: str, around: Around) -> bool:
    return any(_lets_in(user) for user in around.view.all("user") if user["uuid"] != uuid)
