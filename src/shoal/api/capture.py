"""POST ``virtualservice/<uuid>/capture``: the answer is a file of packets that grows until it ends or nobody reads it.

The body is a DebugVirtualService (all members optional); without one the stored object of the virtual service's name
counts, else the defaults. ``?seconds=`` and ``?side=`` say what that model has no field for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal.controller.capture.wish import wish
from shoal.controller.intent import Intent
from shoal.controller.view import View
from shoal.objects import Registry, acts

from .context import Context
from .errors import method_not_allowed
from .limits import decode_object, read_body
from .ports import Runtime

Document = dict[str, Any]
SEND_WITHIN_S = 30.0
"""A reader that takes nothing for so long is gone."""
MEDIA_TYPES = {True: "application/x-pcapng", False: "application/vnd.tcpdump.pcap"}


class Capturing:
    def __init__(self, view: View, registry: Registry, intent: Intent, runtime: Runtime) -> None:
        self._view = view
        self._kind = registry.type("debugvirtualservice")
        self._intent = intent
        self._runtime = runtime

    async def answer(self, context: Context, service: Document) -> Response:
        """Raises Invalid, Refused; all that can be refused is so before the file begins."""
        if context.method != "POST":
            raise method_not_allowed(context.method, "a capture", "POST")
        data = await read_body(context.request)
        document = self._document(context, service, decode_object(data) if data.strip() else None)
        wanted = wish(document, context.query)
        pieces = self._runtime.capture(service["uuid"], wanted)
        first = await anext(pieces)
        try:
            await self._intent.note("virtualservice", service["uuid"], "CAPTURE", wanted.said(), context.caller)
        except BaseException:
            await pieces.aclose()
            raise
        return Stream(first, pieces, MEDIA_TYPES[wanted.pcapng])

    def _document(self, context: Context, service: Document, body: Document | None) -> Document:
        if body is None:
            stored = (d for d in self._view.all(self._kind.endpoint) if d["name"] == service["name"])
            own = (d for d in stored if d.get("tenant_ref") == service.get("tenant_ref"))
            return next(own, None) or self._kind.validate({"name": service["name"]})
        document = self._kind.validate({**body, "name": service["name"]}, version=context.look.version)
        asked = {name: value for name, value in document.items() if name not in ("name", "capture")}
        context.warnings += acts.warnings(self._kind, asked, None, self._view.name_of)
        return document


class Stream(Response):
    """Sends pieces as they come, and closes them at the end, at the latest when the client has gone."""

    def __init__(self, first: bytes, pieces: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._first = first
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending):
                task.cancel()
            results = await asyncio.gather(sending, return_exceptions=True)
        if isinstance(results[0], Exception) and not isinstance(results[0], TimeoutError | OSError):
            raise results[0]

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._pieces):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._piece(send, self._first)
            async for data in self._pieces:
                await self._piece(send, data)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _piece(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(SEND_WITHIN_S):
            await send({"type": "http.response.body", "body": data, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
