"""The REST face: one pure ASGI application with few, generic routes (reference: api.md)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal import API_VERSION
from shoal.controller.intent import Caller, Intent, Written
from shoal.controller.view import View
from shoal.errors import (
    Invalid,
    NotFound,
    Problem,
    ShoalError,
    Unauthenticated,
)
from shoal.objects import ObjectType, Registry
from shoal.objects.types import version_key
from shoal.objects.views import uuid_of

from . import listing
from .accounts import Accounts
from .errors import json_response, method_not_allowed, refusal, unexpected
from .limits import (
    COOKIES_MAX,
    QUERY_BYTES_MAX,
    QUERY_PARAMETERS_MAX,
    REQUEST_WITHIN_S,
    WARNING_CHARACTERS_MAX,
    WARNINGS_MAX,
    decode_object,
    read_body,
)
from .ports import Runtime
from .present import Look, Present
from .sessions import Opened, Sessions

Document = dict[str, Any]
MIN_VERSION = "15.2"
OLDEST = "16.4.2"
SESSION_S = 86_400
CSRF_S = 31_449_600
DEFAULT_IDLE_MIN = 15
READ_METHODS = ("GET", "HEAD", "OPTIONS")
VERSION = {
    "Version": API_VERSION,
    "Tag": f"{API_VERSION}-1-20260101.000000",
    "build": 1,
    "min_version": 15.2,
    "Product": "controller",
    "ProductName": "Shoal",
    "Date": "2026-01-01T00:00:00+00:00",
}
INVENTORY = ("virtualservice", "pool", "poolgroup", "serviceengine", "serviceenginegroup", "vsvip", "network", "cloud")
HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"}


class Dependencies(msgspec.Struct, kw_only=True):
    view: View
    intent: Intent
    registry: Registry
    accounts: Accounts
    runtime: Runtime


class Context(msgspec.Struct, kw_only=True):
    """One request: who, for which tenant, as which version."""

    request: Request
    query: dict[str, str]
    look: Look
    caller: Caller
    all_tenants: bool = False
    session_id: str = ""


class App:
    """``await app(scope, receive, send)``."""

    def __init__(self, deps: Dependencies, now: Callable[[], float] = time.monotonic) -> None:
        self._deps = deps
        self._present = Present(deps.view, deps.registry)
        self._sessions = Sessions(now=now, idle_s=self._idle_s, age_s=lambda: SESSION_S)

    def _idle_s(self) -> float:
        properties = self._deps.view.all("controllerproperties")
        return 60.0 * (properties[0].get("api_idle_timeout", DEFAULT_IDLE_MIN) if properties else DEFAULT_IDLE_MIN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response = await self._answer(request)
        response.headers.update(HEADERS)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(REQUEST_WITHIN_S):
                return await self._route(request)
        except ShoalError as error:
            return refusal(error)
        except TimeoutError:
            return json_response({"error": f"Not answered within {REQUEST_WITHIN_S:.0f} s. Try again."}, 503)
        except Exception as error:  # a fault of ours must not show its insides
            return unexpected(error, f"{request.method} {request.url.path[:200]}")

    async def _route(self, request: Request) -> Response:
        path = request.url.path.rstrip("/")
        if path == "/login":
            return await self._login(request)
        if path == "/logout":
            self._sessions.close(_cookies(request, "sessionid", "avi-sessionid"))
            return json_response({})
        if path == "":
            return json_response({"product": "Shoal", "api": "/api", "console": "comes in a later release"})
        if path == "/api/cluster/status":
            return json_response(self._deps.runtime.cluster_status())
        if path == "/api/cluster/runtime":
            return json_response(self._deps.runtime.cluster_runtime())
        if path == "/api/initial-data":
            return json_response(await self._about(request, None))
        if not path.startswith("/api/"):
            raise NotFound(f"There is nothing at {path[:120]}.", hint="The API is under /api.")
        context = await self._authenticate(request)
        response = await self._api(context, path.removeprefix("/api/").split("/"))
        response.headers["AVI_API_VERSION"] = context.look.version if _asked(request) else OLDEST.replace(".", "_")
        if context.session_id:
            _set_session(response, context.session_id)
        return response

    # --- who ---

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            raise method_not_allowed(request.method, "/login", "POST")
        body = await read_body(request)
        if "json" in request.headers.get("content-type", ""):
            given: Document = decode_object(body)
        else:
            given = dict(parse_qsl(body.decode(errors="replace"), max_num_fields=20))
        name, password = given.get("username", ""), given.get("password", "")
        if not isinstance(name, str) or not isinstance(password, str):
            raise Invalid([Problem(path="username", why="must be a string")])
        account = await self._deps.accounts.verify(name, password)
        opened = self._sessions.open(account.name)
        response = json_response(await self._about(request, account.name))
        response.headers["AVI_API_VERSION"] = API_VERSION
        _set_cookies(response, opened)
        return response

    async def _about(self, request: Request, user: str | None) -> Document:
        host = _host(request)
        about: Document = {"session_cookie_name": "avi-sessionid", "version": VERSION, "user_initialized": True}
        if user is not None:
            tenant = f"https://{host}/api/tenant/admin"
            about["user"] = {
                "username": user,
                "name": user,
                "uuid": f"user-{user}",
                "full_name": "Administrator" if user == "admin" else user,
                "email": "",
                "local": True,
                "is_superuser": True,
                "default_tenant_ref": tenant,
            }
            about["tenants"] = [
                {"uuid": t["uuid"], "name": t["name"], "url": f"https://{host}/api/tenant/{t['uuid']}", "local": True}
                for t in self._deps.view.all("tenant")
            ]
            about["controller"] = {"api_idle_timeout": int(self._idle_s() // 60)}
            about["system_config"] = next(iter(self._deps.view.all("systemconfiguration")), {})
        return about

    async def _authenticate(self, request: Request) -> Context:
        user, session_id = await self._user(request)
        version = _version(request)
        tenant, every = self._tenant(request)
        if len(request.url.query) > QUERY_BYTES_MAX:
            raise Invalid(f"the query is longer than {QUERY_BYTES_MAX} bytes")
        query = dict(list(request.query_params.multi_items())[:QUERY_PARAMETERS_MAX])
        address = request.client.host if request.client else ""
        names = request.method not in READ_METHODS or "include_name" in query
        return Context(
            request=request,
            query=query,
            look=Look(
                host=_host(request),
                version=version,
                names=names,
                skip_default="skip_default" in query,
                secrets=request.method != "POST",
            ),
            caller=Caller(user=user, tenant=tenant, address=address, version=version),
            all_tenants=every,
            session_id=session_id,
        )

    async def _user(self, request: Request) -> tuple[str, str]:
        """(user, session id); raises Unauthenticated."""
        authorization = request.headers.get("authorization", "")
        if authorization.lower().startswith("basic "):
            return await self._basic(authorization), ""
        ids = _cookies(request, "avi-sessionid", "sessionid")
        found = self._sessions.find(ids)
        if found is None:
            raise Unauthenticated("Not logged in, or the session has ended.", hint="POST /login first.")
        if request.method not in READ_METHODS:
            token = request.headers.get("x-csrftoken", "")
            found = self._sessions.find(ids, token) if token else None
            if found is None:
                raise Unauthenticated(
                    "CSRF token missing or incorrect.", hint="Send the csrftoken cookie as X-CSRFToken."
                )
        return found[1].user, found[0]

    async def _basic(self, authorization: str) -> str:
        portal = next(iter(self._deps.view.all("systemconfiguration")), {}).get("portal_configuration") or {}
        if not portal.get("allow_basic_authentication", False):
            raise Unauthenticated(
                "Basic authentication is off.",
                hint="Set portal_configuration.allow_basic_authentication in the system configuration, or POST /login.",
            )
        try:
            name, _, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated("The Authorization header can't be read.") from None
        return (await self._deps.accounts.verify(name, password)).name

    def _tenant(self, request: Request) -> tuple[str, bool]:
        uuid = request.headers.get("x-avi-tenant-uuid", "")
        name = request.headers.get("x-avi-tenant", "") or ("" if uuid else "admin")
        if name == "*" or uuid == "*":
            return "admin", True
        for tenant in self._deps.view.all("tenant"):
            if tenant["uuid"] == uuid or tenant["name"] == name:
                return tenant["uuid"], False
        raise NotFound(f"There is no tenant {(name or uuid)[:80]}.")

    # --- /api ---

    async def _api(self, context: Context, steps: list[str]) -> Response:
        type, rest = steps[0], steps[1:]
        match (type, *rest):
            case ("cluster", "version"):
                return json_response(VERSION)
            case ("useraccount",):
                return await self._user_account(context)
            case ("analytics", "logs"):
                return self._logs(context)
            case _ if type.endswith("-inventory") and type.removesuffix("-inventory") in INVENTORY:
                return self._inventory(context, type.removesuffix("-inventory"), rest)
        kind = self._deps.registry.type(type)
        if not kind.endpoint or kind.endpoint != type.lower():
            raise NotFound(f"There is no object type {type[:80]}.")
        if kind.singleton:
            return await self._singleton(context, kind, rest)
        if not rest:
            return await self._collection(context, kind)
        if len(rest) == 1:
            return await self._object(context, kind, rest[0])
        return await self._below(context, kind, rest[0], "/".join(rest[1:]))

    async def _collection(self, context: Context, kind: ObjectType) -> Response:
        request = context.request
        if request.method == "POST":
            slug = request.headers.get("slug")
            written = await self._deps.intent.create(kind.endpoint, await read_body(request), context.caller, slug=slug)
            return self._written(context, kind, written, 201)
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed(request.method, f"the collection {kind.endpoint}", "GET, POST")
        found = listing.select(self._deps.view, self._visible(context, kind), context.query)
        page = listing.page(found, context.query)
        results = [self._shown(context, kind, document) for document in page.documents]
        body: Document = {"count": page.count, "results": results}
        if page.next:
            body["next"] = f"https://{context.look.host}/api/{kind.endpoint}?{page.next}"
        return json_response(body)

    def _shown(self, context: Context, kind: ObjectType, document: Document) -> Document:
        shown = listing.fields(self._present.document(kind, document, context.look), context.query)
        if "runtime" in context.query.get("join_subresources", "").split(","):
            summary = self._deps.runtime.summary(kind.endpoint, document["uuid"])
            shown["runtime"] = self._present.runtime(summary, context.look)
        return shown

    def _visible(self, context: Context, kind: ObjectType) -> list[Document]:
        """The tenant's own objects; the system's (admin's) too when it is another tenant that looks."""
        documents = self._deps.view.all(kind.endpoint)
        if context.all_tenants or not kind.tenant_scoped or kind.endpoint == "tenant":
            return documents
        mine = context.caller.tenant
        system = mine != "admin" and kind.endpoint not in ("virtualservice", "pool", "vsvip", "poolgroup")
        return [
            d
            for d in documents
            if (owner := uuid_of(d.get("tenant_ref", ""))) in (mine, "") or (system and owner == "admin")
        ]

    def _one(self, context: Context, kind: ObjectType, uuid: str) -> Document:
        document = self._deps.view.get(kind.endpoint, uuid)
        if document is None or document not in self._visible(context, kind):
            raise NotFound(f"There is no {kind.name} {uuid[:80]}.")
        return document

    async def _object(self, context: Context, kind: ObjectType, uuid: str) -> Response:
        method, intent = context.request.method, self._deps.intent
        document = self._one(context, kind, uuid)
        match method:
            case "GET" | "HEAD":
                return json_response(self._shown(context, kind, document))
            case "PUT":
                written = await intent.replace(kind.endpoint, uuid, await read_body(context.request), context.caller)
            case "PATCH":
                written = await intent.patch(kind.endpoint, uuid, await read_body(context.request), context.caller)
            case "DELETE":
                await intent.delete(kind.endpoint, uuid, context.caller)
                return Response(None, 204, headers={"Content-Length": "0"}, media_type="application/json")
            case _:
                raise method_not_allowed(method, kind.endpoint, "GET, PUT, PATCH, DELETE")
        return self._written(context, kind, written, 200)

    async def _singleton(self, context: Context, kind: ObjectType, rest: list[str]) -> Response:
        documents = self._deps.view.all(kind.endpoint)
        if not documents or (rest and rest != [documents[0]["uuid"]]):
            raise NotFound(f"There is no {'/'.join([kind.endpoint, *rest])[:120]}.")
        uuid = documents[0]["uuid"]
        match context.request.method:
            case "GET" | "HEAD":
                return json_response(self._present.document(kind, documents[0], context.look))
            case "PUT":
                body = await read_body(context.request)
                written = await self._deps.intent.replace(kind.endpoint, uuid, body, context.caller)
            case "PATCH":
                body = await read_body(context.request)
                written = await self._deps.intent.patch(kind.endpoint, uuid, body, context.caller)
            case method:
                raise method_not_allowed(method, kind.endpoint, "GET, PUT, PATCH")
        return self._written(context, kind, written, 200)

    def _written(self, context: Context, kind: ObjectType, written: Written, status: int) -> Response:
        body = self._present.document(kind, written.doc, context.look)
        response = json_response(body, status)
        if status == 201:
            response.headers["Location"] = _ascii(body["url"])
        for warning in written.warnings[:WARNINGS_MAX]:
            response.headers.append("X-Shoal-Warning", _ascii(warning)[:WARNING_CHARACTERS_MAX])
        return response

    async def _below(self, context: Context, kind: ObjectType, uuid: str, what: str) -> Response:
        """Runtime documents (GET) and operations (POST) of an object."""
        self._one(context, kind, uuid)
        if context.request.method in ("GET", "HEAD"):
            found = self._deps.runtime.read(kind.endpoint, uuid, what)
            return json_response(self._present.runtime(found, context.look))
        if context.request.method != "POST":
            raise method_not_allowed(context.request.method, what[:80], "GET, POST")
        data = await read_body(context.request)
        body = decode_object(data) if data.strip() else {}
        return json_response(await self._deps.runtime.operate(kind.endpoint, uuid, what, body, context.caller))

    # --- the rest ---

    async def _user_account(self, context: Context) -> Response:
        if context.request.method == "GET":
            return json_response({"username": context.caller.user, "name": context.caller.user})
        if context.request.method != "PUT":
            raise method_not_allowed(context.request.method, "useraccount", "GET, PUT")
        body = decode_object(await read_body(context.request))
        old, new = body.get("old_password"), body.get("password")
        if not isinstance(old, str) or not isinstance(new, str):
            raise Invalid([Problem(path="password", why="old_password and password are required, as strings")])
        await self._deps.accounts.change(context.caller.user, old, new)
        self._sessions.close_user(context.caller.user, keep=context.session_id)
        return Response(None, 200, media_type="application/json")

    def _logs(self, context: Context) -> Response:
        filters: Document = {}
        for item in context.request.query_params.getlist("filter"):
            operator, _, inner = item.partition("(")
            field, _, value = inner.rstrip(")").partition(",")
            if field == "event_id":
                filters["name"] = value.strip("[]").upper().split(",")
            elif operator in ("co", "eq"):
                filters["object"] = value
        found = self._deps.runtime.events(filters)
        page = listing.page(found, {k: v for k, v in context.query.items() if k in ("page", "page_size", "limit_by")})
        return json_response({"count": page.count, "results": page.documents, "percent_remaining": 0})

    def _inventory(self, context: Context, type: str, rest: list[str]) -> Response:
        if context.request.method not in ("GET", "HEAD"):
            raise method_not_allowed(context.request.method, f"{type}-inventory", "GET")
        kind = self._deps.registry.type(type)
        if rest:
            return json_response(self._inventory_entry(context, kind, self._one(context, kind, rest[0])))
        found = listing.select(self._deps.view, self._visible(context, kind), context.query)
        page = listing.page(found, context.query)
        body: Document = {
            "count": page.count,
            "results": [self._inventory_entry(context, kind, d) for d in page.documents],
        }
        if page.next:
            body["next"] = f"https://{context.look.host}/api/{type}-inventory?{page.next}"
        return json_response(body)

    def _inventory_entry(self, context: Context, kind: ObjectType, document: Document) -> Document:
        look = msgspec.structs.replace(context.look, names=False)
        config = self._present.document(kind, document, look)
        runtime = self._deps.runtime.summary(kind.endpoint, document["uuid"])
        up = runtime.get("oper_status", {}).get("state") == "OPER_UP"
        return {
            "uuid": document["uuid"],
            "url": config["url"],
            "config": config,
            "runtime": self._present.runtime(runtime, context.look),
            "health_score": {"health_score": 100 if up else 0, "performance_score": 100 if up else 0},
            "alert": {"level": "ALERT_LOW"},
        }


def _version(request: Request) -> str:
    """The request's version, at most ours. Raises Invalid with the words clients look for."""
    given = request.headers.get("x-avi-version", "")
    if not given:
        return OLDEST
    key = version_key(given)
    if not version_key(MIN_VERSION) <= key <= version_key(API_VERSION):
        why = f"Invalid version: {MIN_VERSION}..{API_VERSION} are spoken here"
        raise Invalid([Problem(path="X-Avi-Version", value=given[:40], why=why)])
    return given


def _asked(request: Request) -> bool:
    return bool(request.headers.get("x-avi-version"))


def _host(request: Request) -> str:
    """The name the client used, if it is one."""
    host = request.headers.get("host", "localhost")[:255]
    return host if host and all(c.isalnum() or c in ".-:[]_" for c in host) else "localhost"


def _cookies(request: Request, *names: str) -> list[str]:
    """Every value of these cookies, the last copy first (clients send several, the last is the explicit one)."""
    found: list[str] = []
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";")[:COOKIES_MAX]:
            name, _, value = pair.strip().partition("=")
            if name in names:
                found.append(value.strip('"'))
    return found[::-1]


def _set_cookies(response: Response, opened: Opened) -> None:
    response.set_cookie("csrftoken", opened.csrftoken, max_age=CSRF_S, path="/", secure=True, samesite=None)
    _set_session(response, opened.session_id)


def _set_session(response: Response, session_id: str) -> None:
    for name in ("avi-sessionid", "sessionid"):
        response.set_cookie(name, session_id, max_age=SESSION_S, path="/", secure=True, httponly=True, samesite=None)


def _ascii(text: str) -> str:
    return "".join(c if 0x20 <= ord(c) < 0x7F else "?" for c in text)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
