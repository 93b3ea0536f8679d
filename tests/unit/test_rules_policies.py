"""HTTP policy sets: what an engine could not carry out as it stands is refused, what does not act is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_world import World, api_world

TLS = {"accepted_versions": [{"type": "SSL_VERSION_TLS1_2"}]}
LIMIT = {"rate_limiter": {"count": 5, "period": 1}, "action": {"type": "RL_ACTION_CLOSE_CONN"}}
REDIRECT = {"redirect_action": {"protocol": "HTTPS"}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


def request_rule(**parts: Any) -> dict[str, Any]:
    return {"name": "rule", "index": 1, "enable": True, **parts}


def path_match(criteria: str, *texts: str) -> dict[str, Any]:
    return {"path": {"match_criteria": criteria, "match_str": list(texts)}}


def header(name: str, value: str = "v") -> dict[str, Any]:
    return {"action": "HTTP_ADD_HDR", "hdr": {"name": name, "value": {"val": value}}}


@pytest.mark.parametrize(
    ("rule", "path", "why"),
    [
        ({"match": path_match("REGEX_MATCH", "(")}, ".match.path", "is no regular expression"),
        ({"match": path_match("EQUALS")}, ".match.path", "has nothing to compare with"),
        ({"match": path_match("EQUALS", "/a\nbind :1")}, ".match.path", "control character"),
        ({"match": path_match("EQUALS", "x" * 2001)}, ".match.path", "2000 can be"),
        (
            {"match": {"hdrs": [{"hdr": "a b", "match_criteria": "HDR_EXISTS"}]}},
            ".match.hdrs[0].hdr",
            "must be letters",
        ),
        ({"match": {"client_ip": {"match_criteria": "IS_IN"}}}, ".match.client_ip", "names no address"),
        (
            {"match": {"client_ip": {"match_criteria": "IS_IN", "addrs": [{"addr": "10.0.0", "type": "V4"}]}}},
            ".match.client_ip.addrs[0].addr",
            "must be an IPv4 or IPv6 address",
        ),
        (
            {"match": {"tls_fingerprint_match": {"match_operation": "IS_IN", "fingerprints": ["0 }"]}}},
            ".match.tls_fingerprint_match",
            "must be JA3 fingerprints",
        ),
        (
            {"hdr_action": [{"action": "HTTP_REPLACE_HDR", "cookie": {"name": "a", "value": "b; c"}}]},
            ".hdr_action[0].cookie.value",
            "must be the value of a cookie",
        ),
        ({"hdr_action": [header("X:Y")]}, ".hdr_action[0].hdr.name", "must be a header name"),
        ({"hdr_action": [header("X", "a\rb")]}, ".hdr_action[0].hdr.value.val", "control character"),
    ],
)
async def test_what_cannot_be_carried_out_is_refused(world: World, rule: dict[str, Any], path: str, why: str) -> None:
    body = {"name": "set", "http_request_policy": {"rules": [request_rule(**{**REDIRECT, **rule})]}}
    reply = await world.post("/api/httppolicyset", body, 400)
    (problem,) = reply["problems"]
    assert problem["path"] == f"http_request_policy.rules[0]{path}"
    assert why in problem["why"]


async def test_two_rules_of_one_index_and_too_many_limits_are_refused(world: World) -> None:
    action = {"action": "HTTP_SECURITY_ACTION_RATE_LIMIT", "rate_profile": LIMIT}
    rules = [request_rule(action=action) for _ in range(4)]
    reply = await world.post("/api/httppolicyset", {"name": "set", "http_security_policy": {"rules": rules}}, 400)
    assert {p["why"] for p in reply["problems"]} == {
        "two rules have the same index",
        "4 rate limits; a virtual service can have 3",
    }


async def test_a_rule_that_does_not_act_is_told_of(world: World) -> None:
    found = {"type": "URI_PARAM_TYPE_TOKENIZED", "tokens": [{"type": "URI_TOKEN_TYPE_STRING_GROUP"}]}
    rules = [
        {
            **request_rule(
                match={
                    "geo_matches": [
                        {"attribute": "ATTRIBUTE_COUNTRY_CODE", "values": ["DE"], "match_operation": "IS_IN"}
                    ]
                },
                **REDIRECT,
            )
        },
        {**request_rule(rewrite_url_action={"path": found}), "name": "blue", "index": 2},
    ]
    body = {"name": "set", "http_request_policy": {"rules": rules}}
    reply = await world.client.post("/api/httppolicyset", json=body)
    assert reply.status_code == 201, reply.text
    warned = reply.headers["x-shoal-warning"]
    assert "The rule rule does not act: geo_db_ref of the policy names no database." in warned
    assert "In the rule blue this does not act: rewrite_url_action.path." in warned


def compression(*filters: dict[str, Any]) -> dict[str, Any]:
    named = [{"name": "f", "level": "NORMAL_COMPRESSION", **one} for one in filters]
    return {"compression_profile": {"compression": True, "filter": named}}


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        ({"xff_alternate_name": "X Y"}, "xff_alternate_name"),
        ({"true_client_ip": {"headers": ["X Y"]}}, "true_client_ip.headers[0]"),
        (compression({"index": 1}, {"index": 1}), "compression_profile.filter"),
        (
            compression({"index": 1, "ip_addrs": [{"addr": "10.0.0", "type": "V4"}]}),
            "compression_profile.filter[0].ip_addrs[0].addr",
        ),
        (compression({"index": 1, "user_agent": ["a\nb"]}), "compression_profile.filter[0].user_agent[0]"),
    ],
)
async def test_http_profiles_are_checked(world: World, profile: dict[str, Any], path: str) -> None:
    body = {"name": "p", "type": "APPLICATION_PROFILE_TYPE_HTTP", "http_profile": profile}
    reply = await world.post("/api/applicationprofile", body, 400)
    assert [problem["path"] for problem in reply["problems"]] == [f"http_profile.{path}"]


@pytest.mark.parametrize(
    ("type", "body", "path"),
    [
        ("sslprofile", {"accepted_versions": [{"type": "SSL_VERSION_SSLV3"}]}, "accepted_versions"),
        ("sslprofile", {**TLS, "accepted_ciphers": "nonsense"}, "accepted_ciphers"),
        ("sslprofile", {**TLS, "ciphersuites": "TLS_X"}, "ciphersuites"),
        ("sslprofile", {**TLS, "ciphersuites": "::"}, "ciphersuites"),
        ("stringgroup", {"type": "SG_TYPE_KEYVAL", "kv": [{"key": "/a", "value": "b\nc"}]}, "kv[0].value"),
        ("sslprofile", {**TLS, "cipher_enums": ["TLS_AES_128_GCM_SHA256"]}, "cipher_enums"),
        (
            "applicationprofile",
            {
                "type": "APPLICATION_PROFILE_TYPE_HTTP",
                "dos_rl_profile": {"rl_profile": {"http_header_rate_limits": [LIMIT]}},
            },
            "dos_rl_profile.rl_profile.http_header_rate_limits",
        ),
        (
            "applicationpersistenceprofile",
            {
                "persistence_type": "PERSISTENCE_TYPE_APP_COOKIE",
                "app_cookie_persistence_profile": {"prst_hdr_name": "a b"},
            },
            "app_cookie_persistence_profile.prst_hdr_name",
        ),
        ("pool", {"fail_action": {"type": "FAIL_ACTION_HTTP_REDIRECT"}}, "fail_action.redirect"),
        (
            "pool",
            {"fail_action": {"type": "FAIL_ACTION_HTTP_REDIRECT", "redirect": {"host": "a\nb"}}},
            "fail_action.redirect.host",
        ),
    ],
)
async def test_profiles_and_fail_actions_are_checked(world: World, type: str, body: dict[str, Any], path: str) -> None:
    reply = await world.post(f"/api/{type}", {"name": "x", **body}, 400)
    assert [problem["path"] for problem in reply["problems"]] == [path]
