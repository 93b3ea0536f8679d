"""``POST /api/fileobject/upload``: a file, with its name and type, as a form (RFC 7578)."""

from __future__ import annotations

import asyncio
from email.message import Message

from starlette.responses import Response

from shoal.controller.addresses.uploads import FORM, Uploads
from shoal.errors import Invalid, NotReady, Problem, TooMany
from shoal.objects import Registry

from .context import Context, ascii_text
from .errors import json_response
from .limits import read_body
from .present import Present

FILE_BYTES_MAX = 48_000_000
AT_ONCE_MAX = 1
"""Each takes memory and a core for a while."""
FIELD_BYTES_MAX = 2_000
MULTIPART = "multipart/form-data"
HINT = "For example: curl -F file=@country.mmdb -F name=countries -F type=GEO_DB."


class Uploading:
    def __init__(self, uploads: Uploads | None, registry: Registry, present: Present) -> None:
        self._uploads = uploads
        self._kind = registry.type("fileobject")
        self._present = present
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)

    async def answer(self, context: Context) -> Response:
        if self._uploads is None:
            raise NotReady("This controller takes no files.")
        if self._turn.locked():
            raise TooMany("Another file is being read.", hint="Wait until it is there.", retry_after_s=10)
        async with self._turn:
            data = await read_body(context.request, FILE_BYTES_MAX)
            form, file = await asyncio.to_thread(form_of, data, context.request.headers.get("content-type", ""))
            written = await self._uploads.take(form, file, context.caller)
        context.warnings += written.warnings
        body = self._present.document(self._kind, written.doc, context.look)
        response = json_response(body, 201 if written.created else 200)
        response.headers["Location"] = ascii_text(body["url"])
        return response


def form_of(data: bytes, content_type: str) -> tuple[dict[str, str], bytes]:
    """(fields, the file). A file without a ``name`` is called as its client calls it. Raises Invalid."""
    head = Message()
    head["content-type"] = content_type
    boundary = head.get_param("boundary")
    if head.get_content_type() != MULTIPART or not isinstance(boundary, str) or not boundary.isascii():
        raise Invalid([Problem(path="", why=f"the body is no form ({MULTIPART})", hint=HINT)])
    form: dict[str, str] = {}
    file: bytes | None = None
    called = ""
    for part in (b"\r\n" + data).split(b"\r\n--" + boundary.encode())[1:]:
        lines, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if part.startswith(b"--"):  # the last one
            break
        name, given = _name(lines)
        if name == "file":
            file, called = content, given
        elif name not in FORM:
            raise Invalid([Problem(path=name[:60], why="unknown field", hint=f"There are: file, {', '.join(FORM)}.")])
        elif len(content) > FIELD_BYTES_MAX:
            raise Invalid([Problem(path=name, why=f"has {len(content)} octets; {FIELD_BYTES_MAX} can be")])
        else:
            form[name] = content.decode(errors="replace").strip()
    if file is None:
        raise Invalid([Problem(path="file", why="required, and missing", hint=HINT)])
    form["name"] = form.get("name") or called
    if not form["name"]:
        raise Invalid([Problem(path="name", why="required, and missing", hint=HINT)])
    return form, file


def _name(lines: bytes) -> tuple[str, str]:
    """(of the field, of the file there)"""
    head = Message()
    for line in lines.decode(errors="replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == "content-disposition":
            head["content-disposition"] = value.strip().replace("\r", "").replace("\n", "")
    name = head.get_param("name", header="content-disposition")
    return str(name or ""), str(head.get_filename() or "").rpartition("/")[2]
