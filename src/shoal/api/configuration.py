"""``/api/configuration/...``: the whole configuration out, and in. For superusers; over all tenants.

::

    GET  export                                            secrets masked
    POST export  {"passphrase"}                            secrets sealed by it
    POST import  {"configuration", "passphrase", "apply"}  what would come of it; with ``apply`` true it is done
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from shoal.controller.intent import Intent
from shoal.controller.transfer.export import exported
from shoal.controller.transfer.sealing import Sealing
from shoal.controller.view import View
from shoal.errors import Invalid, Problem
from shoal.objects.check import kind_of

from .context import Context
from .errors import json_response
from .limits import decode_object, read_body
from .ports import Runtime

IMPORT_BYTES_MAX = 64_000_000
MEMBERS = {"export": ("passphrase",), "import": ("configuration", "passphrase", "apply")}
Document = dict[str, Any]


class Configuration:
    def __init__(self, intent: Intent, view: View, runtime: Runtime) -> None:
        self._intent = intent
        self._view = view
        self._runtime = runtime

    async def masked(self, context: Context) -> Response:
        return json_response(exported(self._intent, self._view))

    async def sealed(self, context: Context) -> Response:
        words = (await self._body(context, "export")).get("passphrase", "")
        sealing = await Sealing.begun(words) if words else None
        return json_response(exported(self._intent, self._view, sealing))

    async def taken_over(self, context: Context) -> Response:
        body = await self._body(context, "import")
        importing = self._runtime.importing(self._intent)
        words, apply = body.get("passphrase", ""), body.get("apply", False)
        return json_response(await importing.answer(body["configuration"], context.caller, words, apply=apply))

    async def _body(self, context: Context, what: str) -> Document:
        data = await read_body(context.request, IMPORT_BYTES_MAX)
        body = await asyncio.to_thread(decode_object, data)
        problems = [Problem(path=str(m)[:60], why="unknown member") for m in body if m not in MEMBERS[what]]
        for member, type, name in (
            ("configuration", dict, "an object"),
            ("passphrase", str, "a string"),
            ("apply", bool, "true or false"),
        ):
            if member in MEMBERS[what] and member in body and not isinstance(body[member], type):
                problems.append(Problem(path=member, why=f"must be {name}, not {kind_of(body[member])}"))
        if what == "import" and "configuration" not in body:
            problems.append(Problem(path="configuration", why="required, and missing"))
        if problems:
            raise Invalid(problems)
        return body
