"""What tokens clients must bring: from an SSOPolicy of type JWT, and what it refers to, to `shoal.wire.policy.Bearer`."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.wire import policy

from .policies import tests_of, text_test
from .protocols import Documents

Document = Mapping[str, Any]
JWT, AUTH_JWT, CLIENTS = "SSO_TYPE_JWT", "AUTH_PROFILE_JWT", "CLIENT_AUTH"
IN_QUERY = "JWT_LOCATION_QUERY_PARAM"
SKIP, ALLOW = "SKIP_AUTHENTICATION", "ALLOW_ACCESS"
CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
RSA_BITS_MIN = 2048
"""RFC 7518, 3.3."""


class Keys(msgspec.Struct, frozen=True):
    """Of a key set: those that prove signatures, and why the others don't."""

    taken: tuple[policy.TokenKey, ...] = ()
    passed_over: tuple[str, ...] = ()


class Unreadable(Exception):
    """The reason, for a person; never a part of a key."""


def bearer_of(documents: Documents, service: views.VirtualService) -> policy.Bearer | None:
    """None where clients are asked for no token. Where something is missing no token is good."""
    sso = documents.get("ssopolicy", uuid_of(service.sso_policy_ref)) if service.sso_policy_ref else None
    if sso is None or sso.get("type") != JWT:
        return None
    wanted = service.jwt_config or views.JwtConfig()
    rules = sso.get("authentication_policy") or {}
    profile = documents.get("authprofile", uuid_of(rules.get("default_auth_profile_ref") or "")) or {}
    server = documents.get("jwtserverprofile", uuid_of(profile.get("jwt_profile_ref") or "")) or {}
    try:
        keys = keys_of(server.get("jwks_keys", ""))
    except Unreadable:
        keys = Keys()
    return policy.Bearer(
        issuer=server.get("issuer", ""),
        audience=wanted.audience,
        keys=keys.taken,
        parameter=wanted.jwt_name if wanted.jwt_location == IN_QUERY else "",
        asked=tuple(_asked(documents, rules)),
        permissions=tuple(_permissions(documents, sso.get("authorization_policy") or {})),
    )


def _asked(documents: Documents, rules: Document) -> Iterator[policy.Asked]:
    for rule in sorted(rules.get("authn_rules") or (), key=lambda rule: rule["index"]):
        if rule.get("enable", True):
            match = dict(rule.get("match") or {})
            if path := match.get("path"):  # servers decode it, whatever is compared
                match["path"] = {**path, "match_decoded_string": True}
            skips = (rule.get("action") or {}).get("type") == SKIP
            yield policy.Asked(tests=tests_of(documents, match), asked=not skips)


def _permissions(documents: Documents, rules: Document) -> Iterator[policy.Permission]:
    for rule in sorted(rules.get("authz_rules") or (), key=lambda rule: rule["index"]):
        if rule.get("enable", True):
            match, action = rule.get("match") or {}, rule.get("action") or {}
            of_request = {name: match[name] for name in ("host_hdr", "method", "path") if match.get(name)}
            claims = (match.get("access_token") or {}).get("matches") or ()
            yield policy.Permission(
                tests=tests_of(documents, of_request),
                claims=tuple(_claim(documents, one) for one in claims),
                then=_then(action),
            )


def _then(action: Document) -> policy.Respond | policy.Close | None:
    match action.get("type", ALLOW):
        case "CLOSE_CONNECTION":
            return policy.Close()
        case "HTTP_LOCAL_RESPONSE":
            return policy.Respond(status=401 if str(action.get("status_code")).endswith("401") else 403)
    return None


def _claim(documents: Documents, wanted: Document) -> policy.Claim:
    how, values, negated = "exists", tuple[str, ...](), False
    if wanted.get("validate"):
        match wanted["type"]:
            case "JWT_CLAIM_TYPE_BOOL":
                how, values = "truth", (str(wanted.get("bool_match", False)).lower(),)
            case "JWT_CLAIM_TYPE_INT":
                how, values = "number", (str(wanted.get("int_match", 0)),)
            case _:
                test = text_test(documents, wanted["string_match"], "claim")
                how, values, negated = test.how, test.values, test.negated
    optional = not wanted.get("is_mandatory", True)
    return policy.Claim(name=wanted["name"], how=how, values=values, negated=negated, optional=optional)


@functools.lru_cache(maxsize=64)
def keys_of(text: str) -> Keys:
    """The public keys of a JSON web key set (RFC 7517). Raises Unreadable, also where none can be used."""
    try:
        listed = json.loads(text)["keys"]
        given = [dict(one) for one in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreadable("must be a JSON web key set (RFC 7517)") from None
    taken: list[policy.TokenKey] = []
    passed_over: list[str] = []
    for number, one in enumerate(given):
        found = _key(one)
        if isinstance(found, str):
            passed_over.append(f"keys[{number}] {found}")
        else:
            taken.append(found)
    if not taken:
        raise Unreadable(f"has no key that can be used: {'; '.join(passed_over)[:200] or 'it is empty'}")
    if len(taken) > policy.TOKEN_KEYS_MAX:
        raise Unreadable(f"has {len(taken)} keys; {policy.TOKEN_KEYS_MAX} can be")
    return Keys(tuple(taken), tuple(passed_over))


def _key(given: dict[str, Any]) -> policy.TokenKey | str:
    """The key, or why it is of no use here. Raises Unreadable for what must not be where it is."""
    kind, algorithm, id = given.get("kty"), given.get("alg"), given.get("kid", "")
    if given.get("use", "sig") != "sig":
        return "is not for signatures"
    if kind == "oct" or "d" in given:
        raise Unreadable("has a key that is secret: whoever reads this profile could sign with it")
    if kind not in ("RSA", "EC"):
        return f"is of kind {str(kind)[:20]}"
    if not isinstance(id, str) or not policy.KEY_ID.fullmatch(id):
        return "has no usable kid"
    if kind == "RSA" and len(str(given.get("n"))) * 6 < RSA_BITS_MIN:
        return f"has fewer than {RSA_BITS_MIN} bits"
    try:
        key = JWKRegistry.import_key(given)
    except (JoseError, ValueError, KeyError, TypeError):
        return "can't be read"
    possible: tuple[str, ...]
    if isinstance(key, RSAKey):
        possible = policy.RSA_ALGORITHMS
    elif isinstance(key, ECKey) and given.get("crv") in CURVES:
        possible = (CURVES[given["crv"]],)
    else:
        return f"has the curve {str(given.get('crv'))[:20]}"
    if algorithm is not None and algorithm not in possible:
        return f"is for {str(algorithm)[:20]}"
    pem = key.as_pem(private=False).decode()
    return policy.TokenKey(pem=pem, algorithms=(algorithm,) if algorithm else possible, id=id)
