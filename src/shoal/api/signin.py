"""Signing in at an identity provider: ``GET /login/oidc`` sends the browser there, ``/login/oidc/callback`` takes it back."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from shoal.controller.signin.methods import Methods
from shoal.controller.signin.provider import STARTED_FOR_S
from shoal.errors import Unauthenticated

from .context import cookies_of, host_of, query_of
from .errors import method_not_allowed
from .login import Login

BEGIN = "/login/oidc"
BACK = f"{BEGIN}/callback"
COOKIE = "shoal-signin"
PAGE = "/"


class SignIn:
    def __init__(self, methods: Methods, login: Login) -> None:
        self._methods = methods
        self._login = login

    async def answer(self, request: Request, path: str) -> Response:
        """Raises Unauthenticated, NotFound, NotReady."""
        if request.method != "GET":
            raise method_not_allowed(request.method, path, "GET")
        return await self._back(request) if path == BACK else self._begin(request)

    def _begin(self, request: Request) -> Response:
        name = query_of(request).get("profile", "")
        started, address = self._methods.begin(name, f"https://{host_of(request)}{BACK}")
        response = Response(None, 302, headers={"Location": address})
        response.set_cookie(
            COOKIE, started.state, max_age=int(STARTED_FOR_S), path=BEGIN, secure=True, httponly=True, samesite="lax"
        )
        return response

    async def _back(self, request: Request) -> Response:
        query = query_of(request)
        cookie = next(iter(cookies_of(request, COOKIE)), "")
        if query.get("error"):
            raise Unauthenticated("The identity provider did not let you in.", hint="Begin the sign-in again.")
        user = await self._methods.finish(query.get("state", ""), cookie, query.get("code", ""))
        opened = self._login.opened(request, user)
        response = Response(None, 303, headers={"Location": PAGE})
        response.raw_headers += [header for header in opened.raw_headers if header[0] == b"set-cookie"]
        response.delete_cookie(COOKIE, path=BEGIN, secure=True, httponly=True, samesite="lax")
        return response
