"""Who takes over each VIP when its owner dies, planned in advance: the same computation as "what if engine x fails".

The VIPs of one owner are dealt together, so that for each engine those that live on it alone all fit elsewhere if it
dies: room that one VIP's first successor takes is not promised to the next. No deal depends on another one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from .board import Board, Deal, Work
from .standing import owner_among, turn

ARMED_SUCCESSORS_MAX = 2
"""Engines beyond the members that are prepared to take a VIP over."""


def arm(board: Board) -> None:
    """Give every VIP its list: the owner, its other members, then engines with room.

    Lists are stable: a successor stays while it is good. New ones are spread over the engines by the slots in use and
    counted on already, so that no engine has to be prepared for much more than others.
    """
    standing = board.standing
    asked = dict(standing.deals.asked)
    mine: dict[str, list[Work]] = {}
    for work in board.works.values():
        owner = owner_of(work)
        asked[owner] = asked[owner_among(work.vip.placements)] = None
        if not owner:
            work.succession = unowned(board, work)
        elif not work.takeover:
            mine.setdefault(owner, []).append(work)
    for engine in board.loads_before:
        asked.update(dict.fromkeys(standing.deals.short(engine, board.free(engine))))
    asked.pop("", None)
    if asked or board.loads_before or standing.deals.stale:
        asked.update(dict.fromkeys(standing.deals.wishing(bool(standing.heirs))))
    hands = [(owner, works) for owner in asked if (works := _owned(board, owner, mine.get(owner, ())))]
    for owner, works in sorted(hands, key=lambda hand: turn(hand[1][0].vip)):
        board.deals[owner] = _deal(board, owner, works, frozenset())


def arm_without(board: Board, gone: Iterable[str]) -> None:
    """After `arm`: lists that count on these engines are made without them."""
    skip = frozenset(gone)
    hands = [(owner, _hand(board, owner)) for owner in _depending(board, skip)]
    for owner, works in sorted((hand for hand in hands if hand[1]), key=lambda hand: turn(hand[1][0].vip)):
        board.deals[owner] = _deal(board, owner, works, skip)


def spared(board: Board, gone: Iterable[str]) -> bool:
    """After `arm`: whether every VIP that lives on one engine alone and has a successor keeps one without these."""
    skip = frozenset(gone)
    for owner in _depending(board, skip):
        works = [work for work in _hand(board, owner) if not _members(board, work, owner)]
        left, _ = _heirs(board, owner, _able(board, owner, works, skip))
        if any(len(work.succession) > 1 and not left[work.vip.id] for work in works):
            return False
    return True


def without_any(board: Board) -> Iterator[Work]:
    """After `arm`: settled VIPs on one engine alone that have no successor, in turn."""
    open = [owner for owner, deal in board.deals.items() if not deal.complete]
    open += [owner for owner in board.standing.deals.open if owner not in board.deals]
    works = (work for owner in open for work in _hand(board, owner) if not _members(board, work, owner))
    bare = [w for w in works if len(w.succession) < 2 and len(w.placements) == w.requested == 1]
    return iter(sorted(bare, key=lambda work: turn(work.vip)))


def settle(board: Board) -> None:
    """After `Board.close`: note which deals stand as they were before the plan."""
    standing = board.standing
    standing.deals.stale = False
    for owner in list(standing.deals.asked):
        if owner not in standing.owned and owner not in board.deals:
            standing.deals.stands(owner, {}, complete=True)
    for owner, deal in board.deals.items():
        as_before = len(deal.works) == len(standing.owned.get(owner, ())) and all(
            work.same or (work.vip.id in board.others and work.succession == work.vip.succession) for work in deal.works
        )
        enough = all(standing.free(engine) >= slots for engine, slots in deal.needs.items())
        if as_before and enough and (deal.complete or not board.touched):
            standing.deals.stands(owner, deal.needs, deal.complete)
        else:
            standing.deals.ask(owner)


# --- whose VIPs ---


def _owned(board: Board, owner: str, mine: Iterable[Work]) -> list[Work]:
    """The owner's VIPs in turn; ``mine``: those of the VIPs in question."""
    others = [board.other(vip) for vip in board.standing.owned.get(owner, ()) if vip not in board.works]
    return sorted([*mine, *others], key=lambda work: turn(work.vip))


def _hand(board: Board, owner: str) -> list[Work]:
    deal = board.deals.get(owner)
    return list(deal.works) if deal is not None else _owned(board, owner, ())


def _depending(board: Board, engines: Collection[str]) -> dict[str, None]:
    """Owners whose deal counts on one of the engines, or is open anyway."""
    found = {
        owner: None
        for owner, deal in board.deals.items()
        if not deal.complete or not deal.needs.keys().isdisjoint(engines)
    }
    deals = board.standing.deals
    stand = [owner for engine in engines for owner in deals.counting_on(engine)]
    found.update((owner, None) for owner in (*deals.open, *stand) if owner not in board.deals)
    return found


def unowned(board: Board, work: Work) -> tuple[str, ...]:
    """The list of a VIP that no engine is to serve: none. But engines out of sight may act by the one they have, and who
    of them took over is known by it when they are back."""
    waits = work.vip.enabled and any(engine in board.suspects for engine in work.vip.succession)
    return work.vip.succession if waits else ()


def owner_of(work: Work) -> str:
    return owner_among(work.placements)


def _members(board: Board, work: Work, owner: str) -> list[str]:
    """Those that are ready, then successors that are becoming members: they could take it over all the while."""
    if len(work.placements) == 1:
        return []
    before, others = work.vip.succession, [p.engine for p in work.serving if p.engine not in (owner, *board.suspects)]
    ready = [p.engine for p in work.ready if p.engine in others]
    kept = [engine for engine in before if engine in ready]
    new = [engine for engine in ready if engine not in kept]
    return kept + new + [engine for engine in before if engine in others and engine not in ready]


# --- dealing ---

Able = Callable[[str, int], bool]
"""Whether the engine may take the VIP if its owner is dead, and has so many slots free."""
Hand = list[tuple[Work, Able]]
"""VIPs of one owner."""


def _deal(board: Board, owner: str, works: list[Work], skip: Collection[str]) -> Deal:
    frozen = []
    if board.suspects:
        frozen = [work for work in works if board.out_of_sight(work) and work.vip.succession[:1] == (owner,)]
    hand = _able(board, owner, [work for work in works if work not in frozen] if frozen else works, skip)
    members = {w.vip.id: _members(board, w, owner) if len(w.placements) > 1 else [] for w, _ in hand}
    heirs, complete = _heirs(board, owner, [each for each in hand if not members[each[0].vip.id]])
    needs: dict[str, int] = {}
    for work, _ in hand:
        heir, slots = heirs.get(work.vip.id), work.vip.slots
        if heir:
            needs[heir] = needs.get(heir, 0) + slots
            if heir not in work.vip.succession:
                board.count_on(heir, slots)
    for work, able in hand:
        vip, heir = work.vip, heirs.get(work.vip.id)
        slots, before = vip.slots, vip.succession
        if heir and before[:2] == (owner, heir) and len(before) == 1 + ARMED_SUCCESSORS_MAX and able(before[2], slots):
            work.succession = before  # as nearly all: those two are as good as they were
            if needs.get(before[2], 0) < slots:
                needs[before[2]] = slots
            continue
        extra = _extra(board, owner, work, able, heir)
        for engine in extra:
            if needs.get(engine, 0) < slots:
                needs[engine] = slots
        complete = complete and len(extra) == ARMED_SUCCESSORS_MAX
        work.succession = (owner, *members[vip.id], *extra)
    for work in frozen:  # those out of sight act by the list, and can't be told another
        work.succession = work.vip.succession
        needs = {**dict.fromkeys(work.succession, 0), **needs}
    return Deal(tuple(works), needs, complete and not frozen)


def _extra(board: Board, owner: str, work: Work, able: Able, heir: str | None) -> list[str]:
    """The engines beyond the members. ``heir``: the first, of a VIP that lives on one engine alone; "" = there is no
    room for it beside the others, so that none is promised."""
    if heir == "":
        return []
    extra, slots = [heir] if heir else [], work.vip.slots
    for engine in work.vip.succession:
        if len(extra) == ARMED_SUCCESSORS_MAX:
            return extra
        if engine != owner and engine not in extra and able(engine, slots):
            extra.append(engine)
    while len(extra) < ARMED_SUCCESSORS_MAX and (more := _emptiest(board, work, owner, able, extra)):
        extra.append(more)
        board.count_on(more, slots)
    return extra


def _able(board: Board, owner: str, works: list[Work], skip: Collection[str]) -> Hand:
    """Each VIP with the test for engines: usable, not serving the VIP (it may drain it), on a host of its own, with room."""
    roomy, load, most = board.standing.roomy.order, board.load, board.group.max_vs_per_se
    out = {owner, *skip}

    def alone(engine: str, slots: int) -> bool:
        return engine in roomy and load[engine] + slots <= most and engine not in out

    def shared(work: Work) -> Able:
        held = {p.engine for p in work.active}
        hosts = board.hosts_of(work, besides=[owner]) if board.group.vs_host_redundancy else set()
        return lambda engine, slots: alone(engine, slots) and engine not in held and board.host(engine) not in hosts

    def reaching(work: Work, able: Able) -> Able:
        """Only those in the networks that it needs, where it needs any."""
        if not board.standing.needs(work.vip):
            return able
        return lambda engine, slots: able(engine, slots) and not board.lacks(work, engine)

    return [(work, reaching(work, alone if len(work.placements) == 1 else shared(work))) for work in works]


def _heirs(board: Board, owner: str, hand: Hand) -> tuple[dict[str, str], bool]:
    """The first successor of each VIP ("" = none), and whether those that were could stay and none is left out.

    Keeping what was is tried first; if that leaves one out, all are dealt anew, the largest first: onto the emptiest,
    then onto the fullest that fits. Most slots placed wins.
    """
    best: dict[str, str] = {}
    most = -1
    whole = sum(work.vip.slots for work, _ in hand)
    for keep, tight in ((True, False), (False, False), (False, True)):
        dealt = _dealt(board, owner, hand, keep=keep, tight=tight)
        placed = sum(work.vip.slots for work, _ in hand if dealt[work.vip.id])
        if placed > most:
            best, most = dealt, placed
        if most == whole:
            return best, keep
    return best, False


def _dealt(board: Board, owner: str, hand: Hand, *, keep: bool, tight: bool) -> dict[str, str]:
    taken: dict[str, int] = {}
    dealt: dict[str, str] = {}
    rest: Hand = []
    for work, able in hand:
        slots = work.vip.slots
        before = _before(work, owner, able) if keep else ""
        if before and able(before, slots + taken.get(before, 0)):
            dealt[work.vip.id] = before
            taken[before] = taken.get(before, 0) + slots
        else:
            rest.append((work, able))
    pick = _fullest if tight else _emptiest
    for work, able in sorted(rest, key=lambda each: -each[0].vip.slots):
        heir = pick(board, work, owner, able, (), taken)
        dealt[work.vip.id] = heir
        if heir:
            taken[heir] = taken.get(heir, 0) + work.vip.slots
    return dealt


def _before(work: Work, owner: str, able: Able) -> str:
    """The first of its successors that may have it; "" = none."""
    for engine in work.vip.succession:
        if engine != owner and able(engine, 0):
            return engine
    return ""


def _emptiest(
    board: Board, work: Work, owner: str, able: Able, besides: Collection[str], taken: Mapping[str, int] | None = None
) -> str:
    """The engine with room that least is counted on; better on another host than the owner's, with which it would die.
    ``taken``: engine -> slots that this deal takes of it."""
    heirs = board.standing.heirs
    return _first(board, work, owner, able, besides, taken or {}, heirs.upward(), lambda e: heirs.order[e][0], 1)


def _fullest(
    board: Board, work: Work, owner: str, able: Able, besides: Collection[str], taken: Mapping[str, int] | None = None
) -> str:
    """The engine with the least room that is enough."""
    most = board.group.max_vs_per_se - work.vip.slots
    order = board.standing.roomy.downward(most)
    return _first(board, work, owner, able, besides, taken or {}, order, board.free, -1)


def _first(
    board: Board,
    work: Work,
    owner: str,
    able: Able,
    besides: Collection[str],
    taken: Mapping[str, int],
    order: Iterator[str],
    score: Callable[[str], int],
    sign: int,
) -> str:
    slots, host = work.vip.slots, _host_to_avoid(board, owner)
    found: list[str] = []
    for engine in order:
        if engine in taken or engine in besides or not able(engine, slots):
            continue
        apart = not host or board.host(engine) != host
        if apart or not found:
            found.append(engine)
        if apart:
            break
    found += [e for e in taken if e not in besides and able(e, slots + taken[e])]
    if len(found) < 2:
        return found[0] if found else ""

    def rank(engine: str) -> tuple[bool, int, int]:
        shared = bool(host) and board.host(engine) == host
        return shared, score(engine) + sign * taken.get(engine, 0), board.engines[engine].rank

    return min(found, key=rank)


def _host_to_avoid(board: Board, owner: str) -> str:
    """The owner's host, unless there is no other."""
    host = board.host(owner)
    return host if len(board.standing.on_host) > 1 else ""
