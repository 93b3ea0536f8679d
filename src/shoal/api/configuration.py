"""``/api/configuration/...``: the whole configuration out, and in. For superusers; over all tenants.

::

    GET  export                                            secrets masked
    POST export  {"passphrase"}                            secrets sealed by it
    POST import  {"configuration", "passphrase", "apply",  what would come of it; with ``apply`` true it is done,
                  "disabled"}                              with ``disabled`` virtual services are not switched on
    POST backup  {"passphrase"}                            a sealed file of everything
    POST backup  {"backup_config"}                         one is kept here, as that BackupConfiguration says
    GET  backup/<file name>                                a kept one
    POST opened  {"backup", "passphrase"}                  what is in a sealed file (base64); nothing is written
    POST restore {"backup", "passphrase"}                  it takes the place of everything: the controller begins anew
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from starlette.responses import Response

from shoal.controller.backup.kept import Backups
from shoal.controller.intent import Intent
from shoal.controller.transfer.export import exported
from shoal.controller.transfer.sealing import Sealing
from shoal.controller.view import View
from shoal.errors import Invalid, NotReady, Problem
from shoal.objects.check import kind_of

from .context import Context
from .errors import json_response
from .limits import decode_object, read_body
from .ports import Runtime

IMPORT_BYTES_MAX = 64_000_000
MEMBERS = {
    "export": ("passphrase",),
    "import": ("configuration", "passphrase", "apply", "disabled"),
    "backup": ("passphrase", "backup_config"),
    "opened": ("backup", "passphrase"),
    "restore": ("backup", "passphrase"),
}
REQUIRED = {"import": ("configuration",), "opened": ("backup", "passphrase"), "restore": ("backup", "passphrase")}
TYPES = {
    "configuration": (dict, "an object"),
    "passphrase": (str, "a string"),
    "apply": (bool, "true or false"),
    "disabled": (bool, "true or false"),
    "backup_config": (str, "a name"),
    "backup": (str, "base64"),
}
SEALED = "application/octet-stream"
Document = dict[str, Any]


class Configuration:
    def __init__(self, intent: Intent, view: View, runtime: Runtime, backups: Backups | None) -> None:
        self._intent = intent
        self._view = view
        self._runtime = runtime
        self._backups = backups

    async def masked(self, context: Context) -> Response:
        return json_response(exported(self._intent, self._view))

    async def sealed(self, context: Context) -> Response:
        words = (await self._body(context, "export")).get("passphrase", "")
        sealing = await Sealing.begun(words) if words else None
        return json_response(exported(self._intent, self._view, sealing))

    async def taken_over(self, context: Context) -> Response:
        body = await self._body(context, "import")
        importing = self._runtime.importing(self._intent)
        wishes = {"apply": body.get("apply", False), "disabled": body.get("disabled", False)}
        words = body.get("passphrase", "")
        return json_response(await importing.answer(body["configuration"], context.caller, words, **wishes))

    async def backup(self, context: Context) -> Response:
        body = await self._body(context, "backup")
        if ("passphrase" in body) == ("backup_config" in body):
            raise Invalid([Problem(path="passphrase", why="or backup_config is required, one of them")])
        if "backup_config" in body:
            return json_response(await self._kept().keep(body["backup_config"]), 201)
        return Response(await self._kept().handed(body["passphrase"]), media_type=SEALED)

    async def kept(self, context: Context, file: str) -> Response:
        return Response(await self._kept().read(file), media_type=SEALED)

    async def opened(self, context: Context) -> Response:
        return json_response(await self._kept().opened(*await self._sealed(context, "opened")))

    async def restored(self, context: Context) -> Response:
        by = f"{context.caller.user} from {context.caller.address}"
        return json_response(await self._kept().restore(*await self._sealed(context, "restore"), by), 202)

    async def _sealed(self, context: Context, what: str) -> tuple[bytes, str]:
        """A backup, and its passphrase."""
        body = await self._body(context, what)
        try:
            return await asyncio.to_thread(base64.b64decode, body["backup"], validate=True), body["passphrase"]
        except ValueError:
            raise Invalid([Problem(path="backup", why="must be the file in base64")]) from None

    def _kept(self) -> Backups:
        if self._backups is None:
            raise NotReady("This controller keeps no backups.")
        return self._backups

    async def _body(self, context: Context, what: str) -> Document:
        data = await read_body(context.request, IMPORT_BYTES_MAX)
        body = await asyncio.to_thread(decode_object, data)
        problems = [Problem(path=str(m)[:60], why="unknown member") for m in body if m not in MEMBERS[what]]
        for member, (type, name) in TYPES.items():
            if member in MEMBERS[what] and member in body and not isinstance(body[member], type):
                problems.append(Problem(path=member, why=f"must be {name}, not {kind_of(body[member])}"))
        problems += [
            Problem(path=member, why="required, and missing") for member in REQUIRED.get(what, ()) if member not in body
        ]
        if problems:
            raise Invalid(problems)
        return body
