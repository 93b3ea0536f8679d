"""Who must prove who he is: policies and profiles of single sign-on. What would leave a service open that is meant to ask for
tokens is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shoal.controller import bearer
from shoal.objects.views import uuid_of
from shoal.wire.policy import CLAIM

from . import policies, users
from .change import Around, Change

Document = Mapping[str, Any]
PARAMETER = re.compile(r"[A-Za-z0-9_.~-]{1,100}")
HTTP = "APPLICATION_PROFILE_TYPE_HTTP"
COMPARED = {f"JWT_CLAIM_TYPE_{kind}": f"{kind.lower()}_match" for kind in ("BOOL", "INT", "STRING")}


def check_server(change: Change, around: Around) -> None:
    """A JWTServerProfile."""
    profile = change.document
    if profile.get("jwt_profile_type", bearer.CLIENTS) != bearer.CLIENTS:
        if _referrers(around, change, "authprofile"):
            change.wrong("jwt_profile_type", f"must stay {bearer.CLIENTS}: an AuthProfile goes by it")
        return
    if not profile.get("issuer"):
        change.wrong("issuer", "required, and missing", hint="Give what tokens say as iss.")
    policies.plain(change, "issuer", profile.get("issuer", ""))
    try:
        keys = bearer.keys_of(profile.get("jwks_keys", ""))
    except bearer.Unreadable as error:
        change.wrong("jwks_keys", str(error), hint='Such as {"keys": [{"kty": "RSA", "alg": "RS256", ...}]}.')
        return
    if keys.passed_over:
        change.warnings.append(f"jwks_keys: not used: {'; '.join(keys.passed_over)[:200]}.")


def check_profile(change: Change, around: Around) -> None:
    """An AuthProfile."""
    users.check_authentication(change, around)
    profile = change.document
    if profile["type"] == bearer.AUTH_JWT:
        server = around.view.get("jwtserverprofile", uuid_of(profile.get("jwt_profile_ref") or ""))
        if server is None:
            change.wrong("jwt_profile_ref", f"required by {bearer.AUTH_JWT}, and missing")
        elif server.get("jwt_profile_type", bearer.CLIENTS) != bearer.CLIENTS:
            change.wrong("jwt_profile_ref", f"must be of type {bearer.CLIENTS}", server["name"])
    elif names := [one["name"] for one in _referrers(around, change, "ssopolicy") if one.get("type") == bearer.JWT]:
        change.wrong("type", f"must stay {bearer.AUTH_JWT}: SSO policy {', '.join(names)[:60]} goes by it")


def check_policy(change: Change, around: Around) -> None:
    """An SSOPolicy."""
    document, users = change.document, around.services_of(change)
    if document["type"] != bearer.JWT:
        if users and (change.before or {}).get("type") == bearer.JWT:
            change.wrong("type", f"must stay {bearer.JWT}: virtual service {change.named(users)} asks for tokens by it")
        return
    rules = document.get("authentication_policy") or {}
    profile = around.view.get("authprofile", uuid_of(rules.get("default_auth_profile_ref") or ""))
    path = "authentication_policy"
    if profile is None:
        change.wrong(f"{path}.default_auth_profile_ref", f"required by {bearer.JWT}, and missing")
    elif profile["type"] != bearer.AUTH_JWT:
        why = f"{profile['name']} is {profile['type']}; {bearer.JWT} needs {bearer.AUTH_JWT}"
        change.wrong(f"{path}.default_auth_profile_ref", why)
    listed = rules.get("authn_rules") or ()
    policies.check_indices(change, f"{path}.authn_rules", listed)
    for number, rule in enumerate(listed):
        policies.check_match(change, around, f"{path}.authn_rules[{number}].match", rule.get("match") or {})
    permissions = (document.get("authorization_policy") or {}).get("authz_rules") or ()
    policies.check_indices(change, "authorization_policy.authz_rules", permissions)
    for number, rule in enumerate(permissions):
        _permission(change, around, f"authorization_policy.authz_rules[{number}].match", rule.get("match") or {})


def _permission(change: Change, around: Around, path: str, match: Document) -> None:
    policies.check_match(change, around, path, match)
    if match.get("attr_matches"):
        change.wrong(f"{path}.attr_matches", "is of SAML", hint="Of a token match access_token.")
    for number, claim in enumerate((match.get("access_token") or {}).get("matches") or ()):
        where = f"{path}.access_token.matches[{number}]"
        if not CLAIM.fullmatch(claim["name"]):
            change.wrong(f"{where}.name", "must be letters, digits, '_', '.', ':', '/' and '-'", claim["name"])
        needed = COMPARED[claim["type"]]
        if claim.get("validate") and claim.get(needed) is None:
            change.wrong(f"{where}.{needed}", f"required by {claim['type']}, and missing")
        elif claim.get("validate") and needed == "string_match":
            policies.check_text(change, around, f"{where}.string_match", claim["string_match"])


def check(change: Change, around: Around) -> None:
    """A virtual service."""
    service, field, config = change.document, "sso_policy_ref", change.document.get("jwt_config")
    sso = around.view.get("ssopolicy", uuid_of(service.get(field) or ""))
    if sso is None:
        if config:
            change.wrong(field, "required by jwt_config, and missing", hint="Give an SSO policy of type SSO_TYPE_JWT.")
        return
    if sso["type"] != bearer.JWT:
        change.warnings.append(f"{field}: {sso['name']} is {sso['type']}, which is not run: nobody is asked who he is.")
        return
    if not config:
        change.wrong("jwt_config", f"required by {sso['name']}, and missing", hint='Such as {"audience": "my-api"}.')
        return
    policies.plain(change, "jwt_config.audience", config["audience"])
    if not config["audience"]:
        change.wrong("jwt_config.audience", "required, and missing", hint="Give what tokens say as aud.")
    if config["jwt_location"] == bearer.IN_QUERY and not PARAMETER.fullmatch(config.get("jwt_name") or ""):
        change.wrong(
            "jwt_config.jwt_name", "must be letters, digits, '_', '.', '~' and '-'", config.get("jwt_name", "")
        )
    application = around.view.get("applicationprofile", uuid_of(service.get("application_profile_ref") or "")) or {}
    if application.get("type") != HTTP:
        change.wrong(field, f"needs HTTP: {application.get('name')} has no requests to ask for a token")


def _referrers(around: Around, change: Change, wanted: str) -> list[Document]:
    uuids = [uuid for type, uuid, _ in around.view.referrers(change.uuid) if type == wanted]
    return [found for uuid in uuids if (found := around.view.get(wanted, uuid)) is not None]
