"""The first steps of a plan: what happened since the last one, and how many engines each VIP should have."""

from __future__ import annotations

from . import choose as choosing
from . import rules
from .board import FORCE, Board, Work
from .model import EngineState, Placement, PlacementState, Role

TAKEOVER_WITHIN_S = 1.5
"""After an owner's death its armed successors get this long to claim before the controller picks an owner itself."""
TAKEN_ON_WITHIN_S = 1.5
"""An engine that is to own a VIP gets this long to take it on while nobody answers and another engine is ready to."""


def absorb(board: Board) -> None:
    """Drop what is on dead engines, start what waited for an engine that is up now, end drains."""
    for work in board.works.values():
        work.takeover = _takeover_pending(board, work)
        for placement in list(work.placements):
            engine = board.engines.get(placement.engine)
            if work.takeover and placement.role is Role.PRIMARY:
                continue
            if engine is None or engine.state is EngineState.DOWN:
                _lose(board, work, placement, "is gone" if engine is None else "is down")
            elif placement.state is PlacementState.WAITING and engine.state is EngineState.UP:
                _arrive(board, work, placement)
            elif placement.state is PlacementState.DRAINING and _drained(board, placement):
                board.drop(work, placement)


def _arrive(board: Board, work: Work, placement: Placement) -> None:
    """The engine that a placement waited for is there, in the networks that were expected or not."""
    lacks = board.lacks(work, placement.engine)
    if not lacks:
        board.change(work, placement.engine, state=PlacementState.ASSIGNED, since=board.now)
        return
    board.drop(work, placement)
    why = f"{board.name(placement.engine)} was made without an interface in {lacks}"
    board.decide(work.vip.id, "unplace", why, engine=placement.engine)
    if placement.request:
        work.broken = {**work.broken, placement.request: why}


def _lose(board: Board, work: Work, placement: Placement, gone: str) -> None:
    board.drop(work, placement)
    why = f"{board.name(placement.engine)} {gone}"
    board.decide(work.vip.id, "unplace", why, engine=placement.engine)
    board.tell("VS_REMOVED_SE", f"{work.vip.name}: {why}", vip=work.vip.id, engine=placement.engine)
    if placement.state is PlacementState.DRAINING:
        return
    work.lost += 1
    work.lost_primary |= placement.role is Role.PRIMARY
    if placement.request:
        work.broken = {**work.broken, placement.request: why}


def _takeover_pending(board: Board, work: Work) -> bool:
    primary, vip = work.primary, work.vip
    engine = board.engines.get(primary.engine) if primary else None
    if engine is None or engine.state is not EngineState.DOWN or engine.down_since is None:
        return False
    heirs = any(
        board.is_up(heir) and (work.on(heir) is not None or board.free(heir) >= vip.slots)
        for heir in vip.succession
        if heir != engine.id
    )
    claimed = bool(vip.claimant) and board.is_up(vip.claimant)
    recent = board.now - engine.down_since < TAKEOVER_WITHIN_S
    return vip.enabled and vip.armed and heirs and recent and not claimed


def _drained(board: Board, placement: Placement) -> bool:
    return placement.drained or board.now - placement.since >= board.group.drain_s(placement.engine)


# --- who owns each VIP ---


def elect(board: Board) -> None:
    """Give every VIP its primary: adopt a takeover that happened, else the first successor alive, else any member.

    What has happened comes first: the room it took is not to be had for what is still to be decided."""
    works = [work for work in board.works.values() if work.vip.enabled and not work.takeover]
    for work in works:
        _adopt_claim(board, work)
    for work in works:
        if work.primary is None and work.vip.generation > 0:
            _succeed(board, work)
        elif 0.0 < taken_on_by(board, work) <= board.now:
            _stand_in(board, work)


def _adopt_claim(board: Board, work: Work) -> None:
    vip, primary = work.vip, work.primary
    known = {p.engine for p in work.placements} | set(vip.succession)
    if not (vip.claimant and vip.claimant in known and board.is_up(vip.claimant)):
        return
    if primary is None or primary.engine != vip.claimant:
        if _must_leave(board, vip.claimant) and primary is not None and _serves_on(board, primary):
            work.generation = vip.generation + 1  # the claim is answered by who was planned
            return
        _adopt(board, work, vip.claimant)


def _must_leave(board: Board, engine: str) -> bool:
    return board.engines[engine].enable_state == FORCE


def _serves_on(board: Board, placement: Placement) -> bool:
    there = placement.state is PlacementState.READY and board.is_up(placement.engine)
    return there and not _must_leave(board, placement.engine)


def _adopt(board: Board, work: Work, engine: str) -> None:
    """What happened is not undone: the claimant is the primary, whatever was planned."""
    held = work.on(engine)
    if held is None:
        board.put(work, engine, state=PlacementState.READY)
    elif held.state is not PlacementState.READY:
        board.change(work, engine, state=PlacementState.READY, since=board.now)
    former = work.primary
    board.promote(work, engine)
    board.decide(work.vip.id, "promote", f"{board.name(engine)} has taken over by itself; adopted", engine=engine)
    if former is not None and former.engine != engine and len(work.active) > max(1, work.vip.requested):
        board.drain(work, former.engine)  # the taker replaces it; there is no fail-back


def _succeed(board: Board, work: Work) -> None:
    """No owner is left and nobody has claimed yet: the armed list decides, as it does on the engines."""
    ready = [p.engine for p in work.ready if board.is_up(p.engine)] or [p.engine for p in work.ready]
    for engine in work.vip.succession:
        if engine in ready:
            board.promote(work, engine)
            board.decide(work.vip.id, "promote", f"{board.name(engine)} is next in the succession", engine=engine)
            return
    if work.serving or board.barred(work) or not board.may_move(work):
        return
    if engine := _heir(board, work):
        board.put(work, engine)
        board.moved(work)
        board.promote(work, engine)
        board.decide(work.vip.id, "place", f"{board.name(engine)} is next in the succession", engine=engine)


def _heir(board: Board, work: Work) -> str:
    """Whoever is next in succession and may take it on; on a host where the VIP is to be already only if there is no other."""
    named = [found for engine in work.vip.succession if (found := board.engines.get(engine)) is not None]
    heirs = [engine.id for engine in named if not rules.excluding(board, work, engine)]
    apart = next((engine for engine in heirs if not board.shares_host(work, engine)), "")
    if apart or not heirs or choosing.survey(board, work).eligible:
        return apart
    return heirs[0]


def taken_on_by(board: Board, work: Work) -> float:
    """Until when the owner is waited for, though another engine is ready and nobody is heard to answer; 0 = that is not so.
    Who is out of sight may answer unheard."""
    primary = work.primary
    if primary is None or primary.state is not PlacementState.ASSIGNED or work.vip.claimant or not work.ready:
        return 0.0
    if board.out_of_sight(work):
        return 0.0
    return primary.since + TAKEN_ON_WITHIN_S


def _stand_in(board: Board, work: Work) -> None:
    """The owner is slow, or does not hear the controller: who is ready answers in its place."""
    primary = work.primary
    ready = [p.engine for p in work.placements if _serves_on(board, p)]
    if primary is None or not ready:
        return
    engine = next((heir for heir in work.vip.succession if heir in ready), ready[0])
    board.promote(work, engine)
    why = (
        f"{board.name(primary.engine)} has not taken it on within {TAKEN_ON_WITHIN_S} s; {board.name(engine)} is ready"
    )
    board.decide(work.vip.id, "promote", why, engine=engine)


def one_primary(board: Board) -> None:
    """Every VIP with an active placement has one primary, a serving one if any serves."""
    for work in board.works.values():
        primary = work.primary
        if primary is None and work.active:
            seen = [p for p in work.ready if board.is_up(p.engine)]
            board.promote(work, (seen or work.ready or work.serving or work.active)[0].engine)
        elif primary is not None and primary.state is PlacementState.WAITING and work.serving:
            board.promote(work, (work.ready or work.serving)[0].engine)


def count_generations(board: Board) -> None:
    """A new owner is a new generation, also when it follows a time without any: claims of former owners must lose."""
    for work in board.works.values():
        primary = work.primary
        if primary is None or primary.state is PlacementState.WAITING:
            continue
        if work.vip.succession[:1] != (primary.engine,):
            work.generation = work.vip.generation + 1


# --- what the administrator wants ---


def targets(board: Board) -> None:
    """How many engines each VIP should have. Edits of the bounds follow the 18.2.2+ column of elastic-ha 3.1: raising
    the minimum lifts only those below it, lowering it moves nothing; while disabled, a VIP is capped at the maximum."""
    most = max(1, board.group.max_scaleout_per_vs)
    low = min(max(1, board.group.min_scaleout_per_vs), most)
    for work in board.works.values():
        if not work.requested:
            work.requested = min(max(low, low + work.user_factor), most)
        if not work.vip.enabled:
            work.requested = min(work.requested, most)
        work.requested = max(work.requested, low)
        work.user_factor = work.requested - low


def stop_disabled(board: Board) -> None:
    """A disabled VIP leaves its engines."""
    for work in board.works.values():
        if work.vip.enabled:
            continue
        for placement in work.active:
            board.drain(work, placement.engine)
            board.decide(work.vip.id, "drain", "the virtual service is disabled", engine=placement.engine)
