"""A file about addresses, from the request to a FileObject that databases can name."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from shoal.controller.clock import Clock
from shoal.controller.intent import Caller, Intent, Written
from shoal.controller.view import View
from shoal.errors import Invalid, NotReady, Problem

from .contents import FILE, Contents
from .reading import KINDS, Content

READ_WITHIN_S = 300.0
"""A process of its own reads the file."""
WORDS_CHARACTERS_MAX = 300
FORM = ("name", "type", "description", "version")
"""What may be said with a file."""


class Uploads:
    def __init__(self, contents: Contents, intent: Intent, view: View, clock: Clock) -> None:
        self._contents = contents
        self._intent = intent
        self._view = view
        self._clock = clock

    async def take(self, form: Mapping[str, str], data: bytes, caller: Caller) -> Written:
        """A FileObject of that name is made, or gets another content. Raises Invalid, and what a write raises."""
        if form.get("type") not in KINDS:
            why = f"must be one of {', '.join(KINDS)}: nothing else is made of files here"
            raise Invalid([Problem(path="type", value=form.get("type", "")[:60], why=why)])
        content = await reduced(form["type"], data)
        before = self._view.named(FILE, form["name"], caller.tenant)
        if before is not None and before["type"] != form["type"]:
            raise Invalid(
                [Problem(path="type", value=form["type"], why=f"the file {form['name']} is {before['type']}")]
            )
        async with self._contents.turn:
            digest, found = await self._contents.keep(content)
            made = await asyncio.to_thread(self._made, data, digest, found)
            system = msgspec.structs.replace(caller, system=True)  # these fields are the controller's to write
            if before is None:
                return await self._intent.create(FILE, {**form, **made}, system)
            return await self._intent.patch(FILE, before["uuid"], {"replace": {**form, **made}}, system)

    def _made(self, data: bytes, digest: str, content: Content) -> dict[str, object]:
        now = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC)
        return {
            "checksum": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            "size": len(data),
            "created": now.isoformat(timespec="seconds"),
            "content": digest,
            "networks": content.count,
            "attributes": sorted({name for row in content.rows for name in row.attributes}),
        }


async def reduced(kind: str, data: bytes) -> bytes:
    """The encoded `Content` of a file. Raises Invalid with what is wrong with it."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shoal.controller.addresses.reading",
        kind,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    )
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            content, words = await child.communicate(data)
    except TimeoutError:
        raise Invalid([_wrong(f"could not be read within {READ_WITHIN_S:.0f} s. Take a coarser database")]) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == 0:
        return content
    if child.returncode == 1 and (text := words.decode(errors="replace")) and "Traceback" not in text:
        raise Invalid([_wrong(text[:WORDS_CHARACTERS_MAX])])
    if child.returncode is not None and child.returncode < 0:
        raise Invalid([_wrong("took more time or memory than a file may. Take a coarser database")])
    raise NotReady("What reads files could not be run.", hint="See controller.log.")


def _wrong(why: str) -> Problem:
    return Problem(path="file", why=why, hint="What is read is in docs/compatibility.md.")
