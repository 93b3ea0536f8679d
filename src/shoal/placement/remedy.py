"""What would help when nothing can be done: the least change of one field, tried on paper by the planner itself.

A remedy is true: with it the next plan places what was stuck, and no smaller change of the same field does.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator

import msgspec

from .board import ENABLED, Board
from .model import Buffer, Decision, Engine, EngineState, Group, Request, RequestKind, Snapshot
from .planner import placed
from .standing import NO_GATEWAY
from .wording import alternatives

STEPS_MAX = 64
"""Values of a field tried one by one; a remedy further away is not looked for."""
ENGINES_TRIED_MAX = 8
"""Disabled engines tried."""
LIMIT_MAX = 1000
"""The schema's upper bound of max_se and max_vs_per_se."""


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One change that helps by itself: of a group's field, of an engine's (``engine`` is its id), or ``retry`` and
    ``engines`` (by hand), for which there is no field."""

    field: str
    value: int | str
    engine: str = ""
    name: str = ""
    """The engine's."""

    @property
    def text(self) -> str:
        """In the imperative, without a full stop."""
        match self.field:
            case "enable_state":
                return f"enable {self.name}"
            case "retry":
                return "use retryplacement to try again now"
            case "engines":
                return f"add {'an engine' if self.value == 1 else f'{self.value} engines'} by hand"
            case "buffer_se":
                return f"lower buffer_se to {self.value}"
        return f"raise {self.field} to {self.value}"


def sentence(remedies: Iterable[Remedy]) -> str:
    """``Raise max_se to 5, or lower buffer_se to 0.``; "" for none."""
    return alternatives(remedy.text for remedy in remedies)


def remedies(snapshot: Snapshot, vip: str, now: float) -> tuple[Remedy, ...]:
    """What would give the VIP the engines it wants, the cheapest first; empty when it has them, when it must not be
    placed yet, or when no single change helps. ``vip`` "" = what would give the group its margin: the buffer, in a pair the standby."""
    if vip and any(v.id == vip and v.blocked for v in snapshot.vips):
        return ()
    if vip:
        held = {p.engine for v in snapshot.vips if v.id == vip for p in v.placements}
        return tuple(_found(snapshot, now, lambda board, _: any(_failed(board, vip)), held))
    return tuple(_found(snapshot, now, lambda board, buffer: not buffer.kept or any(_failed(board, ""))))


def remedies_for_all(snapshot: Snapshot, now: float) -> tuple[Remedy, ...]:
    """What would give every VIP of the group the engines it wants."""
    return tuple(_found(snapshot, now, lambda board, _: any(_failed(board))))


def helped(snapshot: Snapshot, remedy: Remedy, now: float) -> Snapshot:
    """The group with the change made."""
    match remedy.field:
        case "enable_state":
            engines = (_enabled(engine) if engine.id == remedy.engine else engine for engine in snapshot.engines)
            return msgspec.structs.replace(snapshot, engines=tuple(engines))
        case "retry":
            asked = Request(id="retry", kind=RequestKind.RETRY, vip=next((v.id for v in snapshot.vips), ""), at=now)
            return msgspec.structs.replace(snapshot, requests=(*snapshot.requests, asked))
        case "engines":
            return _with_engines(snapshot, int(remedy.value))
    return msgspec.structs.replace(
        snapshot, group=msgspec.structs.replace(snapshot.group, **{remedy.field: remedy.value})
    )


# --- the search ---

Wrong = Callable[[Board, Buffer], bool]


def _found(snapshot: Snapshot, now: float, wrong: Wrong, held: Container[str] = ()) -> Iterator[Remedy]:
    """``held``: engines that the VIP is on already."""

    def stands(world: Snapshot) -> bool:
        board = Board(world, now)
        return not wrong(board, placed(board))

    def helps(remedy: Remedy) -> bool:
        return stands(helped(snapshot, remedy, now))

    if stands(snapshot):
        return
    group = snapshot.group
    if now < group.create_retry_at and helps(retry := Remedy(field="retry", value=1)):
        yield retry
    usual = (ENABLED, NO_GATEWAY)
    idle = [
        e for e in snapshot.engines if e.state is EngineState.UP and e.enable_state not in usual and e.id not in held
    ]
    for engine in idle[:ENGINES_TRIED_MAX]:
        if helps(enable := Remedy(field="enable_state", value=ENABLED, engine=engine.id, name=engine.name)):
            yield enable
            break
    for field, values in _ranges(group):
        steps = [Remedy(field=field, value=value) for value in values]
        if steps and helps(steps[-1]):
            yield next(remedy for remedy in steps if helps(remedy))


def _ranges(group: Group) -> Iterator[tuple[str, list[int]]]:
    """Each field with the values to try, the smallest change first."""
    if group.can_create:
        yield "max_se", _above(group.max_se)
    else:
        yield "engines", _above(0)
    if not group.per_app:
        yield "max_vs_per_se", _above(group.max_vs_per_se)
    yield "buffer_se", list(reversed(range(group.buffer_se)))


def _above(value: int) -> list[int]:
    return list(range(value + 1, min(LIMIT_MAX, value + STEPS_MAX) + 1))


def _failed(board: Board, vip: str | None = None) -> Iterator[Decision]:
    """Decisions that nothing could be done for the VIP ("" = for the group, None = for any VIP that may be placed)."""
    nothing = (d for d in board.decisions if d.what == "none")
    if vip is not None:
        return (d for d in nothing if d.vip == vip)
    return (d for d in nothing if d.vip and not board.works[d.vip].vip.blocked)


def _enabled(engine: Engine) -> Engine:
    return msgspec.structs.replace(engine, enable_state=ENABLED)


def _with_engines(snapshot: Snapshot, count: int) -> Snapshot:
    rank = max((engine.rank for engine in snapshot.engines), default=0)
    added = (
        Engine(id=f"added-{n}", name=f"added-{n}", rank=rank + n, host="", state=EngineState.UP)
        for n in range(1, count + 1)
    )
    return msgspec.structs.replace(snapshot, engines=(*snapshot.engines, *added))
