"""Giving VIPs the engines they should have: first those with none, then those below target; surplus leaves."""

from __future__ import annotations

from . import choose as choosing
from .board import Board, Work
from .level import level
from .model import Placement, PlacementState, Role
from .standing import ENABLED

LEAVES_FIRST = {PlacementState.WAITING: 0, PlacementState.ASSIGNED: 1, PlacementState.READY: 2}


def fill(board: Board) -> None:
    """VIPs without any engine first, one each; then those below their target. The largest first, since small ones fit
    into what those leave, and of them those with many engines; then in order of creation. Where there is room for all,
    each gets its engines in one go."""
    works = [work for work in board.works.values() if work.vip.enabled and not work.takeover]
    for work in [work for work in works if board.barred(work)]:
        board.decide(work.vip.id, "none", work.shortfall)
        works.remove(work)
    works.sort(key=lambda work: (-work.vip.slots, -work.requested))
    packed = board.group.algo == choosing.PACKED
    before = {} if packed else {work.vip.id: {p.engine for p in work.placements} for work in works}
    ample = _ample(board, works)
    for work in works:
        _stop_waiting(board, work)
        if not work.active:
            _place_one(board, work)
        if ample:
            _complete(board, work)
    for work in works:
        _complete(board, work)
    if not packed:
        fresh = ((work, p.engine) for work in works for p in work.placements if p.engine not in before[work.vip.id])
        level(board, fresh)


def _complete(board: Board, work: Work) -> None:
    while wanting(board, work) > 0 and not work.shortfall and _place_one(board, work):
        pass


def _ample(board: Board, works: list[Work]) -> bool:
    """Whether there is room for VIPs of different sizes in whatever order: an engine that has none for the largest
    has at most one slot less than it needs. Engines to be made are no room while a VIP that was served has none."""
    wanted = {work.vip.id: missing for work in works if (missing := wanting(board, work)) > 0}
    sizes = {work.vip.slots for work in works if work.vip.id in wanted}
    if len(sizes) < 2:
        return False  # no order is better than another
    most = board.group.max_vs_per_se
    urgent = any(_urgent(work) and not choosing.too_big(board, work) for work in works)
    more = 0 if urgent or board.create_refusal() else board.group.max_se - board.count
    engines = board.usable_count + more
    free = engines * most - board.standing.roomy.total()
    needed = sum(work.vip.slots * wanted.get(work.vip.id, 0) for work in works)
    return needed + engines * (max(sizes) - 1) <= free


def _urgent(work: Work) -> bool:
    """It was served, and is not now."""
    return work.vip.generation > 0 and not work.serving


def wanting(board: Board, work: Work) -> int:
    """How many placements are missing; those about to leave, and the extra one of a migrate, don't count."""
    return work.requested - len(board.staying(work))


def _place_one(board: Board, work: Work) -> bool:
    if _take_back(board, work):
        return True
    if not board.may_move(work):
        return False
    alike = _alike(board, work)
    if alike is not None and alike in board.refused:
        field, why = board.refused[alike]
        work.shortfall = why
        board.decide(work.vip.id, "none", why, field=field)
        return False
    field = choosing.survey(board, work)
    choice = choosing.choose(board, work, field, urgent=_urgent(work))
    if not choice.engine:
        work.shortfall = choice.why
        board.decide(work.vip.id, "none", choice.why, field=field)
        if alike is not None:
            board.refused[alike] = field, choice.why
        return False
    board.put(work, choice.engine)
    board.moved(work)
    what = "place" if board.is_up(choice.engine) else "wait"
    board.decide(work.vip.id, what, choice.why, engine=choice.engine, field=field)
    return True


def _alike(board: Board, work: Work) -> tuple[object, ...] | None:
    """What VIPs that are nowhere have in common, where nothing else makes a difference to where they could go: many that wait
    for room in a full group are then judged as one. None: this one is a case of its own."""
    if work.placements or work.vip.id == board.watched or choosing.too_big(board, work):
        return None
    return work.vip.slots, board.standing.needs(work.vip), _urgent(work), bool(work.lost)


def _take_back(board: Board, work: Work) -> bool:
    """An engine that is still draining the VIP is the nearest place for it."""
    for held in work.placements:
        if held.state is not PlacementState.DRAINING or not board.is_up(held.engine):
            continue
        wanted_away = board.engines[held.engine].enable_state != ENABLED or held.request in board.open
        if board.shares_host(work, held.engine) and choosing.survey(board, work).eligible:
            continue  # another host is better
        if not wanted_away or not work.serving:
            role = Role.SECONDARY if work.primary else Role.PRIMARY
            board.change(work, held.engine, state=PlacementState.ASSIGNED, role=role, since=board.now)
            board.decide(
                work.vip.id, "place", f"{board.name(held.engine)} still has it: drain stopped", engine=held.engine
            )
            return True
    return False


def _stop_waiting(board: Board, work: Work) -> None:
    """A VIP that nobody serves does not wait for a new engine when a running one has room by now."""
    if work.serving or not work.active or any(p.request in board.open for p in work.active):
        return
    packed = board.group.algo == choosing.PACKED or work.vip.generation > 0
    least = board.standing.roomy.lowest()
    if least is None or least + work.vip.slots > board.group.max_vs_per_se or (least and not packed):
        return
    field = choosing.survey(board, work)
    best = field.best
    if best is not None:
        board.drop(work, work.active[0])
        board.put(work, best.engine)
        why = f"{board.name(best.engine)} has room by now ({best.load} of {best.capacity} slots)"
        board.decide(work.vip.id, "place", why, engine=best.engine, field=field)


def trim(board: Board) -> None:
    """Placements beyond the target leave: the least ready first, then the youngest; never the primary, never the last
    ready one, never one that an operation is bringing in."""
    for work in board.works.values():
        if not work.vip.enabled or work.takeover or board.out_of_sight(work):
            continue
        surplus = len(_trimmed(board, work)) - work.requested
        while surplus > 0:
            leaving = _surplus(board, work)
            if leaving is None:
                break
            board.drain(work, leaving.engine)
            why = f"{work.vip.name} has more engines than the {work.requested} requested"
            board.decide(work.vip.id, "drain", why, engine=leaving.engine)
            surplus -= 1


def _trimmed(board: Board, work: Work) -> list[Placement]:
    """Where every engine is to be left, and none can be, as nothing else has room, all of them count: what a migrate brought
    to one of them is too many."""
    return board.staying(work) or [p for p in work.active if p.engine != work.joining]


def _surplus(board: Board, work: Work) -> Placement | None:
    def rank(placement: Placement) -> int:
        engine = board.engines.get(placement.engine)
        return engine.rank if engine else 0

    spare = [p for p in _trimmed(board, work) if p.role is not Role.PRIMARY and p.request not in board.open]
    if not spare:
        return None
    first = min(spare, key=lambda p: (LEAVES_FIRST[p.state], -p.since, -rank(p)))
    if first.state is PlacementState.READY and len(work.ready) < 2:
        return None
    return first
