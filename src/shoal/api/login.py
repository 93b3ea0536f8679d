"""Who is calling: login, logout, sessions, basic authentication, the own password (reference: api.md 2)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from shoal import API_VERSION
from shoal.controller.view import View
from shoal.errors import Invalid, Problem, Unauthenticated
from shoal.objects import Registry

from .accounts import PASSWORD_CHARACTERS_MIN, Accounts
from .context import READ_METHODS, SESSION_COOKIES, SESSION_S, Context, cookies_of, host_of, set_cookies
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
        self._sessions = Sessions(now=now, idle_s=self._idle_s, age_s=lambda: SESSION_S)

    async def login(self, request: Request) -> Response:
        """POST /login with a form or JSON. Exactly 200 or the client gives up."""
        if request.method != "POST":
            raise method_not_allowed(request.method, "/login", "POST")
        given = await _credentials(request)
        name, password = given.get("username", ""), given.get("password", "")
        if not isinstance(name, str) or not isinstance(password, str):
            raise Invalid([Problem(path="username", why="username and password must be strings")])
        account = await self._accounts.verify(name, password)
        response = json_response(self.about(request, account.name))
        response.headers["AVI_API_VERSION"] = API_VERSION
        set_cookies(response, self._sessions.open(account.name))
        return response

    def logout(self, request: Request) -> Response:
        if request.method != "POST":
            raise method_not_allowed(request.method, "/logout", "POST")
        self._sessions.close(cookies_of(request, *SESSION_COOKIES))
        response = json_response({})
        for name in (*SESSION_COOKIES, "csrftoken"):
            response.delete_cookie(name, path="/", secure=True, samesite=None)
        return response

    def about(self, request: Request, user: str = "") -> Document:
        """The login's answer; without a user, what everybody may know (``initial-data``)."""
        about: Document = {"session_cookie_name": "avi-sessionid", "version": VERSION, "user_initialized": True}
        if not user:
            return about
        look = Look(host=host_of(request), version=API_VERSION)
        about["user"] = {
            "username": user,
            "name": user,
            "uuid": f"user-{user}",
            "full_name": "Administrator" if user == "admin" else user,
            "email": "",
            "local": True,
            "is_superuser": True,
            "default_tenant_ref": self._present.url("tenant", "admin", look),
        }
        about["tenants"] = [
            {"uuid": t["uuid"], "name": t["name"], "url": self._present.url("tenant", t["uuid"], look), "local": True}
            for t in self._view.all("tenant")
        ]
        about["controller"] = {"api_idle_timeout": int(self._idle_s() // 60)}
        kind = self._registry.type("systemconfiguration")
        about["system_config"] = self._present.document(kind, self._system(), look) if self._system() else {}
        return about

    async def user(self, request: Request) -> tuple[str, str]:
        """(user, session id; "" with basic authentication). Raises Unauthenticated."""
        authorization = request.headers.get("authorization", "")
        if authorization.lower().startswith("basic "):
            return await self._basic(authorization), ""
        ids = cookies_of(request, *SESSION_COOKIES)
        found = self._sessions.find(ids)
        if found is None:
            raise Unauthenticated("Not logged in, or the session has ended.", hint="POST /login first.")
        if request.method not in READ_METHODS:
            token = request.headers.get("x-csrftoken", "")
            found = self._sessions.find(ids, token) if token else None
            if found is None:
                raise CsrfFailed("CSRF token missing or incorrect.", hint="Send the csrftoken cookie as X-CSRFToken.")
        return found[1].user, found[0]

    async def account(self, context: Context) -> Response:
        """The own account: GET shows it, PUT changes the password and ends the user's other sessions."""
        user = context.caller.user
        if context.reads:
            return json_response({"username": user, "name": user})
        if context.method != "PUT":
            raise method_not_allowed(context.method, "useraccount", "GET, PUT")
        body = await read_object(context.request)
        old, new = body.get("old_password"), body.get("password")
        if not isinstance(old, str) or not isinstance(new, str):
            raise Invalid([Problem(path="password", why="old_password and password are required, as strings")])
        portal = self._system().get("portal_configuration") or {}
        least = portal.get("minimum_password_length", PASSWORD_CHARACTERS_MIN)
        await self._accounts.change(user, old, new, least)
        self._sessions.close_user(user, keep=context.session_id)
        return Response(None, 200, media_type="application/json")

    async def _basic(self, authorization: str) -> str:
        portal = self._system().get("portal_configuration") or {}
        if not portal.get("allow_basic_authentication", False):
            raise Unauthenticated(
                "Basic authentication is off.",
                hint="Set portal_configuration.allow_basic_authentication in the system configuration, or POST /login.",
            )
        try:
            name, _, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise Unauthenticated("The Authorization header can't be read.") from None
        return (await self._accounts.verify(name, password)).name

    def _idle_s(self) -> float:
        properties: Document = next(iter(self._view.all("controllerproperties")), {})
        return 60.0 * float(properties.get("api_idle_timeout", DEFAULT_IDLE_MIN))

    def _system(self) -> Document:
        return next(iter(self._view.all("systemconfiguration")), {})


async def _credentials(request: Request) -> Document:
    """The SDK sends a form, others JSON."""
    body = await read_body(request)
    if "json" in request.headers.get("content-type", ""):
        return decode_object(body)
    try:
        return dict(parse_qsl(body.decode(errors="replace"), max_num_fields=LOGIN_FIELDS_MAX))
    except ValueError:
        raise Invalid(f"the form has more than {LOGIN_FIELDS_MAX} fields") from None
