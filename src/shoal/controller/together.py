"""Several writes as one transaction, and several of those with one flush of the disk.

Requests that come while the disk is busy are made one after another on drafts that lie over each other, and stored
together. Each is still all or nothing by itself: one that is refused leaves the others as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from shoal.errors import NotReady, TooLarge
from shoal.store.protocol import Conflict, Records

from .trial import TrialRecords
from .view import View

if TYPE_CHECKING:
    from .audit import Record, Trail
    from .freed import Freed
    from .intent import Intent

ATTEMPTS_MAX = 5
AT_ONCE_MAX = 10
"""Requests that share a transaction, so that ten trees of a virtual service, its VIP and its pool fit one."""
Result = TypeVar("Result")
Writes = Callable[["Intent", View], Awaitable[Result]]
"""Makes the writes at a door of its own, where each is validated and refused as at the real one and seen by those after
it. It may be called several times."""


class _Waiting(msgspec.Struct):
    writes: Writes[Any]
    done: asyncio.Future[Any]

    def tell(self, outcome: Any) -> None:
        """The result, or the exception that it ends with."""
        if self.done.done():
            return
        if isinstance(outcome, Exception):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class Together:
    """``writing`` is held while documents are written; ``door(records, view, freed)`` makes a door to a draft, ``freed``
    are the addresses freed so far; ``finished()`` has what was decided before in its place; ``caught_up(conflict)`` waits
    until the view knows what came in between."""

    def __init__(
        self,
        store: Records,
        view: View,
        trail: Trail,
        writing: asyncio.Lock,
        door: Callable[[Records, View, Freed], Intent],
        freed: Freed,
        finished: Callable[[], Awaitable[None]],
        caught_up: Callable[[Conflict], Awaitable[None]],
    ) -> None:
        self._store = store
        self._view = view
        self._trail = trail
        self._writing = writing
        self._door = door
        self._freed = freed
        self._finished = finished
        self._caught_up = caught_up
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def made(self, writes: Writes[Result]) -> Result:
        """All the writes, or none. Raises what one of them raises, TooLarge for more than a transaction holds,
        NotReady. Given up while it waits, it may have been made or not."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(writes, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._make(), name="writes together")
        result: Result = await done
        return result

    async def _make(self) -> None:
        while self._waiting:
            async with self._writing:
                taken, self._waiting = self._waiting[:AT_ONCE_MAX], self._waiting[AT_ONCE_MAX:]
                taken = [one for one in taken if not one.done.done()]
                try:
                    await self._finished()
                    if len(taken) < 2 or not await self._all_at_once(taken):
                        for one in taken:
                            one.tell(await self._alone(one))
                except Exception as error:  # of the store: nobody may wait for ever
                    for one in taken:
                        one.tell(error)

    async def _alone(self, one: _Waiting) -> Any:
        for _ in range(ATTEMPTS_MAX):
            view = self._view.draft()
            records = TrialRecords(self._store, view, checked=False)
            intent = self._door(records, view, self._freed)
            try:
                result = await one.writes(intent, view)
                await self._stored(records, intent.trail.taken())
            except Conflict as conflict:
                await self._caught_up(conflict)
            except Exception as error:
                return error
            else:
                return result
        return NotReady("The objects' surroundings keep changing.", hint="Try again.")

    async def _all_at_once(self, taken: list[_Waiting]) -> bool:
        """False where that can't be; nothing has happened then."""
        view = self._view.draft()
        records = TrialRecords(self._store, view, checked=False)
        freed = self._freed.copy()
        outcomes: list[Any] = []
        audits: list[tuple[str, Record]] = []
        try:
            for one in taken:
                over = view.draft()
                own = TrialRecords(records, over, checked=False)
                intent = self._door(own, over, freed)
                try:
                    result = await one.writes(intent, over)
                    records.settle(own)
                    view.settle(over)
                    freed.heed(own.together())
                except (Conflict, TooLarge):
                    return False
                except Exception as error:
                    outcomes.append(error)
                else:
                    outcomes.append(result)
                    audits += intent.trail.taken()
            await self._stored(records, audits)
        except (Conflict, TooLarge):
            return False
        for one, outcome in zip(taken, outcomes, strict=True):
            one.tell(outcome)
        return True

    async def _stored(self, records: TrialRecords, audits: list[tuple[str, Record]]) -> None:
        transaction = records.together()
        if not transaction.puts and not transaction.deletes:
            return
        self._freed.expect(transaction)
        revision = await self._store.commit(transaction)
        self._freed.taken(transaction.deletes)
        for key, record in audits:
            self._trail.written(key, record)
        await self._view.seen(revision)
