"""Who takes over each VIP when its owner dies, planned in advance: the same computation as "what if engine x fails"."""

from __future__ import annotations

from collections.abc import Iterable

from .board import Board, Work
from .model import PlacementState

ARMED_SUCCESSORS_MAX = 2
"""Engines beyond the members that are prepared to take a VIP over."""


def arm(board: Board, without: Iterable[str] = ()) -> None:
    """Give every VIP its list: the owner, its other ready members, then engines with room (not those in ``without``).

    For each engine the VIPs that live on it alone must all fit elsewhere if it dies, so room that one VIP's first
    successor takes is not promised to the next. Lists are stable: a successor stays while it is good.
    """
    skip = frozenset(without)
    first = heirs(board, skip)
    seconds: dict[tuple[str, str], int] = {}
    for work in board.works.values():
        owner = owner_of(work)
        if not owner or work.takeover:
            work.succession = work.vip.succession if work.takeover else ()
            continue
        if work.vip.succession[:1] == (owner,) and board.out_of_sight(work):
            work.succession = work.vip.succession  # those out of sight act by it, and can't be told another
            continue
        members = _members(board, work, owner)
        heir = first.get(work.vip.id, "")
        extra = [heir] if heir else []
        for engine in work.vip.succession:
            fits = board.free(engine) >= work.vip.slots and engine not in extra
            if fits and len(extra) < ARMED_SUCCESSORS_MAX and _able(board, work, owner, skip, (engine,)):
                extra.append(engine)
        if len(extra) < ARMED_SUCCESSORS_MAX:
            extra += _more(board, work, owner, skip, extra, seconds)
        work.succession = (owner, *members, *extra)


def _more(
    board: Board,
    work: Work,
    owner: str,
    skip: frozenset[str],
    extra: list[str],
    seconds: dict[tuple[str, str], int],
) -> list[str]:
    """Further successors up to the bound, spread over the engines."""
    rest = [
        engine
        for engine in _able(board, work, owner, skip, board.usable_ids)
        if board.free(engine) >= work.vip.slots and engine not in extra
    ]
    host = board.host(owner)
    rest.sort(key=lambda e: (_same(board, e, host), board.load[e] + seconds.get((owner, e), 0)))
    chosen = rest[: ARMED_SUCCESSORS_MAX - len(extra)]
    for engine in chosen:
        seconds[owner, engine] = seconds.get((owner, engine), 0) + work.vip.slots
    return chosen


def owner_of(work: Work) -> str:
    primary = work.primary
    return "" if primary is None or primary.state is PlacementState.WAITING else primary.engine


def alone(board: Board) -> list[Work]:
    """VIPs that only their owner serves."""
    return [
        work
        for work in board.works.values()
        if (owner := owner_of(work)) and not work.takeover and not _members(board, work, owner)
    ]


def _members(board: Board, work: Work, owner: str) -> list[str]:
    ready = [p.engine for p in work.ready if p.engine != owner and p.engine not in board.suspects]
    kept = [engine for engine in work.vip.succession if engine in ready]
    return kept + [engine for engine in ready if engine not in kept]


def heirs(board: Board, without: Iterable[str] = ()) -> dict[str, str]:
    """The first successor of every VIP that lives on one engine alone ("" = none), so that for each engine all fit."""
    skip = frozenset(without)
    owned: dict[str, list[Work]] = {}
    for work in alone(board):
        owned.setdefault(owner_of(work), []).append(work)
    found: dict[str, str] = {}
    for owner, works in owned.items():
        found.update(_joint(board, owner, works, skip))
    return found


def _joint(board: Board, owner: str, works: list[Work], skip: frozenset[str]) -> dict[str, str]:
    """One assignment of an engine's VIPs to the others. Keeping what was is tried first; if that leaves one out, all
    are dealt anew, the largest first: onto the emptiest, then onto the fullest that fits. Most slots placed wins."""
    best: dict[str, str] = {}
    most = -1
    whole = sum(work.vip.slots for work in works)
    for keep, tight in ((True, False), (False, False), (False, True)):
        dealt = _deal(board, owner, works, skip, keep=keep, tight=tight)
        placed = sum(work.vip.slots for work in works if dealt[work.vip.id])
        if placed > most:
            best, most = dealt, placed
        if most == whole:
            break
    return best


def _deal(
    board: Board, owner: str, works: list[Work], skip: frozenset[str], *, keep: bool, tight: bool
) -> dict[str, str]:
    room = {engine: board.free(engine) for engine in board.usable_ids if engine != owner and engine not in skip}
    dealt: dict[str, str] = {}
    rest: list[Work] = []
    for work in works:
        before = _heir_before(board, work, owner, skip) if keep else ""
        if before and room[before] >= work.vip.slots:
            dealt[work.vip.id] = before
            room[before] -= work.vip.slots
        else:
            rest.append(work)
    host = board.host(owner)
    for work in sorted(rest, key=lambda w: -w.vip.slots):
        able = [e for e in _able(board, work, owner, skip, board.usable_ids) if room[e] >= work.vip.slots]
        sign = 1 if tight else -1
        heir = min(able, key=lambda e: (_same(board, e, host), sign * room[e]), default="")
        dealt[work.vip.id] = heir
        if heir:
            room[heir] -= work.vip.slots
    return dealt


def _heir_before(board: Board, work: Work, owner: str, skip: frozenset[str]) -> str:
    return next(iter(_able(board, work, owner, skip, work.vip.succession)), "")


def _able(board: Board, work: Work, owner: str, skip: frozenset[str], engines: Iterable[str]) -> list[str]:
    """Those of ``engines`` that could hold the VIP if its owner were dead, room apart: usable, without it, on a host
    of their own."""
    usable = board.usable_ids
    if len(work.placements) == 1 and work.placements[0].engine == owner:  # most VIPs, by far
        return [e for e in engines if e in usable and e != owner and e not in skip]
    held = {p.engine for p in work.placements} | {owner}
    hosts = board.hosts_of(work, besides=[owner]) if board.group.vs_host_redundancy else set()
    return [e for e in engines if e in usable and e not in held and e not in skip and board.host(e) not in hosts]


def _same(board: Board, engine: str, host: str) -> bool:
    """Shares the owner's host: would die with it."""
    return bool(host) and board.host(engine) == host
