"""Who is calling: login, logout, sessions, tokens, basic authentication, the own password (reference: api.md 2)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from shoal import API_VERSION
from shoal.controller.access import Access
from shoal.controller.accounts import Accounts
from shoal.controller.tokens import HOURS_DEFAULT, Token
from shoal.controller.view import View
from shoal.errors import Forbidden, Invalid, Problem, Unauthenticated
from shoal.objects import Registry
from shoal.objects.views import uuid_of

from .context import (
    READ_METHODS,
    SESSION_COOKIES,
    SESSION_S,
    Context,
    Known,
    address_of,
    cookies_of,
    host_of,
    set_cookies,
)
from .errors import CsrfFailed, json_response, method_not_allowed
from .limits import decode_object, read_body, read_object
from .present import Look, Present
from .sessions import Sessions

Document = dict[str, Any]
DEFAULT_IDLE_MIN = 15
LOGIN_FIELDS_MAX = 20
VERSION = {
    "Version": API_VERSION,
    "Tag": f"{API_VERSION}-1-20260101.000000",
    "build": 1,
    "min_version": 15.2,
    "Product": "controller",
    "ProductName": "Shoal",
    "Date": "2026-01-01T00:00:00+00:00",
}


class Login:
    def __init__(
        self, view: View, registry: Registry, accounts: Accounts, present: Present, now: Callable[[], float]
    ) -> None:
        self._view = view
        self._registry = registry
        self._accounts = accounts
        self._present = present
        self._sessions = Sessions(now=now, idle_s=self._idle_s, age_s=self._age_s)

    async def login(self, request: Request) -> Response:
        """POST /login with a form or JSON. Exactly 200 or the client gives up."""
        if request.method != "POST":
            raise method_not_allowed(request.method, "/login", "POST")
        given = await _credentials(request)
        name, password, token = (given.get(member, "") for member in ("username", "password", "token"))
        if not all(isinstance(text, str) for text in (name, password, token)):
            raise Invalid([Problem(path="username", why="username, password and token must be strings")])
        lasts_s = float("inf")
        if token:
            user, ends = await self._accounts.by_token(token, name)
            lasts_s = ends - self._accounts.now()
        else:
            user = await self._accounts.verify(name, password, address_of(request))
        return self.opened(request, user, lasts_s=lasts_s, by_token=bool(token))

    def opened(
        self, request: Request, user: Mapping[str, Any], *, lasts_s: float = float("inf"), by_token: bool = False
    ) -> Response:
        """The answer to a login, with a session's cookies."""
        profile = self._view.get("useraccountprofile", uuid_of(user.get("user_profile_ref", ""))) or {}
        most = int(profile.get("max_concurrent_sessions", 0))
        opened = self._sessions.open(user["uuid"], mark=_mark(user), most=most, lasts_s=lasts_s, by_token=by_token)
        response = json_response(self.about(request, user))
        response.headers["AVI_API_VERSION"] = API_VERSION
        set_cookies(response, opened)
        return response

    def logout(self, request: Request) -> Response:
        if request.method != "POST":
            raise method_not_allowed(request.method, "/logout", "POST")
        self._sessions.close(cookies_of(request, *SESSION_COOKIES))
        response = json_response({})
        for name in (*SESSION_COOKIES, "csrftoken"):
            response.delete_cookie(name, path="/", secure=True, samesite="lax")
        return response

    def about(self, request: Request, user: Mapping[str, Any] | None = None) -> Document:
        """The login's answer; without a user, what everybody may know (``initial-data``)."""
        about: Document = {"session_cookie_name": "avi-sessionid", "version": VERSION, "user_initialized": True}
        if user is None:
            names = self._accounts.methods.providers() if self._accounts.methods else []
            ways = [{"name": name, "url": f"/login/oidc?{urlencode({'profile': name})}"} for name in names]
            return about | ({"sign_in": ways} if ways else {})
        look = Look(host=host_of(request), version=API_VERSION)
        access = Access(self._view, user)
        home = access.home()
        about["user"] = {
            "username": _login_name(user),
            "name": user["name"],
            "uuid": user["uuid"],
            "full_name": user.get("full_name") or user["name"],
            "email": user.get("email", ""),
            "local": bool(user.get("local", True)),
            "is_superuser": access.superuser,
            "default_tenant_ref": self._present.url("tenant", home, look),
        }
        about["tenants"] = [
            {"uuid": t["uuid"], "name": t["name"], "url": self._present.url("tenant", t["uuid"], look), "local": True}
            for t in access.tenants()
        ]
        about["controller"] = {"api_idle_timeout": int(self._idle_s() // 60)}
        kind = self._registry.type("systemconfiguration")
        readable = access.rights(home).reads(kind.endpoint) and self._system()
        about["system_config"] = self._present.document(kind, self._system(), look) if readable else {}
        return about

    async def known(self, request: Request) -> Known:
        """Who calls. Raises Unauthenticated."""
        authorization = request.headers.get("authorization", "")
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            return Known(user=await self._basic(given, address_of(request)))
        if scheme.lower() == "bearer":
            return Known(user=(await self._accounts.by_token(given.strip()))[0], by_token=True)
        ids = cookies_of(request, *SESSION_COOKIES)
        found = self._sessions.find(ids)
        if found is None:
            raise Unauthenticated("Not logged in, or the session has ended.", hint="POST /login first.")
        if request.method not in READ_METHODS:
            token = request.headers.get("x-csrftoken", "")
            found = self._sessions.find(ids, token) if token else None
            if found is None:
                raise CsrfFailed("CSRF token missing or incorrect.", hint="Send the csrftoken cookie as X-CSRFToken.")
        id, session = found
        user = self._accounts.user(session.user)
        if not self._sessions.marked(session, _mark(user)):
            self._sessions.close([id])
            raise Unauthenticated("The session has ended: the password was changed.", hint="POST /login first.")
        return Known(user=user, session_id=id, by_token=session.by_token)

    # --- the own account ---

    async def account(self, context: Context) -> Response:
        """GET shows it, PUT changes the password and ends the user's other sessions."""
        user = context.known.user
        if context.reads:
            shown = {"username": _login_name(user), "name": user["name"], "uuid": user["uuid"]}
            shown |= {n: user.get(n, "") for n in ("full_name", "email")}
            return json_response(shown | self._place(context))
        body = await read_object(context.request)
        old, new = body.get("old_password"), body.get("password")
        if not isinstance(old, str) or not isinstance(new, str):
            raise Invalid([Problem(path="password", why="old_password and password are required, as strings")])
        changed = await self._accounts.change(dict(user), old, new, context.caller.address)
        self._sessions.remark(context.known.session_id, _mark(changed))
        self._sessions.close_user(user["uuid"], keep=context.known.session_id)
        return Response(None, 200, media_type="application/json")

    def _place(self, context: Context) -> Document:
        """Where the caller looks from, where else it may, and what it may there: by object type, READ or WRITE."""
        access, rights = Access(self._view, context.known.user), context.rights
        types = sorted(kind.endpoint for kind in self._registry.types.values() if kind.endpoint)
        return {
            "tenant": self._view.name_of("tenant", context.caller.tenant),
            "tenants": [tenant["name"] for tenant in access.tenants()],
            "all_tenants": access.everywhere,
            "whole": context.sight.whole,
            "access": {t: "WRITE" if rights.writes(t) else "READ" for t in types if rights.reads(t)},
        }

    async def tokens(self, context: Context) -> Response:
        """GET lists the own API tokens, POST makes one: the token itself is in that answer only."""
        user = context.known.user
        if context.reads:
            found = [_shown(token) for token in await self._accounts.tokens.of(user["uuid"])]
            return json_response({"count": len(found), "results": found})
        if context.known.by_token:
            raise Forbidden("A token can't make another one: it would never end.", hint="Log in with the password.")
        data = await read_body(context.request)
        body = decode_object(data) if data.strip() else {}
        name, hours = body.get("name", ""), body.get("hours", HOURS_DEFAULT)
        if not isinstance(name, str) or isinstance(hours, bool) or not isinstance(hours, int | float):
            raise Invalid([Problem(path="hours", why="name must be a string, and hours a number")])
        token, secret = await self._accounts.tokens.make(user["uuid"], name, hours)
        self._accounts.note("USER_TOKEN_CREATED", f"{user['name']} made an API token.", user=user["uuid"])
        return json_response({**_shown(token), "token": secret}, 201)

    async def token(self, context: Context, token: str) -> Response:
        """DELETE ends one of the own tokens, and what it opened."""
        await self._accounts.tokens.delete(context.known.user["uuid"], token)
        self._sessions.close_user(context.known.user["uuid"], keep=context.known.session_id)
        return Response(None, 204, headers={"Content-Length": "0"}, media_type="application/json")

    # --- settings ---

    async def _basic(self, given: str, address: str) -> Document:
        portal = self._system().get("portal_configuration") or {}
        if not portal.get("allow_basic_authentication", False):
            raise Unauthenticated(
                "Basic authentication is off.",
                hint="Set portal_configuration.allow_basic_authentication in the system configuration, or POST /login.",
            )
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise Unauthenticated("The Authorization header can't be read.") from None
        return await self._accounts.verify(name, password, address)

    def _idle_s(self) -> float:
        properties: Document = next(iter(self._view.all("controllerproperties")), {})
        return 60.0 * float(properties.get("api_idle_timeout", DEFAULT_IDLE_MIN))

    def _age_s(self) -> float:
        """The absolute end of a session, whatever it does."""
        portal = self._system().get("portal_configuration") or {}
        return min(SESSION_S, 3_600.0 * float(portal.get("api_force_timeout", SESSION_S / 3_600)))

    def _system(self) -> Document:
        return next(iter(self._view.all("systemconfiguration")), {})


def _login_name(user: Mapping[str, Any]) -> str:
    return str(user.get("username") or user["name"])


def _mark(user: Mapping[str, Any]) -> str:
    """What changes with the password."""
    return str(user.get("password", ""))


def _shown(token: Token) -> Document:
    return {"uuid": token.id, "name": token.name, "created_at": token.created, "expires_at": token.expires}


async def _credentials(request: Request) -> Document:
    """The SDK sends a form, others JSON."""
    body = await read_body(request)
    if "json" in request.headers.get("content-type", ""):
        return decode_object(body)
    try:
        return dict(parse_qsl(body.decode(errors="replace"), max_num_fields=LOGIN_FIELDS_MAX))
    except ValueError:
        raise Invalid(f"the form has more than {LOGIN_FIELDS_MAX} fields") from None
