"""Where a placement goes: filter with the rule that rejected each engine, rank, choose (reference: elastic-ha 2)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .board import Board, Field, Work
from .model import Candidate, EngineState
from .rules import HOST_IN_USE, candidate, judge

PACKED = "PLACEMENT_ALGO_PACKED"


class Choice(msgspec.Struct, frozen=True):
    """The engine ("" = none), and why in one sentence."""

    engine: str
    why: str


def survey(board: Board, work: Work, besides: Iterable[str] = ()) -> Field:
    """The best engines, and how many each rule excludes. ``besides``: engines whose host does not count (they are
    about to leave). The least loaded ranks first; of equals the oldest."""
    standing, most = board.standing, board.group.max_vs_per_se - work.vip.slots
    hosts = board.hosts_of(work, besides) if board.group.vs_host_redundancy else set()
    held = {p.engine for p in work.placements}
    first: list[str] = []
    shared = ""
    for engine in standing.roomy.upward():
        if board.load[engine] > most or len(first) == 2:
            break
        if engine in held or board.lacks(work, engine):
            continue
        if board.host(engine) not in hosts:
            first.append(engine)
        elif not shared:
            shared = engine
    excluded = _excluded(board, work, held, hosts)
    ranked = [candidate(board, board.engines[engine]) for engine in first]
    return Field(
        best=ranked[0] if ranked else None,
        second=ranked[1] if len(ranked) > 1 else None,
        same_host=candidate(board, board.engines[shared]) if shared else None,
        eligible=len(board.engines) - sum(excluded.values()),
        excluded=tuple(sorted((rule, count) for rule, count in excluded.items() if count)),
        judged=judge(board, work, besides) if work.vip.id == board.watched else None,
    )


def _excluded(board: Board, work: Work, held: set[str], hosts: set[str]) -> dict[str, int]:
    """How many engines each rule excludes: counted, not visited one by one."""
    standing, most = board.standing, board.group.max_vs_per_se - work.vip.slots
    up = [engine for engine in held if board.is_up(engine)]
    lacking = (
        {e for e in standing.roomy.order if e not in held and board.lacks(work, e)}
        if standing.needs(work.vip)
        else set()
    )
    excluded = {state.value: count for state, count in standing.states.items() if state is not EngineState.UP}
    excluded["holds_vip"] = len(up)
    excluded["disabled"] = standing.disabled - sum(engine not in standing.roomy for engine in up)
    excluded["network"] = len(lacking)
    excluded["no_room"] = standing.roomy.above(most) - sum(
        engine in standing.roomy and board.load[engine] > most for engine in (*up, *lacking)
    )
    excluded[HOST_IN_USE] = sum(
        board.load[engine] <= most and engine not in held and engine not in lacking
        for host in hosts
        for engine in standing.on_host.get(host, ())
    )
    return excluded


def waiting_room(board: Board, work: Work) -> str:
    """The engine on its way with room and the fewest placements waiting for it; "" if none."""
    hosts = board.hosts_of(work) if board.group.vs_host_redundancy else set()
    shared = ""
    for engine in board.standing.arriving.upward():
        if board.free(engine) < work.vip.slots:
            break
        if work.on(engine) is not None or board.lacks(work, engine):
            continue
        if board.host(engine) not in hosts:
            return engine
        shared = shared or engine
    return shared


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
    refusal = board.create_refusal() or board.made_lacks(work)
    wait = waiting_room(board, work)
    if wait and least is not None and board.shares_host(work, wait):
        wait = ""  # one that runs on another host is better
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
    networks = board.networks(work)
    which = f"no engine in {networks} has" if networks else "no engine has"
    return Choice("", f"{which} room and none can be made: {refusal}")


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
