"""VIPs that this engine drains: HAProxy looks them up with each answer and ends kept-alive connections politely.

A list that HAProxy has from a file and that its runtime socket changes (management guide 9.3, ``add acl``): no reload.
An engine that leaves a VIP would otherwise keep every busy client until the drain's time is over, and then cut it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from . import render, runtime
from .escape import word
from .render import Facts

log = logging.getLogger("shoal.haproxy")


class Marks:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: frozenset[str] | None = None

    def write(self, vips: Collection[str]) -> None:
        """For the next start or reload; the file must exist for any."""
        path = Path(render.draining_file(self._facts))
        text = "".join(f"{word(vip)}\n" for vip in sorted(vips))
        if not path.exists() or path.read_text() != text:
            fresh = path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(path)

    def loaded(self, vips: Collection[str]) -> None:
        """The worker that runs now has read the file with these."""
        self._known = frozenset(map(word, vips))

    async def put(self, vips: Collection[str]) -> bool:
        """Tell the worker that runs now. True when there was something to tell."""
        wanted = frozenset(map(word, vips))
        if wanted == self._known:
            return False
        path = runtime.argument(render.draining_file(self._facts))
        if self._known is None:  # adopted: what it has is not known
            commands = [f"clear acl {path}", *(f"add acl {path} {vip}" for vip in sorted(wanted))]
        else:
            commands = [f"add acl {path} {vip}" for vip in sorted(wanted - self._known)]
            commands += [f"del acl {path} {vip}" for vip in sorted(self._known - wanted)]
        for command in commands:
            try:
                answer = await runtime.command(render.admin_socket(self._facts), command)
            except runtime.RuntimeFailure as error:
                answer = str(error)
            if answer:  # no frontend that looks there, for one
                log.info("%s: %s", command, answer)
        told = bool(wanted or self._known)
        self._known = wanted
        return told
