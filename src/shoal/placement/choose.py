"""Where a placement goes: filter with the rule that rejected each engine, rank, choose (reference: elastic-ha 2)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .board import ENABLED, Board, Field, Work
from .model import Candidate, Engine
from .rules import HOST_IN_USE, candidate, excluding, judge

PACKED = "PLACEMENT_ALGO_PACKED"


class Choice(msgspec.Struct, frozen=True):
    """The engine ("" = none), and why in one sentence."""

    engine: str
    why: str


def survey(board: Board, work: Work, besides: Iterable[str] = ()) -> Field:
    """The best engines, and how many each rule excludes. ``besides``: engines whose host does not count (they are
    about to leave). The least loaded ranks first; of equals the oldest."""
    hosts = board.hosts_of(work, besides) if board.group.vs_host_redundancy else set()
    excluded: dict[str, int] = {}
    eligible = 0
    best: Engine | None = None
    second: Engine | None = None
    shared: Engine | None = None
    load = board.load
    for engine in board.engines.values():
        rule = excluding(board, work, engine)
        if not rule and engine.host and engine.host in hosts:
            rule = HOST_IN_USE
            if shared is None or load[engine.id] < load[shared.id]:
                shared = engine
        if rule:
            excluded[rule] = excluded.get(rule, 0) + 1
            continue
        eligible += 1
        if best is None or load[engine.id] < load[best.id]:
            best, second = engine, best
        elif second is None or load[engine.id] < load[second.id]:
            second = engine
    return Field(
        best=candidate(board, best) if best else None,
        second=candidate(board, second) if second else None,
        same_host=candidate(board, shared) if shared else None,
        eligible=eligible,
        excluded=tuple(sorted(excluded.items())),
        judged=judge(board, work, besides) if work.vip.id == board.watched else None,
    )


def waiting_room(board: Board, work: Work) -> str:
    """The engine on its way with room and the fewest placements waiting for it; "" if none."""
    hosts = board.hosts_of(work) if board.group.vs_host_redundancy else set()
    room = [e for e in board.creating() if work.on(e) is None and board.free(e) >= work.vip.slots]
    room = [e for e in room if e not in board.engines or board.engines[e].enable_state == ENABLED]
    return min(room, key=lambda e: (board.host(e) in hosts, board.load[e]), default="")


def choose(board: Board, work: Work, field: Field, *, urgent: bool = False) -> Choice:
    """The procedure of elastic-ha 2.8. ``urgent``: the VIP had engines and has none now, so a busy engine with room
    is better than waiting for a new one, whatever the algorithm. A placement that was lost with its engine waits for
    the one replacement rather than have one made for each."""
    big = too_big(board, work)
    if big:
        return Choice("", big)
    best = field.best
    if best is not None and best.idle:
        return Choice(best.engine, f"{board.name(best.engine)} is up and idle")
    least = Choice(best.engine, _least(board, best)) if best is not None else None
    packed = board.group.algo == PACKED
    if least is not None and (packed or urgent):
        return least
    refusal = board.create_refusal()
    wait = waiting_room(board, work)
    if wait and (packed or work.lost):
        return Choice(wait, f"{board.name(wait)} is being made and has room")
    if not refusal:
        why = "no running engine has room" if packed else "distributed placement avoids engines in use below max_se"
        new = board.create(f"for {work.vip.name}: {why}", avoid=board.hosts_of(work))
        return Choice(new, f"{why}, so one is made")
    if wait:
        return Choice(wait, f"{board.name(wait)} is being made and has room ({refusal})")
    if least is not None:
        return least
    if field.same_host is not None:
        shared = field.same_host
        why = (
            f"{board.name(shared.engine)} shares a host with another engine of it, but no other can take it ({refusal})"
        )
        return Choice(shared.engine, why)
    return Choice("", f"no engine has room and none can be made: {refusal}")


def _least(board: Board, candidate: Candidate) -> str:
    return (
        f"{board.name(candidate.engine)} is the least loaded with room ({candidate.load} of {candidate.capacity} slots)"
    )


def too_big(board: Board, work: Work) -> str:
    """Why not even an empty engine could hold the VIP; "" if one could."""
    slots, most = work.vip.slots, board.group.max_vs_per_se
    if slots <= most:
        return ""
    return (
        f"{work.vip.name} needs {slots} slots on one engine (its virtual services share a VIP), max_vs_per_se is {most}"
    )
