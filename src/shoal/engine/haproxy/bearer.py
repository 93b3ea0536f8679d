"""Who brings a good token gets in: JSON web tokens (RFC 7519) as HAProxy's rules. Pure.

HAProxy 2.6 reads tokens, but can't be left to verify them: a bad signature leaves an error with OpenSSL, which then ends the TLS
connection of whoever comes next. So that is done in Lua, by ``bearer.lua``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shoal.wire.policy import (
    CLAIM,
    KEY_ID,
    PARAMETER,
    PUBLIC_KEY,
    TOKEN_ALGORITHMS,
    TOKEN_KEYS_MAX,
    Bearer,
    Claim,
    Permission,
    TokenKey,
)

from . import rules
from .escape import Unrenderable, quoted

SCRIPT = Path(__file__).with_name("bearer.lua")
TOKEN, ALGORITHM, KEY, NOW = "txn.token", "txn.token_alg", "txn.token_kid", "txn.token_now"
SIGNED, MEANT, GOOD = "txn.token_signed", "txn.token_meant", "txn.token_good"
WAIVED, CHALLENGE = "txn.token_waived", "txn.challenge"
AUDIENCES_MAX = 8
"""Of a token, that are looked at."""
DEVIOUS = quoted(r"(?:^|/)\.{1,2}(?:[/;]|$)|//|\\|%")
"""Of a decoded path that a server may take for another one."""
STRAIGHT = f"!{{ path,url_dec -m reg -- {DEVIOUS} }}"
PERMITTED = "txn.token_permitted"
ASKED, GIVEN = f"!{{ var({WAIVED}) -m bool }}", f"{{ var({TOKEN}) -m found }}"


def engine_wide() -> Iterator[str]:
    """Lines of the section ``global``."""
    yield f"lua-load-per-thread {quoted(str(SCRIPT))}"


def requests(bearer: Bearer) -> Iterator[str]:
    """Lines of a frontend, before any that answer or change a request. Raises Unrenderable."""
    if len(bearer.keys) > TOKEN_KEYS_MAX:
        raise Unrenderable(f"There are {len(bearer.keys)} keys of tokens; {TOKEN_KEYS_MAX} can be.")
    yield from _waivers(bearer)
    yield from _token(bearer.parameter)
    for variable, name in ((ALGORITHM, "alg"), (KEY, "kid")):
        yield f"http-request set-var({variable}) var({TOKEN}),jwt_header_query('$.{name}') if {GIVEN}"
    for key in bearer.keys:
        yield from _signed(key)
    audience = quoted(bearer.audience)
    for place in ("", *(f"[{number}]" for number in range(AUDIENCES_MAX))):
        meant = f"{{ var({TOKEN}),jwt_payload_query('$.aud{place}') -m str -- {audience} }}"
        yield f"http-request set-var({MEANT}) bool(true) if {{ var({SIGNED}) -m bool }} {meant}"
    yield f"http-request set-var({NOW}) date"
    good = [
        f"{{ var({MEANT}) -m bool }}",
        f"!{{ var({TOKEN}),jwt_header_query('$.crit[0]') -m found }}",  # RFC 7515, 4.1.11
        f"{{ var({TOKEN}),jwt_payload_query('$.iss') -m str -- {quoted(bearer.issuer)} }}",
        f"{{ var({TOKEN}),jwt_payload_query('$.exp','int') -m int gt 0 }}",  # of a negative one `sub` makes a large one
        f"{{ var({TOKEN}),jwt_payload_query('$.exp','int'),sub({NOW}) -m int gt 0 }}",
        f"!{{ var({TOKEN}),jwt_payload_query('$.nbf','int'),sub({NOW}) -m int gt 0 }}",
    ]
    yield f"http-request set-var({GOOD}) bool(true) if {' '.join(good)}"
    refused = f"if {ASKED} !{{ var({GOOD}) -m bool }}"
    yield f"http-request set-var-fmt({CHALLENGE}) 'Bearer' {refused}"  # RFC 6750, 3
    yield f"http-request set-var-fmt({CHALLENGE}) 'Bearer error=\"invalid_token\"' {refused} {GIVEN}"
    yield f"http-request deny deny_status 401 {refused}"
    for number, permission in enumerate(bearer.permissions):
        yield from _permitted(permission, number)


def responses() -> Iterator[str]:
    yield f"http-after-response set-header WWW-Authenticate %[var({CHALLENGE})] if {{ var({CHALLENGE}) -m found }}"


def _permitted(permission: Permission, number: int) -> Iterator[str]:
    tests = [rules.condition(test) for test in permission.tests]
    if permission.then is None and any(test.of == "path" for test in permission.tests):
        tests.append(STRAIGHT)
    for place, claim in enumerate(permission.claims):
        holds, variable = _holds(claim), f"txn.token_claim{number}_{place}"
        if claim.optional:
            yield f"http-request set-var({variable}) bool(true) if {holds}"
            yield f"http-request set-var({variable}) bool(true) if !{{ {_said(claim)} -m found }}"
            holds = f"{{ var({variable}) -m bool }}"
        tests.append(holds)
    fits = f"if {' '.join([ASKED, *tests, f'!{{ var({PERMITTED}) -m found }}'])}"
    if permission.then is None:
        yield f"http-request set-var({PERMITTED}) bool(true) {fits}"
    else:
        yield from (f"http-request {text} {fits}" for text in rules.answer(permission.then))


def _holds(claim: Claim) -> str:
    said = _said(claim)
    if claim.how == "exists" or (claim.negated and not claim.values):
        return f"{{ {said} -m found }}"
    if not claim.values:  # of a string group that is empty
        return "{ always_false }"
    match claim.how:
        case "number":
            text = f"{{ {said} -m int {' '.join(str(int(value)) for value in claim.values)} }}"
        case "truth":
            text = f"{{ {said} -m str {'1' if claim.values[0] == 'true' else '0'} }}"
        case how if how in rules.MATCHES:
            text = f"{{ {said} -m {rules.MATCHES[how]} -- {' '.join(map(quoted, claim.values))} }}"
        case how:
            raise Unrenderable(f"There is no comparison {how[:40]!r}.")
    return f"{{ {said} -m found }} !{text}" if claim.negated else text


def _said(claim: Claim) -> str:
    if not CLAIM.fullmatch(claim.name):
        raise Unrenderable(f"{claim.name[:40]!r} is no name of a claim.")
    path = "$." + claim.name.replace(".", r"\\.")
    kind = ",'int'" if claim.how == "number" else ""
    return f"var({TOKEN}),jwt_payload_query('{path}'{kind})"


def _waivers(bearer: Bearer) -> Iterator[str]:
    """A path that a server may take for another one is never let in by what it seems to be."""
    for one in bearer.asked:
        tests = [rules.condition(test) for test in one.tests]
        if not one.asked and any(test.of == "path" for test in one.tests):
            tests.append(STRAIGHT)
        tests.append(f"!{{ var({WAIVED}) -m found }}")
        yield f"http-request set-var({WAIVED}) bool({'false' if one.asked else 'true'}) if {' '.join(tests)}"


def _token(parameter: str) -> Iterator[str]:
    """The one token of the request: of two, the server might take the other."""
    if not parameter:
        one = "{ req.fhdr_cnt(authorization) eq 1 } { req.hdr_cnt(authorization) eq 1 }"  # headers, and values between commas
        yield f"http-request set-var({TOKEN}) http_auth_bearer if {one}"
        return
    if not PARAMETER.fullmatch(parameter):
        raise Unrenderable(f"{parameter[:40]!r} is no name of a parameter.")
    name = rf"(?:^|[&;]){re.escape(parameter)}="
    twice = quoted(f"{name}.*[&;]{re.escape(parameter)}=")
    yield f"http-request set-var({TOKEN}) urlp({parameter}) if !{{ query,url_dec -m reg -- {twice} }}"
    yield f"http-request del-header Authorization if {ASKED} {{ req.hdr(authorization) -m beg -i bearer }}"


def _signed(key: TokenKey) -> Iterator[str]:
    """A key proves signatures of its own algorithms only, whatever a token says of itself (RFC 8725, 3.1)."""
    text = PUBLIC_KEY.fullmatch(key.pem)
    if text is None or not KEY_ID.fullmatch(key.id):
        raise Unrenderable("A key of tokens is no public key in PEM, or its name has no place here.")
    named = [f"{{ var({KEY}) -m str -- {quoted(key.id)} }}", f"!{{ var({KEY}) -m found }}"] if key.id else [""]
    for algorithm in key.algorithms:
        if algorithm not in TOKEN_ALGORITHMS:
            raise Unrenderable(f"There is no algorithm {algorithm[:20]!r}.")
        for name in named:
            tests = [f"{{ var({ALGORITHM}) -m str {algorithm} }}", name, f"!{{ var({SIGNED}) -m found }}"]
            proof = f"{{ var({TOKEN}),lua.signed({algorithm},{text[1].replace(chr(10), '')}) -m bool }}"
            yield f"http-request set-var({SIGNED}) bool(true) if {' '.join(filter(None, tests))} {proof}"
