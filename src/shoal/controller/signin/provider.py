"""OpenID Connect: the authorization code flow with PKCE (RFC 7636), and what the identity token says."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from shoal.errors import Invalid, NotReady, Problem, Unauthenticated

from .directory import Person

ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""Signed by a key of the provider's: never ``none``, never a shared secret."""
WITHIN_S = 5.0
ANSWER_BYTES_MAX = 1_000_000
STARTED_MAX = 2_000
STARTED_FOR_S = 600.0
LEEWAY_S = 30
SCOPES = ("openid", "profile", "email")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
Settings = Mapping[str, Any]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in on its way. ``state`` comes back with the browser, and must be that browser's."""

    profile: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    at: float


class Provider:
    """``now``: seconds since the epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._started: OrderedDict[str, Started] = OrderedDict()

    def begin(self, profile: str, settings: Settings, redirect_uri: str) -> tuple[Started, str]:
        """(the sign-in, the address to send the browser to). Raises Invalid for settings that can't be used."""
        app = settings.get("oauth_controller_settings") or {}
        for field in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            _check_address(field, settings.get(field, ""))
        for field, value in (("issuer", settings.get("issuer")), ("client_id", app.get("client_id"))):
            if not value:
                raise Invalid([Problem(path=f"oauth_profile.{field}", why="required to sign in, and missing")])
        started = Started(
            profile=profile,
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=settings.get("redirect_uri") or redirect_uri,
            at=self._now(),
        )
        self._started[started.state] = started
        while len(self._started) > STARTED_MAX:
            self._started.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(started.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": app["client_id"],
            "redirect_uri": started.redirect_uri,
            "scope": " ".join(dict.fromkeys(["openid", *(app.get("scopes") or SCOPES)])),
            "state": started.state,
            "nonce": started.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(settings["authorization_endpoint"]).query else "?"
        return started, f"{settings['authorization_endpoint']}{joint}{urlencode(query)}"

    def returned(self, state: str, cookie: str) -> Started:
        """The sign-in that a browser comes back with, once. Raises Unauthenticated for one that it did not begin."""
        started = self._started.pop(state, None)
        fresh = started is not None and self._now() - started.at <= STARTED_FOR_S
        if started is None or not fresh or not secrets.compare_digest(cookie.encode(), state.encode()):
            raise Unauthenticated(
                "This sign-in was not begun in this browser, or too long ago.", hint="Begin it again."
            )
        return started

    async def person(self, started: Started, settings: Settings, code: str) -> Person:
        """Who came back with ``code``. Raises Unauthenticated for a token that proves nothing, NotReady where the provider
        can't be asked. ``settings``: OAuthProfile, secrets opened."""
        app = settings["oauth_controller_settings"]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": started.redirect_uri,
            "client_id": app["client_id"],
            "code_verifier": started.verifier,
        }
        secret = app.get("client_secret", "")
        auth = httpx.BasicAuth(app["client_id"], secret) if secret else httpx.USE_CLIENT_DEFAULT
        async with httpx.AsyncClient(timeout=WITHIN_S, follow_redirects=False, trust_env=False) as http:
            answer = await _asked(http.post(settings["token_endpoint"], data=form, auth=auth))
            if answer.status_code != 200:
                raise Unauthenticated("The identity provider takes the sign-in back (its token endpoint refuses it).")
            token = str(_document(answer).get("id_token", ""))
            keys = _document(await _asked(http.get(settings["jwks_uri"])))
            claims = self._claims(token, keys, settings["issuer"], app["client_id"], started.nonce)
            access = str(_document(answer).get("access_token", ""))
            if settings.get("userinfo_endpoint") and access and "groups" not in claims:
                bearer = {"Authorization": f"Bearer {access}"}
                more = _document(await _asked(http.get(settings["userinfo_endpoint"], headers=bearer)))
                if more.get("sub") == claims["sub"]:  # OpenID Connect Core 5.3.2
                    claims = more | claims
        return _person(claims)

    def _claims(self, token: str, keys: Settings, issuer: str, client: str, nonce: str) -> dict[str, Any]:
        wanted = jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            decoded = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            wanted.validate(decoded.claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated(f"The identity token proves nothing ({type(error).__name__}).") from None
        return dict(decoded.claims)


def _person(claims: Settings) -> Person:
    name = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
    groups = claims.get("groups") or ()
    listed = groups if isinstance(groups, list) else [groups]
    attributes = {
        key.lower(): tuple(map(str, value)) if isinstance(value, list) else (str(value),)
        for key, value in claims.items()
        if isinstance(value, str | bool | int | list)
    }
    return Person(
        name=name,
        full_name=str(claims.get("name", "")),
        email=str(claims.get("email", "")),
        groups=tuple(map(str, listed)),
        attributes=attributes,
    )


def _check_address(field: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        fine = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        fine = False
    if not fine:
        raise Invalid([Problem(path=f"oauth_profile.{field}", value=address[:80], why="must be an https address")])


async def _asked(asking: Any) -> httpx.Response:
    try:
        answer: httpx.Response = await asking
    except httpx.HTTPError as error:
        raise NotReady(f"The identity provider can't be asked ({type(error).__name__}).", hint="Try again.") from None
    if len(answer.content) > ANSWER_BYTES_MAX:
        raise NotReady("The identity provider answers with more than a sign-in takes.")
    return answer


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if answer.status_code != 200 or not isinstance(found, dict):
        raise NotReady("The identity provider's answer can't be read.", hint="Check the addresses of the AuthProfile.")
    return found
