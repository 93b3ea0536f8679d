"""What a request says about itself: host, version, cookies, query (reference: api.md 2.2, 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from shoal import API_VERSION
from shoal.controller.intent import Caller
from shoal.controller.permissions import Rights
from shoal.controller.sight import Sight
from shoal.errors import Forbidden, Invalid, Problem
from shoal.objects.types import version_key

from .limits import COOKIES_MAX, QUERY_BYTES_MAX, QUERY_PARAMETERS_MAX, WARNING_CHARACTERS_MAX, WARNINGS_MAX
from .present import Look
from .sessions import Opened

MIN_VERSION = "15.2"
OLDEST = "16.4.2"
SESSION_S = 86_400
CSRF_S = 31_449_600
READ_METHODS = ("GET", "HEAD", "OPTIONS")
SESSION_COOKIES = ("avi-sessionid", "sessionid")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls: a stored User. ``session_id`` is "" without a session; ``by_token``: by a token, or in a session that
    one opened."""

    user: Mapping[str, Any]
    session_id: str = ""
    by_token: bool = False


class Context(msgspec.Struct, kw_only=True):
    """One request: who, for which tenant, as which version."""

    request: Request
    path: str
    query: dict[str, str]
    look: Look
    caller: Caller
    known: Known
    warnings: list[str] = []

    @property
    def sight(self) -> Sight:
        return self.caller.sight

    @property
    def rights(self) -> Rights:
        return self.caller.rights

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def reads(self) -> bool:
        return self.request.method in ("GET", "HEAD")

    def dress(self, response: Response) -> Response:
        """Every answer says which version it speaks, renews the session and carries the warnings."""
        asked = self.request.headers.get("x-avi-version")
        response.headers["AVI_API_VERSION"] = self.look.version if asked else OLDEST.replace(".", "_")
        if self.known.session_id:
            set_session(response, self.known.session_id)
        for warning in self.warnings[:WARNINGS_MAX]:
            response.headers.append("X-Shoal-Warning", ascii_text(warning)[:WARNING_CHARACTERS_MAX])
        return response


def path_of(request: Request) -> str:
    """Without trailing slashes. Not ``request.url``, which a hostile Host header makes unreadable."""
    path: str = request.scope["path"]
    return path.rstrip("/")


def query_of(request: Request) -> dict[str, str]:
    """The last value of each parameter. Raises Invalid past a bound."""
    if len(request.scope["query_string"]) > QUERY_BYTES_MAX:
        raise Invalid(f"the query is longer than {QUERY_BYTES_MAX} bytes")
    items = request.query_params.multi_items()
    if len(items) > QUERY_PARAMETERS_MAX:
        raise Invalid(f"the query has {len(items)} parameters; at most {QUERY_PARAMETERS_MAX} are taken")
    return dict(items)


def version_of(request: Request) -> str:
    """The request's version, at most ours. Raises Invalid with the words clients look for."""
    given = request.headers.get("x-avi-version", "")
    if not given:
        return OLDEST
    key = version_key(given)
    if not version_key(MIN_VERSION) <= key <= version_key(API_VERSION):
        why = f"Invalid version: {MIN_VERSION}..{API_VERSION} are spoken here"
        raise Invalid([Problem(path="X-Avi-Version", value=given[:40], why=why)])
    return given


def host_of(request: Request) -> str:
    """The name the client used, if it is one."""
    host = request.headers.get("host", "")
    return host if _HOST.fullmatch(host) else "localhost"


def address_of(request: Request) -> str:
    """Where it comes from."""
    return request.client.host if request.client else ""


def check_origin(request: Request) -> None:
    """A browser says which site a request comes from; another site's has no business here. Raises Forbidden."""
    origin = request.headers.get("origin", "")
    if request.method in READ_METHODS or not origin:
        return
    if origin.partition("://")[2] != request.headers.get("host", ""):
        raise Forbidden("The request comes from another site.", hint="Call the API from its own pages, or from none.")


def cookies_of(request: Request, *names: str) -> list[str]:
    """Every value of these cookies, the last copy first (clients send several, the last is the explicit one)."""
    pairs = [pair for header in request.headers.getlist("cookie") for pair in header.split(";")]
    found = []
    for pair in pairs[-COOKIES_MAX:]:
        name, _, value = pair.strip().partition("=")
        if name in names:
            found.append(value.strip('"'))
    return found[::-1]


def set_cookies(response: Response, opened: Opened) -> None:
    """The three cookies of a login."""
    response.set_cookie("csrftoken", opened.csrftoken, max_age=CSRF_S, path="/", secure=True, samesite="lax")
    set_session(response, opened.session_id)


def set_session(response: Response, session_id: str) -> None:
    for name in SESSION_COOKIES:
        response.set_cookie(name, session_id, max_age=SESSION_S, path="/", secure=True, httponly=True, samesite="lax")


def ascii_text(text: str) -> str:
    """Fit for a header."""
    return "".join(c if 0x20 <= ord(c) < 0x7F else "?" for c in text)
