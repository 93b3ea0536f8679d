"""Objects of every type: create, list, read, replace, patch, delete (reference: api.md 4, 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
from starlette.responses import Response

from shoal.controller import changes, macro
from shoal.controller.bodies import check_identity, keep_unseen
from shoal.controller.intent import Caller, Guard, Intent, Written
from shoal.controller.patch import SETTING
from shoal.controller.plans import Wish
from shoal.controller.runtime import BESIDE
from shoal.controller.view import View
from shoal.errors import Forbidden, NotFound
from shoal.objects import ObjectType, Registry
from shoal.objects.views import uuid_of

from . import listing
from .context import Context, ascii_text
from .errors import json_response, method_not_allowed
from .limits import CHANGES_BYTES_MAX, decode_object, read_body
from .planning import Planning
from .ports import Runtime
from .present import Present

Document = dict[str, Any]


class Objects:
    def __init__(
        self, view: View, registry: Registry, intent: Intent, runtime: Runtime, present: Present, planning: Planning
    ) -> None:
        self._view = view
        self._registry = registry
        self._intent = intent
        self._runtime = runtime
        self._present = present
        self._planning = planning

    # --- what a caller sees ---

    def found(self, context: Context, kind: ObjectType, uuid: str) -> Document:
        """The stored object. Raises NotFound, also for what belongs to another tenant."""
        document = self._view.get(kind.endpoint, uuid)
        if document is None or not context.sight.sees(kind.endpoint, document):
            raise NotFound(f"There is no {kind.name} {uuid[:80]!r}.")
        return document

    def seen(self, context: Context, kind: ObjectType) -> list[Document]:
        """All stored objects of the type that the caller sees."""
        return context.sight.seen(kind.endpoint, self._view.all(kind.endpoint))

    def inside(self, context: Context, kind: ObjectType, uuid: str) -> Document:
        """The stored object, of which more is shown than its configuration. Raises NotFound, and Forbidden where that
        would tell of other tenants."""
        document = self.found(context, kind, uuid)
        if not context.sight.sees_inside(kind.endpoint, document):
            raise Forbidden(
                f"What runs on {kind.name} {document.get('name', uuid)} is shown to its own tenant only.",
                hint="Look from tenant admin, as a user who may see all tenants.",
            )
        return document

    def page(self, context: Context, kind: ObjectType) -> listing.Page:
        """The page of stored objects that the query asks for."""
        selection = listing.Selection(self._view, self._registry, kind, context.query, context.sight)
        context.warnings += selection.warnings()
        selected = selection.apply(self.seen(context, kind))
        if "name" in context.query and not context.sight.every:
            # A tenant's own object hides admin's of the same name: clients demand at most one.
            own = [d for d in selected if uuid_of(d.get("tenant_ref", "")) == context.caller.tenant]
            selected = own or selected
        return listing.page(selected, context.query)

    def envelope(self, context: Context, page: listing.Page, results: list[Document]) -> Response:
        body: Document = {"count": page.count, "results": results}
        if page.next:
            body["next"] = f"https://{context.look.host}{context.path}?{page.next}"
        return json_response(body)

    def _shown(self, context: Context, kind: ObjectType, stored: Document) -> Document:
        # What is not asked for is not made.
        whole = self._present.document(kind, listing.fields(stored, context.query), context.look)
        inside = context.sight.sees_inside(kind.endpoint, stored)
        if inside and listing.asks(BESIDE, context.query):  # names of ten thousand objects are asked for often
            whole |= self._present.runtime(self._runtime.beside(kind.endpoint, stored["uuid"]), context.look)
        shown = listing.fields(whole, context.query)
        if inside and "runtime" in context.query.get("join_subresources", "").replace(" ", "").split(","):
            summary = self._runtime.summary(kind.endpoint, stored["uuid"])
            shown["runtime"] = self._present.runtime(summary, context.look)
        return shown

    # --- the routes ---

    async def collection(self, context: Context, kind: ObjectType) -> Response:
        if context.method == "POST":
            slug, body = context.request.headers.get("slug"), decode_object(await read_body(context.request))
            check_identity(kind, body)
            wish = Wish(method="POST", type=kind.endpoint, body=body, slug=slug)
            if (plan := await self._planning.asked(context, wish)) is not None:
                return plan

            def create(guard: Guard) -> Awaitable[Written]:
                return self._intent.create(kind.endpoint, body, context.caller, slug=slug, guard=guard)

            return self._written(context, kind, await self._planning.done(context, wish, create), 201)
        if not context.reads:
            raise method_not_allowed(context.method, f"the collection {kind.endpoint}", "GET, POST")
        context.warnings += listing.unknown_fields(kind, context.query)
        page = self.page(context, kind)
        return self.envelope(context, page, [self._shown(context, kind, stored) for stored in page.documents])

    async def one(self, context: Context, kind: ObjectType, uuid: str) -> Response:
        stored = self.found(context, kind, uuid)
        if context.reads:
            context.warnings += listing.unknown_fields(kind, context.query)
            return json_response(self._shown(context, kind, stored))
        if context.method == "DELETE":
            self.writable(context, kind, stored)
            wish = Wish(method="DELETE", type=kind.endpoint, uuid=uuid)
            if (plan := await self._planning.asked(context, wish)) is not None:
                return plan
            await self._planning.done(context, wish, lambda guard: self._delete(kind, uuid, context.caller, guard))
            return Response(None, 204, headers={"Content-Length": "0"}, media_type="application/json")
        return await self._change(context, kind, stored, "GET, PUT, PATCH, DELETE")

    async def _delete(self, kind: ObjectType, uuid: str, caller: Caller, guard: Guard) -> None:
        if kind.endpoint == "serviceengine":  # the controller made it, and removes it with all it is made of
            await self._runtime.remove_engine(uuid, guard)
            await self._intent.delete(kind.endpoint, uuid, msgspec.structs.replace(caller, system=True))
        else:
            await self._intent.delete(kind.endpoint, uuid, caller, guard=guard)

    async def singleton(self, context: Context, kind: ObjectType, uuid: str = "") -> Response:
        stored = next(iter(self._view.all(kind.endpoint)), None)
        if stored is None or uuid not in ("", stored["uuid"]):
            raise NotFound(f"There is nothing at {context.path[:120]!r}.")
        if context.reads:
            context.warnings += listing.unknown_fields(kind, context.query)
            return json_response(self._shown(context, kind, stored))
        return await self._change(context, kind, stored, "GET, PUT, PATCH")

    async def _change(self, context: Context, kind: ObjectType, stored: Document, allowed: str) -> Response:
        if context.method not in ("PUT", "PATCH"):
            raise method_not_allowed(context.method, kind.endpoint, allowed)
        self.writable(context, kind, stored)
        body = decode_object(await read_body(context.request))
        write = self._intent.replace if context.method == "PUT" else self._intent.patch
        if context.method == "PUT":
            check_identity(kind, body)
            keep_unseen(kind, stored, body, context.look.version)
        else:
            for operator in SETTING:
                check_identity(kind, body.get(operator), f"{operator}.")
        wish = Wish(method=context.method, type=kind.endpoint, uuid=stored["uuid"], body=body)
        if (plan := await self._planning.asked(context, wish)) is not None:
            return plan

        def change(guard: Guard) -> Awaitable[Written]:
            return write(kind.endpoint, stored["uuid"], body, context.caller, guard=guard)

        return self._written(context, kind, await self._planning.done(context, wish, change), 200)

    async def macro(self, context: Context) -> Response:
        """POST, PUT and DELETE of a whole tree of objects, in one transaction."""
        wanted = macro.tree(self._registry, decode_object(await read_body(context.request)))

        def may(kind: ObjectType, method: str, stored: Document | None) -> None:
            if stored is not None:
                if not context.sight.sees(kind.endpoint, stored):
                    raise NotFound(f"There is no {kind.name} {stored['uuid']}.")
                self.writable(context, kind, stored)

        async def write(intent: Intent, view: View) -> Written | None:
            door = macro.Macro(intent, view, context.caller, may)
            match context.method:
                case "POST":
                    return await door.create(wanted)
                case "PUT":
                    return await door.replace(wanted)
            await door.delete(wanted)
            return None

        written = await self._intent.together(write)
        if written is None:
            return Response(None, 204, headers={"Content-Length": "0"}, media_type="application/json")
        return self._written(context, wanted.kind, written, 201 if context.method == "POST" else 200)

    async def changes(self, context: Context) -> Response:
        """POST of several writes, made together: each one's object, or null for a deletion, in their order."""
        data = await read_body(context.request, CHANGES_BYTES_MAX)
        body = await asyncio.to_thread(decode_object, data)
        wish = changes.wish(self._registry, self._view, body)
        if (plan := await self._planning.asked(context, wish)) is not None:
            return plan

        def make(guard: Guard) -> Awaitable[list[Written | None]]:
            return changes.Changes(self._intent).made(wish.parts, context.caller, guard)

        results: list[Document | None] = []
        for part, written in zip(wish.parts, await self._planning.done(context, wish, make), strict=True):
            if written is None:
                results.append(None)
                continue
            context.warnings += (f"{part.type} {written.doc.get('name', '')}: {one}" for one in written.warnings)
            results.append(self._present.document(self._registry.type(part.type), written.doc, context.look))
        return json_response({"results": results})

    def writable(self, context: Context, kind: ObjectType, stored: Document) -> None:
        owner = uuid_of(stored.get("tenant_ref", ""))
        if kind.tenant_scoped and not context.sight.every and owner not in (context.caller.tenant, ""):
            name = (self._view.get("tenant", owner) or {}).get("name", owner)
            raise Forbidden(f"This {kind.name} belongs to tenant {name}.", hint=f"Send X-Avi-Tenant: {name}.")

    def _written(self, context: Context, kind: ObjectType, written: Written, status: int) -> Response:
        context.warnings += written.warnings
        body = self._present.document(kind, written.doc, context.look)
        response = json_response(body, status)
        if status == 201:
            response.headers["Location"] = ascii_text(body["url"])
        return response
