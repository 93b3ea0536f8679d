"""Legacy active/standby groups: two engines, of which each can carry everything (reference: elastic-ha 1.3).

A VIP is active on one engine of the pair. The other is its standby: the one armed successor, configured and empty. A
takeover is not undone by itself, unless the group says so. The *side* of a VIP is its tag where load is distributed:
the older engine of the pair is ``ACTIVE_STANDBY_SE_1``, the younger ``ACTIVE_STANDBY_SE_2``. Else all are of one side.
"""

from __future__ import annotations

from . import capacity, requests, steps, succession, switchover
from . import choose as choosing
from .board import Board, Work
from .model import Buffer, PlacementState, Snapshot
from .pair import ENGINES, Pair, effective
from .standing import NO_GATEWAY

NAMES_MAX = 3
"""Virtual services that an event names."""


def advance(board: Board) -> tuple[Buffer, list[str], float | None]:
    """The steps of a plan: the buffer, engines to retire, and when to look at idle ones again."""
    board.group = effective(board.group)
    steps.absorb(board)
    steps.elect(board)
    for work in board.works.values():
        work.requested, work.user_factor = 1, 0
    steps.stop_disabled(board)
    pair = Pair(board)
    switchover.carry_out(board, pair)
    _converge(board, pair)
    _place(board, pair)
    _redistribute(board, pair)
    _trim(board)
    requests.answer_retries(board)
    steps.one_primary(board)
    steps.count_generations(board)
    _arm(board, pair)
    _tell_owners(board)
    _tell_margin(board, pair)
    retired, wake = _retire(board, pair)
    most = board.group.max_vs_per_se
    buffer = Buffer(slots=most, used=pair.used, free=max(0, most - pair.used), needed=0)
    return buffer, retired, wake


def homes(snapshot: Snapshot, now: float) -> dict[str, str]:
    """VIP -> the engine of its side, for those that are active on another one; what redistributing would move."""
    board = Board(snapshot, now)
    board.group = effective(board.group)
    pair = Pair(board)
    works = (work for work in board.works.values() if work.vip.enabled and work.primary is not None)
    found = ((work, pair.home(work)) for work in works)
    return {w.vip.id: home for w, home in found if w.primary and pair.up(home) and home != w.primary.engine}


# --- the two engines ---


def _retire(board: Board, pair: Pair) -> tuple[list[str], float | None]:
    """One that is none of the pair has no part any more, once it is empty: where engines can be made again; but for one that
    waits for its gateway. A pair that nothing uses goes like any idle engines."""
    if not pair.used and not any(work.vip.enabled for work in board.works.values()):
        return capacity.retire(board)
    if not board.group.can_create:
        return [], None
    named = {engine for work in board.works.values() for engine in work.succession}
    retired = []
    for engine in board.up():
        if engine.enable_state == NO_GATEWAY:
            continue
        if engine.id not in pair.engines and engine.id not in named and not board.load[engine.id]:
            retired.append(engine.id)
            why = f"{engine.name} holds nothing and is not of the pair"
            board.decide("", "retire_engine", why, engine=engine.id)
    return retired, None


# --- where VIPs are active ---


def _place(board: Board, pair: Pair) -> None:
    """VIPs that are active nowhere, as long as each engine of the pair could carry all."""
    most = board.group.max_vs_per_se
    for work in board.works.values():
        if not work.vip.enabled or work.takeover or work.serving or not board.may_move(work):
            continue
        if board.barred(work):
            board.decide(work.vip.id, "none", work.shortfall)
            continue
        waiting = work.primary
        if waiting is not None:
            if pair.place_for(work) == waiting.engine or waiting.request in board.open:
                continue
            pair.count(work, waiting.engine, -1)
            board.drop(work, waiting)
        wanted = pair.place_for(work)
        reaching = [e for e in (wanted, pair.other(wanted)) if work.on(e) or not board.lacks(work, e)]
        target = next((e for e in reaching if work.on(e) or board.free(e) >= work.vip.slots), "")
        short = choosing.too_big(board, work)
        if not short and pair.used + work.vip.slots > most:
            short = f"each engine of a pair must be able to carry all: {pair.used} of max_vs_per_se {most} slots used"
        elif not short and not wanted:
            short = f"the pair has no engine and none can be made: {board.create_refusal()}"
        elif not short and not any(reaching):
            short = f"no engine of the pair has an interface in {board.networks(work)}"
        elif not short and not target:
            short = "what drains from the pair has not left it yet"
        elif not short and target in board.suspects:
            short = f"{board.name(target)} of the pair is out of sight: it may have taken over"
        if short:
            _short(board, work, short)
            continue
        held = work.on(target)
        if held is None:
            board.put(work, target)
        else:  # it still drains there
            board.change(work, target, state=PlacementState.ASSIGNED, since=board.now, drained=False)
            board.promote(work, target)
        board.moved(work)
        pair.count(work, target)
        side = f"the engine of {work.vip.tag}" if board.group.distribute_load else "the active engine of the pair"
        what = "place" if board.is_up(target) else "wait"
        board.decide(work.vip.id, what, f"{board.name(target)} is {side}", engine=target)


def _short(board: Board, work: Work, why: str) -> None:
    work.shortfall = why
    board.decide(work.vip.id, "none", why, field=choosing.survey(board, work))


def _converge(board: Board, pair: Pair) -> None:
    """What is active on an engine that is none of the pair moves to it: the group had another mode before, or the
    engine is disabled."""
    for work in board.works.values():
        primary = work.primary
        if primary is None or not work.vip.enabled or work.takeover or primary.engine in pair.engines:
            continue
        if board.out_of_sight(work):
            continue
        ready = next((p.engine for p in work.ready if pair.up(p.engine)), "")
        target = ready or pair.place_for(work)
        no = pair.obstacle(work, target)
        if no and pair.up(target):
            _short(board, work, f"{board.name(primary.engine)} is not of the pair, and {no}")
        elif not no and primary.state is PlacementState.READY:
            pair.move(work, target, f"{board.name(primary.engine)} is not of the pair")


def _redistribute(board: Board, pair: Pair) -> None:
    """Each VIP back to its side, where the group says so. What an operator has moved stays where it was put."""
    if not board.group.auto_redistribute:
        return
    for work in board.works.values():
        primary = work.primary
        if primary is None or primary.state is not PlacementState.READY or not work.vip.enabled or work.takeover:
            continue
        if board.out_of_sight(work):
            continue
        home = pair.home(work)
        free = not primary.request and not work.joining and primary.engine in pair.engines
        if free and home != primary.engine and not pair.obstacle(work, home):
            pair.move(work, home, f"back to {board.name(home)} (auto_redistribute_active_standby_load)")


def _trim(board: Board) -> None:
    """One is active; what an earlier mode or an operation has left over goes, the last ready one never."""
    for work in board.works.values():
        primary = work.primary
        if primary is None or not work.vip.enabled or work.takeover or board.out_of_sight(work):
            continue
        for extra in work.active:
            if extra.engine in (primary.engine, work.joining):
                continue
            if extra.state is not PlacementState.READY or primary.state is PlacementState.READY:
                board.drain(work, extra.engine)
                why = f"{board.name(primary.engine)} is the active engine of the pair"
                board.decide(work.vip.id, "drain", why, engine=extra.engine)


# --- who takes over ---


def _arm(board: Board, pair: Pair) -> None:
    """(active, standby) for each VIP, as long as the standby could carry what it would take over, too. An engine that
    still drains a VIP is its standby at once."""
    most = board.group.max_vs_per_se
    room = {engine: most for engine in pair.engines if pair.up(engine)}
    for work in board.works.values():
        for placement in work.active:
            if placement.engine in room:
                room[placement.engine] -= work.vip.slots
    for work in board.works.values():
        owner = succession.owner_of(work)
        if work.takeover or not owner:
            work.succession = work.vip.succession if work.takeover else succession.unowned(board, work)
            continue
        if work.vip.succession[:1] == (owner,) and board.out_of_sight(work):
            work.succession = work.vip.succession
            continue
        active = [p.engine for p in work.active]
        able = [e for e in room if e != owner and (e in active or room[e] >= work.vip.slots)]
        able = [e for e in able if e in active or not board.lacks(work, e)]
        heir = next((e for e in work.vip.succession[1:] if e in able), able[0] if able else "")
        if heir and heir not in active:
            room[heir] -= work.vip.slots
        work.succession = (owner, heir) if heir else (owner,)


def _tell_owners(board: Board) -> None:
    for work in board.works.values():
        former, now = work.vip.succession[:1], work.succession[:1]
        if former and now and former != now:
            detail = f"{work.vip.name}: {board.name(now[0])} is active now, {board.name(former[0])} was"
            board.tell("VS_SWITCHOVER", detail, vip=work.vip.id, engine=now[0])


def _tell_margin(board: Board, pair: Pair) -> None:
    """Who serves with no standby, and why."""
    bare = [w for w in board.works.values() if len(w.succession) == 1 and len(w.placements) == 1 and not w.takeover]
    if not bare:
        return
    names = ", ".join(work.vip.name for work in bare[:NAMES_MAX])
    more = f" and {len(bare) - NAMES_MAX} more" if len(bare) > NAMES_MAX else ""
    coming = next((e for e in pair.engines if not pair.up(e)), "")
    if coming:
        why = f"{board.name(coming)} is being made"
    elif len(pair.engines) < ENGINES and (lost := next((e for e in board.up() if e.lost_gateway), None)):
        why = f"{lost.name} does not reach gateway {lost.lost_gateway}"
    elif len(pair.engines) < ENGINES:
        why = f"the pair has one engine, and {board.create_refusal()}"
    else:
        why = f"max_vs_per_se {board.group.max_vs_per_se} lets no engine carry all that is active"
    detail = f"{names}{more}: served with no standby, {why}"
    board.tell("VS_SE_HA_COMPROMISED", detail)
    if not coming:
        board.decide("", "none", detail)
