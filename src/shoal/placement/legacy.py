"""Legacy active/standby groups: two engines, of which each can carry everything (reference: elastic-ha 1.3).

A VIP is active on one engine of the pair. The other is its standby: the one armed successor, configured and empty. A
takeover is not undone by itself, unless the group says so. The *side* of a VIP is its tag where load is distributed:
the older engine of the pair is ``ACTIVE_STANDBY_SE_1``, the younger ``ACTIVE_STANDBY_SE_2``. Else all are of one side.
"""

from __future__ import annotations

import msgspec

from . import capacity, requests, steps, succession
from . import choose as choosing
from .board import ENABLED, Board, Work
from .model import Buffer, EngineState, Group, PlacementState, Request, RequestKind, Snapshot

ENGINES = 2
SIDES = ("ACTIVE_STANDBY_SE_1", "ACTIVE_STANDBY_SE_2")
SWITCHOVER_MAX_S = 300.0
"""The schema's default of ``vs_switchover_timeout``: a standby that is not ready by then won't be."""
NAMES_MAX = 3
"""Virtual services that an event names."""
INSTEAD = {
    RequestKind.SCALE_OUT: (
        "in a legacy pair one engine is active and the other its standby",
        "Set ha_mode of the group to HA_MODE_SHARED_PAIR to serve from several engines.",
    ),
    RequestKind.SCALE_IN: (
        "in a legacy pair one engine is active and the other its standby",
        "Disable the virtual service to take it off both.",
    ),
    RequestKind.MIGRATE: ("a legacy pair has no third engine to go to", "Use switchover: active and standby change."),
}


def effective(group: Group) -> Group:
    """The group with what the mode fixes, whatever its fields say."""
    return msgspec.structs.replace(
        group,
        algo=choosing.PACKED,
        buffer_se=0,
        max_se=min(group.max_se, ENGINES),
        min_scaleout_per_vs=1,
        max_scaleout_per_vs=1,
    )


class Pair:
    """``engines``: up to two, the older first; ones that are being made, or wanted by this plan, among them."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.engines = _chosen(board)
        self.active: dict[str, dict[str, int]] = {}
        """Side -> engine -> slots of the VIPs that are active there."""
        self.used = 0
        """Slots of all VIPs that have a place: each engine must be able to carry them alone."""
        for work in board.works.values():
            if work.primary is not None and work.vip.enabled:
                self.count(work, work.primary.engine)

    def count(self, work: Work, engine: str, times: int = 1) -> None:
        active = self.active.setdefault(self.side(work), {})
        active[engine] = active.get(engine, 0) + times * work.vip.slots
        self.used += times * work.vip.slots

    def side(self, work: Work) -> str:
        return work.vip.tag if self.board.group.distribute_load else ""

    def other(self, engine: str) -> str:
        return next((e for e in self.engines if e != engine), "")

    def up(self, engine: str) -> bool:
        return engine in self.engines and self.board.is_up(engine)

    def busiest(self, work: Work) -> str:
        """Where most of its side is active, the older engine of equals; "" if none of it is on the pair."""
        active = self.active.get(self.side(work), {})
        return max((e for e in self.engines if active.get(e)), key=lambda e: active[e], default="")

    def home(self, work: Work) -> str:
        """The engine of its side; "" while there is no pair. Without sides, the one that most are active on."""
        if not self.engines:
            return ""
        if self.board.group.distribute_load:
            return self.engines[-1] if work.vip.tag == SIDES[1] else self.engines[0]
        return self.busiest(work) or self.engines[0]

    def place_for(self, work: Work) -> str:
        """Where a VIP goes that is active nowhere: to the rest of its side. A new one waits for its side's engine
        while that is being made; one that has served takes the engine that runs."""
        wanted = self.busiest(work) or self.home(work)
        waits = self.board.group.distribute_load and not work.vip.generation
        running = next((e for e in self.engines if self.up(e)), "")
        return wanted if self.up(wanted) or waits or not running else running


def advance(board: Board) -> tuple[Buffer, list[str], float | None]:
    """The steps of a plan: the buffer, engines to retire, and when to look at idle ones again."""
    board.group = effective(board.group)
    steps.absorb(board)
    steps.elect(board)
    for work in board.works.values():
        work.requested, work.user_factor = 1, 0
    steps.stop_disabled(board)
    pair = Pair(board)
    _carry_out(board, pair)
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


def _chosen(board: Board) -> list[str]:
    """Engines that run before those on their way, on different hosts, where most is active, where standbys are armed,
    the oldest. What is missing is made, if anything is to be served."""
    on_their_way = [e for e in board.creating() if e not in board.engines or board.engines[e].enable_state == ENABLED]
    rest = [*(engine.id for engine in board.reckoned()), *on_their_way]
    active = dict.fromkeys(rest, 0)
    armed = dict.fromkeys(rest, 0)
    for work in board.works.values():
        for placement in work.active:
            active[placement.engine] = active.get(placement.engine, 0) + work.vip.slots
        for engine in work.vip.succession:
            armed[engine] = armed.get(engine, 0) + work.vip.slots
    chosen: list[str] = []
    while rest and len(chosen) < ENGINES:
        hosts = {board.host(e) for e in chosen} - {""} if board.group.vs_host_redundancy else set()
        best = min(rest, key=lambda e: (e in on_their_way, board.host(e) in hosts, -active[e], -armed[e]))
        chosen.append(best)
        rest.remove(best)
    if any(work.vip.enabled and not choosing.too_big(board, work) for work in board.works.values()):
        while len(chosen) < ENGINES and not board.create_refusal():
            avoid = {host for e in chosen if (host := board.host(e))}
            chosen.append(board.create(f"a legacy pair has two engines, {len(chosen)} of them are there", avoid=avoid))
    ranks = {engine: rank for rank, engine in enumerate(board.engines)}
    return sorted(chosen, key=lambda e: ranks.get(e, len(ranks)))


def _retire(board: Board, pair: Pair) -> tuple[list[str], float | None]:
    """One that is none of the pair has no part any more, once it is empty: where engines can be made again. A pair that
    nothing uses goes like any idle engines."""
    if not pair.used and not any(work.vip.enabled for work in board.works.values()):
        return capacity.retire(board)
    if not board.group.can_create:
        return [], None
    named = {engine for work in board.works.values() for engine in work.succession}
    retired = []
    for engine in board.up():
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
        waiting = work.primary
        if waiting is not None:
            if pair.place_for(work) == waiting.engine or waiting.request in board.open:
                continue
            pair.count(work, waiting.engine, -1)
            board.drop(work, waiting)
        wanted = pair.place_for(work)
        with_room = (e for e in (wanted, pair.other(wanted)) if work.on(e) or board.free(e) >= work.vip.slots)
        target = next(with_room, "")
        short = choosing.too_big(board, work)
        if not short and pair.used + work.vip.slots > most:
            short = f"each engine of a pair must be able to carry all: {pair.used} of max_vs_per_se {most} slots used"
        elif not short and not wanted:
            short = f"the pair has no engine and none can be made: {board.create_refusal()}"
        elif not short and not target:
            short = "what drains from the pair has not left it yet"
        if short:
            _short(board, work, short)
            continue
        field, held = choosing.survey(board, work), work.on(target)
        if held is None:
            board.put(work, target)
        else:  # it still drains there
            board.change(work, target, state=PlacementState.ASSIGNED, since=board.now, drained=False)
            board.promote(work, target)
        board.moved(work)
        pair.count(work, target)
        side = f"the engine of {work.vip.tag}" if board.group.distribute_load else "the active engine of the pair"
        what = "place" if board.is_up(target) else "wait"
        board.decide(work.vip.id, what, f"{board.name(target)} is {side}", engine=target, field=field)


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
        no = _obstacle(board, pair, work, target)
        if no and pair.up(target):
            _short(board, work, f"{board.name(primary.engine)} is not of the pair, and {no}")
        elif not no and primary.state is PlacementState.READY:
            _move(board, pair, work, target, f"{board.name(primary.engine)} is not of the pair")


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
        if free and home != primary.engine and not _obstacle(board, pair, work, home):
            _move(board, pair, work, home, f"back to {board.name(home)} (auto_redistribute_active_standby_load)")


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


def _obstacle(board: Board, pair: Pair, work: Work, target: str) -> str:
    """Why the VIP can't become active there now; "" if it can."""
    if not target:
        return "the pair has no other engine"
    if not pair.up(target):
        found = board.engines.get(target)
        return f"{board.name(target)} is {'not of the pair' if board.is_up(target) else _state(found)}"
    held = work.on(target)
    if held is None and board.free(target) < work.vip.slots:
        return f"{board.name(target)} has no room ({board.load[target]} of {board.group.max_vs_per_se} slots used)"
    return ""


def _state(engine: object) -> str:
    return "not there yet" if engine is None else f"{getattr(engine, 'state', EngineState.CREATING)}"


def _move(board: Board, pair: Pair, work: Work, target: str, why: str, request: str = "") -> bool:
    """The target joins; ready, it becomes active and the former keeps its connections while it drains. True = so."""
    held = work.on(target)
    work.joining = target
    if held is None:
        board.put(work, target, request=request)
    elif held.state is PlacementState.DRAINING:
        state = PlacementState.ASSIGNED
        board.change(work, target, state=state, since=board.now, drained=False, request=request)
    elif request and held.request != request:
        board.change(work, target, request=request)
    if held is None or held.state is PlacementState.DRAINING:
        board.decide(work.vip.id, "migrate", why, engine=target)
    if held is None or held.state is not PlacementState.READY:
        return False
    former = work.primary
    work.joining = ""
    board.promote(work, target)
    if former is not None and former.engine != target:
        pair.count(work, former.engine, -1)
        pair.count(work, target)
        board.drain(work, former.engine)
        gone = f"{board.name(target)} is active now: {why}"
        board.decide(work.vip.id, "drain", gone, engine=former.engine)
    return True


# --- the operator's operations ---


def _carry_out(board: Board, pair: Pair) -> None:
    for request in list(board.open.values()):
        work = board.works.get(request.vip)
        if work is None or not work.vip.enabled:
            requests.refuse(board, request, "the VIP is gone or its virtual service is disabled")
        elif board.out_of_sight(work) and not requests.began(work, request) and request.kind is RequestKind.SWITCHOVER:
            requests.refuse(board, request, f"the controller has lost sight of engines of {work.vip.name}")
        elif request.kind in INSTEAD:
            requests.refuse(board, request, *INSTEAD[request.kind])
        elif request.kind is RequestKind.SWITCHOVER and not work.takeover:
            _switchover(board, pair, work, request)


def _switchover(board: Board, pair: Pair, work: Work, request: Request) -> None:
    name, primary = work.vip.name, work.primary
    begun = [p for p in requests.of(work.vip.placements, request) if p.state is not PlacementState.DRAINING]
    if begun:
        _go_on(board, pair, work, request, begun[0].engine)
        return
    target = request.to_engine or pair.other(primary.engine if primary else "")
    no = "it is active nowhere yet" if primary is None or primary not in work.serving else ""
    if work.joining and work.joining != target:
        no = f"it is on its way to {board.name(work.joining)}"
    if primary is not None and primary.engine == target:
        board.answer(request, True, f"{name} is active on {board.name(target)} already.")
        return
    no = no or _obstacle(board, pair, work, target)
    if no:
        requests.refuse(board, request, no)
    else:
        _go_on(board, pair, work, request, target)


def _go_on(board: Board, pair: Pair, work: Work, request: Request, target: str) -> None:
    name, held, primary = work.vip.name, work.on(target), work.primary
    if held is None and requests.began(work, request):
        requests.fail(board, work, request, work.broken.get(request.id, "the standby is gone"))
    elif held is not None and primary is not None and primary.engine == target:
        board.answer(request, True, f"{name} is active on {board.name(target)}.")
    elif board.now - request.at > SWITCHOVER_MAX_S:
        board.drain(work, target)
        requests.fail(board, work, request, f"{board.name(target)} was not ready within {SWITCHOVER_MAX_S:.0f} s")
    elif _move(board, pair, work, target, f"switchover to {board.name(target)}", request.id):
        board.answer(request, True, f"{name} is active on {board.name(target)}.")


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
            work.succession = work.vip.succession if work.takeover else ()
            continue
        if work.vip.succession[:1] == (owner,) and board.out_of_sight(work):
            work.succession = work.vip.succession
            continue
        active = [p.engine for p in work.active]
        able = [e for e in room if e != owner and (e in active or room[e] >= work.vip.slots)]
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
    elif len(pair.engines) < ENGINES:
        why = f"the pair has one engine, and {board.create_refusal()}"
    else:
        why = f"max_vs_per_se {board.group.max_vs_per_se} lets no engine carry all that is active"
    detail = f"{names}{more}: served with no standby, {why}"
    board.tell("VS_SE_HA_COMPROMISED", detail)
    if not coming:
        board.decide("", "none", detail)
