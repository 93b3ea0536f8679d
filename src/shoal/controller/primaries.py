"""Pool groups whose primary pool does not come back by itself (``deactivate_primary_pool_on_down``).

Engines go on to the next priority by themselves, at once. What is kept here is that the pools that went down get nothing
until somebody says so, over a restart of the controller, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from shoal.errors import Invalid, NotFound, NotReady, Problem, ShoalError
from shoal.objects.views import uuid_of
from shoal.store.protocol import Records, Transaction

from .clock import Clock
from .events import EventLog
from .pool_groups import group_part
from .protocols import Documents
from .view import View

log = logging.getLogger("shoal.primaries")

KEPT = "/deactivated/"
"""``/deactivated/<pool group uuid>``: the uuids of its pools that get nothing."""
LOOK_INTERVAL_S = 1.0
FIELD = "deactivate_primary_pool_on_down"
UP, DOWN = "OPER_UP", "OPER_DOWN"


class Primaries:
    """Documents in which members that went down have no ratio (``get``). ``state``: how a pool stands, "" where nobody knows;
    ``on_change`` is called with the uuid of each group whose members have become others."""

    def __init__(
        self,
        documents: Documents,
        view: View,
        store: Records,
        events: EventLog,
        clock: Clock,
        *,
        state: Callable[[str], str],
        on_change: Callable[[str], None],
    ) -> None:
        self._documents = documents
        self._view = view
        self._store = store
        self._events = events
        self._clock = clock
        self._state = state
        self._on_change = on_change
        self._down: dict[str, tuple[str, ...]] = {}
        """By group: its pools that get nothing."""

    async def load(self) -> None:
        """What an earlier controller has kept."""
        for record in (await self._store.list(KEPT)).records:
            self._down[record.key.removeprefix(KEPT)] = msgspec.json.decode(record.value, type=tuple[str, ...])

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        document = self._documents.get(type, uuid)
        down = self._down.get(uuid) if type == "poolgroup" else None
        if document is None or not down:
            return document
        members = [
            {**one, "ratio": 0} if uuid_of(one["pool_ref"]) in down else one for one in document.get("members") or ()
        ]
        return {**document, "members": members}

    def deactivated(self, group: str) -> tuple[str, ...]:
        return self._down.get(group, ())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(LOOK_INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Once, at all groups."""
        wanted = {group["uuid"]: group for group in self._view.all("poolgroup") if group.get(FIELD)}
        for gone in [uuid for uuid in self._down if uuid not in wanted]:
            await self._put(gone, ())
        for uuid, group in wanted.items():
            fallen = self._fallen(uuid)
            if fallen and await self._put(uuid, (*self.deactivated(uuid), *fallen)):
                for pool in fallen:
                    name = self._view.name_of("pool", pool)
                    text = (
                        f"Pool group {group['name']}: {name} is down, and gets nothing until it is made primary again."
                    )
                    self._events.add("POOL_DEACTIVATED", text, level="warning", poolgroup=uuid, pool=pool)

    def _fallen(self, group: str) -> tuple[str, ...]:
        """The pools that were to go first, if all of them are down and another one can take over."""
        part = group_part(self, group)
        taking = [one for one in part.members if one.ratio > 0] if part is not None else []
        best = max((one.priority for one in taking), default=0)
        first = [one.pool for one in taking if one.priority == best]
        others = [one.pool for one in taking if one.priority < best]
        if all(self._state(pool) == DOWN for pool in first) and any(self._state(pool) == UP for pool in others):
            return tuple(first)
        return ()

    async def make_primary(self, group: str, pool: str) -> None:
        """From now on this pool goes first, with those of its priority: those of higher ones get nothing, whatever
        was before. Raises NotFound, Invalid, NotReady."""
        document = self._view.get("poolgroup", group)
        part = group_part(self._view, group) if document is not None else None
        if document is None or part is None:
            raise NotFound(f"There is no poolgroup {group}.")
        if not document.get(FIELD):
            why = f"{FIELD} of {document['name']} is off: the best pool that is up goes first by itself"
            raise Invalid([Problem(path="pool_uuid", why=why)])
        wanted = next((one for one in part.members if one.pool == pool), None)
        if wanted is None:
            raise Invalid(
                [Problem(path="pool_uuid", why=f"must be one of the pools of {document['name']}", value=pool[:80])]
            )
        if not await self._put(group, tuple(one.pool for one in part.members if one.priority > wanted.priority)):
            raise NotReady("Which pools come first can't be stored now.", hint="See STORE_UNAVAILABLE in the events.")
        name = self._view.name_of("pool", pool)
        text = f"Pool group {document['name']}: {name} was made primary."
        self._events.add("POOL_MADE_PRIMARY", text, poolgroup=group, pool=pool)

    async def _put(self, group: str, pools: tuple[str, ...]) -> bool:
        """False when it can't be kept now; then all stays as it was."""
        key = f"{KEPT}{group}"
        change = Transaction(puts=((key, msgspec.json.encode(pools)),)) if pools else Transaction(deletes=(key,))
        try:
            await self._store.commit(change)
        except ShoalError as error:
            log.warning("which pools of %s are deactivated can't be kept for now: %s", group, error)
            return False
        if pools:
            self._down[group] = pools
        else:
            self._down.pop(group, None)
        self._on_change(group)
        return True
