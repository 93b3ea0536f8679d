"""The REST face: one pure ASGI application with few, generic routes (reference: api.md).

::

    app        routes, who may, faults              login      sessions, cookies, passwords
    objects    create, read, replace, patch, delete listing    filters, order, pages
    inventory  dashboards' entries, the event log   present    documents as a client sees them
    metrics    measured history                     prometheus totals for a scraper
    capture    packets, as they come                planning   ?plan=true, ?apply=
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal.controller.clock import SystemClock
from shoal.controller.intent import Caller, Guard, Intent
from shoal.controller.metrics import Metrics
from shoal.controller.plans import Wish
from shoal.controller.view import View
from shoal.errors import NotFound, ShoalError
from shoal.objects import ObjectType, Registry

from . import listing, prometheus
from .accounts import Accounts
from .capture import Capturing
from .context import READ_METHODS, Context, host_of, path_of, query_of, version_of
from .errors import json_response, method_not_allowed, refusal, unexpected
from .inventory import CONFIGS, Inventory, log_filters, number
from .limits import LOG_PAGE_SIZE_MAX, REQUEST_WITHIN_S, decode_object, read_body
from .login import VERSION, Login
from .metrics import Analytics
from .objects import Objects
from .planning import Planning
from .ports import Runtime
from .present import Look, Present
from .rebalancing import Rebalancing

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"}
Document = dict[str, Any]
INCIDENT_S = 60
UNPLANNED = ("useraccount", "analytics")
UNPLANNED_OPERATIONS = (("virtualservice", "capture"), ("serviceenginegroup", "rebalance"))
"""Requests with ways of their own, which make no plans."""
WELCOME = {"product": "Shoal", "api": "/api", "console": "comes in a later release"}


class Dependencies(msgspec.Struct, kw_only=True):
    view: View
    intent: Intent
    registry: Registry
    accounts: Accounts
    runtime: Runtime
    metrics: Metrics | None = None
    """What was measured; None = nothing is."""


class App:
    """``await app(scope, receive, send)``. ``now`` gives the seconds that sessions age by."""

    def __init__(self, deps: Dependencies, now: Callable[[], float] = time.monotonic) -> None:
        self._view = deps.view
        self._registry = deps.registry
        self._runtime = deps.runtime
        self._intent = deps.intent
        self._trail = deps.intent.trail
        self._present = Present(deps.view, deps.registry)
        self._login = Login(deps.view, deps.registry, deps.accounts, self._present, now)
        self._planning = Planning(deps.runtime.plans(deps.intent))
        self._objects = Objects(deps.view, deps.registry, deps.intent, deps.runtime, self._present, self._planning)
        self._rebalancing = Rebalancing(deps.intent, deps.runtime)
        self._inventory = Inventory(deps.view, deps.registry, deps.runtime, self._present)
        self._metrics = deps.metrics or Metrics(SystemClock())
        self._analytics = Analytics(self._metrics, self._objects, deps.registry, self._present)
        self._capturing = Capturing(deps.view, deps.registry, deps.intent, deps.runtime)
        self._open: dict[str, Callable[[Request], object]] = {
            "": lambda request: WELCOME,
            "/api/initial-data": self._login.about,
            "/api/cluster/status": lambda request: self._runtime.cluster_status(),
            "/api/cluster/runtime": lambda request: self._runtime.cluster_runtime(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        if scope["type"] != "http":
            return
        response = await self._answer(Request(scope, receive))
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
            return unexpected(error, f"{request.method} {path_of(request)[:200]!r}")

    async def _route(self, request: Request) -> Response:
        path = path_of(request)
        if path == "/login":
            return await self._login.login(request)
        if path == "/logout":
            return self._login.logout(request)
        if path in self._open:
            if request.method not in ("GET", "HEAD"):
                raise method_not_allowed(request.method, path or "/", "GET")
            return json_response(self._open[path](request))
        if path == "/metrics":
            return await self._prometheus(await self._context(request, path))
        if not path.startswith("/api/"):
            raise NotFound(f"There is nothing at {path[:120]!r}.", hint="The API is under /api.")
        context = await self._context(request, path)
        try:
            response = await self._api(context, path.removeprefix("/api/").split("/"))
        except ShoalError as error:
            response = refusal(error)
        return context.dress(response)

    async def _context(self, request: Request, path: str) -> Context:
        user, session_id = await self._login.user(request)
        version = version_of(request)
        tenant, every = self._tenant(request)
        query = query_of(request)
        look = Look(
            host=host_of(request),
            version=version,
            names=request.method not in READ_METHODS or "include_name" in query,
            skip_default="skip_default" in query,
            secrets=request.method != "POST",
        )
        address = request.client.host if request.client else ""
        return Context(
            request=request,
            path=path,
            query=query,
            look=look,
            caller=Caller(user=user, tenant=tenant, address=address, version=version),
            all_tenants=every,
            session_id=session_id,
        )

    def _tenant(self, request: Request) -> tuple[str, bool]:
        """(the tenant's uuid, whether all tenants are meant)."""
        uuid = request.headers.get("x-avi-tenant-uuid", "")
        name = request.headers.get("x-avi-tenant", "") or ("" if uuid else "admin")
        if "*" in (name, uuid):
            return "admin", True
        for tenant in self._view.all("tenant"):
            if tenant["name"] == name or (not name and tenant["uuid"] == uuid):
                return tenant["uuid"], False
        raise NotFound(f"There is no tenant {(name or uuid)[:80]!r}.")

    async def _api(self, context: Context, steps: list[str]) -> Response:
        if steps[0] in UNPLANNED:
            self._planning.none(context)
        match steps:
            case ["cluster", "version"]:
                return json_response(VERSION)
            case ["useraccount"]:
                return await self._login.account(context)
            case ["whatif"]:
                return await self._whatif(context)
            case ["analytics", "logs"]:
                return await self._logs(context)
            case ["analytics", "incident"]:
                return await self._incident(context)
            case ["analytics", *rest]:
                return await self._analytics.answer(context, rest)
            case [word, *rest] if word.removesuffix("-inventory") in CONFIGS and word.endswith("-inventory"):
                return self._show_inventory(context, self._registry.type(word.removesuffix("-inventory")), rest)
        kind = self._kind(steps[0])
        match steps[1:]:
            case [] if kind.singleton:
                return await self._objects.singleton(context, kind)
            case [uuid] if kind.singleton:
                return await self._objects.singleton(context, kind, uuid)
            case []:
                return await self._objects.collection(context, kind)
            case [uuid]:
                return await self._objects.one(context, kind, uuid)
            case [uuid, *what]:
                return await self._below(context, kind, uuid, "/".join(what))
        raise NotFound(f"There is nothing at {context.path[:120]!r}.")

    def _kind(self, word: str) -> ObjectType:
        kind = self._registry.type(word)
        if not kind.endpoint or kind.endpoint != word.lower():
            raise NotFound(f"There is no object type {word[:80]!r}.")
        return kind

    async def _below(self, context: Context, kind: ObjectType, uuid: str, what: str) -> Response:
        """Runtime documents (GET) and operations (POST) of an object."""
        stored = self._objects.found(context, kind, uuid)
        if (kind.endpoint, what) in UNPLANNED_OPERATIONS:
            self._planning.none(context)
        if (kind.endpoint, what) == ("virtualservice", "capture"):
            return await self._capturing.answer(context, stored)
        if context.method == "POST" and (kind.endpoint, what) == ("serviceenginegroup", "rebalance"):
            return await self._rebalancing.answer(context, uuid)
        if context.reads:
            found = await self._runtime.look(kind.endpoint, uuid, what)
            return json_response(self._present.runtime(found, context.look))
        if context.method != "POST":
            raise method_not_allowed(context.method, what[:80], "GET, POST")
        data = await read_body(context.request)
        body = decode_object(data) if data.strip() else {}
        wish = Wish(method="POST", type=kind.endpoint, uuid=uuid, operation=what, body=body)
        if (plan := await self._planning.asked(context, wish)) is not None:
            return plan

        def operate(guard: Guard) -> Awaitable[Document]:
            return self._runtime.operate(kind.endpoint, uuid, what, body, context.caller, guard)

        answer = await self._planning.done(context, wish, operate)
        return json_response(self._present.runtime(answer, context.look))

    def _show_inventory(self, context: Context, kind: ObjectType, rest: list[str]) -> Response:
        if not context.reads:
            raise method_not_allowed(context.method, f"{kind.endpoint}-inventory", "GET")
        if rest:
            stored = self._objects.found(context, kind, "/".join(rest))
            return json_response(self._inventory.entry(kind, stored, context.look))
        page = self._objects.page(context, kind)
        entries = [self._inventory.entry(kind, stored, context.look) for stored in page.documents]
        return self._objects.envelope(context, page, entries)

    async def _prometheus(self, context: Context) -> Response:
        if not context.reads:
            raise method_not_allowed(context.method, "/metrics", "GET")

        def names(type: str) -> dict[str, str]:
            return {d["uuid"]: d["name"] for d in self._objects.seen(context, self._registry.type(type))}

        seen = prometheus.Names(names("serviceengine"), names("virtualservice"), names("pool"))
        text = await asyncio.to_thread(prometheus.text, self._metrics.counted(), seen)
        return Response(text, media_type=prometheus.CONTENT_TYPE)

    async def _incident(self, context: Context) -> Response:
        """``since``: seconds back; ``virtualservice``: a uuid or a name."""
        if not context.reads:
            raise method_not_allowed(context.method, "the timeline", "GET")
        seconds = number("since", context.query.get("since", str(INCIDENT_S)))
        wanted = context.query.get("virtualservice", "")
        uuid = ""
        if wanted:
            seen = self._objects.seen(context, self._registry.type("virtualservice"))
            uuid = next((d["uuid"] for d in seen if wanted in (d["uuid"], d["name"])), "")
            if not uuid:
                raise NotFound(f"There is no VirtualService {wanted[:80]!r}.")
        return json_response(await self._runtime.incident(seconds, uuid))

    async def _whatif(self, context: Context) -> Response:
        """Nothing is changed by asking: whoever may log in may."""
        if context.method != "POST":
            raise method_not_allowed(context.method, "whatif", "POST")
        data = await read_body(context.request)
        body = decode_object(data) if data.strip() else {}
        return json_response(await self._runtime.whatif(body, self._intent, context.caller))

    async def _logs(self, context: Context) -> Response:
        if not context.reads:
            raise method_not_allowed(context.method, "the event log", "GET")
        filters = log_filters(context.request, context.query)
        found: list[Document] = []
        if filters is not None:
            found = [*self._runtime.events(filters), *await self._trail.read(filters)]
            found.sort(key=lambda event: float(event["report_timestamp"]), reverse=True)
        page = listing.page(found, context.query, size_max=LOG_PAGE_SIZE_MAX)
        return json_response({"count": page.count, "results": page.documents, "percent_remaining": 0})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
