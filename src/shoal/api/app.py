"""The REST face: one pure ASGI application with few, generic routes (reference: api.md).

::

    app        the table of routes, faults          routes     how a path finds its answer
    gate       who may, and what is shown to whom   login      sessions, cookies, passwords
    objects    create, read, replace, patch, delete listing    filters, order, pages
    inventory  dashboards' entries, the event log   present    documents as a client sees them
    metrics    measured history                     prometheus totals for a scraper
    capture    packets, as they come                planning   ?plan=true, ?apply=
    configuration  all of it, out and in            web        the console's files
    uploading  files about addresses
    console    what only the console reads          stream     what has changed, as it changes
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal.controller.access import Access
from shoal.controller.accounts import Accounts
from shoal.controller.addresses.uploads import Uploads
from shoal.controller.backup.kept import Backups
from shoal.controller.client_logs import ClientLogStore
from shoal.controller.clock import SystemClock
from shoal.controller.fine_history import FineHistory
from shoal.controller.health_scores import HealthScores
from shoal.controller.intent import Caller, Guard, Intent
from shoal.controller.journal import Journal
from shoal.controller.metrics import Metrics
from shoal.controller.permissions import Rights, of_type
from shoal.controller.plans import Wish
from shoal.controller.sight import ADMIN, Sight
from shoal.controller.signin.methods import Methods
from shoal.controller.signin.provider import Provider
from shoal.controller.view import View
from shoal.errors import Forbidden, NotFound, ShoalError
from shoal.objects import ObjectType, Registry

from . import openapi, prometheus
from .capture import Capturing
from .configuration import Configuration
from .console import Console
from .context import READ_METHODS, Context, address_of, check_origin, host_of, path_of, query_of, version_of
from .errors import json_response, method_not_allowed, refusal, unexpected
from .gate import Gate
from .health import Health
from .inventory import CONFIGS, Inventory, number
from .limits import CONFIGURATION_WITHIN_S, REQUEST_WITHIN_S, decode_object, read_body
from .login import VERSION, Login
from .logs import Logs
from .metrics import Analytics
from .objects import Objects
from .planning import Planning
from .ports import Runtime
from .present import Look, Present
from .rates import (
    LOGINS_AT_ONCE,
    LOGINS_PER_S,
    REQUESTS_AT_ONCE,
    REQUESTS_PER_S,
    RIGHT_LOGINS_COST,
    Rates,
)
from .rebalancing import Rebalancing
from .routes import Route, Router, Shows
from .signin import BACK, BEGIN, SignIn
from .stream import Streams
from .upgrading import Upgrading
from .uploading import Uploading
from .web import Web

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Strict-Transport-Security": "max-age=31536000",
}
GET, POST = ("GET",), ("POST",)
ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
Document = dict[str, Any]
INCIDENT_S = 60
LOGINS = "logins from this address"
UNPLANNED = ("useraccount", "analytics", "macro", "configuration")
UNPLANNED_OPERATIONS = (("virtualservice", "capture"), ("serviceenginegroup", "rebalance"))
"""Requests with ways of their own, which make no plans."""
UPLOAD = "/api/fileobject/upload"
LONG = ("/api/configuration/", "/api/changes", UPLOAD)
"""Requests that may take long."""
NOT_BUILT = "not built here: scripts/setup builds it"
WELCOME = {"product": "Shoal", "api": "/api"}


class Dependencies(msgspec.Struct, kw_only=True):
    view: View
    intent: Intent
    registry: Registry
    accounts: Accounts
    runtime: Runtime
    metrics: Metrics | None = None
    """What was measured; None = nothing is."""
    history: FineHistory | None = None
    """Its finest step beyond what is in memory."""
    client_logs: ClientLogStore | None = None
    """None = none are kept."""
    journal: Journal | None = None
    backups: Backups | None = None
    uploads: Uploads | None = None


class App:
    """``await app(scope, receive, send)``. ``now`` gives the seconds that sessions age by."""

    def __init__(
        self, deps: Dependencies, now: Callable[[], float] = time.monotonic, rates: Rates | None = None
    ) -> None:
        self._rates = rates or Rates(time.monotonic)
        self._view = deps.view
        self._registry = deps.registry
        self._runtime = deps.runtime
        self._intent = deps.intent
        self._present = Present(deps.view, deps.registry)
        self._login = Login(deps.view, deps.registry, deps.accounts, self._present, now)
        provider = Provider(deps.accounts.now)
        methods = Methods(deps.view, deps.intent, provider)
        deps.accounts.methods = methods
        self._signin = SignIn(methods, self._login)
        self._planning = Planning(deps.runtime.plans(deps.intent), deps.view)
        self._objects = Objects(deps.view, deps.registry, deps.intent, deps.runtime, self._present, self._planning)
        self._rebalancing = Rebalancing(deps.intent, deps.runtime)
        self._upgrading = Upgrading(deps.view, deps.runtime)
        self._metrics = deps.metrics or Metrics(SystemClock())
        scores = HealthScores(self._metrics, deps.view, deps.runtime, SystemClock())
        self._health = Health(scores, self._objects, deps.registry)
        self._inventory = Inventory(deps.view, deps.registry, deps.runtime, self._present, scores)
        journal = deps.journal or Journal(None, SystemClock())
        self._logs = Logs(deps.client_logs, journal, self._objects, deps.registry)
        history = deps.history or FineHistory(None, self._metrics)
        self._analytics = Analytics(self._metrics, history, self._objects, deps.registry, self._present)
        self._configuration = Configuration(deps.intent, deps.view, deps.runtime, deps.backups)
        self._capturing = Capturing(deps.view, deps.registry, deps.intent, deps.runtime)
        self._uploading = Uploading(deps.uploads, deps.registry, self._present)
        self._console = Console(self._objects, deps.registry, deps.runtime)
        self._streams = Streams(deps.view, deps.runtime.pulse)
        self._web = Web()
        self._open: dict[str, Callable[[Request], object]] = {
            "": lambda request: {**WELCOME, "console": "open / in a browser" if self._web.built else NOT_BUILT},
            "/api/initial-data": self._login.about,
            "/api/openapi.json": self._described,
            "/api/cluster/status": lambda request: self._runtime.cluster_status(),
            "/api/cluster/runtime": lambda request: self._runtime.cluster_runtime(),
        }
        """Readable without login: they tell of no object."""
        self.router = Router(self._routes())
        self._gate = Gate(deps.registry)

    def _routes(self) -> Iterator[Route]:
        """Every path for those who are logged in. The first that fits answers."""
        yield Route(methods=GET, path="/metrics", answer=self._prometheus, shows=Shows.OWN, needs="-")
        yield Route(methods=GET, path="/api/cluster/version", answer=self._version, shows=Shows.NOTHING, needs="-")
        mine = Shows.SELF
        yield Route(methods=("GET", "PUT"), path="/api/useraccount", answer=self._login.account, shows=mine, needs="-")
        yield Route(methods=("GET", "POST"), path="/api/user-token", answer=self._login.tokens, shows=mine, needs="-")
        yield Route(
            methods=("DELETE",), path="/api/user-token/{token}", answer=self._login.token, shows=mine, needs="-"
        )
        trees = ("POST", "PUT", "DELETE")
        yield Route(methods=trees, path="/api/macro", answer=self._objects.macro, shows=Shows.OWN, needs="-")
        yield Route(methods=POST, path="/api/changes", answer=self._objects.changes, shows=Shows.OWN, needs="-")
        whole = self._configuration
        for methods, answer in ((GET, whole.masked), (POST, whole.sealed)):
            yield Route(methods=methods, path="/api/configuration/export", answer=answer, shows=Shows.ALL, needs="*")
        yield Route(methods=POST, path="/api/configuration/import", answer=whole.taken_over, shows=Shows.ALL, needs="*")
        backups = "/api/configuration/backup"
        yield Route(methods=POST, path=backups, answer=whole.backup, shows=Shows.ALL, needs="*")
        yield Route(methods=GET, path=backups + "/{file}", answer=whole.kept, shows=Shows.ALL, needs="*")
        for path, answer in (("opened", whole.opened), ("restore", whole.restored)):
            yield Route(methods=POST, path=f"/api/configuration/{path}", answer=answer, shows=Shows.ALL, needs="*")
        yield Route(methods=GET, path="/api/stream", answer=self._streams.answer, shows=Shows.NOTHING, needs="-")
        rows, schema = self._console.services, self._console.schema
        yield Route(
            methods=GET, path="/api/console/virtualservices", answer=rows, shows=Shows.OWN, needs="VIRTUALSERVICE"
        )
        yield Route(methods=GET, path="/api/console/schema/{type}", answer=schema, shows=Shows.NOTHING, needs="-")
        yield Route(
            methods=POST,
            path="/api/whatif",
            answer=self._whatif,
            shows=Shows.ALL,
            needs="SERVICEENGINEGROUP",
            writes=False,
        )
        yield Route(
            methods=POST,
            path="/api/upgrade",
            answer=self._upgrading.answer,
            shows=Shows.ALL,
            needs="SERVICEENGINEGROUP",
        )
        yield Route(methods=GET, path="/api/analytics/logs", answer=self._logs.answer, shows=Shows.OWN, needs="-")
        yield Route(
            methods=GET, path="/api/analytics/incident", answer=self._incident, shows=Shows.ALL, needs="SERVICEENGINE"
        )
        scores = "/api/analytics/healthscore/{kind}"
        yield Route(methods=GET, path=scores, answer=self._health.of_type, shows=Shows.OWN, needs="-")
        yield Route(methods=GET, path=scores + "/{uuid}", answer=self._health.of_entity, shows=Shows.OWN, needs="-")
        measured = self._analytics
        yield Route(
            methods=GET, path="/api/analytics/metric_id", answer=measured.listed, shows=Shows.NOTHING, needs="-"
        )
        yield Route(
            methods=POST,
            path="/api/analytics/metrics/collection",
            answer=measured.collection,
            shows=Shows.OWN,
            needs="-",
        )
        yield Route(
            methods=GET, path="/api/analytics/metrics/{kind}", answer=measured.of_type, shows=Shows.OWN, needs="-"
        )
        yield Route(
            methods=GET,
            path="/api/analytics/metrics/{kind}/{uuid}",
            answer=measured.of_entity,
            shows=Shows.OWN,
            needs="-",
        )
        for type in CONFIGS:
            inventory = f"/api/{type}-inventory"
            kind = self._registry.type(type)
            yield Route(
                methods=GET,
                path=inventory,
                answer=partial(self._inventories, kind=kind),
                shows=Shows.OWN,
                needs=of_type(type),
            )
            one = partial(self._inventory_of, kind=kind)
            yield Route(methods=GET, path=inventory + "/{uuid}", answer=one, shows=Shows.OWN, needs=of_type(type))
        yield Route(methods=POST, path=UPLOAD, answer=self._uploading.answer, shows=Shows.OWN, needs="FILE_OBJECT")
        yield Route(methods=ANY, path="/api/{type}", answer=self._collection, shows=Shows.OWN)
        yield Route(methods=ANY, path="/api/{type}/{uuid}", answer=self._one, shows=Shows.OWN)
        yield Route(methods=("GET", "POST"), path="/api/{type}/{uuid}/{what...}", answer=self._below, shows=Shows.OWN)

    def _described(self, request: Request) -> object:
        return openapi.described(self._registry, self.router.routes, self._runtime.below())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        if scope["type"] != "http":
            return
        response = await self._answer(Request(scope, receive))
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        whole = path_of(request).startswith(LONG)
        within_s = CONFIGURATION_WITHIN_S if whole else REQUEST_WITHIN_S
        try:
            async with asyncio.timeout(within_s):
                return await self._route(request)
        except ShoalError as error:
            return refusal(error)
        except TimeoutError:
            return json_response({"error": f"Not answered within {within_s:.0f} s. Try again."}, 503)
        except Exception as error:  # a fault of ours must not show its insides
            return unexpected(error, f"{request.method} {path_of(request)[:200]!r}")

    async def _route(self, request: Request) -> Response:
        path = path_of(request)
        self._limit("requests from this address", address_of(request))
        check_origin(request)
        page = self._web.answer(request)
        if page is not None:
            return page
        if path == "/login":
            self._limit_logins(request)
            answer = await self._login.login(request)  # raises when it is refused
            self._rates.give_back(LOGINS, address_of(request), 1 - RIGHT_LOGINS_COST)
            return answer
        if path in (BEGIN, BACK):
            self._limit_logins(request)
            return await self._signin.answer(request, path)
        if path == "/logout":
            return self._login.logout(request)
        if path in self._open:
            if request.method not in ("GET", "HEAD"):
                raise method_not_allowed(request.method, path or "/", "GET")
            return json_response(self._open[path](request))
        if not path.startswith(("/api/", "/metrics")):
            raise NotFound(f"There is nothing at {path[:120]!r}.", hint="The API is under /api.")
        context = await self._context(request, path)
        try:
            match = self.router.match(request.method, path)
            self._gate.admit(context, match)
            if not context.reads and (path == UPLOAD or path.partition("/api/")[2].partition("/")[0] in UNPLANNED):
                self._planning.none(context)
            response = await match.route.answer(context, **match.steps)
        except ShoalError as error:
            response = refusal(error)
        return context.dress(response)

    def _limit_logins(self, request: Request) -> None:
        """Raises TooMany."""
        self._rates.take(LOGINS, address_of(request), LOGINS_PER_S, LOGINS_AT_ONCE)

    def _limit(self, kind: str, who: str) -> None:
        """Raises TooMany. What is configured counts, where it says anything."""
        properties: Document = next(iter(self._view.all("controllerproperties")), {})
        per_s = properties.get("portal_request_rate_limit") or REQUESTS_PER_S
        at_once = properties.get("portal_request_burst_limit") or max(per_s, REQUESTS_AT_ONCE * per_s / REQUESTS_PER_S)
        self._rates.take(kind, who, per_s, at_once)

    async def _context(self, request: Request, path: str) -> Context:
        if request.headers.get("authorization", "").lower().startswith("basic "):
            self._limit_logins(request)
        known = await self._login.known(request)
        self._limit("requests of this user", known.user["uuid"])
        version = version_of(request)
        access = Access(self._view, known.user)
        tenant, every = self._tenant(request, access)
        query = query_of(request)
        rights = access.rights(tenant, every=every)
        provider = tenant == ADMIN and access.everywhere
        sight = Sight(tenant=tenant, every=every, provider=provider, unread=self._unread(rights))
        look = Look(
            host=host_of(request),
            version=version,
            names=request.method not in READ_METHODS or "include_name" in query,
            skip_default="skip_default" in query,
            secrets=request.method != "POST",
            sight=sight,
        )
        caller = Caller(
            user=known.user["name"],
            tenant=tenant,
            sight=sight,
            rights=rights,
            address=address_of(request),
            version=version,
        )
        return Context(
            request=request,
            path=path,
            query=query,
            look=look,
            caller=caller,
            known=known,
        )

    def _tenant(self, request: Request, access: Access) -> tuple[str, bool]:
        """(the tenant's uuid, whether all tenants are meant). One that the user may not enter is like none at all."""
        uuid = request.headers.get("x-avi-tenant-uuid", "")
        name = request.headers.get("x-avi-tenant", "")
        if "*" in (name, uuid):
            if not access.everywhere:
                raise Forbidden("All tenants at once are open to users who may enter each.", hint="Name a tenant.")
            return ADMIN, True
        if not name and not uuid:
            return access.home(), False
        for tenant in self._view.all("tenant"):
            if (tenant["name"] == name or (not name and tenant["uuid"] == uuid)) and access.enters(tenant["uuid"]):
                return tenant["uuid"], False
        raise NotFound(f"There is no tenant {(name or uuid)[:80]!r}.")

    def _unread(self, rights: Rights) -> frozenset[str]:
        """The types that may not be read."""
        if rights.whole:
            return frozenset()
        return frozenset(type for type in self._registry.types if not rights.reads(type))

    async def _version(self, context: Context) -> Response:
        return json_response(VERSION)

    async def _collection(self, context: Context, type: str) -> Response:
        kind = self._kind(type)
        if kind.singleton:
            return await self._objects.singleton(context, kind)
        return await self._objects.collection(context, kind)

    async def _one(self, context: Context, type: str, uuid: str) -> Response:
        kind = self._kind(type)
        if kind.singleton:
            return await self._objects.singleton(context, kind, uuid)
        return await self._objects.one(context, kind, uuid)

    def _kind(self, word: str) -> ObjectType:
        kind = self._registry.type(word)
        if not kind.endpoint or kind.endpoint != word.lower():
            raise NotFound(f"There is no object type {word[:80]!r}.")
        return kind

    async def _below(self, context: Context, type: str, uuid: str, what: str) -> Response:
        """Runtime documents (GET) and operations (POST) of an object."""
        kind = self._kind(type)
        stored = self._objects.inside(context, kind, uuid)
        if not context.reads:
            self._objects.writable(context, kind, stored)
        if (kind.endpoint, what) in UNPLANNED_OPERATIONS:
            self._planning.none(context)
        if (kind.endpoint, what) == ("virtualservice", "capture"):
            return await self._capturing.answer(context, stored)
        if context.method == "POST" and (kind.endpoint, what) == ("serviceenginegroup", "rebalance"):
            return await self._rebalancing.answer(context, uuid)
        if context.reads:
            found = await self._runtime.look(kind.endpoint, uuid, what)
            return json_response(self._present.runtime(found, context.look))
        data = await read_body(context.request)
        body = decode_object(data) if data.strip() else {}
        wish = Wish(method="POST", type=kind.endpoint, uuid=uuid, operation=what, body=body)
        if (plan := await self._planning.asked(context, wish)) is not None:
            return plan

        def operate(guard: Guard) -> Awaitable[Document]:
            return self._runtime.operate(kind.endpoint, uuid, what, body, context.caller, guard)

        answer = await self._planning.done(context, wish, operate)
        return json_response(self._present.runtime(answer, context.look))

    async def _inventories(self, context: Context, kind: ObjectType) -> Response:
        page = self._objects.page(context, kind)
        entries = [self._inventory.entry(kind, stored, context.look) for stored in page.documents]
        return self._objects.envelope(context, page, entries)

    async def _inventory_of(self, context: Context, kind: ObjectType, uuid: str) -> Response:
        return json_response(self._inventory.entry(kind, self._objects.found(context, kind, uuid), context.look))

    async def _prometheus(self, context: Context) -> Response:
        def seen(type: str) -> list[Document]:
            return self._objects.seen(context, self._registry.type(type))

        def names(type: str) -> dict[str, str]:
            return {d["uuid"]: d["name"] for d in seen(type)}

        inside = {d["uuid"] for d in seen("serviceengine") if context.sight.sees_inside("serviceengine", d)}
        known = prometheus.Names(names("serviceengine"), names("virtualservice"), names("pool"), inside)
        text = await asyncio.to_thread(prometheus.text, self._metrics.counted(), known)
        return Response(text, media_type=prometheus.CONTENT_TYPE)

    async def _incident(self, context: Context) -> Response:
        """``since``: seconds back; ``virtualservice``: a uuid or a name."""
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
        """Nothing is changed by asking."""
        data = await read_body(context.request)
        body = decode_object(data) if data.strip() else {}
        return json_response(await self._runtime.whatif(body, self._intent, context.caller))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
