"""Tokens that clients bring (``sso_policy_ref``, ``jwt_config``), on a real HAProxy."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, RSAKey

from shoal.wire.desired import Service

from .test_http import Documents, Seen, alone, answered, ask, of_documents, pool_of, ref, rule, running, text

pytestmark = [pytest.mark.root, pytest.mark.beside]
__all__ = ["alone"]
ISSUER, AUDIENCE = "https://issuer.example", "shop"
RSA = RSAKey.generate_key(2048, {"kid": "r"}, private=True)
CURVED = ECKey.generate_key("P-256", {"kid": "e"}, private=True)
LARGE = ECKey.generate_key("P-521", {"kid": "l", "alg": "ES512"}, private=True)
STRANGER = RSAKey.generate_key(2048, {"kid": "r"}, private=True)
ALL = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES512", "HS256", "none"]


def token(key: Any = RSA, algorithm: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Good unless something says otherwise; a claim that is None is left out."""
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 600, **claims}
    data = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    head = {"alg": algorithm, "kid": key.kid, **(header or {})}
    head = {name: value for name, value in head.items() if value is not None}
    return jws.serialize_compact(head, data, key, algorithms=ALL)


def service(
    policy: dict[str, Any] | None = None,
    sets: dict[str, Any] | None = None,
    permissions: Sequence[dict[str, Any]] = (),
    **config: Any,
) -> Service:
    keys = KeySet([RSA, CURVED, LARGE]).as_dict(private=False)
    stored: Documents = {
        ("pool", "a"): pool_of(0),
        ("jwtserverprofile", "server"): {"issuer": ISSUER, "jwks_keys": json.dumps(keys)},
        ("authprofile", "auth"): {"type": "AUTH_PROFILE_JWT", "jwt_profile_ref": ref("x", "server")},
        ("ssopolicy", "sso"): {
            "type": "SSO_TYPE_JWT",
            "authentication_policy": {"default_auth_profile_ref": ref("x", "auth"), **(policy or {})},
            "authorization_policy": {"authz_rules": list(permissions)},
        },
        ("httppolicyset", "set"): sets or {},
    }
    wanted = {"audience": AUDIENCE, **config}
    links = [{"index": 1, "http_policy_set_ref": ref("x", "set")}]
    return of_documents(
        stored, pool_ref=ref("pool", "a"), sso_policy_ref=ref("x", "sso"), jwt_config=wanted, http_policies=links
    )


async def bringing(text: str, path: str = "/", **request: Any) -> Seen:
    return await answered(path, Authorization=f"Bearer {text}", **request)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def made(header: dict[str, Any], sign: Callable[[bytes], bytes] = lambda said: b"") -> str:
    """A token that no library would make."""
    said = f"{encoded(json.dumps(header).encode())}.{token().split('.')[1]}"
    return f"{said}.{encoded(sign(said.encode()))}"


def by_rsa(said: bytes) -> bytes:
    assert RSA.private_key is not None
    return RSA.private_key.sign(said, padding.PKCS1v15(), hashes.SHA256())


async def test_who_brings_a_good_token_gets_in_and_nobody_else(tmp_path: Path) -> None:
    now = int(time.time())
    public = RSA.as_pem(private=False)
    head, claims, signature = token().split(".")
    forged = encoded(json.dumps({"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "exp": now + 600}).encode())
    good = {
        "RS256": token(),
        "RS512": token(algorithm="RS512"),
        "ES256": token(CURVED, "ES256"),
        "ES512": token(LARGE, "ES512"),
        "without kid": token(header={"kid": None}),
        "one of several audiences": token(aud=["other", AUDIENCE]),
        "begun": token(nbf=now - 5),
        "fraction": token(exp=now + 600.5),
        "by hand": made({"alg": "RS256"}, by_rsa),
    }
    bad = {
        "ended": token(exp=now - 1),
        "endless": token(exp=None),
        "ended before there was time": token(exp=-5),
        "ended, in another form": token(exp=1e300),
        "not begun": token(nbf=now + 60),
        "of another issuer": token(iss="https://issuer.example.evil"),
        "for another audience": token(aud="sho"),
        "for others": token(aud=["shopping", "sho"]),
        "for nobody": token(aud=None),
        "of a stranger": token(STRANGER),
        "of another key": token(CURVED, "ES256", {"kid": "r"}),
        "PSS": token(algorithm="PS256"),
        "the public key as a secret": made(
            {"alg": "HS256", "kid": "r"}, lambda said: hmac.digest(public, said, "sha256")
        ),
        "none": made({"alg": "none"}),
        "None with a kid": made({"alg": "None", "kid": "r"}),
        "RS256 without a signature": made({"alg": "RS256", "kid": "r"}),
        "zeros": made({"alg": "ES256", "kid": "e"}, lambda said: bytes(64)),
        "too short": made({"alg": "ES256", "kid": "e"}, lambda said: bytes(7)),
        "other claims": f"{head}.{forged}.{signature}",
        "more parts": f"{head}.{claims}.{signature}.{signature}",
        "a critical extension": made({"alg": "RS256", "kid": "r", "crit": ["x"], "x": 1}, by_rsa),
        "nothing": "",
        "words": "a.b.c",
    }
    async with running(tmp_path / "lab", service()):
        for name, one in good.items():
            found = await bringing(one)
            assert (found.status, found.sent("authorization")) == (200, f"Bearer {one}"), name
        for name, one in bad.items():
            found = await bringing(one)
            assert (found.status, found.head) == (401, ""), name
            assert found.headers["www-authenticate"].startswith("Bearer"), name
        found = await answered("/")
        assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer")
        assert (await bringing(bad["ended"])).headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert (await answered("/", Authorization=f"Basic {token()}")).status == 401
        twice = f"Bearer {token()}\r\nAuthorization: Bearer {bad['other claims']}"
        assert (await answered("/", Authorization=twice)).status == 401, "the server might take the other"
        for more in (f", Bearer {bad['other claims']}", " x", "=="):
            assert (await bringing(token() + more)).status == 401, more
        assert (await answered(f"/?token={token()}")).status == 401


async def test_a_token_may_come_in_the_query(tmp_path: Path) -> None:
    wanted = service(jwt_location="JWT_LOCATION_QUERY_PARAM", jwt_name="jwt")
    async with running(tmp_path / "lab", wanted):
        found = await answered(f"/a?x=1&jwt={token()}", Authorization="Bearer someone.else.s")
        assert found.status == 200 and "jwt=" in found.head and found.sent("authorization") == ""
        assert (await answered(f"/?jwt={token()}", Authorization="Basic eA==")).sent("authorization") == "Basic eA=="
        for path in (
            "/",
            f"/?jwt={token(STRANGER)}",
            f"/?ajwt={token()}",
            f"/?jwt={token()}&jwt={token(STRANGER)}",
            f"/?jwt={token()}&%6awt={token(STRANGER)}",
        ):
            assert (await answered(path)).status == 401, path
        assert (await bringing(token())).status == 401, "it is looked for in one place"


async def test_some_requests_need_no_token_and_no_rule_comes_before_it(tmp_path: Path) -> None:
    skip = {"type": "SKIP_AUTHENTICATION"}
    ask = {"type": "USE_DEFAULT_AUTHENTICATION"}
    rules = [
        {"index": 2, "name": "p", "enable": True, "match": {"path": text("BEGINS_WITH", "/public/")}, "action": skip},
        {"index": 1, "name": "a", "enable": True, "match": {"path": text("CONTAINS", "secret")}, "action": ask},
        {
            "index": 3,
            "name": "h",
            "enable": True,
            "match": {"host_hdr": {"match_criteria": "HDR_EQUALS", "value": ["open.example"]}},
            "action": skip,
        },
        {"index": 0, "name": "off", "enable": False, "match": {}, "action": skip},
    ]
    redirect = {
        "protocol": "HTTP",
        "host": {"type": "URI_PARAM_TYPE_TOKENIZED", "tokens": [{"type": "URI_TOKEN_TYPE_STRING", "str_value": "b"}]},
    }
    refuse = {"action": "HTTP_SECURITY_ACTION_SEND_RESPONSE", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_403"}
    sets = {
        "http_security_policy": {"rules": [rule(1, match={"path": text("EQUALS", "/never")}, action=refuse)]},
        "http_request_policy": {"rules": [rule(1, match={"path": text("EQUALS", "/moved")}, redirect_action=redirect)]},
    }
    async with running(tmp_path / "lab", service({"authn_rules": rules}, sets)):
        assert (await answered("/public/x")).status == 200
        assert (await answered("/x", host="open.example")).status == 200
        devious = ("../x", "%2e%2e/x", "..%2fx", "%252e%252e/x", "a/..;/x", "/x", "..\\x", "secret")
        for path in ("/", "/publi", "/moved", *(f"/public/{one}" for one in devious)):
            assert (await answered(path)).status == 401, path
        assert (await answered("/never")).status == 403
        assert (await bringing(token(), "/moved")).status == 302
        assert (await bringing(token(), "/public/../x")).status == 200


async def test_without_a_key_nobody_gets_in(tmp_path: Path) -> None:
    wanted = service()
    assert wanted.http.bearer is not None
    http = msgspec.structs.replace(wanted.http, bearer=msgspec.structs.replace(wanted.http.bearer, keys=()))
    async with running(tmp_path / "lab", msgspec.structs.replace(wanted, http=http)):
        assert (await bringing(token())).status == 401


def claim(name: str, kind: str = "STRING", *, mandatory: bool = True, **match: Any) -> dict[str, Any]:
    return {"name": name, "type": f"JWT_CLAIM_TYPE_{kind}", "is_mandatory": mandatory, "validate": bool(match), **match}


def permission(index: int, action: str, *claims: dict[str, Any], status: int = 403, **match: Any) -> dict[str, Any]:
    if claims:
        match["access_token"] = {"matches": list(claims)}
    does = {"type": action, "status_code": f"HTTP_RESPONSE_STATUS_CODE_{status}"}
    return {"index": index, "name": f"p{index}", "enable": True, "match": match, "action": does}


async def test_what_a_token_says_decides_who_gets_where(tmp_path: Path) -> None:
    allow, refuse, close = "ALLOW_ACCESS", "HTTP_LOCAL_RESPONSE", "CLOSE_CONNECTION"
    post: dict[str, Any] = {"method": {"match_criteria": "IS_IN", "methods": ["HTTP_METHOD_POST"]}}
    wanted = service(
        permissions=[
            permission(9, refuse, path=text("BEGINS_WITH", "/admin")),
            permission(1, close, claim("banned", "BOOL", bool_match=True)),
            permission(2, allow, claim("https://shop.example/role", string_match=text("EQUALS", "chief", "boss"))),
            permission(3, allow, claim("level", "INT", int_match=7), path=text("BEGINS_WITH", "/admin/log")),
            permission(
                4, refuse, claim("kind", mandatory=False, string_match=text("DOES_NOT_BEGIN_WITH", "p")), **post
            ),
            permission(5, refuse, claim("x"), status=401),
            permission(6, allow, claim("sub", string_match={"match_criteria": "EQUALS", "match_str": []})),
        ]
    )
    async with running(tmp_path / "lab", wanted):
        for said, path, status in (
            ({}, "/", 200),
            ({}, "/admin", 403),
            ({"https://shop.example/role": "boss"}, "/admin", 200),
            ({"https://shop.example/role": "bossy"}, "/admin", 403),
            ({"https://shop.example/role": ["boss"]}, "/admin", 403),
            ({"https://shop": {"example/role": "boss"}}, "/admin", 403),
            ({"level": 7}, "/admin/log", 200),
            ({"level": 8}, "/admin/log", 403),
            ({"level": 7}, "/admin/log/../x", 403),
            ({"x": ""}, "/", 401),
        ):
            assert (await bringing(token(**said), path)).status == status, (said, path)
        assert await ask("/", Authorization=f"Bearer {token(banned=True)}") is None
        assert (await bringing(token(banned=False))).status == 200
        for kind, status in ((None, 403), ("person", 200), ("robot", 403)):
            assert (await bringing(token(kind=kind), method="POST")).status == status, kind
        assert (await answered("/admin")).status == 401
