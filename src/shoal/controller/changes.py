"""Several writes that belong together: all of them are made, at once, or none.

Each is validated and refused as it would be alone, on a draft where it sees those before it, so that a new object may
refer to one made before it by name. What is too large for one transaction of the store is decided by one key (decision 40).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from shoal.errors import Invalid, NotReady, Problem, Stale, TooLarge
from shoal.objects import Registry
from shoal.objects.check import kind_of, meant, shown

from .bodies import check_identity
from .intent import Caller, Guard, Intent, Written
from .patch import SETTING
from .plans import CHANGES, Wish, placed, write
from .view import View

Document = dict[str, Any]
MEMBERS = ("method", "type", "uuid", "body")
METHODS = ("POST", "PATCH", "DELETE")
CHANGES_MAX = 5_000
AT_ONCE_MAX = 40
"""More would not fit one transaction of the store: each takes three operations at least."""
ATTEMPTS_MAX = 5
ALONE = ("serviceengine",)
"""Types whose deletion is more than a write."""


def wish(registry: Registry, view: View, body: Mapping[str, Any]) -> Wish:
    """What a request asks for: ``{"changes": [{"method", "type", "uuid", "body"}, ...]}``. Raises Invalid."""
    entries = body.get(CHANGES)
    unknown = [
        Problem(path=shown(name), why="unknown field", hint=meant(str(name), [CHANGES]))
        for name in body
        if name != CHANGES
    ]
    if unknown or not isinstance(entries, list) or not entries:
        why = f"must be a list of changes, not {kind_of(entries)}" if entries != [] else "must hold a change at least"
        raise Invalid(unknown or [Problem(path=CHANGES, why=why)])
    if len(entries) > CHANGES_MAX:
        raise Invalid([Problem(path=CHANGES, value=str(len(entries)), why=f"at most {CHANGES_MAX} go together")])
    return Wish(
        method="POST", type=CHANGES, parts=tuple(_part(registry, view, one, n) for n, one in enumerate(entries))
    )


def _part(registry: Registry, view: View, entry: Any, number: int) -> Wish:
    where = f"{CHANGES}[{number}]"
    if not isinstance(entry, dict):
        raise Invalid([Problem(path=where, value=shown(entry), why=f"must be an object, not {kind_of(entry)}")])
    problems = [
        Problem(path=f"{where}.{shown(name)}", why="unknown field", hint=meant(str(name), MEMBERS))
        for name in entry
        if name not in MEMBERS
    ]
    method, type, uuid, body = (entry.get(name, "") for name in MEMBERS)
    body = body or {}
    for name, value in (("type", type), ("uuid", uuid)):
        if not isinstance(value, str):
            problems.append(Problem(path=f"{where}.{name}", value=shown(value), why="must be a string"))
    if method not in METHODS:
        problems.append(Problem(path=f"{where}.method", value=shown(method), why=f"must be {', '.join(METHODS)}"))
    if not isinstance(body, dict):
        problems.append(Problem(path=f"{where}.body", value=shown(body), why=f"must be an object, not {kind_of(body)}"))
    if problems:
        raise Invalid(problems)
    with placed(number):
        kind = registry.type(type)
        if not kind.endpoint or kind.read_only or (method == "DELETE" and kind.endpoint in ALONE):
            why = "is no object that can be changed together with others"
            raise Invalid([Problem(path="type", value=shown(type), why=why)])
        if kind.singleton:
            uuid = next((d["uuid"] for d in view.all(kind.endpoint)), uuid)
        elif (method != "POST") != bool(uuid):
            why = "does not go with POST" if uuid else f"is required: which {kind.name}?"
            raise Invalid([Problem(path="uuid", value=uuid[:80], why=why)])
        if method == "POST":
            check_identity(kind, body)
        for operator in SETTING:
            check_identity(kind, body.get(operator), f"{operator}.")
    return Wish(method=method, type=kind.endpoint, uuid=uuid, body=body)


class Changes:
    def __init__(self, intent: Intent) -> None:
        self._intent = intent

    async def made(self, wishes: Sequence[Wish], caller: Caller, guard: Guard) -> list[Written | None]:
        """All of them, in order; None for a deletion. Raises what the first that is refused raises, with its number;
        nothing is stored then. ``guard`` is called right before they are stored."""

        async def at_once(intent: Intent, view: View) -> list[Written | None]:
            written = await _written(intent, wishes, caller)
            guard()
            return written

        if len(wishes) <= AT_ONCE_MAX:
            try:
                return await self._intent.together(at_once)
            except TooLarge:
                pass
        return await self._staged(wishes, caller, guard)

    async def _staged(self, wishes: Sequence[Wish], caller: Caller, guard: Guard) -> list[Written | None]:
        for _ in range(ATTEMPTS_MAX):
            draft = self._intent.draft()
            written = await _written(draft.intent, wishes, caller)
            try:
                await self._intent.adopt(draft, guard)
            except Stale:
                continue
            return written
        raise NotReady("Others keep writing meanwhile.", hint="Try again.")


async def _written(intent: Intent, wishes: Sequence[Wish], caller: Caller) -> list[Written | None]:
    written = []
    for number, one in enumerate(wishes):
        with placed(number):
            written.append(await write(intent, one, caller))
        await asyncio.sleep(0)  # others have their turn
    return written
