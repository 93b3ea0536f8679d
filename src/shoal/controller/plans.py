"""Plan and apply: what a write would do to traffic, said before it is made; and made only if that still holds.

A plan's id is a digest of the edit, of the state it was made from and of what it says. To apply it, it is made again:
the same id means that nothing it depends on has changed, also after a restart of the controller and however long it
was thought over. The last plans are remembered only to say *what* changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from shoal.errors import Invalid, NotReady, Refused, ShoalError, Stale
from shoal.placement import course, effects
from shoal.placement.effects import Effects
from shoal.placement.model import Buffer, Snapshot

from . import change_state, plan_document
from .change_state import State
from .clock import Clock
from .intent import Caller, Guard, Intent, Written
from .operations import Operations
from .proposal import Concerned, Proposal
from .reconciler import Reconciler
from .view import View

Document = dict[str, Any]
PLANS_KEPT_MAX = 100
ATTEMPTS_MAX = 5
AT_ONCE_MAX = 1
"""Plans in the making; the rest wait their turn, and leave the controller its processor."""
CHANGES = "changes"
_Result = TypeVar("_Result")
Aside = Callable[..., Awaitable[Any]]
"""Runs a function that takes long, with its arguments, where it holds nobody up."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One write (``method``), or one operation (``operation``), as a client asked for it; or several writes (``parts``)
    that are made together."""

    method: str
    type: str
    uuid: str = ""
    operation: str = ""
    body: Mapping[str, Any] = {}
    slug: str | None = None
    parts: tuple[Wish, ...] = ()


@contextlib.contextmanager
def placed(number: int) -> Iterator[None]:
    """What is refused inside says which of several writes it was."""
    try:
        yield
    except ShoalError as error:
        where = f"{CHANGES}[{number}]"
        if isinstance(error, Invalid):
            found = (msgspec.structs.replace(p, path=f"{where}.{p.path}" if p.path else where) for p in error.problems)
            raise Invalid(list(found)) from None
        error.message = f"{where}: {error.message}"
        raise


async def write(door: Intent | Proposal, wish: Wish, caller: Caller) -> Written | None:
    """One write; None for a deletion."""
    match wish.method:
        case "POST":
            return await door.create(wish.type, wish.body, caller, slug=wish.slug)
        case "PUT":
            return await door.replace(wish.type, wish.uuid, wish.body, caller)
        case "PATCH":
            return await door.patch(wish.type, wish.uuid, wish.body, caller)
    await door.delete(wish.type, wish.uuid, caller)
    return None


class PlanChanged(Stale):
    """What the plan was made from has changed. ``changed``: what, in sentences; ``plan``: the present one."""

    def __init__(self, changed: list[str], plan: Document) -> None:
        super().__init__(f"Nothing was done: the plan does not hold any more. {' '.join(changed)}", hint="Plan again.")
        self.changed = changed
        self.plan = plan


class Moved(Exception):
    """The state has changed between the last look and the write."""


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """One group's part of a plan."""

    concerned: Concerned
    effects: Effects
    buffer_before: Buffer | None
    buffer_after: Buffer | None
    """When engines are up and drains are over; idle engines may go later."""
    messages: tuple[str, ...] = ()
    """Answers to the operations asked for."""
    settled: bool = True
    """The end was reached on paper."""
    end: Snapshot | None = None
    """The group then; None = it is no more."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    wish: str
    """The digest of what was asked for: its body may hold secrets."""
    edited: tuple[tuple[str, str], ...]
    """(type, uuid) of each; no uuid for a new object."""
    state: State
    documents: Mapping[tuple[str, str], Document]
    """The edited ones, as they were."""
    warnings: tuple[str, ...]
    document: Document
    """The plan as clients get it."""


class Plans:
    def __init__(
        self,
        intent: Intent,
        view: View,
        reconciler: Reconciler,
        operations: Operations,
        clock: Clock,
        aside: Aside = asyncio.to_thread,
    ) -> None:
        self._intent = intent
        self._view = view
        self._reconciler = reconciler
        self._operations = operations
        self._clock = clock
        self._aside = aside
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)
        self._known: OrderedDict[str, Planned] = OrderedDict()

    async def plan(self, wish: Wish, caller: Caller) -> Planned:
        """What would come of it. Nothing is stored. Raises all that the write itself would raise."""
        found = await self._plan(wish, caller)
        self._known[found.id] = found
        self._known.move_to_end(found.id)
        while len(self._known) > PLANS_KEPT_MAX:
            self._known.popitem(last=False)
        return found

    async def apply(self, id: str, wish: Wish, caller: Caller, write: Callable[[Guard], Awaitable[_Result]]) -> _Result:
        """Do it, if the plan ``id`` is still what would come of it. ``write(guard)`` makes the write and calls
        ``guard``, which raises `Moved` where that is no more so, right before it is stored. Raises PlanChanged, with what changed and the present plan."""
        for _ in range(ATTEMPTS_MAX):
            found = await self.plan_again(id, wish, caller)

            def guard(found: Planned = found) -> None:
                if self._state_now(found) != found.state:
                    raise Moved

            try:
                return await write(guard)
            except Moved:
                continue
        raise NotReady("What the plan depends on keeps changing.", hint="Try again.")

    async def plan_again(self, id: str, wish: Wish, caller: Caller) -> Planned:
        """The plan of that id, made anew. Raises PlanChanged if it is another one now."""
        old = self._known.get(id)
        if old is not None and old.wish != _digest(wish):
            raise Refused(f"Plan {id} is one of another edit.", hint="Plan this one with ?plan=true.")
        found = await self.plan(wish, caller)
        if found.id != id:
            raise PlanChanged(self._changed(old, found), found.document)
        return found

    async def foreseen(self, concerned: list[Concerned], now: float) -> list[Foreseen]:
        """What proposed writes come to, group by group."""
        async with self._turn:
            found: list[Foreseen] = await self._aside(_all, concerned, now)
        return found

    # --- making one ---

    async def _plan(self, wish: Wish, caller: Caller) -> Planned:
        for _ in range(ATTEMPTS_MAX):
            proposal = Proposal(self._intent, self._view, self._reconciler)
            warnings = await self._propose(proposal, wish, caller)
            now = self._clock.now()
            if proposal.stale:
                continue
            concerned = proposal.concerned(now)
            edited = tuple((one.type, one.uuid) for one in wish.parts or (wish,))
            state = self._state(edited, [one.before for one in concerned if one.before is not None], now)
            foreseen = await self.foreseen(concerned, now)
            asked = _digest(wish)
            id = f"plan-{_digest((asked, state, [_gist(one) for one in foreseen]))}"
            return Planned(
                id=id,
                wish=asked,
                edited=edited,
                state=state,
                documents={one: stored for one in edited if (stored := self._view.get(*one)) is not None},
                warnings=warnings,
                document=plan_document.document(id, foreseen),
            )
        raise NotReady("Documents keep changing while the plan is made.", hint="Try again.")

    async def _propose(self, proposal: Proposal, wish: Wish, caller: Caller) -> tuple[str, ...]:
        """The write's warnings."""
        warnings: list[str] = []
        for number, part in enumerate(wish.parts):
            with placed(number):
                written = await write(proposal, part, caller)
                warnings += written.warnings if written is not None else ()
        if wish.parts:
            return tuple(dict.fromkeys(warnings))
        operation = "delete" if wish.type == "serviceengine" and wish.method == "DELETE" else wish.operation
        if operation:
            self._operations.propose(proposal, wish.type, wish.uuid, operation, wish.body)
            return ()
        written = await write(proposal, wish, caller)
        return written.warnings if written is not None else ()

    # --- what it depends on ---

    def _state(self, edited: tuple[tuple[str, str], ...], snapshots: list[Snapshot], now: float) -> State:
        versions = tuple((*one, self._view.version(*one)) for one in edited if one[1])
        return State(documents=versions, groups=tuple(change_state.stands(snapshot, now) for snapshot in snapshots))

    def _state_now(self, planned: Planned) -> State:
        groups = [self._reconciler.present(one.group.id) for one in planned.state.groups]
        return self._state(planned.edited, [one for one in groups if one is not None], self._clock.now())

    def _changed(self, old: Planned | None, new: Planned) -> list[str]:
        if old is None:
            why = "it was made before a restart, or too many plans ago, and what would come of the edit is another plan now"
            return [f"What has changed since is not known: {why}."]
        found = change_state.differences(old.state, new.state, old.documents, new.documents)
        return found or ["Time has passed, and what would come of the edit is another plan now."]


def _all(concerned: Iterable[Concerned], now: float) -> list[Foreseen]:
    return [_foreseen(one, now) for one in concerned]


def _foreseen(one: Concerned, now: float) -> Foreseen:
    before = course.follow(one.before, now) if one.before is not None else None
    after = course.follow(one.after, now) if one.after is not None else None
    baseline = effects.effects(before) if before is not None else None
    if after is not None:
        found = effects.effects(after)
        if baseline is not None:
            found = effects.besides(found, baseline)
    else:
        assert one.before is not None
        found = effects.dissolved(one.before)
    if one.before is not None and one.after is not None:
        found = effects.with_the_gone(found, one.before, one.after)
    mine = {request.id for request in one.after.requests} if one.after is not None else set()
    mine -= {request.id for request in one.before.requests} if one.before is not None else set()
    answers = [[r for r in step.plan.results if r.request in mine] for step in (after.steps if after else ())]
    if answers and (refused := [result.message for result in answers[0] if not result.ok]):
        raise Refused(refused[0])  # by the first plan, as the operation itself would be
    return Foreseen(
        concerned=one,
        effects=found,
        buffer_before=before.buffers[0][1] if before is not None else None,
        buffer_after=after.buffer(after.begin.group.vs_scalein_timeout_s) if after is not None else None,
        messages=tuple(result.message for results in answers for result in results),
        settled=after is None or after.settled,
        end=after.end if after is not None else None,
    )


def _gist(one: Foreseen) -> object:
    """What a plan says, without its wording and without times, which pass."""
    found = one.effects
    return (
        one.concerned.group,
        [msgspec.structs.replace(effect, why="") for effect in found.vips],
        [(engine.id, engine.host) for engine in found.made],
        [engine.id for engine in found.deleted],
        [decision.vip for decision in found.unplaced],
    )


def _digest(value: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=10).hexdigest()
