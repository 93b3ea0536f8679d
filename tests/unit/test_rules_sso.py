"""Single sign-on: what would leave a service open that is meant to ask for tokens is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from tests.api_world import World, api_world

SERVER, AUTH, POLICY, SERVICE = (
    f"/api/{one}" for one in ("jwtserverprofile", "authprofile", "ssopolicy", "virtualservice")
)
KEY = ECKey.generate_key("P-256", {"kid": "one"}, private=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


def key_set(*keys: Any, private: bool = False) -> str:
    return json.dumps(KeySet(list(keys)).as_dict(private=private))


async def why(world: World, path: str, body: dict[str, Any]) -> tuple[str, str]:
    (problem,) = (await world.post(path, body, 400))["problems"]
    return problem["path"], problem["why"]


async def chain(world: World) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    server = await world.post(SERVER, {"name": "s", "issuer": "https://i", "jwks_keys": key_set(KEY)})
    auth = await world.post(AUTH, {"name": "a", "type": "AUTH_PROFILE_JWT", "jwt_profile_ref": server["url"]})
    rules = {"default_auth_profile_ref": auth["url"]}
    policy = await world.post(POLICY, {"name": "p", "type": "SSO_TYPE_JWT", "authentication_policy": rules})
    return server, auth, policy


async def test_key_sets_are_taken_or_refused(world: World) -> None:
    small = json.dumps({"keys": [{"kty": "RSA", "kid": "small", "e": "AQAB", "n": "w" * 171}]})
    pss = RSAKey.generate_key(2048, {"kid": "pss", "alg": "PS256"}, private=True)
    for given, words in (
        ("", "must be a JSON web key set (RFC 7517)"),
        ("[" * 100_000, "must be a JSON web key set (RFC 7517)"),
        ('{"keys": [1]}', "must be a JSON web key set (RFC 7517)"),
        ('{"keys": []}', "has no key that can be used: it is empty"),
        (key_set(KEY, private=True), "has a key that is secret"),
        (key_set(OctKey.generate_key(256), private=True), "has a key that is secret"),
        (small, "has no key that can be used: keys[0] has fewer than 2048 bits"),
        (key_set(pss), "has no key that can be used: keys[0] is for PS256"),
        (
            small.replace('"AQAB"', '"?"').replace("www", "w" * 300),
            "has no key that can be used: keys[0] can't be read",
        ),
        (json.dumps({"keys": [KEY.as_dict(private=False)] * 17}), "has 17 keys; 16 can be"),
    ):
        path, words_found = await why(world, SERVER, {"name": "s", "issuer": "https://i", "jwks_keys": given})
        assert path == "jwks_keys" and words_found.startswith(words), given[:100]
    assert await why(world, SERVER, {"name": "s", "jwks_keys": key_set(KEY)}) == ("issuer", "required, and missing")
    body = {"name": "s", "issuer": "https://i", "jwks_keys": key_set(KEY, pss)}
    reply = await world.client.post(SERVER, json=body)
    assert reply.status_code == 201 and "keys[1] is for PS256" in reply.headers["x-shoal-warning"]


async def test_a_service_that_is_meant_to_ask_for_tokens_is_not_left_open(world: World) -> None:
    server, auth, policy = await chain(world)
    made = await world.service()
    service = {**made, "sso_policy_ref": policy["url"]}
    config = {"audience": "shop"}

    async def put(status: int, document: dict[str, Any], **changes: Any) -> Any:
        reply = await world.client.put(document["url"].partition("#")[0], json={**document, **changes})
        assert reply.status_code == status, reply.text
        return reply

    async def wrong(document: dict[str, Any], **changes: Any) -> str:
        return str((await put(400, document, **changes)).json()["problems"][0]["path"])

    assert await wrong(service) == "jwt_config"
    assert await wrong(made, jwt_config=config) == "sso_policy_ref"
    assert await wrong(service, jwt_config={"audience": ""}) == "jwt_config.audience"
    query = {**config, "jwt_location": "JWT_LOCATION_QUERY_PARAM"}
    assert await wrong(service, jwt_config=query) == "jwt_config.jwt_name"
    assert await wrong(service, jwt_config={**query, "jwt_name": "a b"}) == "jwt_config.jwt_name"
    l4 = "/api/applicationprofile?name=System-L4-Application"
    assert await wrong(service, jwt_config=config, application_profile_ref=l4) == "sso_policy_ref"
    reply = await put(200, service, jwt_config=config)
    assert "x-shoal-warning" not in reply.headers
    assert await wrong(policy, type="SSO_TYPE_SAML") == "type"
    assert await wrong(auth, type="AUTH_PROFILE_LDAP") == "type"
    assert await wrong(server, jwt_profile_type="CONTROLLER_INTERNAL_AUTH") == "jwt_profile_type"
    text = {"match_criteria": "EQUALS", "match_str": ["a"]}
    claim = {"type": "JWT_CLAIM_TYPE_STRING", "is_mandatory": True, "validate": True, "name": "a"}
    for match, where in (
        ({"attr_matches": [{"attribute_name": "a", "attribute_value_list": text}]}, "attr_matches"),
        ({"access_token": {"matches": [claim]}}, "access_token.matches[0].string_match"),
        (
            {"access_token": {"matches": [{**claim, "string_match": text, "name": "a)"}]}},
            "access_token.matches[0].name",
        ),
    ):
        rule = {"index": 1, "name": "r", "enable": True, "match": match, "action": {"type": "CLOSE_CONNECTION"}}
        path = await wrong(policy, authorization_policy={"authz_rules": [rule]})
        assert path == f"authorization_policy.authz_rules[0].match.{where}"
    for document in (policy, auth, server):
        assert (await world.client.delete(document["url"].partition("#")[0])).status_code >= 400


async def test_what_is_not_run_is_said(world: World) -> None:
    _, auth, _ = await chain(world)
    rules = {"default_auth_profile_ref": auth["url"]}
    reply = await world.client.post(POLICY, json={"name": "q", "type": "SSO_TYPE_SAML", "authentication_policy": rules})
    assert reply.status_code == 201 and "type SSO_TYPE_SAML is not run yet." in reply.headers["x-shoal-warning"]
    made = await world.service()
    path = f"{SERVICE}/{made['uuid']}"
    reply = await world.client.put(path, json={**made, "sso_policy_ref": reply.json()["url"]})
    assert reply.status_code == 200 and "nobody is asked who he is" in reply.headers["x-shoal-warning"]
